"""Retelling: a live decision in words, from the rows that were kept when it was made.

Computes nothing but what the rows already say: the router's own verdicts, and which engine would have been next. What
a prediction's wait and prefill were is not kept apart, only their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gridctl.broker.rows import REPORT_AGE, REPORT_STATE, SEEN_KV, SEEN_PENDING
from gridctl.broker.seen import Seen
from gridctl.errors import InputError
from gridctl.resources.policy import ALGORITHMS
from gridctl.routing.decision import Candidate, Decision, Telemetry
from gridctl.routing.route import REFUSED, route
from gridctl.routing.rows import WHEN_INFEASIBLE
from gridctl.routing.telling import US_PER_MS, forecast_of, why_chosen, why_not
from gridctl.signals.rows import TELEMETRY_STATES
from gridctl.traces.recorded import RecordedEngine

ROUTED, REJECTED, INFEASIBLE, UNHEALTHY = "routed", "rejected", "infeasible", "unhealthy"
_STATES = {"fresh": "fresh", "stale": "stale", "failing": "stale"}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the rows do not say of the request they were made for."""

    policy: str
    origin: str
    workload: str
    tenant: str
    at_ms: float


def retell(seen: Seen, engines: Sequence[RecordedEngine], about: Circumstances) -> Decision:
    """The decision in words; `engines` are those its rows number. Raises InputError where a row numbers another."""
    beyond = [int(row.engine) for row in seen.rows if not 0 <= row.engine < len(engines)]
    if beyond:
        raise InputError(
            f"the decision names engine {beyond[0]} of {len(engines)}",
            where="recorded decision",
            fix="copy the whole folder of the recording",
        )
    runner_up = _next(seen)
    request = seen.request
    return Decision(
        request=0,
        at_ms=about.at_ms,
        policy=about.policy,
        origin=about.origin,
        workload=about.workload,
        tenant=about.tenant,
        prompt_tokens=int(seen.rows[0].prompt_tokens) if len(seen.rows) else 0,
        expected_output_tokens=int(request.output_tokens),
        overhead_ms=float(request.overhead_us) / US_PER_MS,
        when_infeasible=WHEN_INFEASIBLE[int(request.when_infeasible)],
        miss_usd=float(request.miss_usd),
        outcome=ROUTED if seen.choice >= 0 else REJECTED,
        reason="" if seen.choice >= 0 else INFEASIBLE if seen.choice == REFUSED else UNHEALTHY,
        chosen=_number(seen, seen.choice),
        runner_up=_number(seen, runner_up),
        candidates=tuple(_candidate(seen, place, runner_up, engines) for place in range(len(seen.rows))),
        passed_over={},
    )


def _next(seen: Seen) -> int:
    """The row that the router would take, were the chosen one not there."""
    if seen.choice < 0:
        return -1
    rows = seen.rows.copy().view(np.recarray)
    rows[seen.choice].is_available = 0
    return int(route(rows, len(rows), seen.request, seen.policy))


def _number(seen: Seen, place: int) -> int | None:
    return int(seen.rows[place].engine) if place >= 0 else None


def _candidate(seen: Seen, place: int, runner_up: int, engines: Sequence[RecordedEngine]) -> Candidate:
    row, facts = seen.rows[place], seen.facts[place]
    engine = engines[int(row.engine)]
    chosen = seen.rows[seen.choice] if seen.choice >= 0 else None
    algorithm = ALGORITHMS[int(seen.policy.algorithm)]
    if place == seen.choice:
        status, reason, because = "chosen", "chosen", why_chosen(row, algorithm)
    else:
        status = "runner-up" if place == runner_up else "weighed"
        reason, because = why_not(row, chosen, algorithm)
    state = TELEMETRY_STATES[int(facts[REPORT_STATE])]
    return Candidate(
        engine=int(row.engine),
        site=engine.site,
        tier=engine.tier,
        cluster=engine.cluster,
        model=engine.model,
        variant=engine.variant,
        kind="gpu",
        status=status,
        reason=reason,
        because=because,
        rtt_ms=float(row.rtt_us) / US_PER_MS,
        cached_prefix_tokens=int(row.cached_tokens),
        forecast=forecast_of(row, None, seen.request, seen.policy),
        bound=None,
        telemetry=Telemetry(
            counts="own",
            state=_STATES.get(state, "missing"),
            scrape_age_ms=float(facts[REPORT_AGE]) / US_PER_MS if facts[REPORT_AGE] >= 0 else None,
            seen_in_flight=int(row.in_flight),
            seen_pending_tokens=int(facts[SEEN_PENDING]),
            seen_kv_tokens=int(facts[SEEN_KV]),
            true_in_flight=None,
            true_running=None,
            true_waiting=None,
            true_pending_tokens=None,
            true_kv_tokens=None,
            kv_capacity_tokens=engine.kv_capacity_tokens,
            batch_slots=engine.batch_slots,
        ),
        usd_more=float(row.usd - chosen.usd) if chosen is not None else None,
    )
