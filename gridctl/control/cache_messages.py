"""Messages of the cache: what the admin API takes and gives of kept answers.

Decides their shape alone; fields only grow. None of them holds a text of a prompt or of an answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

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
