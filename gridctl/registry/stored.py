"""What the registry hands out: a resource with its bookkeeping, an event, a change, a planned write.

Invariant: every change of a resource takes the next number of one registry-wide counter, so versions of events are
gapless and their order is the order in which things happened, whatever the wall clock did.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gridctl.resources import Resource, ResourceKey, key_of


class Change(msgspec.Struct, frozen=True):
    """One difference: a dotted path such as `spec.engine.block_size`, and the JSON values on both sides.

    None on a side means that nothing is declared there: a created resource has one change with `before` None.
    """

    path: str
    before: object | None
    after: object | None


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A resource as the registry holds it.

    `version` is the registry's counter when the resource last changed; `generation` counts changes of its spec alone
    and starts at 1; `uid` tells a resource from a later one of the same name. No reference cycle can pass through it,
    so the garbage collector need not look at thousands of them.
    """

    resource: Resource
    uid: str
    version: int
    generation: int
    created_ns: int
    updated_ns: int

    @property
    def key(self) -> ResourceKey:
        return key_of(self.resource)


class Event(msgspec.Struct, frozen=True):
    """One change of one resource: when, by whom, why, and what differed."""

    version: int
    time_ns: int
    actor: str
    action: Literal["created", "updated", "deleted"]
    kind: str
    name: str
    cause: str
    diff: tuple[Change, ...]


class Planned(msgspec.Struct, frozen=True):
    """What applying one resource does, or did."""

    action: Literal["create", "update", "unchanged"]
    resource: Resource
    before: Stored | None
    diff: tuple[Change, ...]

    @property
    def key(self) -> ResourceKey:
        return key_of(self.resource)
