"""Intervals: how far each number of a table moved over replays that differ only in what was drawn.

One replay is the plain one, whose value a table shows; the others are draws, exchangeable among themselves. Of `m`
draws the interval runs from the r-th smallest value to the r-th largest, with the largest r for which another draw
falls within it with a probability of at least `COVERAGE`, and r = 1, smallest to largest, where m is too small for it:

    coverage = (m + 1 − 2r) / (m + 1)

exactly, whatever the distribution, because the rank of a further draw is uniform over m + 1 places (Wilks 1941). With
19 draws it is 90 %. The interval is about the draws, not about a mean: more draws make it truer, not narrower. The
plain value may lie outside; then the draws are unlike the trace in something that matters (see `help uncertainty`).

Two runs drawn with the same seeds are compared draw by draw, so that what they share cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gridctl.accounts.comparison import COMPARED, difference
from gridctl.accounts.summary import Summary, table_key
from gridctl.accounts.tables import SlaRow, SlaTotal, Status, Tokenomics, TokenomicsRow

COVERAGE = 0.90
UNMOVED = ("target", "percentile", "threshold_ms", "requests_to_bound")
"""Numbers of an SLA row that are the promise's own."""

Values = Sequence[float | None]


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Between which values a number lay. None where `unserved` draws have no value because nobody was served."""

    low: float | None
    high: float | None
    draws: int  # with a value, or with none that is later than any
    unserved: int = 0  # draws whose percentile is a request never served


Ranges = dict[str, Range]


class Ensemble(msgspec.Struct, frozen=True, kw_only=True):
    """A run's draws: what was drawn, with which seeds, and the tables of each. `asked` counts the plain replay too."""

    asked: int
    drawn: tuple[str, ...]
    draws: tuple[Summary, ...]

    @property
    def replays(self) -> int:
        """How many replays there are, the plain one among them."""
        return len(self.draws) + 1

    @property
    def seeds(self) -> tuple[int, ...]:
        """What tells the draws apart, and those of two runs together."""
        return tuple(draw.seed for draw in self.draws)


class PromiseRanges(msgspec.Struct, frozen=True, kw_only=True):
    """One row of an SLA table over all replays: its numbers' ranges, and how often it had which status."""

    workload: str
    tenant: str
    region: str
    objective: str
    ranges: Ranges
    statuses: dict[Status, int]
    flips: bool  # more than one status


class SavingRanges(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one workload (`*` all) draw by draw: the ranges of its savings, as shares."""

    workload: str
    savings: Ranges


class TokenomicsRanges(msgspec.Struct, frozen=True, kw_only=True):
    """The ranges of a tokenomics table, in the order of its rows."""

    total: Ranges
    items: tuple[Ranges, ...]
    workloads: tuple[Ranges, ...]
    tiers: tuple[Ranges, ...]


def rank(draws: int) -> int:
    """Which smallest and largest value an interval of so many draws runs between.

    >>> rank(7), rank(19), rank(39), rank(99)
    (1, 1, 2, 5)
    """
    return max(1, math.floor((1 - COVERAGE) * (draws + 1) / 2 + 1e-9))


def coverage(draws: int) -> float:
    """The probability that another draw falls within the interval of so many.

    >>> coverage(1), coverage(7), coverage(19), coverage(99)
    (0.0, 0.75, 0.9, 0.9)
    """
    return (draws + 1 - 2 * rank(draws)) / (draws + 1)


def interval(values: Values) -> Range | None:
    """The interval of a number's values over the draws, infinite ones included; None when no draw has a value."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    which = rank(len(known))
    low, high = known[which - 1], known[-which]
    return Range(
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        draws=len(known),
        unserved=sum(math.isinf(value) for value in known),
    )


def tokenomics_ranges(table: Tokenomics, by: Sequence[str], ensemble: Ensemble) -> TokenomicsRanges:
    """The ranges of every number of `table`, whose rows tell `by` apart."""

    def ranges(rows: Iterable[TokenomicsRow], key: str) -> tuple[Ranges, ...]:
        known = [{_key(row): row for row in draw.tokenomics.get(key, ())} for draw in ensemble.draws]
        return tuple(_ranges_of(TokenomicsRow, [drawn.get(_key(row)) for drawn in known]) for row in rows)

    return TokenomicsRanges(
        total=row_ranges(table.total.workload, ensemble),
        items=ranges(table.rows, table_key(by)),
        workloads=ranges(table.workloads, table_key(["workload"])),
        tiers=ranges(table.tiers, table_key(["tier"])),
    )


def row_ranges(workload: str, ensemble: Ensemble) -> Ranges:
    """The ranges of one workload over everything it ran on; `*` is the total."""
    return _ranges_of(TokenomicsRow, _of(workload, ensemble))


def saving_ranges(workloads: Sequence[str], ours: Ensemble, theirs: Ensemble) -> tuple[SavingRanges, ...]:
    """How far the savings of each workload moved; empty unless both runs were drawn with the same seeds."""
    if ours.seeds != theirs.seeds or set(ours.drawn) != set(theirs.drawn):
        return ()
    found = []
    for workload in workloads:
        pairs = [
            (mine, other)
            for mine, other in zip(_of(workload, ours), _of(workload, theirs), strict=True)
            if mine is not None and other is not None
        ]
        savings = {
            metric: interval([difference(metric, mine, other).saving_share for mine, other in pairs])
            for metric in COMPARED
        }
        found.append(SavingRanges(workload=workload, savings={k: v for k, v in savings.items() if v is not None}))
    return tuple(found)


def promise_ranges(rows: Sequence[SlaRow], by: Sequence[str], ensemble: Ensemble) -> tuple[PromiseRanges, ...]:
    """The ranges of SLA rows that tell `by` apart; empty when the draws kept no such table."""
    tables = [draw.sla.get(table_key(by)) for draw in ensemble.draws]
    known = [{_promise(row): row for row in table} for table in tables if table is not None]
    return tuple(_promise_ranges(row, known) for row in rows) if known else ()


def sla_total_ranges(ensemble: Ensemble) -> Ranges:
    """The ranges of the whole run's numbers."""
    return _ranges_of(SlaTotal, [draw.sla_total for draw in ensemble.draws])


def _promise_ranges(row: SlaRow, known: Sequence[Mapping[tuple[str, ...], SlaRow]]) -> PromiseRanges:
    found = [rows[_promise(row)] for rows in known if _promise(row) in rows]
    statuses: dict[Status, int] = {row.status: 1}
    for drawn in found:
        statuses[drawn.status] = statuses.get(drawn.status, 0) + 1
    return PromiseRanges(
        workload=row.workload,
        tenant=row.tenant,
        region=row.region,
        objective=row.objective,
        ranges=_ranges_of(SlaRow, found),
        statuses=dict(sorted(statuses.items(), key=lambda pair: (-pair[1], pair[0]))),
        flips=len(statuses) > 1,
    )


def _of(workload: str, ensemble: Ensemble) -> list[TokenomicsRow | None]:
    """The row of a workload in every draw; `*` is the total."""
    if workload == "*":
        return [draw.total for draw in ensemble.draws]
    key = table_key(["workload"])
    tables = [{row.workload: row for row in draw.tokenomics.get(key, ())} for draw in ensemble.draws]
    return [table.get(workload) for table in tables]


def _ranges_of(kind: type[msgspec.Struct], found: Sequence[object | None]) -> Ranges:
    """The range of every number of a row that moves. What a draw has no row for was 0 there, where that says anything:
    no requests, tokens and dollars, but no latency."""
    ranges: Ranges = {}
    for field in msgspec.structs.fields(kind):
        if field.name in UNMOVED or field.type not in (int, float, float | None, int | None):
            continue
        missing = 0 if field.type in (int, float) else None
        values = [missing if drawn is None else _value(drawn, field.name) for drawn in found]
        between = interval(values)
        if between is not None:
            ranges[field.name] = between
    return ranges


def _value(row: object, name: str) -> float | None:
    """A number of a row; a percentile that is a request never served is later than any."""
    if name == "observed_ms" and getattr(row, "observed_unserved", False):
        return math.inf
    value: float | None = getattr(row, name)
    return value


def _key(row: TokenomicsRow) -> tuple[str, ...]:
    return row.workload, row.tier, row.variant


def _promise(row: SlaRow) -> tuple[str, ...]:
    return row.workload, row.tenant, row.region, row.objective
