"""The parts of a report that account: tokenomics in total and by row, and the SLA by promise, tenant and site.

Decides which columns stand where, beside which other run, and the cap of rows: what is left out is counted, and the
command that prints it is named. Must not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gridctl.accounts.tables import EVERYTHING
from gridctl.render.account import count_text, share_text, text_of
from gridctl.render.ranges import RANGE, ensemble_line, number_text, range_title, verdict_text
from gridctl.render.rows import Column, Item
from gridctl.render.sla import FINER, POOLED, SITES
from gridctl.render.sla import RANGED as SLA_RANGED
from gridctl.render.sla import row_items as sla_items
from gridctl.render.tokenomics import NARROW, SUMMARY, ZERO_UNSAID
from gridctl.render.tokenomics import RANGED as TOKENOMICS_RANGED
from gridctl.render.tokenomics import row_items as tokenomics_items
from gridctl.report.content import Report
from gridctl.report.markup import Markup, element, joined
from gridctl.report.tables import folded, table

MOST_ROWS = 300


def tokenomics(report: Report) -> Markup:
    """Tokenomics in total and by row."""
    return joined(_totals(report), _costs_by_row(report))


def _totals(report: Report) -> Markup:
    """The total beside the other runs'."""
    total, drawn = report.tokenomics.total, report.drawn
    columns = [Column("metric", "in total"), Column("value", report.info.name, align="right")]
    columns += [Column("range", range_title(drawn.ensemble), align="right")] if drawn else []
    for at, other in enumerate(report.beside):
        columns += [Column(f"other{at}", other.name, align="right"), Column(f"saving{at}", "saving", align="right")]
    items: list[Item] = []
    for metric, title in SUMMARY:
        reads: Callable[[Any], str] = text_of(metric) or count_text
        values = [getattr(total, metric), *(getattr(other.tokenomics.total, metric) for other in report.beside)]
        if metric in ZERO_UNSAID and not any(values):
            continue
        item: dict[str, object] = {"metric": title.strip(), "value": reads(values[0])}
        if drawn is not None:
            item["range"] = number_text(metric, drawn.tokenomics.total)
        for at, other in enumerate(report.beside):
            part = next(d for d in other.comparisons[0].differences if d.metric == metric)
            item |= {f"other{at}": reads(part.other), f"saving{at}": share_text(part.saving_share)}
        items.append(item)
    return table("totals", "In total", columns, items)


def _costs_by_row(report: Report) -> Markup:
    found, drawn = report.tokenomics, report.drawn
    rows = [*found.rows[:MOST_ROWS], found.total]
    ranges = [*drawn.tokenomics.items[:MOST_ROWS], drawn.tokenomics.total] if drawn else None
    columns = _with_ranges(NARROW, {key: key for key in TOKENOMICS_RANGED}, report)
    left = len(found.rows) - MOST_ROWS
    note = f"{left:,} more rows: gridctl tokenomics {report.info.name} -o csv" if left > 0 else ""
    return table(
        "costs",
        "By workload, tier and variant",
        columns,
        tokenomics_items(rows, ranges),
        note=note,
        is_sum=lambda item: item["workload"] == EVERYTHING,
    )


def sla(report: Report) -> Markup:
    """Promises by workload, by tenant and region, and the sites that broke most."""
    drawn, beside = report.drawn, report.compared
    columns = _with_ranges(POOLED, SLA_RANGED, report)
    items = sla_items(report.sla.workloads, drawn.promises if drawn else None)
    if drawn is not None and drawn.promises:
        verdicts = [verdict_text(promise) for promise in drawn.promises]
        items = [{**item, "verdicts": text} for item, text in zip(items, verdicts, strict=True)]
        columns.append(Column("verdicts", f"in {drawn.ensemble.replays} replays"))
    if beside is not None:
        theirs = {(row.workload, row.objective): row.status for row in beside.sla.workloads}
        items = [{**item, "beside": theirs.get((str(item["workload"]), str(item["objective"])))} for item in items]
        columns.append(Column("beside", f"in {beside.name}"))
    pooled = table("promises", "Promises by workload", columns, items)
    finer = None
    if report.finer:
        left = len(report.finer) - MOST_ROWS
        note = f"{left:,} more rows: gridctl sla {report.info.name} -o csv" if left > 0 else ""
        rows = sla_items(report.finer[:MOST_ROWS])
        finer = folded(
            "By tenant and region", table("promises-finer", "Promises by tenant and region", FINER, rows, note=note)
        )
    worst = [msgspec.structs.asdict(site) for site in report.worst]
    listed = table("worst-sites", "Serving sites with most bad requests", SITES, worst) if worst else None
    told = element("p", {"class": "by"}, ensemble_line(drawn.ensemble).strip()) if drawn else None
    return joined(told, pooled, finer, listed)


def _with_ranges(columns: Sequence[Column], ranged: dict[str, str], report: Report) -> list[Column]:
    """Columns with the range of some beside them, where the run has draws."""
    if report.drawn is None:
        return list(columns)
    found = []
    for column in columns:
        found.append(column)
        if column.key in ranged:
            key = f"{ranged[column.key]}{RANGE}"
            found.append(Column(key, range_title(report.drawn.ensemble), align="right"))
    return found
