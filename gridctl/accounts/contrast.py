"""Contrast: every number of two runs side by side, and whether the difference is more than chance.

Two runs of the same requests are compared in pairs: resampled alike, block by block (`resampling`), or draw by draw
where both were drawn alike. The verdict is about chance alone: `noise` says that other stretches of the same traffic
would as well have shown the opposite sign. With 95 % intervals, one number in twenty that did not change looks as if it
had. Runs of different requests have no pairs, hence no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from gridctl.accounts.columns import Quantile
from gridctl.accounts.drawn import Drawn
from gridctl.accounts.evidence import ENOUGH_DRAWS
from gridctl.accounts.intervals import interval
from gridctl.accounts.measures import Measures, Scope
from gridctl.accounts.resampling import LEAST_REQUESTS, blocks_of, bounds, resampled
from gridctl.errors import InputError
from gridctl.resources.gate import COUNTS, DOLLARS, METRICS, RATES, SHARES, TIMES

Verdict = Literal["same", "better", "worse", "higher", "lower", "noise", "too-few", "differs", "unknown"]
Method = Literal["blocks", "draws", "none"]

SHOWN_STATISTICS = ("p50", "p95", "p99")
CONTRASTED: tuple[str, ...] = (
    *SHARES,
    *(metric for metric in TIMES if metric.partition(".")[2] in SHOWN_STATISTICS),
    *DOLLARS,
    *RATES,
    *COUNTS,
    *(metric for metric in METRICS if metric not in (*TIMES, *SHARES, *DOLLARS, *RATES, *COUNTS)),
)
LESS_IS_BETTER = frozenset(
    (*TIMES, *DOLLARS, "rejected_share", "failed_share", "burn", "energy_kwh", "rejected", "failed", "promises_missed")
)
NEUTRAL = frozenset(
    ("requests", "input_tokens", "served_input_tokens", "gpus", "gpu_utilization", "preemptions", "promises_undecided")
)


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a run and of the baseline. A field's comment is its definition."""

    scope: dict[str, str]  # workload, tenant, region; empty for everything
    metric: str
    run: str
    baseline: float | None  # the baseline's number
    value: float | None  # the run's
    difference: float | None  # value − baseline
    difference_share: float | None  # difference ÷ |baseline|
    low: float | None  # lower bound of the difference, at 95 %
    high: float | None  # upper bound
    verdict: Verdict
    method: Method  # what the bounds are from


class Pair:
    """A run beside the baseline. `why_unpaired` is empty when both served the same requests."""

    def __init__(
        self,
        baseline: Measures,
        measures: Measures,
        why_unpaired: str,
        baseline_drawn: Drawn | None = None,
        drawn: Drawn | None = None,
    ) -> None:
        self.baseline = baseline
        self.measures = measures
        self.why_unpaired = why_unpaired
        self._drawn: tuple[Drawn, Drawn] | None = None
        if drawn is not None and baseline_drawn is not None and drawn.is_like(baseline_drawn):
            self._drawn = (baseline_drawn, drawn)
        self._blocks = blocks_of(len(measures.run.rows))

    def contrasts(self, scope: Scope) -> list[Contrast]:
        """Every number in one scope."""
        return [self.contrast(metric, scope) for metric in CONTRASTED]

    def contrast(self, metric: str, scope: Scope) -> Contrast:
        """One number in one scope; None where a run has none."""
        base, value = _value(self.baseline, metric, scope), _value(self.measures, metric, scope)
        known = base is not None and value is not None
        difference = value - base if value is not None and base is not None else None
        found: tuple[float, float] | Literal["too-few"] | None = None
        method: Method = "none"
        if known:
            found, method = self._bounds(metric, scope)
        low, high = found if isinstance(found, tuple) else (None, None)
        return Contrast(
            scope=dict(scope),
            metric=metric,
            run=self.measures.run.info.name,
            baseline=base,
            value=value,
            difference=difference,
            difference_share=difference / abs(base) if difference is not None and base else None,
            low=low,
            high=high,
            verdict="too-few" if found == "too-few" and difference else self._verdict(metric, difference, low, high),
            method=method,
        )

    def _verdict(self, metric: str, difference: float | None, low: float | None, high: float | None) -> Verdict:
        """What may be said of a difference; `differs` where the same requests made it and nothing bounds it."""
        if difference == 0 and not low and not high:
            return "same"
        if difference is None or low is None or high is None:
            return "unknown" if difference is None or self.why_unpaired else "differs"
        if low <= 0 <= high:
            return "noise"
        if metric in NEUTRAL:
            return "higher" if low > 0 else "lower"
        return "better" if (low > 0) != (metric in LESS_IS_BETTER) else "worse"

    def _bounds(self, metric: str, scope: Scope) -> tuple[tuple[float, float] | Literal["too-few"] | None, Method]:
        """Between which values the difference lies, and how that is known."""
        if self._drawn is not None:
            theirs, ours = (drawn.values(metric, scope) for drawn in self._drawn)
            if theirs is not None and ours is not None and len(ours) >= ENOUGH_DRAWS:
                pairs = zip(ours, theirs, strict=True)
                between = interval([ours - base for ours, base in pairs if ours is not None and base is not None])
                if between is not None and between.low is not None and between.high is not None:
                    return (between.low, between.high), "draws"
        mine, other = self.measures.column_of(metric), self.baseline.column_of(metric)
        if self.why_unpaired or mine is None or other is None:
            return None, "none"
        members, base_members = self.measures.members(scope), self.baseline.members(scope)
        counted = int(mine.applies[members].sum()) if isinstance(mine, Quantile) else len(members)
        if counted < LEAST_REQUESTS:
            return "too-few", "none"
        margins = resampled(mine, members, self._blocks) - resampled(other, base_members, self._blocks)
        found = bounds(-margins if metric == "budget_left_share" else margins)
        return (None, "none") if found is None else ((found.low, found.high), "blocks")


def scopes_by(measures: Sequence[Measures], dimensions: Sequence[str]) -> list[dict[str, str]]:
    """Everything, then every combination of the dimensions' names that any run has requests of, by name."""
    found: set[tuple[str, ...]] = set()
    for one in measures:
        if dimensions:
            labelled = [one.labels_of(dimension) for dimension in dimensions]
            codes = np.unique(np.stack([column.codes for column in labelled], axis=1), axis=0)
            found |= {tuple(column.names[code] for column, code in zip(labelled, row, strict=True)) for row in codes}
    named = sorted(key for key in found if "-" not in key)
    return [{}, *(dict(zip(dimensions, key, strict=True)) for key in named)]


def _value(measures: Measures, metric: str, scope: Scope) -> float | None:
    try:
        return measures.reading(metric, scope).value
    except InputError:  # nobody of that scope in this run
        return None
