"""GridView: the resources of one grid by kind and name. Looks things up; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable

from gridctl.geography.regions import jurisdiction_of
from gridctl.resources import (
    BUILTIN_GPUS,
    Cluster,
    Gate,
    Gpu,
    Link,
    Model,
    Policy,
    PriceBook,
    Profile,
    Resource,
    Site,
    Variant,
    Workload,
)


class GridView:
    """The resources of a grid by kind and name; built-in GPUs count as declared unless overridden."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.sites: dict[str, Site] = {}
        self.clusters: dict[str, Cluster] = {}
        self.models: dict[str, Model] = {}
        self.workloads: dict[str, Workload] = {}
        self.prices: dict[str, PriceBook] = {}
        self.links: dict[str, Link] = {}
        self.gates: dict[str, Gate] = {}
        self.policies: dict[str, Policy] = {}
        self.profiles: dict[str, Profile] = {}
        self.gpus: dict[str, Gpu] = dict(BUILTIN_GPUS)
        shelves: dict[type[Resource], dict[str, Resource]] = {
            Site: self.sites,  # type: ignore[dict-item]
            Cluster: self.clusters,  # type: ignore[dict-item]
            Model: self.models,  # type: ignore[dict-item]
            Workload: self.workloads,  # type: ignore[dict-item]
            PriceBook: self.prices,  # type: ignore[dict-item]
            Link: self.links,  # type: ignore[dict-item]
            Gate: self.gates,  # type: ignore[dict-item]
            Policy: self.policies,  # type: ignore[dict-item]
            Profile: self.profiles,  # type: ignore[dict-item]
            Gpu: self.gpus,  # type: ignore[dict-item]
        }
        for resource in resources:
            shelf = shelves.get(type(resource))
            if shelf is not None:
                shelf[resource.name] = resource

    def variant(self, reference: str) -> tuple[Model, Variant] | None:
        """The model and variant that `model/variant` names, or None."""
        model_name, _, variant_name = reference.partition("/")
        model = self.models.get(model_name)
        variant = model.spec.variant(variant_name) if model else None
        return (model, variant) if model and variant else None

    def variant_names(self) -> list[str]:
        """Every `model/variant`, in order of declaration."""
        return [f"{m.name}/{v.name}" for m in self.models.values() for v in m.spec.variants]


def jurisdiction_at(site: Site) -> str:
    """The site's jurisdiction: as declared, else that of its country."""
    return site.spec.jurisdiction or jurisdiction_of(site.spec.country)
