"""Explanation: a request's decision and what came of it, as one record. Data only."""

from __future__ import annotations

import msgspec

from gridctl.accounts.timeline import Timeline
from gridctl.routing.decision import Decision


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A request explained: the decision, and the timeline of what came of it. `site` is the one asked about."""

    name: str
    run: str
    request: int
    site: str | None
    decision: Decision
    timeline: Timeline
    trace: str
    digest: str
