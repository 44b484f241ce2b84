"""What the admin API takes and gives, as structs: the one source of decoding, encoding and the OpenAPI document.

Fields only grow. Times are Unix nanoseconds where a name ends in `_unix_ns`.
"""

from __future__ import annotations

import functools
import types
from typing import Annotated, Any, Literal, Union

import msgspec

from gridctl.health.words import State
from gridctl.registry import AccessKey, Change, Event, Planned, Stored
from gridctl.registry.keys import Role
from gridctl.resources import KINDS, Resource


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error: what went wrong, where, and what fixes it. `kind` is a word for programs;
    `exit_code` is what the command line ends with."""

    status: int
    kind: str
    what: str
    where: str | None = None
    fix: str | None = None
    exit_code: int = 1
    related: tuple[Problem, ...] = ()


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker. `loop_lag_ms` is how late its event loop ran last; `beat_age_s` None: it has not said anything."""

    worker: int
    pid: int
    state: Literal["starting", "ready", "draining", "gone"]
    generation: int
    restarts: int
    in_flight: int = 0
    connections: int = 0
    loop_lag_ms: float | None = None
    beat_age_s: float | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The orchestrator itself. `generation` counts plans; `registry_version` is the change of the grid the plan holds;
    `problem` says why a later one is not served, if it is not; `cache` is off, down, or how many answers are kept."""

    grid: str
    state: Literal["starting", "ready", "draining"]
    version: str
    pid: int
    started_unix_ns: int
    data_url: str
    admin: str
    policy: str
    price_book: str
    generation: int
    registry_version: int
    backends: int
    sites: int
    keys: int
    anonymous: bool
    recordings: str | None
    workers: tuple[WorkerStatus, ...]
    problem: str | None = None
    admin_url: str | None = None
    cache: str = "off"


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


class RouteTestMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is only thought of: where would it go now? Lengths are the workload's means unless said."""

    workload: str
    origin: str | None = None
    model: str | None = None
    tenant: str | None = None
    prompt_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    output_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


class SiteSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A site in a line: `state` is the worse of what an operator said and what is observed; `traffic_share` is of the
    last hour's requests, None when there were none."""

    name: str
    tier: str
    city: str
    country: str
    state: State
    engines: int
    engines_available: int
    traffic_share: float | None


class SiteSummaryList(msgspec.Struct, frozen=True, kw_only=True):
    """Every site that has an engine with an endpoint, or that an operator took out."""

    items: tuple[SiteSummary, ...]


class StopMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop the orchestrator, giving requests under way `grace_s` seconds (None: what it was started with)."""

    grace_s: float | None = None


class Stopping(msgspec.Struct, frozen=True):
    """The orchestrator is stopping."""

    pid: int
    grace_s: float


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


def kind_of_resource(resource: Resource) -> str:
    """The kind's name, as messages spell it."""
    return type(resource).__name__


class RecordMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to record requests to; None ends a recording."""

    folder: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests are recorded to from now on, and the recording that ended."""

    folder: str | None
    ended: str | None


SharedWord = Literal["none", "told", "owed"]
"""Whether other gateways were told: there is nothing to tell, or nobody; the server has it; it is told as soon as it
can be, also after a restart."""


class CachePurge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers to forget: those with a tag, of a tenant, a workload or a model (`NAME` or `NAME/VARIANT`), under a key,
    or everything that a request was served or brought."""

    by: Literal["tag", "tenant", "workload", "model", "digest", "key", "entry", "request"]
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    cause: str = ""
    dry_run: bool = False


class CachePurged(msgspec.Struct, frozen=True, kw_only=True):
    """What was forgotten, or would be. `entries` None: there are too many to count; `number` is the purge's; `shared`:
    whether the gateways that share answers were told, or are owed it."""

    by: str
    value: str
    entries: int | None
    number: int | None
    dry_run: bool
    shared: SharedWord = "none"


class CacheSwitch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A workload whose answers by meaning are stopped or resumed; None: every one."""

    workload: str | None = None
    cause: str = ""


class CacheSwitched(msgspec.Struct, frozen=True, kw_only=True):
    """Which workloads were switched; `shared`: whether the gateways that share answers were told, or are owed it."""

    workloads: tuple[str, ...]
    shared: SharedWord = "none"


class CacheFeedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user says of an answer that came from the cache."""

    request_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    wrong: bool = True
    user: Annotated[str, msgspec.Meta(max_length=256)] = ""


class CacheFeedbackTaken(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it counted, and how many answers went with it."""

    request_id: str
    is_counted: bool
    entries: int
    shared: SharedWord = "none"


class CacheWorkload(msgspec.Struct, frozen=True, kw_only=True):
    """One workload at the cache, since the orchestrator started. `bound` is the most wrong answers over requests that
    is credible now (None: nothing is served by meaning); `saved_usd` is net of `asked_again_usd`, which checks cost."""

    workload: str
    mode: str
    error_rate: float
    requests: int
    exact_hits: int
    semantic_hits: int
    shared_hits: int
    stale_hits: int
    misses: int
    bypasses: int
    hit_share: float | None
    bound: float | None
    audits: int
    explored: int
    asked_again: int
    asked_again_usd: float
    saved_usd: float
    is_stopped: bool
    stopped_because: str
    labels: int
    wrong_labels: int


class CacheShared(msgspec.Struct, frozen=True, kw_only=True):
    """The server that gateways share exact answers on. `state`: up, slow (asked again once it is quick) or down;
    `notices` orders were read in this `epoch`, `owed` ones it has not been told of; `counts` are since the keeper
    started."""

    place: str
    state: Literal["up", "slow", "down"]
    problem: str
    epoch: str
    notices: int
    owed: int
    waiting: int
    counts: dict[str, int]


class CacheTenant(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache did for one tenant of a workload: answers that went out lately and what they saved, and what of
    its questions was judged since the keeper started. The error rate is the workload's, not each tenant's."""

    workload: str
    tenant: str
    hits: int
    semantic_hits: int
    saved_usd: float
    labels: int
    wrong_labels: int


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of an orchestrator. `state`: off (no workload caches), up, or down (requests go on without it);
    `reasons` count why requests were not answered; `shared` is None where answers are this gateway's alone."""

    state: Literal["off", "up", "down"]
    pid: int
    restarts: int
    problem: str
    entries: int
    entries_by_meaning: int
    used_bytes: int
    capacity_bytes: int
    embedders: dict[str, str]
    workloads: tuple[CacheWorkload, ...]
    reasons: dict[str, int]
    shared: CacheShared | None = None
    tenants: tuple[CacheTenant, ...] = ()


class CacheServing(msgspec.Struct, frozen=True, kw_only=True):
    """A request that a kept answer went to."""

    request: str
    level: str
    tenant: str
    unix_ns: int


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A kept answer: which request brought it, from where, and whom it was served to. It says nothing of its text."""

    entry: int
    is_kept: bool
    made_for: str = ""
    workload: str = ""
    tenant: str = ""
    jurisdiction: str = ""
    model: str = ""
    variant: str = ""
    digest: str = ""
    site: str = ""
    cluster: str = ""
    born_unix_ns: int = 0
    tags: tuple[str, ...] = ()
    group: tuple[int, ...] = ()
    served: tuple[CacheServing, ...] = ()


class CacheTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache had to do with a request."""

    request: str
    entries: tuple[CacheEntry, ...]
