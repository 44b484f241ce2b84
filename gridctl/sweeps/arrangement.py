"""Arrangement: a scenario's own grid: the resources as declared, fields set, clusters scaled.

Decides what a factor does to a cluster: every deployment gets replicas × factor, rounded half up and at least one, and
the GPUs that no deployment uses are scaled alike; 0 takes the cluster away. Which resources a path or a selector means
is decided on the grid as declared, before anything is changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from gridctl.errors import InputError
from gridctl.manifest.diagnosis import diagnose
from gridctl.manifest.reader import dotted
from gridctl.orchestrator.selector import parse_selector
from gridctl.resources import Cluster, ClusterSpec, Resource, ResourceKey, Site, key_of
from gridctl.sweeps.axes import Scenario
from gridctl.sweeps.target import Target, plain, put, resources_by_key


def arrange(resources: Sequence[Resource], targets: Mapping[str, Target], scenario: Scenario) -> tuple[Resource, ...]:
    """The grid of a scenario. Raises InputError when a value does not fit its field."""
    changed = with_settings(resources, targets, scenario.settings)
    if not scenario.fleets:
        return changed
    chosen = {selector: fleet_names(resources, selector) for selector, _ in scenario.fleets}
    scaled: list[Resource] = []
    for resource in changed:
        factors = [factor for selector, factor in scenario.fleets if resource.name in chosen[selector]]
        if isinstance(resource, Cluster) and factors:
            factor = math.prod(factors)
            if factor > 0:
                scaled.append(msgspec.structs.replace(resource, spec=scaled_cluster(resource.spec, factor)))
        else:
            scaled.append(resource)
    return tuple(scaled)


def with_settings(
    resources: Sequence[Resource], targets: Mapping[str, Target], settings: Sequence[tuple[str, object]]
) -> tuple[Resource, ...]:
    """The resources with fields set, in their order; what ships with gridctl and is changed comes last."""
    if not settings:
        return tuple(resources)
    known = resources_by_key(resources)
    documents: dict[ResourceKey, dict[str, object]] = {}
    for path, value in settings:
        for key in targets[path].meant():
            if key not in documents:
                documents[key] = plain(known[key])
            put(documents[key], targets[path].steps, value, str(key))
    made = {key: converted(document, key, known[key]) for key, document in documents.items()}
    changed = [made.pop(key, resource) for resource in resources for key in (key_of(resource),)]
    return (*changed, *made.values())


def converted(document: dict[str, object], key: ResourceKey, before: Resource) -> Resource:
    """Plain values as a resource again. Raises InputError carrying everything that does not fit."""
    try:
        return msgspec.convert(document, type(before), strict=True)
    except msgspec.ValidationError as error:
        found = [
            InputError(f"{key}: {dotted(problem.path)} {problem.text}", fix=problem.fix)
            for problem in islice(diagnose(document, type(before)), 20)
        ]
        first, *rest = found or [InputError(f"{key}: {error}")]
        first.related = tuple(rest)
        raise first from None


def fleet_names(resources: Sequence[Resource], selector: str) -> frozenset[str]:
    """The clusters a selector chooses. Raises UsageError for a selector that is none."""
    wanted = parse_selector([selector])
    sites = {resource.name: resource for resource in resources if isinstance(resource, Site)}
    return frozenset(one.name for one in resources if isinstance(one, Cluster) and wanted.holds(one, sites))


def scaled_cluster(spec: ClusterSpec, factor: float) -> ClusterSpec:
    """A cluster with `factor` times the engines, and the GPUs they take."""
    deployments = tuple(
        msgspec.structs.replace(one, replicas=max(1, math.floor(one.replicas * factor + 0.5)))
        for one in spec.deployments
    )
    spare = spec.gpus - sum(one.gpus for one in spec.deployments)
    used = sum(one.gpus for one in deployments)
    gpus = max(1, used + math.floor(max(0, spare) * factor + 0.5))
    return msgspec.structs.replace(spec, deployments=deployments, gpus=gpus)
