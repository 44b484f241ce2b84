"""Messages of the grid's declarations: resources, events and access keys, as the admin API takes and gives them.

Decides their shape on the wire and the way there and back; what may be changed is the registry's to say. Fields only
grow. Types that hold a resource are made of the kinds when they are first asked for: most calls need none of them.
"""

from __future__ import annotations

import functools
import types
from typing import Any, Literal, Union

import msgspec

from gridctl.registry import AccessKey, Change, Event, Planned, Stored
from gridctl.registry.keys import Role
from gridctl.resources import KINDS


class WantedKeyMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made."""

    name: str
    role: Role = "client"
    tenant: str = "default"
    workload: str | None = None
    expires_unix_ns: int | None = None
    requests_per_s: float | None = None
    tokens_per_minute: int | None = None
    site: str | None = None
    cause: str = ""


class KeyMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it may be shown: not its token, nor the digest of it."""

    name: str
    role: Role
    tenant: str
    workload: str | None
    state: Literal["active", "expired", "revoked"]
    created_unix_ns: int
    created_by: str
    expires_unix_ns: int | None
    revoked_unix_ns: int | None
    requests_per_s: float | None = None
    tokens_per_minute: int | None = None
    site: str | None = None


class MadeKey(KeyMessage, frozen=True, kw_only=True):
    """A key that was just made, with its token, which nobody can show again."""

    token: str


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Every key."""

    items: tuple[KeyMessage, ...]


class ExpectedVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version of a resource its writer has seen; 0: there was none."""

    kind: str
    name: str
    version: int


class KeyOfResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resource by kind and name."""

    kind: str
    name: str


class DeleteMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resources to delete, all or none."""

    keys: tuple[KeyOfResource, ...]
    cause: str = ""
    expected: tuple[ExpectedVersion, ...] | None = None
    dry_run: bool = False


class VersionMessage(msgspec.Struct, frozen=True):
    """How many changes the grid has seen."""

    version: int


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first."""

    items: tuple[Event, ...]


def _many(kind: Any) -> Any:
    """A tuple of any length of a type that is made here."""
    return types.GenericAlias(tuple, (kind, ...))


@functools.cache
def any_resource() -> Any:
    """The union of all kinds."""
    return Union[tuple(KINDS.values())]  # noqa: UP007 (the kinds are known only here)


@functools.cache
def stored_type() -> type[msgspec.Struct]:
    """`Stored` on the wire: its resource is one of the kinds."""
    return msgspec.defstruct(
        "StoredResource",
        [
            ("resource", any_resource()),
            ("uid", str),
            ("version", int),
            ("generation", int),
            ("created_unix_ns", int),
            ("updated_unix_ns", int),
        ],
        frozen=True,
    )


@functools.cache
def stored_list_type() -> type[msgspec.Struct]:
    """Stored resources, by kind and name."""
    return msgspec.defstruct("StoredList", [("items", _many(stored_type()))], frozen=True)


@functools.cache
def planned_type() -> type[msgspec.Struct]:
    """What applying one resource did or would do."""
    stored: Any = stored_type()
    return msgspec.defstruct(
        "PlannedChange",
        [
            ("action", Literal["create", "update", "unchanged"]),
            ("resource", any_resource()),
            ("before", stored | None),
            ("diff", tuple[Change, ...]),
        ],
        frozen=True,
    )


@functools.cache
def planned_list_type() -> type[msgspec.Struct]:
    """What an apply did or would do, in the order it was given."""
    return msgspec.defstruct("PlannedList", [("items", _many(planned_type()))], frozen=True)


@functools.cache
def deleted_list_type() -> type[msgspec.Struct]:
    """What was or would be deleted, in the order it was given."""
    return msgspec.defstruct("DeletedList", [("items", _many(stored_type()))], frozen=True)


@functools.cache
def apply_type() -> type[msgspec.Struct]:
    """Resources to create or update, all or none."""
    return msgspec.defstruct(
        "ApplyMessage",
        [
            ("resources", _many(any_resource())),
            ("cause", str, ""),
            ("expected", tuple[ExpectedVersion, ...] | None, None),
            ("dry_run", bool, False),
        ],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )


def wire_stored(stored: Stored) -> msgspec.Struct:
    """A stored resource as it is sent."""
    return stored_type()(
        stored.resource, stored.uid, stored.version, stored.generation, stored.created_ns, stored.updated_ns
    )


def stored_of(wire: Any) -> Stored:
    """A stored resource as it was before it was sent."""
    return Stored(wire.resource, wire.uid, wire.version, wire.generation, wire.created_unix_ns, wire.updated_unix_ns)


def wire_planned(planned: list[Planned]) -> msgspec.Struct:
    """Planned changes as they are sent."""
    step: Any = planned_type()
    return planned_list_type()(
        tuple(
            step(one.action, one.resource, None if one.before is None else wire_stored(one.before), one.diff)
            for one in planned
        )
    )


def planned_of(wire: Any) -> list[Planned]:
    """Planned changes as they were before they were sent."""
    return [
        Planned(step.action, step.resource, None if step.before is None else stored_of(step.before), step.diff)
        for step in wire.items
    ]


def wire_key(key: AccessKey, now_ns: int) -> KeyMessage:
    """A key as it may be shown."""
    return KeyMessage(**_shown(key, now_ns))


def wire_made(key: AccessKey, token: str, now_ns: int) -> MadeKey:
    """A key with its token, for the one who made it."""
    return MadeKey(**_shown(key, now_ns), token=token)


def _shown(key: AccessKey, now_ns: int) -> dict[str, Any]:
    return {
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "workload": key.workload,
        "state": key.state(now_ns),
        "created_unix_ns": key.created_ns,
        "created_by": key.created_by,
        "expires_unix_ns": key.expires_ns,
        "revoked_unix_ns": key.revoked_ns,
        "requests_per_s": key.requests_per_s,
        "tokens_per_minute": key.tokens_per_minute,
        "site": key.site,
    }
