"""Unmet: which demand a program could not meet, and why: law, distance, speed, or too few sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridctl.errors import InputError
from gridctl.planning.arrangement import Case, Proof
from gridctl.planning.capacity import BINS_MS
from gridctl.planning.program import NOTHING, Kind, Plan

TOLD = 5


def unmet(proof: Proof, case: Case, plan: Plan) -> list[InputError]:
    """Which demand the program could not meet, and why: law, distance, speed, or too few sites."""
    demand = proof.demand
    late = plan.over > NOTHING
    found: dict[str, InputError] = {}
    for place, number in np.argwhere((demand.rate > 0) & ((plan.unserved > NOTHING) | late[None, :])).tolist():
        error = _why_unmet(proof, case, place, number, is_unserved=bool(plan.unserved[place, number] > NOTHING))
        if error is not None:
            found.setdefault(error.what, error)
    if not found:
        found[""] = InputError(
            "the demand cannot be met", where="demand", fix="give the solver longer: --time-limit 60"
        )
    return list(found.values())[:TOLD]


def _why_unmet(proof: Proof, case: Case, place: int, number: int, *, is_unserved: bool) -> InputError | None:
    """Why a place's demand of a class is not met; None when it is not this place's fault."""
    demand, candidates = proof.demand, case.candidates
    wanted, where = demand.classes[number], demand.names[place]
    farthest = _farthest(case.kinds, number)
    lawful = candidates.lawful[place, number]
    if not lawful.any():
        rule, zone = wanted.workload.spec.jurisdiction, demand.zones[place]
        law = {"listed": ", ".join(rule.allow), "same-country": zone.country}.get(rule.rule, zone.jurisdiction)
        what = f"{wanted} from {where} may only be served in {law or 'a known jurisdiction'}, where there is no site"
        return InputError(what, where="demand", fix="register a site there, or widen the workload's jurisdiction")
    if farthest is None:
        what = f"no engine offered keeps the promises of {wanted}, alone and next to its clients"
        return InputError(what, where="demand", fix="offer faster GPUs or smaller models, or loosen its objectives")
    nearest = float(candidates.rtt_ms[place][lawful].min())
    if nearest > farthest:
        what = f"{wanted} from {where}: the nearest site that may serve it is {nearest:.0f} ms away"
        what += f", and no engine keeps its promises beyond {farthest:g} ms"
        return InputError(what, where="demand", fix="register a nearer site, loosen its objectives, or --best-effort")
    most = proof.limits.most_sites
    if most is not None:
        what = f"{wanted} is too far from too many of its clients with at most {most} sites"
        return InputError(what, where="demand", fix="allow more: --max-sites")
    if is_unserved:
        return InputError(
            f"{wanted} from {where} is not met", where="demand", fix="give the solver longer: --time-limit 60"
        )
    return None


def _farthest(kinds: Sequence[Kind], number: int) -> float | None:
    """The round trip beyond which no kind keeps the class's promises; None when none does at any."""
    served = [found.rps for kind in kinds if (found := kind.capacities[number]) is not None]
    ends = [BINS_MS[index] for rps in served for index, value in enumerate(rps) if value > 0]
    return max(ends, default=None)
