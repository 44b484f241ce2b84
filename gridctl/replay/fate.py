"""Fate: what became of one candidate, in a word and a sentence: why it was chosen, passed over or refused.

Reads the rows and the rule that decided by them; decides nothing. The words are API: scripts match on them.

    chosen · runner-up          what the policy's order of preference gave
    dearer · misses · later     weighed by `grid`: costs more; predicted to miss; misses by more than the least late
    dearer-even-idle · later-even-idle    not looked at, because it could not win even without load
    tie                         the same in all that counts
    farther · busier · not-its-turn · not-drawn · shorter-prefix · other-session    passed over by another policy
    not-gpu · not-core · not-allowed      what this policy never takes
    too-long · queue-full       could not take this request at this moment
    no-model · jurisdiction · quality · tier · outage · too-far · beyond-list    was no candidate
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gridctl.accounts.facts import Origin
from gridctl.accounts.rows import INFEASIBLE, JURISDICTION, NO_MODEL, NO_REASON, OUTAGE, QUALITY, TIER, TOO_FAR
from gridctl.engine.state import API, SERVERLESS
from gridctl.grid.candidates import NEAREST_FUNCTIONS
from gridctl.grid.image import Engine
from gridctl.replay.witness import Sighting
from gridctl.resources.policy import ALGORITHMS
from gridctl.resources.workload import JurisdictionRule
from gridctl.routing.telling import why_chosen, why_not


class Fate(NamedTuple):
    """`status` is chosen, runner-up, weighed or refused."""

    status: str
    reason: str
    because: str


def fate_of(sighting: Sighting, index: int, runner_up: int | None) -> Fate:
    """What became of the engine looked at as number `index`."""
    engine = int(sighting.engines[index])
    if engine == sighting.engine:
        return Fate("chosen", "chosen", _why_chosen(sighting, index))
    refused = _refusal(sighting, index)
    if refused is not None:
        return Fate("refused", *refused)
    algorithm = ALGORITHMS[int(sighting.policy.algorithm)]
    reason, because = _grid(sighting, index) if algorithm == "grid" else _baseline(sighting, index, algorithm)
    if engine == runner_up:
        return Fate("runner-up", reason, because)
    return Fate("refused" if reason in ("not-gpu", "not-core", "not-allowed") else "weighed", reason, because)


def _why_chosen(sighting: Sighting, index: int) -> str:
    algorithm = ALGORITHMS[int(sighting.policy.algorithm)]
    row = sighting.rows[index]
    if algorithm == "grid" and row.worst_ratio > 1.0 and row.kind == API:
        return "nobody is predicted to meet every objective: the workload falls back to the API"
    return why_chosen(row, algorithm)


def _refusal(sighting: Sighting, index: int) -> tuple[str, str] | None:
    """Why the request could not go there at all, or None."""
    engine = int(sighting.engines[index])
    if not sighting.is_listed[index]:
        return _no_candidate(sighting, index, int(sighting.refused[engine]))
    host = sighting.hosts[engine]
    tokens = int(sighting.requests.prompt_tokens[0] + sighting.requests.output_tokens[0])
    if tokens > host.max_context:
        return "too-long", f"{tokens:,} tokens of prompt and answer, {int(host.max_context):,} fit"
    if not sighting.has_row[index]:
        return "queue-full", f"{int(host.max_num_seqs)} slots and {int(host.max_waiting)} places in the queue are taken"
    return None


def _no_candidate(sighting: Sighting, index: int, reason: int) -> tuple[str, str]:
    stage = sighting.stage
    engine = stage.image.engines[int(sighting.engines[index])]
    row = stage.traffic.rows(sighting.number, sighting.number + 1)
    name = stage.traffic.workloads[int(row.workload[0])]
    spec = stage.workloads[name]
    origin = stage.origins[int(row.origin[0])]
    if reason == NO_MODEL:
        if engine.spec.kind == API and engine.model in spec.models and spec.when_infeasible != "fallback":
            return "no-model", f"{name} does not fall back to the API: when_infeasible is {spec.when_infeasible}"
        asked = int(row.model[0])
        wanted = [stage.traffic.models[asked]] if asked >= 0 else spec.models
        who = "the request asks for" if asked >= 0 else f"{name} takes"
        return "no-model", f"it serves {engine.model or 'nothing'}; {who} {', '.join(wanted)}"
    if reason == JURISDICTION:
        return "jurisdiction", _jurisdiction(engine, origin, name, spec.jurisdiction)
    if reason == QUALITY:
        found = "not measured" if engine.quality is None else f"{engine.quality:g}"
        variant = f"{engine.model}/{engine.facts.variant}"
        return "quality", f"the quality of {variant} is {found}, {name} wants {spec.quality_floor:g}"
    if reason == OUTAGE:
        view = stage.image.view
        site, cluster = view.sites.get(engine.facts.site), view.clusters.get(engine.facts.cluster)
        states = [f"site {site.spec.state}"] if site and site.spec.state != "active" else []
        states += [f"cluster {cluster.spec.state}"] if cluster and cluster.spec.state != "active" else []
        states += ["lost, and the router knows"] if int(sighting.engines[index]) in stage.script.known_down else []
        return "outage", " and ".join(states) or f"there is no way to it from {origin.name}"
    if reason == TIER:
        allowed = ", ".join(stage.policy.for_workload(name).tiers)
        return "tier", f"it is {engine.facts.tier}, the policy allows {allowed}"
    if reason == TOO_FAR:
        reach_ms = stage.policy.for_workload(name).max_rtt_ms
        rtt_us = int(sighting.rtt_us[index]) - int(stage.scene.access_us[int(row.workload[0])])
        return "too-far", f"its round trip takes {rtt_us / 1000:.1f} ms, the policy allows {reach_ms:g} ms"
    assert reason == NO_REASON, "every reason of the hard constraints has its sentence"
    if engine.spec.kind == SERVERLESS:
        return "beyond-list", f"{NEAREST_FUNCTIONS} nearer function sites are on the list of {origin.name}"
    listed = int(sighting.is_listed.sum())
    return "beyond-list", f"{listed} nearer engines are on the list of {origin.name}: policy.candidates cuts it"


def _jurisdiction(engine: Engine, origin: Origin, workload: str, rule: JurisdictionRule) -> str:
    codes = [code for code in (engine.country, *engine.jurisdictions) if code]
    there = engine.facts.site or "the API"
    if rule.rule == "same-country":
        return f"{workload} stays in its country: {origin.name} is in {origin.country or 'none known'}, {there} in " + (
            engine.country or "none known"
        )
    if rule.rule == "listed":
        return f"{workload} allows {', '.join(rule.allow)}; {there} is in {', '.join(codes) or 'none known'}"
    held = ", ".join(code for code in engine.jurisdictions if code) or "none known"
    here = origin.jurisdiction or "none known"
    return f"{workload} stays in its jurisdiction: {origin.name} is in {here}, {there} in {held}"


def _grid(sighting: Sighting, index: int) -> tuple[str, str]:
    """Why `grid` did not take it."""
    row, policy = sighting.rows[index], sighting.policy
    if row.kind == SERVERLESS and policy.allow_serverless == 0:
        return "not-allowed", "the policy allows no functions"
    if row.kind == API and policy.allow_fallback == 0:
        return "not-allowed", "the policy allows no fallback"
    if sighting.engine is None:
        assert sighting.reason == INFEASIBLE, "somebody has room and fits, so only a refusal is left"
        return why_not(row, None, "grid")
    chosen = sighting.rows[int(np.flatnonzero(sighting.engines == sighting.engine)[0])]
    floor = sighting.floors[index] if sighting.has_floor[index] and not sighting.saw[index] else None
    if floor is not None and chosen.worst_ratio <= 1.0 and (floor.usd > chosen.usd or floor.worst_ratio > 1.0):
        if floor.worst_ratio > 1.0:
            return "misses", f"not looked at: at least {floor.worst_ratio:.2f} times its limit even when idle"
        return "dearer-even-idle", f"not looked at: at least ${floor.usd:.3g} even when idle"
    if floor is not None and chosen.worst_ratio > 1.0 and floor.worst_ratio > chosen.worst_ratio:
        return "later-even-idle", f"not looked at: at least {floor.worst_ratio:.2f} times its limit even when idle"
    return why_not(row, chosen, "grid")


def _baseline(sighting: Sighting, index: int, algorithm: str) -> tuple[str, str]:
    """Why a policy that compares load or distance did not take it."""
    chosen = None
    if sighting.engine is not None:
        chosen = sighting.rows[int(np.flatnonzero(sighting.engines == sighting.engine)[0])]
    return why_not(sighting.rows[index], chosen, algorithm)
