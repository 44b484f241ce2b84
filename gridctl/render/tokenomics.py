"""The tokenomics table as text: the run beside its centralised alternative, then a line per row, subtotals and total.

Decides which columns a person sees first; every column is in `-o wide`, CSV and JSON. Must not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gridctl.accounts.comparison import Comparison
from gridctl.accounts.intervals import Ensemble, Ranges, SavingRanges, TokenomicsRanges
from gridctl.accounts.tables import Tokenomics, TokenomicsRow
from gridctl.render.account import count_text, full_columns, share_text, text_of
from gridctl.render.ranges import (
    RANGE,
    bound_columns,
    ensemble_document,
    ensemble_line,
    number_text,
    range_items,
    range_text,
    range_title,
)
from gridctl.render.rows import Column, Item, render_rows

NARROW = (
    Column("workload", "workload"),
    Column("tier", "tier"),
    Column("variant", "variant"),
    Column("requests", "requests", align="right", text=count_text),
    Column("attainment", "good", align="right", text=share_text),
    Column("ttft_p50_ms", "ttft p50", align="right", text=text_of("ttft_p50_ms")),
    Column("ttft_p99_ms", "ttft p99", align="right", text=text_of("ttft_p99_ms")),
    Column("tpot_p99_ms", "tpot p99", align="right", text=text_of("tpot_p99_ms")),
    Column("goodput_tok_s", "good tok/s", align="right", text=count_text),
    Column("usd", "usd", align="right", text=text_of("usd")),
    Column("usd_per_mtok", "usd/Mtok", align="right", text=text_of("usd_per_mtok")),
)
SUMMARY = (
    ("usd_per_mtok", "$ per M tokens, all"),
    ("usd_per_mtok_output", "$ per M tokens, output"),
    ("usd_per_mtok_goodput", "$ per M tokens, goodput"),
    ("usd", "$ in total"),
    ("gpu_busy_usd", "  GPUs, busy"),
    ("gpu_idle_usd", "  GPUs, idle"),
    ("serverless_usd", "  serverless"),
    ("egress_usd", "  egress"),
    ("fallback_usd", "  API fallback"),
    ("energy_usd", "  energy"),
    ("energy_kwh", "energy, kWh"),
    ("requests", "requests"),
    ("completed", "  completed"),
    ("rejected", "  rejected"),
    ("failed", "  failed"),
    ("attainment", "good requests"),
    ("input_tokens", "tokens in"),
    ("output_tokens", "tokens out"),
    ("prefix_cache_share", "prefix-cache share"),
    ("ttft_p50_ms", "TTFT p50, ms"),
    ("ttft_p95_ms", "TTFT p95, ms"),
    ("ttft_p99_ms", "TTFT p99, ms"),
    ("tpot_p50_ms", "TPOT p50, ms"),
    ("tpot_p95_ms", "TPOT p95, ms"),
    ("tpot_p99_ms", "TPOT p99, ms"),
    ("throughput_tok_s", "throughput, tok/s"),
    ("goodput_tok_s", "goodput, tok/s"),
    ("throughput_tok_s_per_gpu", "throughput, tok/s per GPU"),
    ("goodput_tok_s_per_gpu", "goodput, tok/s per GPU"),
    ("gpus", "GPUs"),
    ("gpu_utilization", "GPU utilisation"),
)

ZERO_UNSAID = ("serverless_usd", "fallback_usd", "energy_usd", "energy_kwh")  # left out where neither run has any
SIDES = ("value", "other")
RANGED = ("attainment", "ttft_p99_ms", "goodput_tok_s", "usd_per_mtok")
"""Columns of the narrow table that show their range, where there is one."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The draws of the run that is printed, the ranges of its table, and, where it is set beside another, of that
    one's total and of the savings."""

    ensemble: Ensemble
    ranges: TokenomicsRanges
    other: Ranges | None = None
    savings: tuple[SavingRanges, ...] = ()


def row_columns(drawn: Drawn | None = None) -> list[Column]:
    """Every column of a row, for `-o wide` and CSV; bounds of ranges after all others."""
    columns = full_columns(TokenomicsRow)
    return [*columns, *bound_columns(columns, [*drawn.ranges.items, drawn.ranges.total])] if drawn else columns


def row_items(rows: Sequence[TokenomicsRow], ranges: Sequence[Ranges] | None = None) -> list[Item]:
    """Rows as items, named `workload/tier/variant`."""
    items: list[Item] = [
        {"name": f"{row.workload}/{row.tier}/{row.variant}", **msgspec.structs.asdict(row)} for row in rows
    ]
    return items if ranges is None else range_items(items, ranges, RANGED)


def document(
    tokenomics: Tokenomics, other: Tokenomics | None, comparisons: Sequence[Comparison], drawn: Drawn | None = None
) -> dict[str, object]:
    """The whole table as one JSON object; `items` are its rows, `centralized` the other run's subtotals and total,
    `uncertainty` the ranges of all of them."""
    centralized = None
    if other is not None:
        centralized = {"run": other.run, "total": other.total, "workloads": other.workloads, "tiers": other.tiers}
    return {
        "run": tokenomics.run,
        "trace": tokenomics.trace,
        "policy": tokenomics.policy,
        "algorithm": tokenomics.algorithm,
        "window_s": tokenomics.window_s,
        "total": tokenomics.total,
        "items": tokenomics.rows,
        "workloads": tokenomics.workloads,
        "tiers": tokenomics.tiers,
        "centralized": centralized,
        "comparison": comparisons,
        "uncertainty": None if drawn is None else _uncertainty(drawn),
    }


def text(tokenomics: Tokenomics, comparisons: Sequence[Comparison], output: str, drawn: Drawn | None = None) -> str:
    """Summary and rows, for `table`, `wide` and `markdown`."""
    rows, ranges = _with_subtotals(tokenomics, drawn)
    columns = row_columns(drawn) if output == "wide" else _narrow(drawn)
    lines = render_rows(row_items(rows, ranges), columns, output, kind="TokenomicsRowList")
    told = f"\n{ensemble_line(drawn.ensemble)}" if drawn else ""
    return f"{_summary(tokenomics, comparisons, output, drawn)}\n{lines}{told}"


def _uncertainty(drawn: Drawn) -> dict[str, object] | None:
    ranges = drawn.ranges
    return ensemble_document(
        drawn.ensemble,
        {
            "total": ranges.total,
            "items": ranges.items,
            "workloads": ranges.workloads,
            "tiers": ranges.tiers,
            "centralized": drawn.other,
            "comparison": drawn.savings,
        },
    )


def _narrow(drawn: Drawn | None) -> list[Column]:
    """The columns a person sees first; some with their range beside them."""
    columns = []
    for column in NARROW:
        columns.append(column)
        if drawn is not None and column.key in RANGED:
            columns.append(Column(f"{column.key}{RANGE}", range_title(drawn.ensemble), align="right"))
    return columns


def _with_subtotals(tokenomics: Tokenomics, drawn: Drawn | None) -> tuple[list[TokenomicsRow], list[Ranges] | None]:
    """Rows, each workload's subtotal under its rows when it has several, then tiers and the total; and their ranges."""
    nothing: Ranges = {}
    ranges = drawn.ranges if drawn else None
    items = list(zip(tokenomics.rows, ranges.items if ranges else [nothing] * len(tokenomics.rows), strict=True))
    subtotals = {
        row.workload: (row, own)
        for row, own in zip(
            tokenomics.workloads, ranges.workloads if ranges else [nothing] * len(tokenomics.workloads), strict=True
        )
        if row != tokenomics.total
    }
    lines: list[tuple[TokenomicsRow, Ranges]] = []
    for name in dict.fromkeys(row.workload for row in tokenomics.rows):
        own = [item for item in items if item[0].workload == name]
        lines += own
        if len(own) > 1 and name in subtotals:
            lines.append(subtotals[name])
    if tokenomics.tiers != tokenomics.rows:
        lines += zip(tokenomics.tiers, ranges.tiers if ranges else [nothing] * len(tokenomics.tiers), strict=True)
    lines.append((tokenomics.total, ranges.total if ranges else nothing))
    return [row for row, _ in lines], [own for _, own in lines] if ranges else None


def _summary(tokenomics: Tokenomics, comparisons: Sequence[Comparison], output: str, drawn: Drawn | None) -> str:
    """The total, beside the other run's when there is one; each with its range where there are draws."""
    workload = tokenomics.total.workload
    beside = next((part for part in comparisons if part.workload == workload), None)
    differences = {part.metric: part for part in beside.differences} if beside else {}
    savings = next((part.savings for part in drawn.savings if part.workload == workload), {}) if drawn else {}
    items: list[Item] = []
    for metric, title in SUMMARY:
        reads: Callable[[Any], str] = text_of(metric) or count_text
        item = {"metric": title, "value": reads(getattr(tokenomics.total, metric))}
        if drawn is not None:
            item["value_range"] = number_text(metric, drawn.ranges.total)
            item["other_range"] = number_text(metric, drawn.other or {})
            item["saving_range"] = range_text(savings.get(metric), share_text)
        if metric in differences:
            part = differences[metric]
            item |= {"other": reads(part.other), "saving": share_text(part.saving_share)}
        if metric not in ZERO_UNSAID or any(value not in ("0", "-") for key, value in item.items() if key in SIDES):
            items.append(item)
    columns = _summary_columns(tokenomics, beside, drawn, has_savings=bool(savings))
    return render_rows(items, columns, output, kind="Summary")


def _summary_columns(
    tokenomics: Tokenomics, beside: Comparison | None, drawn: Drawn | None, *, has_savings: bool
) -> list[Column]:
    title = range_title(drawn.ensemble) if drawn else ""
    ranges = {key: [Column(f"{key}_range", title, align="right")] for key in ("value", "other", "saving")}
    columns = [Column("metric", "in total"), Column("value", tokenomics.run, align="right")]
    columns += ranges["value"] if drawn else []
    if beside is not None:
        columns.append(Column("other", beside.other_run, align="right"))
        columns += ranges["other"] if drawn and drawn.other else []
        columns.append(Column("saving", "saving", align="right"))
        columns += ranges["saving"] if has_savings else []
    return columns
