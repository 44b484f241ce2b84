"""Policies by word: a name of the grid, an algorithm, or a manifest file that is not applied.

Decides which policy a word means, in that order, and refuses one that does not fit the grid. Reads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gridctl.errors import InputError, NotFoundError, did_you_mean, raise_all
from gridctl.grid.check import check_policy
from gridctl.resources import Policy, PolicySpec, Resource
from gridctl.resources.policy import ALGORITHMS
from gridctl.resources.resource import Metadata


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
        return _policy_in(wanted)
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

    one, two = _policy_of(before), _policy_of(after)
    changes = changes_between(one, Policy(metadata=one.metadata, spec=two.spec))
    return [FieldDifference(change.path, change.before, change.after, _meaning(change.path)) for change in changes]


def _policy_of(word: str) -> Policy:
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

    words = path.replace('"', "").split(".")
    while len(words) > 1:
        try:
            return str(explain(f"policy.{'.'.join(words)}")[0]["description"])
        except NotFoundError:
            words.pop()
    return ""


def _policy_in(path: str) -> Policy:
    from gridctl.manifest import read_manifests

    found = [declared.resource for declared in read_manifests([path])]
    policies = [resource for resource in found if isinstance(resource, Policy)]
    if len(policies) != 1 or len(found) != 1:
        raise InputError(
            f"{len(policies)} policies and {len(found) - len(policies)} other resources, not one policy",
            where=path,
            fix="keep one document with kind: Policy in the file",
        )
    raise_all(list(check_policy(policies[0].spec, path)))
    return policies[0]
