"""Sites and models as the grid declares them, as far as a rollout asks: who serves a model, and what it may become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridctl.errors import InputError, did_you_mean
from gridctl.resources import Cluster, Model, Resource, Site


class PlannedSite(NamedTuple):
    """A site of a rollout to come, and what bringing the version there takes."""

    site: str
    wave: int
    tier: str
    country: str
    jurisdiction: str
    method: str
    bytes: int
    seconds: float
    usd: float
    disk_bytes: int


def serving_sites(resources: Sequence[Resource], model: str) -> set[str]:
    """Sites with engines or functions of the model, whatever the variant."""
    found = set()
    for one in resources:
        if isinstance(one, Cluster):
            variants = [deployment.variant for deployment in one.spec.deployments]
            site = one.spec.site
        elif isinstance(one, Site) and one.spec.serverless is not None:
            variants, site = list(one.spec.serverless.variants), one.name
        else:
            continue
        if any(variant.partition("/")[0] == model for variant in variants):
            found.add(site)
    return found


def check_variant(model: str, variant: str, resources: Sequence[Resource]) -> None:
    """Refuse a variant that the grid does not declare of the model. Raises InputError."""
    models = {one.name: one for one in resources if isinstance(one, Model)}
    if model not in models:
        near = did_you_mean(model, models)
        fix = f"did you mean {near}?" if near else "see them: gridctl model list"
        raise InputError(f"the grid has no model {model}", where="--model", fix=fix)
    spec = models[model].spec
    if spec.variant(variant) is None:
        names = ", ".join(one.name for one in spec.variants)
        raise InputError(
            f"model {model} has no variant {variant}, only {names}",
            where="--variant",
            fix="declare it first, with its quality, so that the router knows what it may serve: "
            "gridctl explain model.variants",
        )
