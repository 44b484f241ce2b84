"""Ranges as text: between which values a number lay over the draws, and what may be concluded from that.

Decides wording only. Where a run has no draws nothing here is used, and tables look as they always did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gridctl.accounts.intervals import Ensemble, PromiseRanges, Range, Ranges, coverage, rank
from gridctl.render.account import count_text, text_of
from gridctl.render.cell import ABSENT
from gridctl.render.rows import Column, Item

LOW, HIGH = "_draws_low", "_draws_high"
RANGE = "_range"


def range_text(between: Range | None, reads: Callable[[Any], str]) -> str:
    """`low…high` as the number itself reads, one value where they read the same; `unserved` where nobody was served.

    >>> from gridctl.accounts.intervals import Range
    >>> range_text(Range(low=1.0, high=2.0, draws=9), "{:.1f}".format), range_text(None, str)
    ('1.0…2.0', '-')
    >>> range_text(Range(low=1.0, high=1.01, draws=9), "{:.1f}".format)
    '1.0'
    >>> range_text(Range(low=1.0, high=None, draws=9, unserved=2), "{:.1f}".format)
    '1.0…unserved'
    """
    if between is None:
        return ABSENT
    low, high = ("unserved" if value is None else reads(value) for value in (between.low, between.high))
    return low if low == high else f"{low}…{high}"


def number_text(metric: str, ranges: Ranges) -> str:
    """The range of one column, as that column reads."""
    return range_text(ranges.get(metric), text_of(metric) or count_text)


def range_title(ensemble: Ensemble) -> str:
    """The title of a column of ranges: how likely another draw falls within.

    A range that another draw is not likely to fall within is called by what it is."""
    share = coverage(len(ensemble.draws))
    return f"{share:.0%} range" if share >= 0.5 else "draws"


def range_items(items: Sequence[Item], ranges: Sequence[Ranges], metrics: Sequence[str]) -> list[Item]:
    """Rows with the ranges of `metrics` as text, under `METRIC_range`, and of every number as two columns."""
    joined: list[Item] = []
    for item, own in zip(items, ranges, strict=True):
        bounds: dict[str, object] = {f"{metric}{RANGE}": number_text(metric, own) for metric in metrics}
        for metric, between in own.items():
            bounds |= {f"{metric}{LOW}": between.low, f"{metric}{HIGH}": between.high}
        joined.append({**item, **bounds})
    return joined


def bound_columns(columns: Sequence[Column], ranges: Sequence[Ranges]) -> list[Column]:
    """A column for each bound of each number that has any, for `-o wide` and CSV, read as the number reads."""
    moved = {metric for own in ranges for metric in own}
    return [
        Column(f"{column.key}{bound}", f"{column.key}{bound}", align="right", text=column.text)
        for column in columns
        if column.key in moved
        for bound in (LOW, HIGH)
    ]


def ensemble_line(ensemble: Ensemble) -> str:
    """What the ranges are, in one sentence."""
    draws = len(ensemble.draws)
    missing = ensemble.asked - ensemble.replays
    between = "smallest to largest" if rank(draws) == 1 else f"without the {rank(draws) - 1} lowest and highest"
    return (
        f"{ensemble.replays} replays: ranges are of {draws} draws of {', '.join(ensemble.drawn)}, {between}; "
        f"another draw falls within with a probability of {coverage(draws):.0%}"
        + (f"; {missing} of the {ensemble.asked} asked for are missing: replay run --resume" if missing > 0 else "")
        + "\n"
    )


def verdict_text(promise: PromiseRanges) -> str:
    """How often a promise had which status; nothing where all replays agree."""
    if not promise.flips:
        return "all"
    return ", ".join(f"{status} {count}" for status, count in promise.statuses.items())


def flips_text(promises: Sequence[PromiseRanges], ensemble: Ensemble) -> str:
    """The verdicts that depend on the draw, in words; a line each, the pooled ones only."""
    flipping = [promise for promise in promises if promise.flips]
    if not flipping:
        return f"all {len(promises)} verdicts are the same in all {ensemble.replays} replays\n" if promises else ""
    lines = [f"{len(flipping)} of {len(promises)} verdicts depend on the draw:\n"]
    for promise in flipping:
        told = ", ".join(f"{status} in {count}" for status, count in promise.statuses.items())
        lines.append(f"  {promise.workload} {promise.objective}: {told} of {sum(promise.statuses.values())} replays\n")
    return "".join(lines)


def ensemble_document(ensemble: Ensemble | None, parts: Mapping[str, object]) -> dict[str, object] | None:
    """The draws of a run as JSON, and `parts`, the ranges of a table."""
    if ensemble is None:
        return None
    draws = len(ensemble.draws)
    return {
        "replays": ensemble.replays,
        "replays_asked": ensemble.asked,
        "drawn": list(ensemble.drawn),
        "seeds": list(ensemble.seeds),
        "coverage_share": coverage(draws),
        "rank": rank(draws),
        **{name: msgspec.to_builtins(part) for name, part in parts.items()},
    }
