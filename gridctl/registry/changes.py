"""The difference between two declarations of one resource, as paths and JSON values.

Defaults count as values: cordoning a site whose state was never written is `spec.state: active -> cordoned`.
Invariant: no changes exactly when the two are equal; setting every path to its `after` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gridctl.registry.stored import Change
from gridctl.resources import Resource


def changes_between(before: Resource | None, after: Resource | None) -> tuple[Change, ...]:
    """Changes of labels and spec; None stands for a resource that does not exist (yet, or any more).

    Elements of equal type in a list are compared by position (`spec.deployments[1].replicas`); lists of plain values
    (`spec.tenants`) are one value.
    """
    labels_before, spec_before = _parts(before)
    labels_after, spec_after = _parts(after)
    return (*_changes("metadata.labels", labels_before, labels_after), *_changes("spec", spec_before, spec_after))


def _parts(resource: Resource | None) -> tuple[object, object]:
    """Labels, None when there are none, and spec."""
    return (None, None) if resource is None else (resource.metadata.labels or None, resource.spec)


def _changes(path: str, before: object, after: object) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, msgspec.Struct) and type(before) is type(after):
        for field in before.__struct_fields__:
            yield from _changes(f"{path}.{field}", getattr(before, field), getattr(after, field))
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _changes(_member(path, key), before.get(key), after.get(key))
    elif _are_structs(before) and _are_structs(after):
        yield from _element_changes(path, before, after)
    else:
        yield Change(path, msgspec.to_builtins(before), msgspec.to_builtins(after))


def _element_changes(path: str, before: object, after: object) -> Iterator[Change]:
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    for position in range(max(len(before), len(after))):
        yield from _changes(
            f"{path}[{position}]",
            before[position] if position < len(before) else None,
            after[position] if position < len(after) else None,
        )


def _are_structs(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(item, msgspec.Struct) for item in value)


def _member(path: str, key: str) -> str:
    """A map's key as a path step; quoted when it would read as more than one step."""
    return f"{path}.{key}" if key and not set(key) & set('.[]"') else f'{path}["{key}"]'
