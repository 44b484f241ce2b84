"""Evidence: what a run's requests prove about a threshold, beyond having been on one side of it.

    exact      dollars, tokens, rates, counts: sums over this run, which the threshold divides
    counts     percentiles and shares: so few misses among so many requests prove the claim (one-sided exact binomial,
               299 requests without a miss for a p99), so many refute it; the rule of the SLA table
    blocks     means, and anything held against another run of the same trace: resampled blocks of requests, both runs
               alike, one-sided at 95 %
    draws      a run with at least `ENOUGH_DRAWS` draws: the interval of the draws, which replaces counts and blocks

What is neither proved nor refuted is open. The binomial rule assumes independent requests, which flatters a run whose
requests share queues: what is open even so is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.columns import Quantile, Sums
from gridctl.accounts.intervals import interval
from gridctl.accounts.measures import Measures, Scope
from gridctl.accounts.percentiles import exact, requests_to_prove
from gridctl.accounts.resampling import LEAST_REQUESTS, Floats, blocks_of, bounds, resampled
from gridctl.accounts.sla import status
from gridctl.resources.gate import GateOp
from gridctl.units import NS_PER_MS

ENOUGH_DRAWS = 10
RESAMPLED = ("burn", "budget_left_share")

Method = Literal["exact", "counts", "blocks", "draws"]
Finding = Literal["proved", "refuted", "open"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A number held against a threshold. `factor` and `plus` make the threshold of a baseline's number."""

    metric: str
    op: GateOp
    threshold: float
    scope: Scope
    factor: float = 1.0
    plus: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found and how. `low` and `high` bound the number less its threshold, where the method gives bounds;
    `needed` is how many requests it takes, where too few are what leaves it open."""

    method: Method
    finding: Finding
    low: float | None = None
    high: float | None = None
    needed: int | None = None
    is_few: bool = False  # so few that they could prove nothing, whatever they were


def holds(value: float, op: GateOp, threshold: float) -> bool:
    """Whether the comparison is true."""
    if op == "<":
        return value < threshold
    if op == "<=":
        return value <= threshold
    return value > threshold if op == ">" else value >= threshold


def by_sum(claim: Claim, value: float) -> Evidence:
    """The run's own number decides."""
    return Evidence("exact", "proved" if holds(value, claim.op, claim.threshold) else "refuted")


def by_draws(claim: Claim, margins: Sequence[float | None]) -> Evidence:
    """The draws' interval of number less threshold, all of one sign or not."""
    between = interval([margin for margin in margins if margin is not None])
    if between is None or between.low is None or between.high is None:
        return Evidence("draws", "open")
    return Evidence("draws", _sided(claim.op, between.low, between.high), between.low, between.high)


def by_requests(claim: Claim, ours: Measures, value: float) -> Evidence:
    """What the run's own requests say: by counts, by blocks, or exactly, as the metric allows."""
    members = ours.members(claim.scope)
    column = ours.column_of(claim.metric)
    if isinstance(column, Quantile):
        times_ns = column.values[members][column.applies[members]]
        below = exact(column.percentile) / 100
        share = float(below if claim.op in ("<", "<=") else 1 - below)
        return _by_count(claim, len(times_ns), _misses(times_ns, claim), share, value)
    if isinstance(column, Sums) and column.is_share and column.denominator is not None:
        n, good = int(column.denominator[members].sum()), int(column.numerator[members].sum())
        is_floor = claim.op in (">", ">=")
        share = claim.threshold if is_floor else float(1 - exact(claim.threshold))
        return _by_count(claim, n, n - good if is_floor else good, share, value)
    if isinstance(column, Sums) and (claim.metric.endswith(".mean") or claim.metric in RESAMPLED):
        return by_blocks(claim, ours, None)
    return by_sum(claim, value)


def by_blocks(claim: Claim, ours: Measures, theirs: Measures | None) -> Evidence:
    """Resampled blocks of one run, or of two runs of the same requests, drawn alike."""
    column = ours.column_of(claim.metric)
    assert column is not None, f"{claim.metric} is no sum over requests"
    members = ours.members(claim.scope)
    counted = members[column.applies[members]] if isinstance(column, Quantile) else members
    if len(counted) < LEAST_REQUESTS:
        return Evidence("blocks", "open", needed=LEAST_REQUESTS, is_few=True)
    blocks = blocks_of(len(ours.run.rows))
    values = _number(claim.metric, resampled(column, members, blocks))
    if theirs is None:
        margins = values - claim.threshold
    else:
        other = theirs.column_of(claim.metric)
        assert other is not None, "both runs have the same columns"
        base = _number(claim.metric, resampled(other, theirs.members(claim.scope), blocks))
        margins = values - (claim.factor * base + claim.plus)
    found = bounds(margins)
    if found is None:
        return Evidence("blocks", "open")
    return Evidence("blocks", _sided(claim.op, found.least, found.most), found.least, found.most)


def is_sampled(metric: str) -> bool:
    """Whether a number is of a sample of requests (a percentile, mean or share), rather than a sum of this run."""
    return metric.partition(".")[2] != "" or metric in (
        "attainment",
        "availability",
        "rejected_share",
        "failed_share",
        *RESAMPLED,
    )


def _number(metric: str, values: Floats) -> Floats:
    """Resampled budget spent as budget left; everything else as it is."""
    return 1 - values if metric == "budget_left_share" else values


def _misses(times_ns: NDArray[np.int64], claim: Claim) -> int:
    """How many times are not on the side of the threshold that the claim wants."""
    threshold_ns = round(claim.threshold * NS_PER_MS)
    kept = {
        "<": times_ns < threshold_ns,
        "<=": times_ns <= threshold_ns,
        ">": times_ns > threshold_ns,
        ">=": times_ns >= threshold_ns,
    }
    return len(times_ns) - int(kept[claim.op].sum())


def _by_count(claim: Claim, n: int, misses: int, share: float, value: float) -> Evidence:
    """The SLA table's rule: `misses` of `n` hold against the claim that at least `share` do not miss.

    A share of nothing or of everything proves nothing beyond this run, so there the run itself decides."""
    if not 0 < share < 1:
        return by_sum(claim, value)
    found = status(n, misses, share)
    is_held = holds(value, claim.op, claim.threshold)
    if found == "met" and is_held:
        return Evidence("counts", "proved")
    if found == "missed" and not is_held:
        return Evidence("counts", "refuted")
    is_few = n < requests_to_prove(share)
    return Evidence("counts", "open", needed=requests_to_prove(share, misses), is_few=is_few)


def _sided(op: GateOp, low: float, high: float) -> Finding:
    """What bounds of number less threshold say."""
    if holds(low, op, 0.0) and holds(high, op, 0.0):
        return "proved"
    if not holds(low, op, 0.0) and not holds(high, op, 0.0):
        return "refuted"
    return "open"
