"""Recollection: what a witness saw, as the record of a decision in words and units.

Decides how a candidate's fate is told, and the runner-up: what `route` chooses from the same rows once the chosen
engine is not available. Prices nothing itself; the dollars are those of the rows.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from gridctl.accounts.rows import NO_REASON, OUTCOMES, REASONS
from gridctl.engine.state import API, GPU, UNUSED
from gridctl.replay.fate import fate_of
from gridctl.replay.witness import Sighting
from gridctl.routing.decision import Bound, Candidate, Decision, Telemetry
from gridctl.routing.route import route
from gridctl.routing.telling import US_PER_MS, forecast_of
from gridctl.units import NS_PER_MS, PS_PER_MS, PS_PER_NS

BEYOND_LIST = "beyond-list"


def recollect(sighting: Sighting, policy: str) -> Decision:
    """The decision a witness saw, made by the policy of that name."""
    stage, number = sighting.stage, sighting.number
    row = stage.traffic.rows(number, number + 1)
    workload = stage.traffic.workloads[int(row.workload[0])]
    spec = stage.workloads[workload]
    tenant = int(row.tenant[0])
    runner_up = _runner_up(sighting)
    return Decision(
        request=number,
        at_ms=sighting.now_ps // PS_PER_NS / NS_PER_MS,
        policy=policy,
        origin=stage.origins[int(row.origin[0])].name,
        workload=workload,
        tenant=stage.traffic.tenants[tenant] if tenant >= 0 else "",
        prompt_tokens=int(row.input_tokens[0]),
        expected_output_tokens=int(sighting.request.output_tokens),
        overhead_ms=spec.overhead_ms,
        when_infeasible=spec.when_infeasible,
        miss_usd=spec.miss_usd,
        outcome=OUTCOMES[sighting.outcome],
        reason=REASONS[sighting.reason],
        chosen=sighting.engine,
        runner_up=runner_up,
        candidates=tuple(_candidate(sighting, index, runner_up) for index in range(len(sighting.engines))),
        passed_over=_passed_over(sighting),
    )


def _runner_up(sighting: Sighting) -> int | None:
    """Whom the router would have taken, had the chosen engine not been there."""
    if sighting.engine is None:
        return None
    rows = sighting.rows[sighting.has_row & sighting.is_listed].copy().view(np.recarray)
    rows.is_available[rows.engine == sighting.engine] = 0
    choice = int(route(rows, len(rows), sighting.request, sighting.policy))
    return int(rows.engine[choice]) if choice >= 0 else None


def _passed_over(sighting: Sighting) -> dict[str, int]:
    """Engines that are no candidates, counted by reason; GPUs nobody uses are not engines."""
    listed = set(sighting.engines[sighting.is_listed].tolist())
    counts = Counter(
        REASONS[reason] if reason != NO_REASON else BEYOND_LIST
        for index, (engine, reason) in enumerate(
            zip(sighting.stage.image.engines, sighting.refused.tolist(), strict=True)
        )
        if index not in listed and engine.spec.kind != UNUSED
    )
    return dict(counts.most_common())


def _candidate(sighting: Sighting, index: int, runner_up: int | None) -> Candidate:
    engine = int(sighting.engines[index])
    facts = sighting.stage.image.engines[engine].facts
    fate = fate_of(sighting, index, runner_up)
    has_row = bool(sighting.has_row[index])
    row, chosen = sighting.rows[index], _chosen_row(sighting)
    return Candidate(
        engine=engine,
        site=facts.site,
        tier=facts.tier,
        cluster=facts.cluster,
        model=facts.model,
        variant=facts.variant,
        kind=facts.kind,
        status=fate.status,
        reason=fate.reason,
        because=fate.because,
        rtt_ms=int(sighting.rtt_us[index]) / US_PER_MS,
        cached_prefix_tokens=int(row.cached_tokens) if has_row else None,
        forecast=forecast_of(row, sighting.idle[index], sighting.request, sighting.policy) if has_row else None,
        bound=_bound(sighting, index),
        telemetry=_telemetry(sighting, engine),
        usd_more=float(row.usd - chosen.usd) if has_row and chosen is not None else None,
    )


def _chosen_row(sighting: Sighting) -> np.record | None:
    if sighting.engine is None:
        return None
    place = int(np.flatnonzero(sighting.engines == sighting.engine)[0])
    row: np.record = sighting.rows[place]
    return row


def _bound(sighting: Sighting, index: int) -> Bound | None:
    if not sighting.has_floor[index] or sighting.saw[index]:
        return None
    floor = sighting.floors[index]
    return Bound(usd=float(floor.usd), worst_ratio=float(floor.worst_ratio))


def _telemetry(sighting: Sighting, engine: int) -> Telemetry | None:
    """What the router's rule of sight showed it of the engine, and what was so."""
    host, scene = sighting.hosts[engine], sighting.stage.scene
    spec = sighting.stage.image.engines[engine].spec
    if spec.kind in (API, UNUSED):
        return None
    is_visible = int(host.scrape_time) <= sighting.now_ps - scene.delay
    which = "scrape" if is_visible else "older"
    when = int(host[f"{which}_time"])
    age = sighting.now_ps - when
    is_own = scene.counts_in_flight == 1
    kv_used = int(host.blocks_total - host.free_blocks - host.cached_blocks) * int(host.block_size)
    is_gpu = spec.kind == GPU
    return Telemetry(
        counts="own" if is_own else "scrape",
        state="missing" if when < 0 else "stale" if age > scene.period + scene.delay else "fresh",
        scrape_age_ms=age / PS_PER_MS if when >= 0 else None,
        seen_in_flight=int(host.in_flight if is_own else host[f"{which}_running"] + host[f"{which}_waiting"]),
        seen_pending_tokens=int(host.pending_tokens if is_own else host[f"{which}_pending_tokens"]),
        seen_kv_tokens=int(host[f"{which}_kv_blocks"]) * int(host.block_size) if is_gpu else 0,
        true_in_flight=int(host.in_flight),
        true_running=int(host.running),
        true_waiting=int(host.waiting),
        true_pending_tokens=int(host.pending_tokens),
        true_kv_tokens=kv_used if is_gpu else 0,
        kv_capacity_tokens=int(host.blocks_total) * int(host.block_size) if is_gpu else 0,
        batch_slots=int(host.max_num_seqs),
    )
