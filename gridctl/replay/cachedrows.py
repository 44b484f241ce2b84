"""Cached rows: the rows of a replay whose requests were partly answered from caches, and when answers were there.

Decides what a client that a cache answered saw: the network to the cache and a look-up; while another request's answer
came, that one's tokens as they came; past its time, or checked by an audit, the cache's answer at the engine's cost.
Must not decide who is answered from where: that is `caching`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED, NO_REASON, RunRows, empty_rows
from gridctl.cache.rehearsal import HITS, NEVER, Got
from gridctl.resources import WorkloadSpec
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_MS, NS_PER_US

EXACT_LOOKUP_NS, SEMANTIC_LOOKUP_NS = 100_000, 8 * NS_PER_MS
"""A look in a table; an embedding of a short prompt by a small model on one processor core, and a search."""
LEVELS = ("exact", "joined", "semantic", "stale", "audit")
"""The engines of kind `cache` that each site with a cache has, in their order."""
ASKED_BEHIND = ("stale", "audit")
"""Hits whose client got the cache's answer while an engine was asked, too."""
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """Who was answered from which cache: what each request got, and the number of the cache asked, `sites`, −1 for
    none. `rtt_us` are round trips of shape (origins, sites); cache rows name engines from `engines` on."""

    got: Sequence[Got]
    sites: Ints
    rtt_us: Ints
    engines: int


def ends_ns(rows: RunRows) -> Ints:
    """When each answer was back where it came from, NEVER where no engine answered."""
    ends = rows.arrival_ns + rows.rtt_ns + rows.queue_ns + rows.compute_ns + rows.decode_ns
    return np.where(rows.outcome == COMPLETED, ends, NEVER)


def merged(
    traffic: Trace, rows: RunRows, missed: Ints, answered: Answered, specs: Mapping[str, WorkloadSpec]
) -> RunRows:
    """The whole replay's rows; `rows` are those of the requests that engines had to answer, whose numbers are
    `missed`."""
    whole = _laid_out(traffic, rows, missed)
    got, ends = answered.got, ends_ns(whole)
    looked = np.array([one.looked and one.level not in HITS for one in got]) & (whole.outcome == COMPLETED)
    whole.queue_ns[looked] += SEMANTIC_LOOKUP_NS  # an engine is asked once the look has found nothing
    firsts = whole.arrival_ns + whole.rtt_ns + whole.queue_ns + whole.compute_ns
    access_us = [round(spec.access_rtt_ms * 1000) for spec in specs.values()]
    for number in np.flatnonzero([one.level in HITS for one in got]).tolist():
        one, leader = got[number], got[number].leader
        if one.level == "joined" and ends[leader] == NEVER:
            whole.outcome[number], whole.reason[number] = whole.outcome[leader], whole.reason[leader]
            whole.engine[number] = -1
            continue
        site = int(answered.sites[number])
        if (
            one.level not in ASKED_BEHIND or whole.outcome[number] != COMPLETED
        ):  # what an engine renewed or checked is its work
            whole.engine[number] = answered.engines + site * len(LEVELS) + LEVELS.index(one.level)
        whole.outcome[number], whole.reason[number] = COMPLETED, NO_REASON
        trip_us = int(answered.rtt_us[traffic.origin[number], site]) + access_us[int(traffic.workload[number])]
        whole.rtt_ns[number] = trip_us * NS_PER_US
        whole.compute_ns[number] = SEMANTIC_LOOKUP_NS if one.looked else EXACT_LOOKUP_NS
        whole.queue_ns[number] = whole.decode_ns[number] = 0
        if one.level == "joined":
            now = int(traffic.arrival_ns[number])
            first = max(now, int(firsts[leader]))
            whole.queue_ns[number], whole.decode_ns[number] = first - now, max(0, int(ends[leader]) - first)
    return whole


def in_vain(got: Sequence[Got], whole: RunRows) -> list[Got]:
    """What requests got, without those that joined one which no engine answered."""
    return [Got("miss") if one.level == "joined" and whole.outcome[one.leader] != COMPLETED else one for one in got]


def _laid_out(traffic: Trace, rows: RunRows, missed: Ints) -> RunRows:
    """Rows for all requests, those of the missed ones filled in."""
    whole = empty_rows(len(traffic))
    for field in dataclasses.fields(RunRows):
        getattr(whole, field.name)[missed] = getattr(rows, field.name)
    whole.arrival_ns[:] = traffic.arrival_ns
    for name in ("origin", "workload", "tenant", "input_tokens", "output_tokens"):
        getattr(whole, name)[:] = getattr(traffic, name)
    return whole
