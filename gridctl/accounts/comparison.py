"""Comparison: a run beside another of the same trace, number by number; by default its centralised alternative.

Decides which columns are set side by side, and nothing about their values. A saving is 1 − ours ÷ theirs, so positive
means less; it is given for dollars, times and energy, where less is better, and None elsewhere.
"""

from __future__ import annotations

import msgspec

from gridctl.accounts.tables import Tokenomics, TokenomicsRow

LESS_IS_BETTER = (
    "usd_per_mtok",
    "usd_per_mtok_output",
    "usd_per_mtok_goodput",
    "usd",
    "gpu_busy_usd",
    "gpu_idle_usd",
    "serverless_usd",
    "egress_usd",
    "fallback_usd",
    "energy_usd",
    "energy_kwh",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "tpot_p50_ms",
    "tpot_p95_ms",
    "tpot_p99_ms",
    "e2e_p50_ms",
    "e2e_p95_ms",
    "e2e_p99_ms",
)
OTHERS = (
    "requests",
    "completed",
    "rejected",
    "failed",
    "attainment",
    "input_tokens",
    "output_tokens",
    "prefix_cache_share",
    "throughput_tok_s",
    "goodput_tok_s",
    "throughput_tok_s_per_gpu",
    "goodput_tok_s_per_gpu",
    "goodput_rps",
    "gpus",
    "gpu_utilization",
)
COMPARED = (*OTHERS, *LESS_IS_BETTER)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One column of two runs: ours, theirs, ours − theirs, and the saving as a share of theirs."""

    metric: str
    value: float | None
    other: float | None
    difference: float | None
    saving_share: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs in total (`workload` is `*`) or in one workload."""

    workload: str
    run: str
    other_run: str
    differences: tuple[Difference, ...]


def compare(ours: Tokenomics, theirs: Tokenomics) -> tuple[Comparison, ...]:
    """The totals of two runs side by side, then every workload that both have."""
    other_rows = {row.workload: row for row in theirs.workloads}
    pairs = [(ours.total, theirs.total)]
    pairs += [(row, other_rows[row.workload]) for row in ours.workloads if row.workload in other_rows]
    return tuple(
        Comparison(
            workload=row.workload,
            run=ours.run,
            other_run=theirs.run,
            differences=tuple(difference(metric, row, other) for metric in COMPARED),
        )
        for row, other in pairs
    )


def difference(metric: str, row: TokenomicsRow, other: TokenomicsRow) -> Difference:
    """One column of two rows; what either row does not have has no difference."""
    value, base = getattr(row, metric), getattr(other, metric)
    known = value is not None and base is not None
    saving = 1 - value / base if known and base and metric in LESS_IS_BETTER else None
    return Difference(
        metric=metric,
        value=value,
        other=base,
        difference=value - base if known else None,
        saving_share=saving,
    )
