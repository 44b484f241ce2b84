"""Timeline: one request of a run from its sending to its last token, and what became of its objectives.

    sent → reached the engine → scheduled → first token made → first token at the client → last token
    rtt ÷ 2                     queue       compute            rtt ÷ 2 and overhead        decode

Invariant: the steps add up to the run's columns to the nanosecond: up to the first token they are the TTFT, all of them
the E2E of `accounts.clock`. Pure.
"""

from __future__ import annotations

import msgspec
import numpy as np

from gridctl.accounts.clock import UNSERVED, client_clock
from gridctl.accounts.goodness import CAUSES, judge, judge_objective
from gridctl.accounts.rows import COMPLETED, OUTCOMES, REASONS, Run
from gridctl.units import NS_PER_MS


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of a request's life: what it is, when it began (milliseconds after sending) and how long it took."""

    step: str
    begin_ms: float
    took_ms: float


class ObjectiveOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One objective of the workload: None is a value that does not exist, such as the TPOT of one token."""

    metric: str
    limit_ms: float
    actual_ms: float | None
    met: bool | None
    cause: str


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a request. `sent_ms` is on the trace's clock, the steps' on the request's own."""

    sent_ms: float
    outcome: str
    reason: str
    site: str
    cluster: str
    variant: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int
    steps: tuple[Step, ...]
    ttft_ms: float | None
    tpot_ms: float | None
    e2e_ms: float | None
    objectives: tuple[ObjectiveOutcome, ...]
    good: bool
    cause: str


def timeline(run: Run, number: int) -> Timeline:
    """The timeline of request `number`."""
    part = run.part(slice(number, number + 1))
    rows, clock = part.rows, client_clock(part)
    served = bool(rows.outcome[0] == COMPLETED)
    engine = run.info.engines[int(rows.engine[0])] if rows.engine[0] >= 0 else None
    verdict = judge(part, clock)
    return Timeline(
        sent_ms=int(rows.arrival_ns[0]) / NS_PER_MS,
        outcome=OUTCOMES[int(rows.outcome[0])],
        reason=REASONS[int(rows.reason[0])],
        site=engine.site if engine else "",
        cluster=engine.cluster if engine else "",
        variant=f"{engine.model}/{engine.variant}" if engine else "",
        input_tokens=int(rows.input_tokens[0]),
        cached_tokens=int(rows.cached_tokens[0]),
        output_tokens=int(rows.output_tokens[0]) if served else 0,
        preemptions=int(rows.preemptions[0]),
        steps=_steps(part, int(clock.overhead_ns[0])) if served else (),
        ttft_ms=_ms(int(clock.ttft_ns[0])),
        tpot_ms=_ms(int(clock.tpot_ns[0])),
        e2e_ms=_ms(int(clock.e2e_ns[0])),
        objectives=_objectives(part),
        good=bool(verdict.good[0]),
        cause=CAUSES[int(verdict.cause[0])],
    )


def _steps(part: Run, overhead_ns: int) -> tuple[Step, ...]:
    rows = part.rows
    out_ns = int(rows.rtt_ns[0]) // 2
    back_ns = int(rows.rtt_ns[0]) - out_ns + overhead_ns
    spans = (
        ("to the engine", out_ns),
        ("queue", int(rows.queue_ns[0])),
        ("prefill", int(rows.compute_ns[0])),
        ("to the client", back_ns),
        ("decode", int(rows.decode_ns[0])),
    )
    steps, begin_ns = [], 0
    for step, took_ns in spans:
        steps.append(Step(step=step, begin_ms=begin_ns / NS_PER_MS, took_ms=took_ns / NS_PER_MS))
        begin_ns += took_ns
    return tuple(steps)


def _objectives(part: Run) -> tuple[ObjectiveOutcome, ...]:
    index = int(part.rows.workload[0])
    spec = part.info.workloads.get(part.info.workload_names[index]) if index >= 0 else None
    clock, me = client_clock(part), np.zeros(1, np.intp)
    found = []
    for objective in spec.objectives if spec else ():
        verdict = judge_objective(part, clock, me, objective)
        applies = bool(verdict.applies[0])
        found.append(
            ObjectiveOutcome(
                metric=objective.metric,
                limit_ms=objective.threshold_ms,
                actual_ms=_ms(int(verdict.times_ns[0])),
                met=bool(verdict.met[0]) if applies else None,
                cause=CAUSES[int(verdict.cause[0])] if applies and not verdict.met[0] else "",
            )
        )
    return tuple(found)


def _ms(value_ns: int) -> float | None:
    return None if value_ns == UNSERVED else value_ns / NS_PER_MS
