"""What the admin API takes and gives, as structs: the one source of decoding, encoding and the OpenAPI document.

Here is what concerns the orchestrator itself; `registry_messages`, `cache_messages` and `rollout_messages` hold the
others'. Fields only grow. Times are Unix nanoseconds where a name ends in `_unix_ns`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gridctl.health.words import State


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


class RecordMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to record requests to; None ends a recording."""

    folder: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] | None


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests are recorded to from now on, and the recording that ended."""

    folder: str | None
    ended: str | None
