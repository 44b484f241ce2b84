"""The SLA table as text: every workload pooled, then its tenants and regions, then the worst sites.

Decides which columns a person sees first; every column is in `-o wide`, CSV and JSON. Must not compute.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridctl.accounts.tables import SiteMisses, Sla, SlaRow
from gridctl.render.account import count_text, full_columns, ms_text, share_text
from gridctl.render.cell import ABSENT
from gridctl.render.rows import Column, Item, render_rows

_WORKLOAD = Column("workload", "workload")
_PROMISE = (
    Column("objective", "objective"),
    Column("target", "target", align="right", text=share_text),
    Column("applicable", "valid", align="right", text=count_text),
    Column("attained", "attained", align="right", text=share_text),
    Column("observed", "observed", align="right"),
)
_LEFT = Column("budget_left_share", "left", align="right", text=lambda value: f"{value:.0%}")
_END = (Column("status", "status"), Column("main_cause", "cause"))
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


def row_columns() -> list[Column]:
    """Every column of a row, for `-o wide` and CSV."""
    return full_columns(SlaRow)


def row_items(rows: Sequence[SlaRow]) -> list[Item]:
    """Rows as items, named `workload/tenant/region/objective`, with percentile and bound in words."""
    return [
        {
            "name": f"{row.workload}/{row.tenant}/{row.region}/{row.objective}",
            "observed": _observed_text(row),
            "bound": _bound_text(row),
            **msgspec.structs.asdict(row),
        }
        for row in rows
    ]


def document(sla: Sla, pooled: Sequence[SlaRow], finer: Sequence[SlaRow], sites: Sequence[SiteMisses]) -> Item:
    """The whole table as one JSON object; `items` are its rows, pooled ones first."""
    return {
        "run": sla.run,
        "trace": sla.trace,
        "policy": sla.policy,
        "total": sla.total,
        "items": [*pooled, *finer],
        "worst_sites": sites,
    }


def text(sla: Sla, pooled: Sequence[SlaRow], finer: Sequence[SlaRow], sites: Sequence[SiteMisses], output: str) -> str:
    """The run in one line, pooled rows, finer rows and the worst sites, for `table`, `wide` and `markdown`."""
    is_wide = output == "wide"
    parts = [_headline(sla)]
    parts.append(render_rows(row_items(pooled), row_columns() if is_wide else POOLED, output, kind="SlaRowList"))
    if finer:
        parts.append(render_rows(row_items(finer), row_columns() if is_wide else FINER, output, kind="SlaRowList"))
    if sites:
        items = [msgspec.structs.asdict(site) for site in sites]
        parts.append(render_rows(items, SITES, output, kind="SiteMissesList"))
    return "\n".join(parts)


def _headline(sla: Sla) -> str:
    total = sla.total
    causes = ", ".join(f"{cause} {count:,}" for cause, count in total.causes.items())
    return (
        f"run {sla.run}: {total.good:,} of {total.requests:,} requests good ({share_text(total.attained)}), "
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
