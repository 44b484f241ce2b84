"""Target: which field of which resources a path names.

    cluster/paris-rtx spec.deployments[0].replicas     one resource
    link/*-hub spec.rtt_ms                             every link whose name matches
    cluster[tier=edge] spec.usd_per_gpu_hour           those a selector chooses
    price/default spec.gpu_hour_usd["l40s"]            an entry of a mapping; [*] is every entry of a list

Decides names, not values: what a field takes is the kind's own rule. `spec.` may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec
from msgspec import inspect

from gridctl.errors import InputError, UsageError, did_you_mean
from gridctl.manifest.shape import bare_type, fields_of, item_type
from gridctl.orchestrator.selector import explain_nothing, parse_selector
from gridctl.resources import BUILTIN_GPUS, KINDS, Cluster, Gpu, Resource, ResourceKey, Site, key_of, kind_named

_TARGET = re.compile(r"^(?P<kind>[A-Za-z]+)(?:/(?P<name>[][A-Za-z0-9.*?!-]+)|\[(?P<selector>[^\]]*)\])$")
_STEP = re.compile(r'\.?(?P<name>[A-Za-z0-9_-]+)|\[(?P<index>\d{1,4}|\*)\]|\["(?P<key>[^"]{1,64})"\]')
_SHAPE = "write KIND/NAME FIELD, for example: cluster/paris-rtx spec.deployments[0].replicas"
EVERY = "*"

Step = str | int
"""A field or a mapping's key, an index, or `*` for every entry of a list."""


@dataclass(frozen=True, slots=True)
class Target:
    """A kind, the resources of it that are meant, and the steps to a field, `spec` first."""

    kind: type[Resource]
    names: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def field(self) -> str:
        """The last named step: what a column is called."""
        return next(str(step) for step in reversed(self.steps) if isinstance(step, str) and step != EVERY)

    def meant(self) -> Iterator[ResourceKey]:
        """The resources meant."""
        return (ResourceKey(self.kind.__name__, name) for name in self.names)

    def overlaps(self, other: Target) -> bool:
        """Whether both set the same field of the same resource, or one a part of what the other sets."""
        if self.kind is not other.kind or not set(self.names) & set(other.names):
            return False
        return all(one == two or EVERY in (one, two) for one, two in zip(self.steps, other.steps, strict=False))


def find_target(text: str, resources: Sequence[Resource]) -> Target:
    """What a path names in a grid. Raises InputError for a path that is none, or that names nothing there."""
    head, _, field = text.strip().partition(" ")
    match = _TARGET.match(head)
    if match is None or not field.strip():
        raise InputError(f"{text[:80]!r} is no field path", fix=_SHAPE)
    kind = kind_named(match["kind"])
    if kind is None:
        near = did_you_mean(match["kind"].lower(), [one.noun for one in KINDS.values()])
        fix = f"did you mean {near}?" if near else "one of: " + ", ".join(one.noun for one in KINDS.values())
        raise InputError(f"there is no kind {match['kind']!r}", fix=fix)
    names = _selected(kind, match["selector"], resources) if match["name"] is None else _named(kind, match, resources)
    return Target(kind, names, _steps(kind, field.strip()))


def _present(kind: type[Resource], resources: Sequence[Resource]) -> list[Resource]:
    """Resources of a kind, those that ship with gridctl included."""
    found = [resource for resource in resources if isinstance(resource, kind)]
    if kind is Gpu:
        declared = {resource.name for resource in found}
        found += [gpu for name, gpu in BUILTIN_GPUS.items() if name not in declared]
    return found


def _named(kind: type[Resource], match: re.Match[str], resources: Sequence[Resource]) -> tuple[str, ...]:
    pattern = match["name"]
    known = [resource.name for resource in _present(kind, resources)]
    names = tuple(name for name in known if fnmatchcase(name, pattern))
    if not names:
        near = did_you_mean(pattern, known)
        raise InputError(
            f"no {kind.noun} is called {pattern}",
            fix=f"did you mean {near}?" if near else f"see what there is: gridctl {kind.noun} list",
        )
    return names


def _selected(kind: type[Resource], text: str, resources: Sequence[Resource]) -> tuple[str, ...]:
    try:
        selector = parse_selector([text])
    except UsageError as error:
        raise InputError(error.what, fix=error.fix) from None
    sites = {resource.name: resource for resource in resources if isinstance(resource, Site)}
    present = _present(kind, resources)
    names = tuple(one.name for one in present if selector.holds(one, sites if kind is Cluster else {}))
    if not names:
        raise InputError(explain_nothing(selector, kind, present), fix=f"gridctl {kind.noun} list -l '{text}'")
    return names


def _steps(kind: type[Resource], field: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    position = 0
    while position < len(field):
        match = _STEP.match(field, position)
        if match is None:
            raise InputError(f"{field[:80]!r} is no field path", fix=_SHAPE)
        index = match["index"]
        steps.append(match["name"] or match["key"] or (EVERY if index == EVERY else int(index)))
        position = match.end()
    if steps[0] != "spec":
        steps.insert(0, "spec")
    _check_steps(kind, steps)
    return tuple(steps)


def _check_steps(kind: type[Resource], steps: Sequence[Step]) -> None:
    """Refuse steps that no resource of the kind can have. Raises InputError with the nearest field."""
    spec = fields_of(kind)["spec"].type
    here, seen = spec, "spec"
    for step in steps[1:]:
        inner = item_type(here)
        if isinstance(here, inspect.StructType):
            fields = fields_of(here.cls)
            if step not in fields:
                near = did_you_mean(str(step), fields)
                fix = f"did you mean {near}?" if near else "the fields there are " + ", ".join(fields)
                raise InputError(f"{kind.noun} has no field {seen}.{step}", fix=fix)
            here = fields[str(step)].type
        elif inner is not None and (isinstance(step, int) or step == EVERY):
            here = bare_type(inner)[0]
        elif isinstance(here, inspect.DictType) and isinstance(step, str):
            here = bare_type(here.value_type)[0]
        else:
            what = "is a list: say which entry" if inner is not None else "has nothing inside"
            raise InputError(f"{kind.noun} {seen} {what}", fix=f"{seen}[0] or {seen}[*]" if inner is not None else None)
        seen += f"[{step}]" if isinstance(step, int) or step == EVERY else f".{step}"


def put(document: dict[str, object], steps: Sequence[Step], value: object, where: str) -> None:
    """Set the field at `steps` of a resource's plain values. Raises InputError for an entry a list does not have."""
    here: object = document
    for depth, step in enumerate(steps[:-1]):
        following = steps[depth + 1]
        if isinstance(here, dict):
            empty: object = [] if isinstance(following, int) or following == EVERY else {}
            if here.get(step) is None:
                here[step] = empty
            here = here[step]
            continue
        assert isinstance(here, list), "steps are checked before values are set"
        if step == EVERY:
            for number in range(len(here)):
                put({"": here}, ("", number, *steps[depth + 1 :]), value, where)
            return
        here = here[_index(here, step, where)]
    last = steps[-1]
    if isinstance(here, dict):
        here[last] = value
    elif isinstance(here, list):
        for number in range(len(here)) if last == EVERY else (_index(here, last, where),):
            here[number] = value


def _index(entries: list[object], step: Step, where: str) -> int:
    assert isinstance(step, int), "a list is entered by index"
    if step >= len(entries):
        raise InputError(
            f"{where} has {len(entries)} entries there, so none is number {step}", fix="entries count from 0"
        )
    return step


def plain(resource: Resource) -> dict[str, object]:
    """A resource as plain values that may be changed."""
    document: dict[str, object] = msgspec.json.decode(msgspec.json.encode(resource))
    return document


def resources_by_key(resources: Sequence[Resource]) -> dict[ResourceKey, Resource]:
    """Every resource that a target can name, by its key."""
    found: dict[ResourceKey, Resource] = {key_of(gpu): gpu for gpu in BUILTIN_GPUS.values()}
    found.update((key_of(resource), resource) for resource in resources)
    return found
