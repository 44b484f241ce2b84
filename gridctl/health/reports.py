"""What health tells: one screen of what is wrong, one of a site, one of the load. Plain structs, served as JSON.

Must not compute. Times are Unix nanoseconds where a name ends in `_unix_ns`; shares are 0 to 1; None is not known,
which is never the same as nought. Fields only grow.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gridctl.health.burn import Budget
from gridctl.health.words import State

Severity = Literal["page", "ticket", "warning", "info"]
Verdict = Literal["ok", "attention", "failing", "unknown"]
TopBy = Literal["workload", "site", "cluster"]
SEVERITIES: tuple[Severity, ...] = ("page", "ticket", "warning", "info")
"""The worst first. `info` is something an operator said or ought to know, and nothing wrong."""


class Affected(msgspec.Struct, frozen=True, kw_only=True):
    """What a problem touches: `traffic_share` is the share of the last hour's requests that those sites served."""

    workloads: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    engines: int = 0
    traffic_share: float | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong: what, since when, why, what it affects, what to do (a command), what happens by itself."""

    severity: Severity
    kind: str
    about: str  # KIND/NAME
    what: str
    cause: str
    since_unix_ns: int | None = None
    affects: Affected = Affected()
    do: str = ""
    next: str = ""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many engines or sites are in which state; only states that occur."""

    engines: dict[str, int]
    sites: dict[str, int]


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """One screen: the verdict, what is wrong, the worst first, and every promise's budget.

    `is_live` false: no orchestrator runs, so this is what the grid's declarations alone can tell."""

    grid: str
    at_unix_ns: int
    is_live: bool
    verdict: Verdict
    headline: str
    problems: tuple[Problem, ...]
    counts: Counts
    budgets: tuple[Budget, ...] = ()


class ProbeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One probe of an engine: a word for what was found, and the sentence."""

    at_unix_ns: int
    cause: str
    detail: str
    latency_ms: float


class EngineHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One running engine as the orchestrator sees it. Numbers of its own report are None where it does not say."""

    row: int
    cluster: str
    replica: int
    model: str
    variant: str
    url: str
    state: State
    since_unix_ns: int
    cause: str
    next: str
    admit_share: float
    is_flapping: bool
    ejections: int
    in_flight: int
    requests: int
    failures: int
    telemetry_state: str
    telemetry_age_s: float | None
    running: int | None
    waiting: int | None
    kv_share: float | None
    prefix_hit_share: float | None
    probes: tuple[ProbeRecord, ...] = ()


class Attainment(msgspec.Struct, frozen=True, kw_only=True):
    """Good of valid requests of one workload at a site, over one window."""

    window_s: float
    covered_s: float
    valid: int
    bad: int
    attained: float | None


class RecentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that ended a while ago, as the worker that served it remembers it; `explain request` tells more."""

    request_id: str
    arrival_unix_ns: int
    workload: str
    origin: str
    cluster: str
    outcome: str
    reason: str
    status: int
    verdict: str
    misses: tuple[str, ...]
    ttft_ms: float | None
    predicted_ttft_ms: float
    e2e_ms: float | None
    attempts: int


class RecentlyRouted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a workload a worker remembers to have sent to a site, by the router's reason and by origin."""

    workload: str
    requests: int
    because: dict[str, int]
    origins: dict[str, int]


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker remembers of the requests to a site. `reaches_ns`, of the monotonic clock: since when."""

    reaches_ns: int
    worst: tuple[RecentRequest, ...]
    routed: tuple[RecentlyRouted, ...]


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """What of a workload came to the site in the last hour: `share` of the workload, and whether its promise was kept.

    `goes_to` and `why` tell where a request from this site would go now. `recent`, `because` and `origins` are of the
    requests that workers remember: how many, why the router chose this site, where they came from."""

    workload: str
    requests: int
    share: float | None
    target: float
    attainments: tuple[Attainment, ...]
    goes_to: str | None = None
    why: str = ""
    recent: int = 0
    because: dict[str, int] = {}
    origins: dict[str, int] = {}


class SiteCluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster at the site, as declared."""

    name: str
    state: str
    gpu: str
    gpus: int
    variants: tuple[str, ...]
    engines: int  # with an endpoint


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the grid's declarations near in time. `is_here`: of this site or one of its clusters."""

    at_unix_ns: int
    actor: str
    action: str
    about: str
    cause: str
    fields: tuple[str, ...]
    is_here: bool


class SiteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One site on one screen. `worst` are the requests of the last `recent_s` seconds that went worst, those that
    failed or missed an objective before those that were only slow; None: workers were not asked."""

    name: str
    at_unix_ns: int
    is_live: bool
    tier: str
    city: str
    country: str
    jurisdiction: str | None
    declared_state: str
    state: State
    cause: str
    since_unix_ns: int | None
    next: str
    requests: int | None
    traffic_share: float | None
    clusters: tuple[SiteCluster, ...]
    engines: tuple[EngineHealth, ...]
    routed: tuple[Routed, ...]
    events: tuple[Happened, ...]
    problems: tuple[Problem, ...]
    worst: tuple[RecentRequest, ...] = ()
    recent_s: float | None = None


class TopRow(msgspec.Struct, frozen=True, kw_only=True):
    """One workload, site or cluster over the last seconds; `*` is all of them.

    `usd_per_hour` is what requests cost as they were routed, known of workloads only; `gpu_usd_per_hour` what the GPUs
    of a site or cluster cost, busy or idle."""

    name: str
    requests_per_s: float
    in_flight: int | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    good_share: float | None
    target: float | None
    failed_per_s: float
    output_tokens_per_s: float | None
    usd_per_hour: float | None
    gpu_usd_per_hour: float | None
    state: str | None
    tpot_p50_ms: float | None = None
    tpot_p99_ms: float | None = None


class TopCache(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache did in the last seconds, in workloads that cache: hits over requests, and what they saved."""

    requests_per_s: float
    hit_share: float | None
    saved_usd_per_hour: float


class TopFrame(msgspec.Struct, frozen=True, kw_only=True):
    """The load of the last `window_s` seconds, a row each, the busiest first. `cache` None: nothing was asked of it."""

    at_unix_ns: int
    window_s: float
    by: TopBy
    engines: int
    engines_available: int
    rows: tuple[TopRow, ...]
    total: TopRow
    cache: TopCache | None = None
