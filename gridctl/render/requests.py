"""Requests of a run as rows: one dictionary for a few, pieces of text for all of a million."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.render.cell import csv_texts
from gridctl.render.rows import Column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gridctl.accounts.rows import Run

PIECE_ROWS = 20_000
FIELDS = (
    "id",
    "t_ms",
    "origin",
    "workload",
    "tenant",
    "site",
    "cluster",
    "variant",
    "outcome",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "rtt_ms",
    "queue_ms",
    "ttft_ms",
    "tpot_ms",
    "e2e_ms",
    "usd",
    "reason",
    "preemptions",
)


def _milliseconds(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else "-"


def _dollars(value: object) -> str:
    return f"{value:.7f}" if isinstance(value, float) else "-"


REQUEST_COLUMNS = (
    Column("id", "ID", align="right"),
    Column("t_ms", "T MS", align="right", text=_milliseconds),
    Column("origin", "ORIGIN"),
    Column("workload", "WORKLOAD"),
    Column("tenant", "TENANT", wide=True),
    Column("site", "SITE"),
    Column("cluster", "CLUSTER", wide=True),
    Column("variant", "VARIANT"),
    Column("outcome", "OUTCOME"),
    Column("reason", "REASON", wide=True),
    Column("input_tokens", "IN", align="right"),
    Column("cached_tokens", "CACHED", align="right"),
    Column("output_tokens", "OUT", align="right"),
    Column("rtt_ms", "RTT MS", align="right", text=_milliseconds),
    Column("queue_ms", "QUEUE MS", align="right", text=_milliseconds),
    Column("ttft_ms", "TTFT MS", align="right", text=_milliseconds),
    Column("tpot_ms", "TPOT MS", align="right", text=_milliseconds),
    Column("e2e_ms", "E2E MS", align="right", text=_milliseconds),
    Column("preemptions", "PREEMPTED", wide=True, align="right"),
    Column("usd", "USD", align="right", text=_dollars),
)


def chosen_rows(run: Run, workload: str | None, outcome: str | None, *, slowest: bool) -> NDArray[np.int64]:
    """Numbers of the requests that match, in order of arrival or by falling TTFT (unserved ones first)."""
    import numpy as np

    from gridctl.accounts.clock import client_clock
    from gridctl.accounts.rows import OUTCOMES

    keep = np.ones(len(run.rows), np.bool_)
    if workload is not None:
        if workload not in run.info.workload_names:
            close = did_you_mean(workload, run.info.workload_names)
            raise NotFoundError(
                f"no request of run {run.info.name} has workload {workload}",
                where="--workload",
                fix=f"did you mean {close}?" if close else f"one of: {', '.join(run.info.workload_names)}",
            )
        keep &= run.rows.workload == run.info.workload_names.index(workload)
    if outcome is not None:
        keep &= run.rows.outcome == OUTCOMES.index(outcome)
    numbers = np.flatnonzero(keep)
    if slowest:
        numbers = numbers[np.argsort(-client_clock(run).ttft_ns[numbers], kind="stable")]
    return numbers


def rows(run: Run, numbers: NDArray[np.int64]) -> Iterator[tuple[object, ...]]:
    """One tuple per request in the order of FIELDS; times the request never reached are None."""
    from gridctl.accounts.clock import client_clock
    from gridctl.accounts.rows import COMPLETED, OUTCOMES, REASONS
    from gridctl.accounts.usd import request_usd

    info, part = run.info, _part(run, numbers)
    columns, clock = part.rows, client_clock(part)
    served = columns.outcome == COMPLETED
    engines = info.engines
    fields: dict[str, Sequence[object]] = {
        "id": numbers.tolist(),
        "t_ms": _milliseconds_of(columns.arrival_ns),
        "origin": _named(columns.origin, [origin.name for origin in info.origins]),
        "workload": _named(columns.workload, info.workload_names),
        "tenant": _named(columns.tenant, info.tenant_names),
        "site": _named(columns.engine, [engine.site for engine in engines]),
        "cluster": _named(columns.engine, [engine.cluster for engine in engines]),
        "variant": _named(columns.engine, [f"{engine.model}/{engine.variant}" for engine in engines]),
        "outcome": _named(columns.outcome, OUTCOMES),
        "input_tokens": columns.input_tokens.tolist(),
        "cached_tokens": columns.cached_tokens.tolist(),
        "output_tokens": (columns.output_tokens * served).tolist(),
        "rtt_ms": _milliseconds_of(columns.rtt_ns, served),
        "queue_ms": _milliseconds_of(columns.queue_ns, served),
        "ttft_ms": _milliseconds_of(clock.ttft_ns, served),
        "tpot_ms": _milliseconds_of(clock.tpot_ns, served & (columns.output_tokens > 1)),
        "e2e_ms": _milliseconds_of(clock.e2e_ns, served),
        "usd": request_usd(part).tolist(),
        "reason": _named(columns.reason, REASONS),
        "preemptions": columns.preemptions.tolist(),
    }
    return zip(*(fields[field] for field in FIELDS), strict=True)


def _milliseconds_of(values: NDArray[np.int64], reached: NDArray[np.bool_] | None = None) -> list[object]:
    """Nanoseconds as milliseconds, None where the request never got there."""
    from gridctl.units import NS_PER_MS

    in_ms: list[object] = (values / NS_PER_MS).tolist()
    if reached is None:
        return in_ms
    return [value if there else None for value, there in zip(in_ms, reached.tolist(), strict=True)]


def _named(indices: NDArray[np.integer], names: Sequence[str]) -> list[object]:
    """The names that indices stand for; empty for −1."""
    return [names[index] if index >= 0 else "" for index in indices.tolist()]


def _part(run: Run, numbers: NDArray[np.int64]) -> Run:
    """The run with only these requests."""
    import dataclasses

    fields = {field.name: getattr(run.rows, field.name)[numbers] for field in dataclasses.fields(run.rows)}
    return dataclasses.replace(run, rows=dataclasses.replace(run.rows, **fields))


def items(run: Run, numbers: NDArray[np.int64]) -> list[dict[str, object]]:
    """Dictionaries for the tables and documents that show a few requests."""
    return [dict(zip(FIELDS, row, strict=True)) for row in rows(run, numbers)]


def csv_pieces(run: Run, numbers: NDArray[np.int64]) -> Iterator[str]:
    """CSV with a header, in pieces."""
    yield ",".join(FIELDS) + "\n"
    for start in range(0, len(numbers), PIECE_ROWS):
        buffer = io.StringIO()
        columns = zip(*rows(run, numbers[start : start + PIECE_ROWS]), strict=True)
        cells = zip(*(csv_texts(column) for column in columns), strict=True)
        csv.writer(buffer, lineterminator="\n").writerows(cells)
        yield buffer.getvalue()


def jsonl_pieces(run: Run, numbers: NDArray[np.int64]) -> Iterator[str]:
    """One JSON object a line, in pieces."""
    import msgspec

    encoder = msgspec.json.Encoder()
    for start in range(0, len(numbers), PIECE_ROWS):
        part = items(run, numbers[start : start + PIECE_ROWS])
        yield encoder.encode_lines(part).decode()
