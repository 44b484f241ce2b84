"""Movement: which requests a change sent elsewhere, and what came of it, request by request.

Both runs must have served the same requests. A request moved when the place that served it is another one, or when it
was served in one run and not in the other. Why the router chose is not among a run's columns (its predictions are not
kept); what is told is what came of the choice, the first of these that holds:

    refused now: REASON     not served
    served now              refused or failed before
    was late, now good      it missed an objective before and misses none now: spilled to keep its promise
    was good, now late      the other way round
    cheaper and faster      by its own dollars, and by its time to first token
    cheaper, faster         one of the two
    dearer and slower       neither: the place before had no room for it, or was predicted to have none

A request's own dollars hold no idle GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.goodness import judge
from gridctl.accounts.rows import COMPLETED, OUTCOMES, REASONS, Run
from gridctl.accounts.tokenomics import variant_name
from gridctl.accounts.usd import request_usd
from gridctl.units import NS_PER_MS

Place = Literal["site", "cluster", "tier", "region", "variant"]
PLACES: tuple[Place, ...] = ("site", "cluster", "tier", "region", "variant")
_WORDS = (
    "",
    "served now",
    "was late, now good",
    "was good, now late",
    "cheaper and faster",
    "cheaper",
    "faster",
    "dearer and slower",
    "neither cheaper nor faster",
    *(f"refused now: {reason}" if reason else "refused now" for reason in REASONS),
)
_SERVED, _KEPT, _LOST, _BOTH, _CHEAPER, _FASTER, _NEITHER, _EQUAL, _REFUSED = range(1, 10)


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that went from one place to another. A field's comment is its definition."""

    before: str  # the place, or the outcome in parentheses for those not served
    after: str
    requests: int
    share: float  # of all requests of the runs
    ttft_ms_change: float | None  # mean over those served in both runs
    e2e_ms_change: float | None  # mean over the same
    usd_change: float  # sum of the requests' own dollars, after less before
    reason: str  # the most frequent
    reasons: dict[str, int]  # they add up to `requests`


class Mover(msgspec.Struct, frozen=True, kw_only=True):
    """One request whose time to first token changed."""

    id: int
    workload: str
    origin: str
    before: str
    after: str
    ttft_ms_before: float
    ttft_ms_after: float
    ttft_ms_change: float
    usd_before: float
    usd_after: float
    reason: str  # as for flows; "" for one that stayed where it was


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """What moved between the baseline and a run."""

    run: str
    place: str  # what a place is: site, cluster, tier, region, variant
    requests: int
    moved: int
    moved_share: float | None
    reasons: dict[str, int]  # of all that moved, most frequent first
    flows: tuple[Flow, ...]  # most requests first
    movers: tuple[Mover, ...]  # largest change first, either way


def movement(baseline: Run, run: Run, place: Place, most_movers: int) -> Movement:
    """What moved between two runs of the same requests. O(n log n)."""
    n = len(run.rows)
    before, after = _places(baseline, place), _places(run, place)
    names = sorted(set(before) | set(after))
    position = {name: index for index, name in enumerate(names)}
    codes = [_coded(one, places, position) for one, places in ((baseline, before), (run, after))]
    reasons = _reasons(baseline, run)
    moved = codes[0] != codes[1]
    counts = _counted(reasons[moved])
    return Movement(
        run=run.info.name,
        place=place,
        requests=n,
        moved=int(moved.sum()),
        moved_share=int(moved.sum()) / n if n else None,
        reasons=counts,
        flows=_flows(baseline, run, (codes[0], codes[1]), names, reasons),
        movers=_movers(baseline, run, (codes[0], codes[1]), names, reasons, most_movers),
    )


def _places(run: Run, place: Place) -> list[str]:
    """Names of the places of a run's engines, then of what is no place: the outcomes other than completed."""
    engines = run.info.engines
    named = [
        variant_name(engine) if place == "variant" else getattr(engine, place) or engine.kind for engine in engines
    ]
    return [*named, *(f"({outcome})" for outcome in OUTCOMES)]


def _coded(run: Run, places: Sequence[str], position: dict[str, int]) -> NDArray[np.int64]:
    """The place of each request, as a number."""
    numbers = np.array([position[name] for name in places], dtype=np.int64)
    engines = len(run.info.engines)
    served = run.rows.outcome == COMPLETED
    which = np.where(served, run.rows.engine, engines + run.rows.outcome.astype(np.int64))
    return numbers[which]


def _reasons(baseline: Run, run: Run) -> NDArray[np.int64]:
    """For each request, what would be said of it if it moved: an index into `_WORDS`."""
    was, now = client_clock(baseline), client_clock(run)
    was_good, now_good = judge(baseline, was).good, judge(run, now).good
    usd = request_usd(run) - request_usd(baseline)
    both = was.served & now.served
    ttft = np.where(both, now.ttft_ns, 0) - np.where(both, was.ttft_ns, 0)
    cheaper, faster = usd < 0, ttft < 0
    conditions = [
        ~now.served,
        ~was.served,
        ~was_good & now_good,
        was_good & ~now_good,
        cheaper & faster,
        cheaper,
        faster,
        (usd > 0) & (ttft > 0),
    ]
    refused = _REFUSED + run.rows.reason.astype(np.int64)
    others = (_SERVED, _KEPT, _LOST, _BOTH, _CHEAPER, _FASTER, _NEITHER)
    choices = [refused, *(np.full_like(refused, word) for word in others)]
    return np.select(conditions, choices, np.full_like(refused, _EQUAL))


def _counted(reasons: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(reasons, minlength=len(_WORDS))
    found = [(_WORDS[index], int(count)) for index, count in enumerate(counts) if count]
    return dict(sorted(found, key=lambda pair: (-pair[1], pair[0])))


def _flows(
    baseline: Run,
    run: Run,
    codes: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: Sequence[str],
    reasons: NDArray[np.int64],
) -> tuple[Flow, ...]:
    was, now = client_clock(baseline), client_clock(run)
    usd = request_usd(run) - request_usd(baseline)
    moved = np.flatnonzero(codes[0] != codes[1])
    pairs = codes[0][moved] * len(names) + codes[1][moved]
    order = moved[np.argsort(pairs, kind="stable")]
    flows = []
    for members in np.split(order, np.flatnonzero(np.diff(np.sort(pairs))) + 1) if len(order) else []:
        both = members[was.served[members] & now.served[members]]
        ttft, e2e = now.ttft_ns[both] - was.ttft_ns[both], now.e2e_ns[both] - was.e2e_ns[both]
        counts = _counted(reasons[members])
        flows.append(
            Flow(
                before=names[codes[0][members[0]]],
                after=names[codes[1][members[0]]],
                requests=len(members),
                share=len(members) / len(run.rows),
                ttft_ms_change=int(ttft.sum()) / len(both) / NS_PER_MS if len(both) else None,
                e2e_ms_change=int(e2e.sum()) / len(both) / NS_PER_MS if len(both) else None,
                usd_change=float(usd[members].sum()),
                reason=next(iter(counts)),
                reasons=counts,
            )
        )
    return tuple(sorted(flows, key=lambda flow: (-flow.requests, flow.before, flow.after)))


def _movers(
    baseline: Run,
    run: Run,
    codes: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: Sequence[str],
    reasons: NDArray[np.int64],
    most: int,
) -> tuple[Mover, ...]:
    was, now = client_clock(baseline), client_clock(run)
    usd_before, usd_after = request_usd(baseline), request_usd(run)
    both = np.flatnonzero(was.served & now.served & (was.ttft_ns != now.ttft_ns))
    change = now.ttft_ns[both] - was.ttft_ns[both]
    chosen = both[np.argsort(-np.abs(change), kind="stable")[:most]]
    workloads, origins = (*run.info.workload_names, ""), (*(place.name for place in run.info.origins), "")
    return tuple(
        Mover(
            id=int(number),
            workload=workloads[run.rows.workload[number]],
            origin=origins[run.rows.origin[number]],
            before=names[codes[0][number]],
            after=names[codes[1][number]],
            ttft_ms_before=int(was.ttft_ns[number]) / NS_PER_MS,
            ttft_ms_after=int(now.ttft_ns[number]) / NS_PER_MS,
            ttft_ms_change=int(now.ttft_ns[number] - was.ttft_ns[number]) / NS_PER_MS,
            usd_before=float(usd_before[number]),
            usd_after=float(usd_after[number]),
            reason=_WORDS[reasons[number]] if codes[0][number] != codes[1][number] else "",
        )
        for number in chosen
    )
