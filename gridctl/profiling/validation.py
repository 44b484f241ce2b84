"""Validation: a measured run's requests served by one engine of the twin, and how far the two lie apart.

The measured file has a row per request: when it reached the engine's queue, when it was first scheduled, when its
first and last token came, in seconds from any common moment. The profile must not have been fitted to the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.clock import drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import GPU
from gridctl.errors import InputError
from gridctl.profiling.csvfile import Row, csv_rows, number
from gridctl.resources import EngineLimits
from gridctl.units import PS_PER_S

COLUMNS = ("request", "input_tokens", "output_tokens", "queued_s", "scheduled_s", "first_token_s", "last_token_s")
PERCENTILES = (50, 95, 99)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """Requests in order of arrival; seconds."""

    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    queued_s: Floats
    first_token_s: Floats
    last_token_s: Floats

    def __len__(self) -> int:
        return len(self.queued_s)


@dataclass(frozen=True, slots=True)
class MetricError:
    """Twin against measurement for one metric. Errors are signed shares of the measured value; `mape` is the mean
    over requests of |twin / measured − 1|."""

    metric: str
    measured_mean_ms: float
    twin_mean_ms: float
    mean: float
    p50: float
    p95: float
    p99: float
    mape: float


@dataclass(frozen=True, slots=True)
class Validation:
    """How well a profile predicted a run."""

    requests: int
    preemptions: int
    kv_blocks: int
    longest_context: int
    errors: tuple[MetricError, ...]


def read_measured(path: Path) -> MeasuredRun:
    """Read a measured run, CSV or .csv.gz.

    Raises NotFoundError and InputError with file and line.
    """
    rows = [_request(where, row) for where, row in csv_rows(path, COLUMNS[1:])]
    if not rows:
        raise InputError("the run has no requests", where=str(path), fix="give a row per request")
    rows.sort(key=lambda values: values[2])
    inputs, outputs, queued, _, first, last = (np.array(column) for column in zip(*rows, strict=True))
    start = queued[0]
    return MeasuredRun(inputs.astype(np.int64), outputs.astype(np.int64), queued - start, first - start, last - start)


def _request(where: str, row: Row) -> tuple[float, ...]:
    values = tuple(number(where, row, column) for column in COLUMNS[1:])
    inputs, outputs, queued, _, first, last = values
    if inputs < 1 or outputs < 1 or inputs != int(inputs) or outputs != int(outputs):
        raise InputError("token counts must be whole and at least 1", where=where, fix="drop the request")
    if not queued < first <= last:
        raise InputError("times run backwards: queued, first token, last token", where=where, fix="drop the request")
    return values


def validate(run: MeasuredRun, profile: StepProfile, limits: EngineLimits, kv_blocks: int, ranks: int) -> Validation:
    """Serve the run's requests, as they arrived, on one engine with this profile and compare.

    `kv_blocks` are of all `ranks` together. Raises InputError when a request cannot fit the engine's memory.
    """
    longest = int((run.input_tokens + run.output_tokens).max())
    if longest > kv_blocks * limits.block_size:
        raise InputError(
            f"a request of {longest:,} tokens does not fit the engine's {kv_blocks:,} KV blocks of {limits.block_size}",
            where="the run's longest request",
            fix="give the engine's own figure with --kv-blocks, or raise --gpu-memory-utilization",
        )
    spec = EngineSpec(
        kind=GPU,
        profile=profile,
        max_num_seqs=limits.max_num_seqs * ranks,
        max_num_batched_tokens=limits.max_num_batched_tokens * ranks,
        block_size=limits.block_size,
        kv_blocks=kv_blocks,
        gpus=1,
        prefix_caching=False,
        async_scheduling=limits.async_scheduling,
    )
    fleet = build_fleet([spec], requests=len(run), in_flight=len(run))
    for request in range(len(run)):
        arrival, prompt = round(float(run.queued_s[request]) * PS_PER_S), int(run.input_tokens[request])
        dispatch(fleet, 0, request, 0, 5, arrival, prompt, int(run.output_tokens[request]), 0, 0, prompt, 0)
    drain(fleet)
    first, last = fleet.results.first_token / PS_PER_S, fleet.results.last_token / PS_PER_S
    steps = run.output_tokens - 1
    several = steps > 0
    errors = (
        _compare("TTFT", first - run.queued_s, run.first_token_s - run.queued_s),
        _compare(
            "TPOT",
            ((last - first)[several] / steps[several]),
            (run.last_token_s - run.first_token_s)[several] / steps[several],
        ),
        _compare("E2E", last - run.queued_s, run.last_token_s - run.queued_s),
    )
    return Validation(len(run), int(fleet.engines[0].preempted), kv_blocks, longest, errors)


def _compare(metric: str, twin: Floats, measured: Floats) -> MetricError:
    if len(measured) == 0:
        raise InputError(
            f"no request has a {metric}",
            where="the run",
            fix="requests of one output token have none; give longer ones",
        )
    p50, p95, p99 = (float(np.percentile(twin, p) / np.percentile(measured, p) - 1.0) for p in PERCENTILES)
    return MetricError(
        metric=metric,
        measured_mean_ms=float(measured.mean()) * 1e3,
        twin_mean_ms=float(twin.mean()) * 1e3,
        mean=float(twin.mean() / measured.mean() - 1.0),
        p50=p50,
        p95=p95,
        p99=p99,
        mape=float(np.mean(np.abs(twin / measured - 1.0))),
    )
