"""Refusing: which rule left a request without engines, by what facts, and what its client is told.

Decides words only; no rule is relaxed here, and none is guessed: the rule is the one that `grid.candidates` found. A
client is told what the rule asks and what the grid has (tiers, countries, milliseconds, qualities), never names of
sites, clusters or addresses. The code of the error is the rule's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gridctl.accounts.rows import JURISDICTION, OUTAGE, QUALITY, REASONS, TIER
from gridctl.broker.menu import Meant
from gridctl.broker.origins import Where
from gridctl.broker.refusal import Refusal, forbidden, unavailable
from gridctl.grid.candidates import RequestClass, refusals
from gridctl.grid.image import Engine, GridImage
from gridctl.routing.telling import US_PER_MS

RETRY_OUTAGE_MS = 5_000
NO_ENDPOINT = "no-endpoint"
UNHEALTHY = "unhealthy"
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_NAMED = 6
"""Tiers, countries or variants named in a message; of more, the first of them."""


class Emptied(NamedTuple):
    """The rule that left nobody, and the facts it went by as the second half of a sentence; "" where there are none."""

    reason: str
    facts: str = ""


def emptied(
    reason: str, image: GridImage, where: Where, meant: Meant, asked: RequestClass, nearest_us: int | None
) -> Emptied:
    """The rule with its facts. `image` has the engines that were looked at, `nearest_us` is the way to the nearest one
    that only its distance keeps out. O(engines)."""
    if reason == "too-far":
        return Emptied(reason, _way(asked, nearest_us))
    found = refusals(image, where.origin, asked, where.place)
    kept_out = [image.engines[at] for at in np.flatnonzero(found == _CODES.get(reason, -1)).tolist()]
    if reason == REASONS[TIER]:
        there = _listed(engine.facts.tier for engine in kept_out)
        return Emptied(reason, f"it runs at tier {there}, the policy allows {_listed(asked.tiers)}")
    if reason == REASONS[QUALITY]:
        return Emptied(reason, _quality(kept_out, asked))
    if reason == REASONS[JURISDICTION]:
        return Emptied(reason, _law(kept_out, where, meant, asked))
    if reason == REASONS[OUTAGE]:
        return Emptied(reason, _states(kept_out, image))
    return Emptied(reason)


def refusal_of_emptied(why: Emptied, meant: Meant, where: Where) -> Refusal:
    """What the client is told, by the rule that left nobody."""
    workload, origin = meant.workload, where.origin.name or "an unknown origin"
    what = meant.model or f"workload {workload}"
    facts = f": {why.facts}." if why.facts else "."
    reason = why.reason
    if reason == "jurisdiction":
        said = f"Requests of workload {workload} from {origin} may not be served at any place that has {what}{facts}"
        return forbidden(said, reason=reason)
    if reason == "quality":
        said = f"No variant of {what} reaches the quality that workload {workload} asks for{facts}"
        return forbidden(said, reason=reason)
    if reason == "tier":
        return forbidden(f"The policy allows workload {workload} no tier that has {what}{facts}", reason=reason)
    if reason == "too-far":
        said = f"Every engine with {what} is farther from {origin} than the policy allows workload {workload}{facts}"
        return forbidden(said, reason=reason)
    if reason == "outage":
        said = f"Every engine with {what} is out of service{facts}"
        return unavailable(said, reason=reason, retry_after_ms=RETRY_OUTAGE_MS)
    if reason == NO_ENDPOINT:
        said = f"No engine with {what} is running: it is deployed, but none of its engines is connected."
        return unavailable(said, reason="no-model", code=NO_ENDPOINT, retry_after_ms=RETRY_OUTAGE_MS)
    said = f"No engine with {what} is running: it is deployed nowhere."
    return unavailable(said, reason="no-model", code="no-model", retry_after_ms=RETRY_OUTAGE_MS)


def nobody_usable(what: str, *, closed: int, listed: int, retry_after_ms: int) -> Refusal:
    """What a request is told whose candidates, `listed` of them, are all kept from it: `closed` are out or were tried
    already, the others are not what the policy's algorithm takes."""
    if closed:
        said = f"No engine with {what} is in a state to answer: all {listed} that may are ejected, tried already or on "
        said += "trial with little traffic."
        return unavailable(said, reason=UNHEALTHY, retry_after_ms=retry_after_ms)
    said = f"No engine with {what} may be used: the policy's algorithm takes none of the {listed} that run."
    return unavailable(said, reason="no-candidate", code="not-allowed", retry_after_ms=retry_after_ms)


def _way(asked: RequestClass, nearest_us: int | None) -> str:
    bound = f"{asked.max_rtt_us / US_PER_MS:g} ms"
    if nearest_us is None:
        return f"where it comes from is not known, and the policy bounds the round trip to {bound}"
    return f"the nearest is {nearest_us / US_PER_MS:.1f} ms away, the policy allows {bound}"


def _quality(engines: Iterable[Engine], asked: RequestClass) -> str:
    known = {f"{engine.facts.variant} has {engine.quality:g}" for engine in engines if engine.quality is not None}
    return f"{_listed(known) or 'none is measured'}, it wants {asked.workload.quality_floor:g}"


def _law(engines: Iterable[Engine], where: Where, meant: Meant, asked: RequestClass) -> str:
    rule, origin = asked.workload.jurisdiction, where.origin
    codes = _listed(engine.country for engine in engines) or "no known country"
    if rule.rule == "listed":
        return f"{meant.workload} allows {', '.join(rule.allow)}, and it runs in {codes}"
    if rule.rule == "same-country":
        return f"{meant.workload} stays in its country ({origin.country or 'not known'}), and it runs in {codes}"
    law = origin.jurisdiction or "not known"
    return f"{meant.workload} stays in its jurisdiction ({law}), and it runs in {codes}"


def _states(engines: Iterable[Engine], image: GridImage) -> str:
    """What operators said of the places that have it."""
    said = set()
    for engine in engines:
        site = image.view.sites.get(engine.facts.site)
        cluster = image.view.clusters.get(engine.facts.cluster)
        said |= {one.spec.state for one in (site, cluster) if one is not None and one.spec.state != "active"}
    return f"operators set its sites or clusters to {_listed(said)}" if said else ""


def _listed(words: Iterable[str]) -> str:
    named = sorted({word for word in words if word})
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
