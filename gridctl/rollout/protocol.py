"""Protocol: what a site's agent and the orchestrator tell each other, and the exact bytes that a signature covers.

An agent posts a Report to `/v1/sites/{site}/sync` and gets the whole Desired state of its site, each time: there are no
commands that could be lost, doubled or reordered. `304` means: as before, and the lease of a trial runs anew from now.
Invariants: `Desired.counter` and `Version.counter` of a model only grow (undoing is a higher counter with older
content), so that an old document, however well signed, is refused by who saw a newer one. Must do no I/O.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Mode = Literal["stage", "trial", "commit", "absent"]
Reason = Literal[
    "disk",
    "digest",
    "signature",
    "network",
    "registry",
    "engine",
    "probe",
    "lease",
    "counter",
    "architecture",
    "interrupted",
]

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
Named = Annotated[str, Meta(min_length=1, max_length=253)]
Words = Annotated[str, Meta(max_length=2_000)]
NonNegative = Annotated[int, Meta(ge=0, le=1 << 62)]
Rate = Annotated[float, Meta(ge=0)]

LONGEST_REPORT = 256 << 10
"""Bytes of a report that the orchestrator takes."""


class Version(msgspec.Struct, frozen=True):
    """A version of a model: the digest of its manifest, the variant it is, and the counter it was released under."""

    digest: Digest
    variant: Named
    counter: NonNegative


class Fetching(msgspec.Struct, frozen=True):
    """A transfer under way. `percent` 0 to 100."""

    digest: Digest
    percent: Annotated[float, Meta(ge=0, le=100)]
    bytes_per_s: Rate


class Failure(msgspec.Struct, frozen=True):
    """Why a site did not get, or did not keep, a version. A desired state of a newer generation is another try: the
    agent forgets the failure when it takes it."""

    digest: Digest
    reason: Reason
    detail: Words = ""


class Actual(msgspec.Struct, frozen=True, kw_only=True):
    """What a site holds of one model. The engine serves `trial` where there is one, else `committed`.

    `method` counts bytes by how they came to the site's disk: reference, delta, rederive, full."""

    model: Named
    committed: Version | None = None
    previous: Version | None = None
    trial: Version | None = None
    staged: Annotated[tuple[Digest, ...], Meta(max_length=64)] = ()
    fetching: Fetching | None = None
    failed: Failure | None = None
    bytes_received: NonNegative = 0
    method: Annotated[dict[str, int], Meta(max_length=16)] = {}

    @property
    def serving(self) -> Version | None:
        """What the engine serves now."""
        return self.trial or self.committed

    def holds(self, digest: str) -> bool:
        """Whether that version is on the site's disk, whole and verified."""
        held = (self.committed, self.previous, self.trial)
        return digest in self.staged or any(version is not None and version.digest == digest for version in held)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A site as its agent sees it. `seq` grows by one with each report of a `boot_id`; `generation` is that of the last
    desired state the agent took. `probe` holds measured figures: `match_share` (0 to 1, of the probe prompts'
    answers that agree with the committed version's), `ttft_ms_p95`, `tpot_ms_p50`, `errors` and `requests`."""

    boot_id: Named
    seq: NonNegative
    generation: NonNegative = 0
    agent_version: Annotated[str, Meta(max_length=64)] = ""
    actual: Annotated[tuple[Actual, ...], Meta(max_length=256)] = ()
    disk_free_bytes: NonNegative = 0
    disk_total_bytes: NonNegative = 0
    link_bytes_per_s: Rate = 0.0
    engine_ok: bool = True
    probe: Annotated[dict[str, float], Meta(max_length=64)] = {}
    errors: Annotated[tuple[Words, ...], Meta(max_length=32)] = ()
    now_unix_s: float = 0.0

    def of(self, model: str) -> Actual | None:
        """What the site holds of a model; None when it says nothing of it."""
        return next((actual for actual in self.actual if actual.model == model), None)


class Window(msgspec.Struct, frozen=True):
    """Hours in which a transfer may run: from `start` to `end` (`HH:MM`, over midnight when end ≤ start) on days that
    begin on one of `days` (`mon` … `sun`; none: every day), by the clocks of `timezone`."""

    days: tuple[str, ...]
    start: str
    end: str
    timezone: str = "UTC"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a site should do about one model: have it on disk (`stage`), serve it while the lease lasts (`trial`), serve
    it for good (`commit`), or no longer hold it (`absent`). `disk_bytes` are those of its files."""

    model: Named
    reference: str
    version: Version
    mode: Mode
    bandwidth_bytes_per_s: int | None = None
    windows: tuple[Window, ...] = ()
    disk_bytes: int = 0
    deadline_unix_s: float | None = None
    requires_signature: bool = False


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """The whole desired state of a site. After `expires_unix_s` nothing new is started; what is committed goes on. A
    trial that has heard nothing for `lease_s` is reverted by the site itself."""

    site: Named
    generation: int
    counter: int
    expires_unix_s: float
    lease_s: float
    next_sync_s: float
    wanted: tuple[Wanted, ...] = ()
    signature: str = ""


def signed_bytes(desired: Desired) -> bytes:
    """What the orchestrator signs and an agent verifies: canonical JSON (sorted keys, no blanks, ASCII) of the document
    without its signature."""
    told: dict[str, Any] = msgspec.to_builtins(desired)
    del told["signature"]
    return json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
