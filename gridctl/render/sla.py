"""The SLA table as text: every workload pooled, then its tenants and regions, then the worst sites.

Decides which columns a person sees first; every column is in `-o wide`, CSV and JSON. Must not compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gridctl.accounts.intervals import Ensemble, PromiseRanges, Ranges
from gridctl.accounts.tables import SiteMisses, Sla, SlaRow
from gridctl.render.account import count_text, full_columns, ms_text, share_text
from gridctl.render.cell import ABSENT
from gridctl.render.ranges import (
    RANGE,
    bound_columns,
    ensemble_document,
    ensemble_line,
    flips_text,
    number_text,
    range_items,
    range_title,
    verdict_text,
)
from gridctl.render.rows import Column, Item, render_rows

_WORKLOAD = Column("workload", "workload")
_PROMISE = (
    Column("objective", "objective", kept=True),
    Column("target", "target", align="right", text=share_text, kept=True),
    Column("applicable", "valid", align="right", text=count_text),
    Column("attained", "attained", align="right", text=share_text, kept=True),
    Column("observed", "observed", align="right"),
)
_LEFT = Column("budget_left_share", "left", align="right", text=lambda value: f"{value:.0%}")
_END = (Column("status", "status", kept=True), Column("main_cause", "cause", kept=True))
POOLED = (
    _WORKLOAD,
    *_PROMISE,
    Column("bound", "95% bound", align="right"),
    _LEFT,
    Column("burn", "burn", align="right", text=lambda value: f"{value:.2f}"),
    *_END,
)
FINER = (_WORKLOAD, Column("tenant", "tenant"), Column("region", "region"), *_PROMISE, _LEFT, *_END)
SITES = (
    Column("site", "worst site"),
    Column("tier", "tier"),
    Column("requests", "requests", align="right", text=count_text),
    Column("bad", "bad", align="right", text=count_text),
    Column("bad_share", "share", align="right", text=share_text),
    Column("main_cause", "cause"),
    Column("main_workload", "workload"),
)


RANGED = {"attained": "attained", "observed": "observed_ms"}
"""Columns of a table that show the range of a number, where there is one."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The draws of the run that is printed, and the ranges of its total and rows, pooled and finer; none of the
    finer rows where the draws did not keep so many."""

    ensemble: Ensemble
    total: Ranges
    pooled: tuple[PromiseRanges, ...]
    finer: tuple[PromiseRanges, ...]


def row_columns(drawn: Drawn | None = None) -> list[Column]:
    """Every column of a row, for `-o wide` and CSV; bounds of ranges and verdicts after all others."""
    columns = full_columns(SlaRow)
    if drawn is None:
        return columns
    bounds = bound_columns(columns, [promise.ranges for promise in (*drawn.pooled, *drawn.finer)])
    return [*columns, *bounds, Column("statuses", "statuses")]


def row_items(rows: Sequence[SlaRow], promises: Sequence[PromiseRanges] | None = None) -> list[Item]:
    """Rows as items, named `workload/tenant/region/objective`, with percentile and bound in words."""
    items: list[Item] = [
        {
            "name": f"{row.workload}/{row.tenant}/{row.region}/{row.objective}",
            "observed": _observed_text(row),
            "bound": _bound_text(row),
            **msgspec.structs.asdict(row),
        }
        for row in rows
    ]
    if not promises:
        return items
    told = [
        {**item, "verdicts": verdict_text(promise), "statuses": promise.statuses}
        for item, promise in zip(items, promises, strict=True)
    ]
    return range_items(told, [promise.ranges for promise in promises], tuple(RANGED.values()))


def document(
    sla: Sla,
    pooled: Sequence[SlaRow],
    finer: Sequence[SlaRow],
    sites: Sequence[SiteMisses],
    drawn: Drawn | None = None,
) -> Item:
    """The whole table as one JSON object; `items` are its rows, pooled ones first, `uncertainty` their ranges."""
    uncertainty = None
    if drawn is not None:
        parts = {"total": drawn.total, "items": [*drawn.pooled, *drawn.finer]}
        uncertainty = ensemble_document(drawn.ensemble, parts)
    return {
        "run": sla.run,
        "trace": sla.trace,
        "policy": sla.policy,
        "total": sla.total,
        "items": [*pooled, *finer],
        "worst_sites": sites,
        "uncertainty": uncertainty,
    }


def text(
    sla: Sla,
    pooled: Sequence[SlaRow],
    finer: Sequence[SlaRow],
    sites: Sequence[SiteMisses],
    output: str,
    drawn: Drawn | None = None,
    width: int | None = None,
) -> str:
    """The run in one line, pooled rows, finer rows and the worst sites, for `table`, `wide` and `markdown`; on a
    terminal of `width` columns no wider than it."""
    is_wide = output == "wide"
    parts = [_headline(sla, drawn)]
    if drawn is not None:
        parts.append(ensemble_line(drawn.ensemble) + flips_text(drawn.pooled, drawn.ensemble))
    columns = row_columns(drawn) if is_wide else _columns(POOLED, drawn)
    items = row_items(pooled, drawn.pooled if drawn else None)
    parts.append(render_rows(items, columns, output, kind="SlaRowList", width=width))
    if finer:
        columns = row_columns(drawn) if is_wide else _columns(FINER, drawn if drawn and drawn.finer else None)
        items = row_items(finer, drawn.finer if drawn else None)
        parts.append(render_rows(items, columns, output, kind="SlaRowList", width=width))
    if sites:
        misses = [msgspec.structs.asdict(site) for site in sites]
        parts.append(render_rows(misses, SITES, output, kind="SiteMissesList", width=width))
    return "\n".join(parts)


def _columns(shown: Sequence[Column], drawn: Drawn | None) -> list[Column]:
    """The columns a person sees first; with draws, ranges beside what they are of, and how verdicts fell."""
    if drawn is None:
        return list(shown)
    columns = []
    for column in shown:
        columns.append(column)
        if column.key in RANGED:
            columns.append(Column(f"{RANGED[column.key]}{RANGE}", range_title(drawn.ensemble), align="right"))
        if column.key == "status":
            columns.append(Column("verdicts", f"in {drawn.ensemble.replays} replays"))
    return columns


def _headline(sla: Sla, drawn: Drawn | None) -> str:
    total = sla.total
    ranges = f", {range_title(drawn.ensemble)} {number_text('attained', drawn.total)}" if drawn else ""
    causes = ", ".join(f"{cause} {count:,}" for cause, count in total.causes.items())
    return (
        f"run {sla.run}: {total.good:,} of {total.requests:,} requests good ({share_text(total.attained)}{ranges}), "
        f"availability {share_text(total.available)}{'; bad: ' + causes if causes else ''}\n"
    )


def _observed_text(row: SlaRow) -> str:
    """The percentile in milliseconds; `unserved` where it is a request that was never answered."""
    return "unserved" if row.observed_unserved else ms_text(row.observed_ms)


def _bound_text(row: SlaRow) -> str:
    """The percentile's upper bound, or the number of requests it takes to have one."""
    if row.requests_to_bound is None or row.applicable == 0:
        return ABSENT
    if row.applicable < row.requests_to_bound:
        return f"needs {row.requests_to_bound}"
    return "unserved" if row.observed_high_ms is None else f"≤{ms_text(row.observed_high_ms)}"
