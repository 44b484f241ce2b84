"""Proof: a placement replayed with the production router, corrected where it misses, and trimmed where it can spare.

Decides what a miss teaches. Requests that are late by distance take from what may be late by distance; any other bad
request raises the factor of its place and class, more where more were bad, and engines are added until a replay keeps
every promise. Then engines are taken away again (`trim`). Rounds are bounded: a placement that still misses then is
reported as one that misses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.goodness import NETWORK, NO_CAUSE, judge
from gridctl.accounts.plans import PromiseKept, Round
from gridctl.accounts.rows import Run
from gridctl.errors import InputError
from gridctl.planning.arrangement import (
    Case,
    Proof,
    Proved,
    arrangement_of,
    has_engine,
    nothing_placed,
    per_hour,
    replay_promises,
    resources_of,
)
from gridctl.planning.demand import Demand
from gridctl.planning.program import Plan, late_shares, place_engines
from gridctl.planning.trim import trimmed, worst_allowed

STEEPEST, LEAST = 2.0, 1.05
"""A factor rises by a quarter of how many times too many requests were bad, at least and at most so much; where none
was, by the least, because requests do not go where the program thought."""
PUSHES = 6
"""How often factors are raised without a replay while the program answers with the very placement that missed."""


def prove(
    proof: Proof,
    case: Case,
    say: Callable[[str], None],
    advanced: Callable[[int], None],
    check: Callable[[Plan], None] = lambda plan: None,
) -> Proved:
    """Solve, replay, correct, until every promise is kept or the rounds are used up; then trim.

    A workload that the program could not meet is not what rounds are for: it must only get no worse. `check` sees the
    first solution before anything is replayed. Raises: InputError when the solver finds no placement in its time."""
    factors = np.ones(proof.demand.rate.shape)
    late = late_shares(proof.demand)
    rounds: list[Round] = []
    plan = _solved(proof, case, factors, late, None)
    check(plan)
    if not has_engine(resources_of(case, plan)):
        return Proved(nothing_placed(proof, case, plan), resources_of(case, plan))
    bound = plan.bound
    hopeless = {one.workload.name for one, short in zip(proof.demand.classes, plan.unmet, strict=True) if short}
    for number in range(1, proof.rounds + 1):
        resources = resources_of(case, plan)
        promises, total, window_s, run = replay_promises(proof, resources, plan.late, advanced)
        missed = tuple(one.workload for one in promises if not one.is_met)
        rounds.append(
            Round(
                number=number,
                usd_per_hour=plan.usd_per_hour,
                gap=max(0.0, 1 - bound / plan.usd_per_hour) if plan.usd_per_hour else 0.0,
                bound_usd_per_hour=max(0.0, bound),
                stopped_by=plan.stopped_by,
                gpus=sum(placed.count * case.kinds[placed.kind].gpus for placed in plan.placed),
                replayed_usd_per_hour=per_hour(total.usd, window_s),
                attainment=total.attainment or 0.0,
                missed=missed,
            )
        )
        arrangement = arrangement_of(case, plan, promises, total, window_s, rounds)
        at_fault = [name for name in missed if name not in hopeless]
        if not at_fault or number == proof.rounds:
            break
        say(f"{case.name}: round {number} at {plan.usd_per_hour:.2f} $/h misses {', '.join(at_fault)}; solving again")
        blamed = [one for one in promises if one.workload not in hopeless]
        step, late = corrections(proof.demand, run, blamed, late)
        for _ in range(PUSHES):
            factors = factors * step
            again = _solved(proof, case, factors, late, plan)
            if again.placed != plan.placed:
                break
        plan = again
    if not at_fault:
        plan, taken = trimmed(proof, case, plan, worst_allowed(proof, resources, hopeless, advanced), advanced)
        resources = resources_of(case, plan)
        if taken:
            say(f"{case.name}: {taken} engines taken away again; {plan.usd_per_hour:.2f} $/h")
            promises, total, window_s, _ = replay_promises(proof, resources, plan.late, advanced)
            arrangement = arrangement_of(case, plan, promises, total, window_s, rounds, taken)
    return Proved(arrangement, resources)


def _solved(
    proof: Proof, case: Case, factors: NDArray[np.float64], late: NDArray[np.float64], before: Plan | None
) -> Plan:
    plan = place_engines(proof.demand, case.candidates, case.kinds, factors, late, proof.limits, before)
    if plan is None:
        raise InputError(
            f"the solver found no placement within {proof.limits.seconds:g} s",
            where=case.name,
            fix="give it longer: --time-limit 60",
        )
    return plan


def corrections(
    demand: Demand, run: Run, promises: Sequence[PromiseKept], late: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What to multiply factors by, `(places, classes)`, and the late shares of the next round, from the bad requests of
    the workloads that missed."""
    step, late = np.ones(demand.rate.shape), late.copy()
    cause = judge(run).cause
    place = demand.place_of_origin[run.rows.origin]
    allowed = {one.workload: max(1e-6, 1 - one.target) for one in promises if not one.is_met}
    for number, wanted in enumerate(demand.classes):
        if wanted.workload.name not in allowed:
            continue
        mine = demand.class_of_request == number
        may = allowed[wanted.workload.name]
        far = mine & (cause == NETWORK)
        if far.sum() > may / 2 * mine.sum():
            late[number] /= 2
        slow = mine & (cause != NO_CAUSE) & (cause != NETWORK)
        asked = np.bincount(place[mine], minlength=len(demand.names))
        bad = np.bincount(place[slow], minlength=len(demand.names))
        times_too_many = bad / np.maximum(1, asked) / may
        step[:, number] = np.clip(1 + times_too_many / 4, LEAST, STEEPEST)
    return step, late
