"""Traces: a trace's figures and requests as the rows and objects that `gridctl trace` prints.

Decides keys (API: they only grow) and how a figure reads to people. Computes nothing.
"""

from __future__ import annotations

from dataclasses import asdict

from gridctl.render.cell import counted
from gridctl.render.rows import Column
from gridctl.traces.servegen_plan import ServegenPlan
from gridctl.traces.statistics import Group, Lengths, TraceStatistics
from gridctl.traces.trace import Trace
from gridctl.units import ms

MOONCAKE_BLOCK_TOKENS = 512


def percent(value: float) -> str:
    """A share as text.

    >>> percent(0.34650795)
    '34.65 %'
    """
    return f"{value * 100:.2f} %"


def _three(value: float) -> str:
    return f"{value:,.3f}"


def _rate(value: float) -> str:
    return f"{value:,.2f} /s"


STATISTICS = (
    Column("name", "trace"),
    Column("requests", "requests", text=counted),
    Column("duration_s", "duration s", text=_three),
    Column("mean_rps", "mean rate", text=_rate),
    Column("peak_1s_rps", "peak rate, 1 s", text=_rate),
    Column("peak_10s_rps", "peak rate, 10 s", text=_rate),
    Column("interarrival_cv", "inter-arrival CV", text=_three),
    Column("dispersion_1s", "dispersion of 1 s counts", text=_three),
    Column("input_tokens", "input tokens", text=counted),
    Column("input_mean_tokens", "input mean", text=_three),
    Column("input_p50_tokens", "input p50", text=counted),
    Column("input_p95_tokens", "input p95", text=counted),
    Column("input_p99_tokens", "input p99", text=counted),
    Column("input_max_tokens", "input max", text=counted),
    Column("output_tokens", "output tokens", text=counted),
    Column("output_mean_tokens", "output mean", text=_three),
    Column("output_p50_tokens", "output p50", text=counted),
    Column("output_p95_tokens", "output p95", text=counted),
    Column("output_p99_tokens", "output p99", text=counted),
    Column("output_max_tokens", "output max", text=counted),
    Column("block_tokens", "prefix block tokens", text=counted),
    Column("blocks", "prefix blocks", text=counted),
    Column("unique_blocks", "unique blocks", text=counted),
    Column("reused_tokens", "reused prompt tokens", text=counted),
    Column("reused_share", "prefix reuse, infinite cache", text=percent),
    Column("sessions", "sessions", text=counted),
    Column("prompts", "prompt texts", text=counted),
    Column("unique_prompts", "unique prompt texts", text=counted),
)

GROUPS = (
    Column("name", "name"),
    Column("requests", "requests", align="right", text=counted),
    Column("share", "share", align="right", text=percent),
    Column("input_tokens", "input tokens", align="right", text=counted),
    Column("output_tokens", "output tokens", align="right", text=counted),
    Column("reused_share", "reused", align="right", text=percent),
)

PLAN = (
    Column("name", "trace"),
    Column("requests", "requests", text=counted),
    Column("is_exact", "exactly"),
    Column("duration_s", "duration s", text=_three),
    Column("mean_rps", "mean rate", text=_rate),
    Column("peak_10min_rps", "peak rate, 10 min", text=_rate),
    Column("clients", "clients that send", text=counted),
    Column("input_tokens", "input tokens, expected", text=counted),
    Column("output_tokens", "output tokens, expected", text=counted),
    Column("borrowed_share", "requests with borrowed lengths", text=percent),
    Column("silent_windows", "windows without requests", text=counted),
    Column("file_bytes", "bytes on disk, about", text=counted),
    Column("write_s", "seconds to write, about", text=_three),
)

REQUESTS = (
    Column("id", "id", align="right"),
    Column("t_ms", "t ms", align="right", text=_three),
    Column("input_tokens", "input", align="right"),
    Column("output_tokens", "output", align="right"),
    Column("blocks", "blocks", align="right"),
    Column("session", "session", align="right"),
    Column("origin", "origin"),
    Column("workload", "workload"),
    Column("tenant", "tenant"),
    Column("model", "model"),
    Column("prompt", "prompt", wide=True),
)


def statistics_row(figures: TraceStatistics) -> dict[str, object]:
    """The figures as one flat row, for tables and CSV."""
    row: dict[str, object] = {}
    for column in STATISTICS:
        if hasattr(figures, column.key):
            row[column.key] = getattr(figures, column.key)
    for word, lengths in (("input", figures.input), ("output", figures.output)):
        row[f"{word}_tokens"] = lengths.total
        row[f"{word}_mean_tokens"] = lengths.mean
        row[f"{word}_max_tokens"] = lengths.most
        for percentile in (50, 95, 99):
            row[f"{word}_p{percentile}_tokens"] = lengths.percentiles[percentile]
    return row


def statistics_document(figures: TraceStatistics) -> dict[str, object]:
    """The figures whole, for JSON and YAML: everything of the row, every percentile, blocks and groups."""
    return {
        **statistics_row(figures),
        "session_requests": figures.session_requests,
        "input_length_tokens": _lengths(figures.input),
        "output_length_tokens": _lengths(figures.output),
        "top_blocks": [{"id": block, "requests": requests} for block, requests in figures.top_blocks],
        "groups": [asdict(group) for group in figures.groups],
        "notes": list(figures.notes),
    }


def plan_row(name: str, duration_s: float, plan: ServegenPlan) -> dict[str, object]:
    """What a span of a ServeGen pool would hold and take."""
    forecast = plan.forecast
    return {
        "name": name,
        "requests": forecast.requests,
        "is_exact": forecast.is_exact,
        "duration_s": duration_s,
        "mean_rps": forecast.requests / duration_s,
        "peak_10min_rps": forecast.peak_rps,
        "clients": forecast.clients,
        "input_tokens": forecast.input_tokens,
        "output_tokens": forecast.output_tokens,
        "borrowed_share": forecast.borrowed_share,
        "silent_windows": forecast.silent_windows,
        "file_bytes": plan.file_bytes,
        "write_s": round(plan.write_s, 1),
    }


def _lengths(lengths: Lengths) -> dict[str, object]:
    percentiles = {f"p{percentile}": value for percentile, value in lengths.percentiles.items()}
    return {"total": lengths.total, "mean": lengths.mean, "min": lengths.least, **percentiles, "max": lengths.most}


def group_row(group: Group) -> dict[str, object]:
    """One origin, workload, tenant or model."""
    return {**asdict(group), "name": group.name or "(not said)"}


def request_rows(trace: Trace) -> list[dict[str, object]]:
    """Every request of a (short) trace."""
    return [
        {
            "id": row,
            "t_ms": ms(int(trace.arrival_ns[row])),
            "input_tokens": int(trace.input_tokens[row]),
            "output_tokens": int(trace.output_tokens[row]),
            "blocks": int(trace.block_offsets[row + 1] - trace.block_offsets[row]),
            "session": int(trace.session[row]) if trace.session[row] >= 0 else None,
            "origin": _named(trace.origins, int(trace.origin[row])),
            "workload": _named(trace.workloads, int(trace.workload[row])),
            "tenant": _named(trace.tenants, int(trace.tenant[row])),
            "model": _named(trace.models, int(trace.model[row])),
            "prompt": trace.prompts[row] or None if trace.prompts else None,
        }
        for row in range(len(trace))
    ]


def _named(names: tuple[str, ...], number: int) -> str | None:
    return names[number] if number >= 0 else None


def lost_in_mooncake(trace: Trace) -> tuple[str, ...]:
    """What the Mooncake format cannot hold of this trace."""
    lost = [word for word in ("origin", "workload", "tenant", "model", "session") if (getattr(trace, word) >= 0).any()]
    if trace.prompts:
        lost.append("prompt")
    said = [f"Mooncake's format does not hold: {', '.join(lost)}"] if lost else []
    if len(trace.block_ids) and trace.block_tokens != MOONCAKE_BLOCK_TOKENS:
        said.append(f"hash_ids are blocks of {trace.block_tokens} tokens; most tools take them for 512")
    return tuple(said)
