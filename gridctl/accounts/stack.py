"""Stack: what a run's dollars were spent on, tier by tier, from its tokenomics table.

Decides the order of tiers, from the user inwards, and nothing about the amounts. Invariant: the parts of a tier add up
to its dollars, the tiers to the run's.
"""

from __future__ import annotations

import math

import msgspec

from gridctl.accounts.tables import Tokenomics, TokenomicsRow
from gridctl.units import TOKENS_PER_MTOK

PARTS = ("gpu_busy_usd", "gpu_idle_usd", "serverless_usd", "egress_usd", "fallback_usd", "energy_usd")
TIER_ORDER = ("edge", "metro", "regional", "core", "api")


class TierCost(msgspec.Struct, frozen=True, kw_only=True):
    """One tier's bill, and what it bought."""

    tier: str  # "-" where no engine was chosen
    requests: int
    good: int
    good_output_tokens: int
    parts_usd: dict[str, float]  # by column of the tokenomics table
    usd: float
    usd_per_mtok_goodput: float | None


class CostStack(msgspec.Struct, frozen=True, kw_only=True):
    """A run's tiers, from the edge to the core, and their sum."""

    run: str
    tiers: tuple[TierCost, ...]
    usd: float


def cost_stack(table: Tokenomics) -> CostStack:
    """The stack of a run; tiers that neither served nor cost anything are left out."""
    by_tier: dict[str, list[TokenomicsRow]] = {}
    for row in table.tiers:
        by_tier.setdefault(row.tier, []).append(row)
    tiers = [_tier_cost(tier, rows) for tier, rows in sorted(by_tier.items(), key=lambda pair: _place(pair[0]))]
    kept = tuple(tier for tier in tiers if tier.usd or tier.good)
    return CostStack(run=table.run, tiers=kept, usd=math.fsum(tier.usd for tier in kept))


def _tier_cost(tier: str, rows: list[TokenomicsRow]) -> TierCost:
    """Several rows: one of requests, one of GPUs that served nobody."""
    parts = {part: math.fsum(getattr(row, part) for row in rows) for part in PARTS}
    usd, tokens = math.fsum(parts.values()), sum(row.good_output_tokens for row in rows)
    return TierCost(
        tier=tier,
        requests=sum(row.requests for row in rows),
        good=sum(row.good for row in rows),
        good_output_tokens=tokens,
        parts_usd=parts,
        usd=usd,
        usd_per_mtok_goodput=usd / tokens * TOKENS_PER_MTOK if tokens else None,
    )


def _place(tier: str) -> tuple[int, str]:
    return (TIER_ORDER.index(tier) if tier in TIER_ORDER else len(TIER_ORDER)), tier
