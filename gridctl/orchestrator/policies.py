"""Policies by word: a name of the grid, an algorithm, or a manifest file that is not applied.

Decides which policy a word means, in that order, and refuses one that does not fit the grid. Reads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gridctl.errors import InputError, NotFoundError, did_you_mean, raise_all
from gridctl.grid.check import check_overrides, check_policy
from gridctl.resources import Policy, PolicyOverride, PolicySpec, Resource, Workload
from gridctl.resources.policy import ALGORITHMS
from gridctl.resources.resource import Metadata, key_of


class FieldDifference(NamedTuple):
    """A field of two policies, as JSON values, and what it means."""

    field: str
    before: object
    after: object
    meaning: str


def choose_policy(resources: Sequence[Resource], wanted: str | None) -> Policy:
    """The policy of that name, in that file, or with that algorithm; by default the grid's own `default`.

    Raises NotFoundError for an unknown name, InputError for a file that does not hold exactly one policy."""
    declared = {resource.name: resource for resource in resources if isinstance(resource, Policy)}
    if wanted is None:
        return declared.get("default") or Policy(metadata=Metadata(name="grid"), spec=PolicySpec())
    if wanted in declared:
        return declared[wanted]
    algorithm = next((known for known in ALGORITHMS if known == wanted), None)
    if algorithm is not None:
        return Policy(metadata=Metadata(name=algorithm), spec=PolicySpec(algorithm=algorithm))
    if Path(wanted).is_file():
        return _policy_in(wanted, [resource.name for resource in resources if isinstance(resource, Workload)])
    close = did_you_mean(wanted, [*declared, *ALGORITHMS])
    raise NotFoundError(
        f"policy {wanted} does not exist",
        where="--policy",
        fix=f"did you mean {close}?" if close else "gridctl policy list, or an algorithm: " + ", ".join(ALGORITHMS),
    )


def centralized_policy(policy: Policy) -> Policy:
    """How the centralised alternative routes, seeing what `policy` sees."""
    return Policy(
        metadata=Metadata(name="centralized"),
        spec=PolicySpec(algorithm="centralized", telemetry=policy.spec.telemetry, candidates=256),
    )


def policy_differences(before: str, after: str) -> list[FieldDifference]:
    """What differs between two policies, each a name, a file or an algorithm; needs a grid only for names.

    Raises NotFoundError, InputError."""
    from gridctl.registry.changes import changes_between

    one, two = policy_of(before), policy_of(after)
    named = [*one.spec.overrides, *two.spec.overrides]
    changes = changes_between(
        *(Policy(metadata=one.metadata, spec=_overriding(spec, named)) for spec in (one.spec, two.spec))
    )
    return [FieldDifference(change.path, change.before, change.after, _meaning(change.path)) for change in changes]


def _overriding(spec: PolicySpec, workloads: Sequence[str]) -> PolicySpec:
    """The same policy with an override, empty where it has none, for each of the workloads: so fields are compared."""
    none = PolicyOverride()
    return msgspec.structs.replace(spec, overrides={name: spec.overrides.get(name, none) for name in workloads})


def policy_of(word: str) -> Policy:
    """The policy a word means, in the current grid where there is one."""
    from gridctl.orchestrator.context import current_grid

    try:
        home = current_grid()
    except NotFoundError:
        if word not in ALGORITHMS and not Path(word).is_file():
            raise
        return choose_policy([], word)
    with home.open_registry() as registry:
        declared = [stored.resource for stored in registry.list(Policy)]
    try:
        return choose_policy(declared, word)
    except NotFoundError as error:
        error.where = str(home.folder)
        raise


def _meaning(path: str) -> str:
    """The sentence of the innermost field of a path that is described."""
    from gridctl.manifest import explain

    words = path.split(".")
    if words[1:2] == ["overrides"]:
        words = [*words[:2], words[-1]]
    while len(words) > 1:
        try:
            return str(explain(f"policy.{'.'.join(words)}")[0]["description"])
        except NotFoundError:
            words.pop()
    return ""


def _policy_in(path: str, workloads: Sequence[str]) -> Policy:
    """The one policy a file declares; its overrides are held against the grid's workloads where there are any."""
    from gridctl.manifest import located, read_manifests

    found = read_manifests([path])
    policies = [declared.resource for declared in found if isinstance(declared.resource, Policy)]
    if len(policies) != 1 or len(found) != 1:
        raise InputError(
            f"{len(policies)} policies and {len(found) - len(policies)} other resources, not one policy",
            where=path,
            fix="keep one document with kind: Policy in the file",
        )
    key, spec = key_of(policies[0]), policies[0].spec
    problems = [*check_policy(spec, f"{key}, spec.telemetry")]
    if workloads:
        problems += check_overrides(spec, workloads, f"{key}, spec.overrides")
    with located(found):
        raise_all(problems)
    return policies[0]
