"""Finding: which arrangement is the cheapest that keeps the promises, and what that says about the edge, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridctl.accounts.plans import Arrangement

PLAN, ALL_CORE, ALL_EDGE, TODAY = "plan", "all-core", "all-edge", "today"
WORTH = 0.01
"""A placement is cheaper than another when it saves more than this share."""


def chosen_among(arrangements: Mapping[str, Arrangement]) -> str:
    """The cheapest of those planned that miss nothing the plan does not miss; the plan where it costs no more."""
    plan = arrangements[PLAN]
    bearable = missed_by(plan)
    keeping = [one for one in arrangements.values() if missed_by(one) <= bearable and one.name != TODAY]
    return min(keeping, key=lambda one: (one.usd_per_hour, one.name != PLAN)).name


def missed_by(arrangement: Arrangement) -> set[str]:
    """Workloads of which a promise is broken in the replay."""
    return {one.workload for one in arrangement.promises if not one.is_met}


def finding(arrangements: Sequence[Arrangement], chosen: str) -> str:
    """What came out, in a few sentences."""
    by_name = {one.name: one for one in arrangements}
    best = by_name[chosen]
    missed = missed_by(best)
    if not best.placed:
        return "Nothing can be placed that serves any of this demand within its law and quality."
    others = [by_name[name] for name in (ALL_CORE, ALL_EDGE, TODAY) if name in by_name and name != chosen]
    tiers = {placed.tier == "core" for placed in best.placed}
    where = (
        "in the core and outside it" if len(tiers) > 1 else "all in the core" if True in tiers else "outside the core"
    )
    kept = f"misses {', '.join(sorted(missed))} and keeps every other promise" if missed else "keeps every promise"
    parts = [_against(best, other) for other in others]
    text = f"The cheapest placement found {kept}, {where}, for {best.usd_per_hour:.2f} $ an hour"
    text += "".join(f"; {part}" for part in parts) + ". "
    core = by_name.get(ALL_CORE)
    core_does = core is not None and missed_by(core) <= missed and _saving(best, core) <= WORTH
    if tiers == {True} or core_does:
        return text + "The edge does not pay for this demand."
    return text + ("The edge pays for this demand." if tiers == {False} else "The edge pays for a part of this demand.")


def _against(best: Arrangement, other: Arrangement) -> str:
    worse = missed_by(other) - missed_by(best)
    if worse:
        return f"{other.name} ({other.usd_per_hour:.2f}) misses {', '.join(sorted(worse))}"
    saving = _saving(best, other)
    if abs(saving) <= WORTH:
        return f"{other.name} costs the same ({other.usd_per_hour:.2f})"
    if saving < 0:
        return f"{other.name} is cheaper still ({other.usd_per_hour:.2f})"
    return f"{other.name} costs {other.usd_per_hour:.2f}, of which {saving:.0%} is saved"


def _saving(best: Arrangement, other: Arrangement) -> float:
    return 1 - best.usd_per_hour / other.usd_per_hour if other.usd_per_hour else 0.0
