"""Prices: what decoding costs on the engines of sites, to be told beside a canary's verdict. Judges nothing.

By profile and price alone: the GPU time of one decode step of BATCH tokens, without what depends on context, at what an
hour of the GPUs costs. What an engine costs while it is idle is not in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from statistics import fmean

from gridctl.broker.plan import Plan
from gridctl.errors import GridctlError
from gridctl.grid.image import build_image
from gridctl.rollout.analysis import Figure

BATCH = 8
"""Tokens of a step: a busy decode, bound by the weights that it reads."""
TOKENS_PER_MTOK = 1_000_000


def usd_per_mtok(plan: Plan, model: str) -> dict[str, float]:
    """Dollars of GPU time for a million output tokens of the model, by site, as its engines are declared: the mean of
    them. Sites whose engines have no profile are left out, and all are when the grid makes no image."""
    try:
        image = build_image(plan.resources, price_book=plan.price_book)
    except GridctlError:
        return {}
    found: dict[str, list[float]] = {}
    for engine in image.engines:
        profile = engine.spec.profile
        if engine.model == model and profile is not None and engine.gpu_usd_per_ps > 0:
            batch = min(BATCH, len(profile.dense_ps) - 1)
            step_ps = float(profile.dense_ps[batch] + profile.sample_ps[batch])
            usd = engine.gpu_usd_per_ps * step_ps / batch * TOKENS_PER_MTOK
            found.setdefault(engine.facts.site, []).append(usd)
    return {site: fmean(values) for site, values in found.items()}


def price_figure(prices: Mapping[str, float], canary: Collection[str], control: Collection[str]) -> Figure | None:
    """What it costs at the canary beside the others; None where nobody knows."""
    here = [prices[site] for site in canary if site in prices]
    there = [prices[site] for site in control if site in prices]
    if not here:
        return None
    text = f"${fmean(here):.4f} of GPU time per million output tokens"
    if there:
        text += f" against ${fmean(there):.4f} elsewhere"
    return Figure(what="usd_per_mtok", canary=fmean(here), control=fmean(there) if there else None, text=text)
