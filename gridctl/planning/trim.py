"""Trim: engines taken away from a placement as long as the replay without them keeps what was promised.

The program's capacities are careful and its shares add up in straight lines; a replay knows better. The dearest engines
are tried first, half of those of a kind at a site at once; every trial is a whole replay with the production router.
`RESERVE` of each error budget is left unspent, because the same demand on another day is not the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gridctl.accounts.sla import sla
from gridctl.accounts.tables import SlaRow
from gridctl.orchestrator.replaying import Listener, replayed
from gridctl.planning.arrangement import Case, Proof, resources_of
from gridctl.planning.program import Placed, Plan
from gridctl.resources import Resource

RESERVE = 0.2
TRIALS, FEWEST_TRIALS, TRIED_REQUESTS = 60, 10, 500_000
"""Replays with engines taken away: at most so many, and so many requests in them, but at least so many."""

Allowed = dict[tuple[str, str], float]
"""Bad requests that trimming may leave, by workload and promise."""


def worst_allowed(
    proof: Proof, resources: Sequence[Resource], hopeless: set[str], advanced: Callable[[int], None]
) -> Allowed:
    """The budget less the reserve; what there is now where that is more already, or nothing can be promised."""
    rows = _rows(proof, resources, advanced)
    return {
        (row.workload, row.objective): row.bad
        if row.workload in hopeless
        else max(float(row.bad), row.budget_requests * (1 - RESERVE))
        for row in rows
    }


def trimmed(
    proof: Proof, case: Case, plan: Plan, allowed: Allowed, advanced: Callable[[int], None]
) -> tuple[Plan, int]:
    """The plan without the engines it can spare, and how many those are: the dearest first, then by name."""

    def price(one: Placed) -> float:
        return float(case.candidates.usd[one.site, case.kinds[one.kind].gpu]) * case.kinds[one.kind].gpus

    most = min(TRIALS, max(FEWEST_TRIALS, TRIED_REQUESTS // len(proof.trace)))
    counts = {(one.site, one.kind): one.count for one in plan.placed}
    order = sorted(plan.placed, key=lambda one: (-price(one), case.candidates.sites[one.site].name, one.kind))
    trials = 0

    def without(one: Placed, taken: int) -> Plan:
        left = {**counts, (one.site, one.kind): counts[one.site, one.kind] - taken}
        placed = tuple(Placed(site, kind, count) for (site, kind), count in sorted(left.items()) if count)
        return replace(plan, placed=placed, usd_per_hour=plan.usd_per_hour - price(one) * taken)

    for one in order:
        step = max(1, one.count // 2)
        while step and counts[one.site, one.kind] >= step and trials < most:
            fewer = without(one, step)
            if not fewer.placed:
                break
            trials += 1
            if _spares(_rows(proof, resources_of(case, fewer), advanced), allowed):
                plan = fewer
                counts[one.site, one.kind] -= step
            else:
                step //= 2
    return plan, sum(one.count for one in order) - sum(counts.values())


def _spares(rows: Sequence[SlaRow], allowed: Allowed) -> bool:
    """Whether no promise has more bad requests than it may."""
    return all(row.bad <= allowed[row.workload, row.objective] + 1e-9 for row in rows)


def _rows(proof: Proof, resources: Sequence[Resource], advanced: Callable[[int], None]) -> Sequence[SlaRow]:
    """What became of every promise when the trace is replayed over that grid."""
    run = replayed("plan", proof.trace, resources, proof.policy, proof.order, Listener(advanced=advanced), "")
    return sla(run, ["workload"]).workloads
