"""The services behind every resource command: read, select, plan, apply, delete, change state.

Decides what a command means in terms of the registry. The invariants: a write is one transaction whose complete result
passed `check_grid`, so a broken reference is never stored; a dry run makes the same checks and writes nothing; a change
made to what was read carries the version that was read, so a concurrent change is never lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, TypeVar

from gridctl.errors import ConflictError, GridctlError, InputError, NotFoundError, did_you_mean, raise_all
from gridctl.resources import (
    BUILTIN_GPUS,
    KINDS,
    Cluster,
    Gpu,
    Profile,
    Resource,
    ResourceKey,
    Site,
    key_of,
    kind_named,
)

if TYPE_CHECKING:
    from gridctl.manifest import Declared
    from gridctl.orchestrator.selector import Selector
    from gridctl.registry import Planned, Registry, Stored

StateName = Literal["active", "cordoned", "draining"]
ACTIVE = "active"
ATTEMPTS = 5
"""Times a read-change-write is tried anew when another command wrote in between."""

_Made = TypeVar("_Made")


BUILT_IN = 0
"""The version of a resource that ships with gridctl and was never declared."""


def kind_or_fail(word: str) -> type[Resource]:
    """The kind a word names. Raises: NotFoundError with the nearest one."""
    kind = kind_named(word)
    if kind is not None:
        return kind
    near = did_you_mean(word.lower(), [kind.noun for kind in KINDS.values()])
    hint = f"did you mean {near}?" if near else "one of: " + ", ".join(kind.noun for kind in KINDS.values())
    raise NotFoundError(f"there is no kind {word!r}", fix=hint)


def read_files(paths: Sequence[str], stdin: BinaryIO | None = None) -> list[Declared]:
    """The resources declared in files, folders, URLs or standard input."""
    from gridctl.manifest import read_manifests

    return read_manifests(list(paths), stdin=stdin)


def entries(registry: Registry, kind: type[Resource]) -> list[Stored]:
    """Every resource of a kind, by name; built-in ones included where nothing of that name is declared."""
    found = registry.list(kind)
    declared = {stored.resource.name for stored in found}
    found = [*found, *(_built_in(shipped) for name, shipped in _shipped(kind).items() if name not in declared)]
    return sorted(found, key=lambda stored: stored.resource.name)


def entry_named(registry: Registry, kind: type[Resource], name: str) -> Stored:
    """One resource. Raises: NotFoundError with the nearest name."""
    shipped = _shipped(kind).get(name)
    if shipped is not None and registry.find(kind, name) is None:
        return _built_in(shipped)
    return registry.get(kind, name)


def _shipped(kind: type[Resource]) -> Mapping[str, Resource]:
    """What of a kind comes with gridctl."""
    if kind is Gpu:
        return BUILTIN_GPUS
    if kind is Profile:
        from gridctl.manifest.shipped import shipped_profiles

        return shipped_profiles()
    return {}


def select(registry: Registry, kind: type[Resource], selector: Selector, found: Sequence[Stored]) -> list[Stored]:
    """The entries a selector chooses."""
    if not selector:
        return list(found)
    sites = sites_by_name(registry) if kind is Cluster and selector.needs_sites else {}
    return [entry for entry in found if selector.holds(entry.resource, sites)]


def sites_by_name(registry: Registry) -> dict[str, Site]:
    """Every site by its name."""
    return {
        stored.resource.name: stored.resource for stored in registry.list(Site) if isinstance(stored.resource, Site)
    }


def gpus_by_site(registry: Registry) -> dict[str, int]:
    """GPUs standing at each site that has any."""
    counts: dict[str, int] = {}
    for stored in registry.list(Cluster):
        if isinstance(stored.resource, Cluster):
            spec = stored.resource.spec
            counts[spec.site] = counts.get(spec.site, 0) + spec.gpus
    return counts


class Applied(NamedTuple):
    """What an apply did or would do, and the resources whose operational state it left alone."""

    planned: list[Planned]
    kept: tuple[ResourceKey, ...]


def apply(registry: Registry, declared: Sequence[Declared], *, cause: str, dry_run: bool = False) -> Applied:
    """Create and update resources, all or nothing. What is wrong is said at its file, line and column.

    A site or cluster that an operator cordoned, drained or took down keeps that state when its manifest declares no
    state but `active`, the default: an unrelated apply must not send traffic to it. `uncordon` does.
    """

    from gridctl.manifest import located
    from gridctl.orchestrator.gating import check_declared_gates

    check_declared_gates(declared)
    with located(declared):
        return apply_resources(registry, [one.resource for one in declared], cause=cause, dry_run=dry_run)


def apply_resources(registry: Registry, resources: Sequence[Resource], *, cause: str, dry_run: bool = False) -> Applied:
    """`apply`, for resources that stand in no file."""

    def change() -> Applied:
        merged, kept, expected = _keeping_states(registry, resources)
        if dry_run:
            return Applied(registry.plan(merged, check=check_whole), kept)
        return Applied(registry.apply(merged, cause=cause, expected=expected, check=check_whole), kept)

    return _retried(change)


def _keeping_states(
    registry: Registry, resources: Sequence[Resource]
) -> tuple[list[Resource], tuple[ResourceKey, ...], dict[ResourceKey, int]]:
    """The resources with the states to keep, their keys, and the versions those states were read at."""
    stopped = {
        stored.key: stored
        for kind in {type(resource) for resource in resources} & {Site, Cluster}
        for stored in registry.list(kind)
        if stored.resource.spec.state != ACTIVE
    }
    merged: list[Resource] = []
    expected: dict[ResourceKey, int] = {}
    for resource in resources:
        stored = stopped.get(key_of(resource))
        if stored is not None and resource.spec.state == ACTIVE:
            expected[stored.key] = stored.version
            merged.append(_with_state(resource, stored.resource.spec.state))
        else:
            merged.append(resource)
    return merged, tuple(expected), expected


def register(registry: Registry, resource: Resource, *, dry_run: bool = False) -> list[Planned]:
    """Add one resource that must be new, or the same as the one there. Raises: InputError when another has its name."""
    key = key_of(resource)
    noun = type(resource).noun
    before = registry.find(type(resource), resource.name)
    if before is not None and before.resource != resource:
        raise InputError(
            f"{key} exists and differs",
            fix=f"change it instead: gridctl {noun} get {key.name} -o yaml > FILE, edit, gridctl apply -f FILE",
        )
    if dry_run:
        return registry.plan([resource], check=check_whole)
    expected = {key: 0 if before is None else before.version}
    return registry.apply([resource], cause=f"{noun} register", expected=expected, check=check_whole)


def delete(
    registry: Registry,
    keys: Sequence[ResourceKey],
    *,
    cause: str,
    dry_run: bool = False,
    expected: Mapping[ResourceKey, int] | None = None,
) -> list[Resource]:
    """Delete resources, all or nothing; what still refers to one of them refuses it."""
    for key in keys:
        if key.name in _shipped(KINDS[key.kind]) and registry.find(*key) is None:
            raise InputError(f"{key} is built in", fix="leave it: one that nothing names costs nothing")
    if not dry_run:
        deleted = registry.delete(keys, cause=cause, expected=expected, check=_check_remaining)
        return [stored.resource for stored in deleted]
    doomed = [registry.get(key.kind, key.name).resource for key in keys]
    gone = set(keys)
    _check_remaining([stored.resource for stored in registry.all() if stored.key not in gone])
    return doomed


def set_state(
    registry: Registry,
    kind: type[Resource],
    names: Sequence[str],
    state: StateName,
    *,
    cause: str,
    dry_run: bool = False,
) -> list[Planned]:
    """Put sites or clusters in a state, all of them or none. Raises: NotFoundError, ConflictError."""

    def change() -> list[Planned]:
        read = [registry.get(kind, name) for name in names]
        changed = [_with_state(stored.resource, state) for stored in read]
        if dry_run:
            return registry.plan(changed, check=check_whole)
        expected = {key_of(stored.resource): stored.version for stored in read}
        return registry.apply(changed, cause=cause, expected=expected, check=check_whole)

    return _retried(change)


def check_declared(declared: Sequence[Declared]) -> None:
    """`check_whole` of what files declare; what is wrong is said at its file, line and column."""
    from gridctl.manifest import located

    with located(declared):
        check_whole([one.resource for one in declared])


def check_whole(resources: Iterable[Resource]) -> None:
    """Refuse a set of resources in which something refers to what is not there."""
    from gridctl.grid.check import check_grid

    check_grid(list(resources))


def _check_remaining(resources: Sequence[Resource]) -> None:
    """`check_whole` after a deletion: what is missing now is what would be deleted, so the words must say so."""
    try:
        check_whole(resources)
    except InputError as error:
        raise_all([_in_use(one) for one in (error, *error.related)])


def _in_use(error: GridctlError) -> InputError:
    """What would be wrong after a deletion, as the reason to refuse it; its own fix would suggest another name."""
    return InputError(
        f"still in use; without it: {error.what}",
        where=error.where,
        fix="change or delete that first, or delete both in one command with -f",
    )


def _retried(change: Callable[[], _Made]) -> _Made:
    for _ in range(ATTEMPTS - 1):
        try:
            return change()
        except ConflictError:
            continue
    return change()


def _with_state(resource: Resource, state: str) -> Resource:
    import msgspec

    spec = msgspec.structs.replace(resource.spec, state=state)
    return msgspec.structs.replace(resource, spec=spec)


def _built_in(resource: Resource) -> Stored:
    from gridctl.registry import Stored

    return Stored(resource, uid="", version=BUILT_IN, generation=0, created_ns=0, updated_ns=0)
