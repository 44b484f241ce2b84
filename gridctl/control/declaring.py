"""Declaring: what engines of a site serve, as the site says, becomes what the grid declares of them.

The router learns of a variant here and nowhere else, so it never sends a request to a promise. Invariant: only the
variant of deployments that are declared already changes; a site's word adds no engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridctl.control.services import GridServices
from gridctl.resources import Cluster, Model, Resource, Site
from gridctl.rollout.outbox import Declaration


def declare(services: GridServices, told: Declaration) -> bool:
    """Have the registry say it; whether that changed anything. Raises what applying raises."""
    cause = f"site {told.site} serves {told.model}/{told.variant}" + (
        f", rollout {told.rollout}" if told.rollout else ""
    )
    with services.open_registry(f"rollout {told.rollout}" if told.rollout else f"agent of {told.site}") as registry:
        changed = redeclared([stored.resource for stored in registry.all()], told)
        if changed:
            services.apply(registry, changed, cause=cause, expected=None, dry_run=False)
    return bool(changed)


def redeclared(resources: Sequence[Resource], told: Declaration) -> list[Resource]:
    """The resources that say otherwise, as they should be; none for a variant that its model does not have."""
    model = next((one for one in resources if isinstance(one, Model) and one.name == told.model), None)
    if model is None or model.spec.variant(told.variant) is None:
        return []
    found: list[Resource] = []
    for one in resources:
        if isinstance(one, Cluster) and one.spec.site == told.site:
            variants = [deployment.variant for deployment in one.spec.deployments]
            named = _renamed(variants, told)
            if named != variants:
                deployments = tuple(
                    msgspec.structs.replace(deployment, variant=variant)
                    for deployment, variant in zip(one.spec.deployments, named, strict=True)
                )
                spec = msgspec.structs.replace(one.spec, deployments=deployments)
                found.append(msgspec.structs.replace(one, spec=spec))
        elif isinstance(one, Site) and one.name == told.site and one.spec.serverless is not None:
            serverless = one.spec.serverless
            named = _renamed(serverless.variants, told)
            if named != list(serverless.variants):
                functions = msgspec.structs.replace(serverless, variants=tuple(named))
                found.append(msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, serverless=functions)))
    return found


def _renamed(variants: Sequence[str], told: Declaration) -> list[str]:
    """The variants with the model's replaced; as they are where the new one is among them."""
    wanted = f"{told.model}/{told.variant}"
    if wanted in variants:
        return list(variants)
    return [wanted if variant.partition("/")[0] == told.model else variant for variant in variants]
