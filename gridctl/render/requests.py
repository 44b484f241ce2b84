"""Requests of a run as rows: one dictionary for a few, pieces of text for all of a million."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gridctl.errors import NotFoundError, did_you_mean
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
    from gridctl.units import NS_PER_MS

    info, columns = run.info, run.rows
    part = _part(run, numbers)
    clock, usd = client_clock(part), request_usd(part)
    served = (part.rows.outcome == COMPLETED).tolist()

    def milliseconds(values: NDArray[np.int64]) -> list[float]:
        in_ms: list[float] = (values / NS_PER_MS).tolist()
        return in_ms

    lists = (
        numbers.tolist(),
        milliseconds(columns.arrival_ns[numbers]),
        part.rows.origin.tolist(),
        part.rows.workload.tolist(),
        part.rows.tenant.tolist(),
        part.rows.engine.tolist(),
        part.rows.outcome.tolist(),
        part.rows.input_tokens.tolist(),
        part.rows.cached_tokens.tolist(),
        part.rows.output_tokens.tolist(),
        milliseconds(part.rows.rtt_ns),
        milliseconds(part.rows.queue_ns),
        milliseconds(clock.ttft_ns),
        milliseconds(clock.tpot_ns),
        milliseconds(clock.e2e_ns),
        usd.tolist(),
        part.rows.reason.tolist(),
        part.rows.preemptions.tolist(),
        served,
    )
    for (
        number,
        at,
        origin,
        workload,
        tenant,
        engine,
        outcome,
        given,
        cached,
        produced,
        rtt,
        queue,
        ttft,
        tpot,
        e2e,
        cost,
        reason,
        preemptions,
        is_served,
    ) in zip(*lists, strict=True):
        facts = info.engines[engine] if engine >= 0 else None
        yield (
            number,
            at,
            info.origins[origin].name,
            info.workload_names[workload],
            info.tenant_names[tenant] if tenant >= 0 else "",
            facts.site if facts else "",
            facts.cluster if facts else "",
            f"{facts.model}/{facts.variant}" if facts else "",
            OUTCOMES[outcome],
            given,
            cached,
            produced if is_served else 0,
            rtt if is_served else None,
            queue if is_served else None,
            ttft if is_served else None,
            tpot if is_served and produced > 1 else None,
            e2e if is_served else None,
            cost,
            REASONS[reason],
            preemptions,
        )


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
        csv.writer(buffer, lineterminator="\n").writerows(rows(run, numbers[start : start + PIECE_ROWS]))
        yield buffer.getvalue()


def jsonl_pieces(run: Run, numbers: NDArray[np.int64]) -> Iterator[str]:
    """One JSON object a line, in pieces."""
    import msgspec

    encoder = msgspec.json.Encoder()
    for start in range(0, len(numbers), PIECE_ROWS):
        part = items(run, numbers[start : start + PIECE_ROWS])
        yield encoder.encode_lines(part).decode()
