"""The tokenomics table as text: the run beside its centralised alternative, then a line per row, subtotals and total.

Decides which columns a person sees first; every column is in `-o wide`, CSV and JSON. Must not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gridctl.accounts.comparison import Comparison
from gridctl.accounts.tables import Tokenomics, TokenomicsRow
from gridctl.render.account import count_text, full_columns, share_text, text_of
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


def row_columns() -> list[Column]:
    """Every column of a row, for `-o wide` and CSV."""
    return full_columns(TokenomicsRow)


def row_items(rows: Sequence[TokenomicsRow]) -> list[Item]:
    """Rows as items, named `workload/tier/variant`."""
    return [{"name": f"{row.workload}/{row.tier}/{row.variant}", **msgspec.structs.asdict(row)} for row in rows]


def document(tokenomics: Tokenomics, other: Tokenomics | None, comparisons: Sequence[Comparison]) -> dict[str, object]:
    """The whole table as one JSON object; `items` are its rows, `centralized` the other run's subtotals and total."""
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
    }


def text(tokenomics: Tokenomics, comparisons: Sequence[Comparison], output: str) -> str:
    """Summary and rows, for `table`, `wide` and `markdown`."""
    columns = row_columns() if output == "wide" else list(NARROW)
    lines = render_rows(row_items(_with_subtotals(tokenomics)), columns, output, kind="TokenomicsRowList")
    return f"{_summary(tokenomics, comparisons, output)}\n{lines}"


def _with_subtotals(tokenomics: Tokenomics) -> list[TokenomicsRow]:
    """Rows, each workload's subtotal under its rows when it has several, then tiers and the total."""
    subtotals = {row.workload: row for row in tokenomics.workloads if row != tokenomics.total}
    lines: list[TokenomicsRow] = []
    for name in dict.fromkeys(row.workload for row in tokenomics.rows):
        own = [row for row in tokenomics.rows if row.workload == name]
        lines += own
        if len(own) > 1 and name in subtotals:
            lines.append(subtotals[name])
    tiers = tokenomics.tiers if tokenomics.tiers != tokenomics.rows else ()
    return [*lines, *tiers, tokenomics.total]


def _summary(tokenomics: Tokenomics, comparisons: Sequence[Comparison], output: str) -> str:
    """The total, beside the other run's when there is one."""
    beside = next((part for part in comparisons if part.workload == tokenomics.total.workload), None)
    items: list[Item] = []
    columns = [Column("metric", "in total"), Column("value", tokenomics.run, align="right")]
    if beside is not None:
        columns += [Column("other", beside.other_run, align="right"), Column("saving", "saving", align="right")]
    differences = {part.metric: part for part in beside.differences} if beside else {}
    for metric, title in SUMMARY:
        reads: Callable[[Any], str] = text_of(metric) or count_text
        item = {"metric": title, "value": reads(getattr(tokenomics.total, metric))}
        if metric in differences:
            part = differences[metric]
            item |= {"other": reads(part.other), "saving": share_text(part.saving_share)}
        if metric not in ZERO_UNSAID or any(value not in ("0", "-") for key, value in item.items() if key in SIDES):
            items.append(item)
    return render_rows(items, columns, output, kind="Summary")
