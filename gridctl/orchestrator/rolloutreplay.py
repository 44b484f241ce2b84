"""A rollout in a replay: prepared from its file, and told phase by phase beside the same requests without it.

Decides how long a step of the new variant takes, by the profiles of both, and what each phase's requests came to.
Phases are of the requests that arrive in them; those of a wave follow one another: transfer, reload, soak.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gridctl.accounts.clock import client_clock
from gridctl.accounts.goodness import judge
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run
from gridctl.grid.image import build_image
from gridctl.orchestrator.rolloutfile import (
    Itinerary,
    RolloutFile,
    clusters_of,
    game_day_of,
    itinerary_of,
)
from gridctl.orchestrator.rolloutspeed import speed_of
from gridctl.resources import Cluster, Resource
from gridctl.rollout.analysis import Word
from gridctl.units import NS_PER_S, ms

if TYPE_CHECKING:
    from gridctl.manifest.gameday_file import GameDayFile
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.replaying import Order
    from gridctl.traces.trace import Traffic

TYPICAL_BATCH = 8
"""Tokens of a step at which variants are compared: a busy decode, bound by the weights that it reads."""
SERVING = ("soak", "after")
"""Phases in which all of a wave's sites serve the variant."""


class RolloutPhase(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that arrived in one phase. Shares are of good requests; `calm_attainment` of the very same requests
    in the run without the rollout, and `good_lost` is what that makes in requests. Once a wave serves the variant,
    `ttft_times` is how many times the TTFT (p95) at its sites is what it was without, and `ttft_word` what a live wave
    as slow would come to."""

    phase: str
    wave: int | None
    sites: int
    from_s: float
    until_s: float
    requests: int
    attainment: float | None
    calm_attainment: float | None
    good_lost: int
    rejected: int
    failed: int
    ttft_ms_p50: float | None
    ttft_ms_p99: float | None
    calm_ttft_ms_p99: float | None
    link_mbit: float
    ttft_times: float | None = None
    ttft_word: Word | None = None


class Prepared:
    """A rollout file on a grid and a trace: its itinerary, and the game day it amounts to."""

    def __init__(self, file: RolloutFile, home: GridHome, trace: Traffic, order: Order) -> None:
        from gridctl.orchestrator.gamedays import origins_in
        from gridctl.orchestrator.replaying import resources_of

        resources = resources_of(home)
        factors = step_times(resources, file.spec.variant, order.prices) if file.spec.step_time is None else {}
        self.itinerary: Itinerary = itinerary_of(file, resources, factors)
        self.max_ttft_ratio = file.spec.max_ttft_ratio
        self.link_mbit = file.spec.link_mbit * file.spec.link_share
        regions = sorted({origin.region for origin in origins_in(home, trace, order)} - {""})
        self.day: GameDayFile = game_day_of(self.itinerary, regions, trace.duration_ns, file.spec.noticed_after)


def step_times(resources: Sequence[Resource], variant: str, prices: str) -> dict[str, float]:
    """How long a step takes with the variant, as a multiple of what it takes now, by cluster: of the work that does
    not depend on context, at TYPICAL_BATCH tokens."""
    model = variant.partition("/")[0]
    there = {name for names in clusters_of(resources, model).values() for name in names}
    changed = [_with_variant(one, model, variant) if one.name in there else one for one in resources]
    before, after = build_image(resources, price_book=prices), build_image(changed, price_book=prices)
    found: dict[str, float] = {}
    for old, new in zip(before.engines, after.engines, strict=True):
        was, now = old.spec.profile, new.spec.profile
        if old.facts.cluster in there and old.facts.model == model and was is not None and now is not None:
            at = min(TYPICAL_BATCH, len(was.dense_ps) - 1, len(now.dense_ps) - 1)
            found[old.facts.cluster] = round(float(now.dense_ps[at]) / float(was.dense_ps[at]), 4)
    return found


def phases_of(run: Run, calm: Run, prepared: Prepared) -> list[RolloutPhase]:
    """The run's requests by phase, beside the same requests without the rollout."""
    itinerary = prepared.itinerary
    begin = int(run.rows.arrival_ns[0]) if len(run.rows) else 0
    end = begin + run.info.window_ns
    moves = itinerary.moves
    spans: list[tuple[str, int | None, int, int, int, float]] = [("before", None, 0, begin, moves[0].fetch_ns, 0.0)]
    for wave in sorted({move.wave for move in moves}):
        own = [move for move in moves if move.wave == wave]
        fetch, load = own[0].fetch_ns, min(move.load_ns for move in own)
        serve = max(move.serve_ns for move in own)
        following = [move.fetch_ns for move in moves if move.wave == wave + 1]
        last = following[0] if following else end
        spans.append(("transfer", wave, len(own), fetch, load, prepared.link_mbit))
        spans.append(("reload", wave, len(own), load, serve, 0.0))
        spans.append(("soak" if following else "after", wave, len(own), serve, last, 0.0))
    judged = _Judged(run, calm, prepared)
    return [
        judged.phase(name, wave, sites, max(begin, at), min(end, until), link)
        for name, wave, sites, at, until, link in spans
        if min(end, until) > max(begin, at)
    ]


class _Judged:
    """Both runs with what the phases are made from."""

    def __init__(self, run: Run, calm: Run, prepared: Prepared) -> None:
        self._run = run
        self._moves, self._most = prepared.itinerary.moves, prepared.max_ttft_ratio
        self._good, self._calm_good = judge(run).good, judge(calm).good
        self._ttft, self._calm_ttft = client_clock(run).ttft_ns, client_clock(calm).ttft_ns
        self._calm = calm

    def phase(self, name: str, wave: int | None, sites: int, at: int, until: int, link: float) -> RolloutPhase:
        rows, arrival = self._run.rows, self._run.rows.arrival_ns
        part = slice(*(int(place) for place in np.searchsorted(arrival, [at, until])))
        requests, good = part.stop - part.start, int(self._good[part].sum())
        calm_good = int(self._calm_good[part].sum())
        served, calm_served = rows.outcome[part] == COMPLETED, self._calm.rows.outcome[part] == COMPLETED
        p50, p99 = percentiles(self._ttft[part][served], (50.0, 99.0))
        (calm_p99,) = percentiles(self._calm_ttft[part][calm_served], (99.0,))
        speed = None
        if name in SERVING:
            there = {move.site for move in self._moves if move.wave == wave}
            speed = speed_of(self._run, self._calm, there, part, self._most)
        return RolloutPhase(
            phase=name,
            wave=wave,
            sites=sites,
            from_s=at / NS_PER_S,
            until_s=until / NS_PER_S,
            requests=requests,
            attainment=good / requests if requests else None,
            calm_attainment=calm_good / requests if requests else None,
            good_lost=calm_good - good,
            rejected=int((rows.outcome[part] == REJECTED).sum()),
            failed=int((rows.outcome[part] == FAILED).sum()),
            ttft_ms_p50=None if p50 is None else ms(p50),
            ttft_ms_p99=None if p99 is None else ms(p99),
            calm_ttft_ms_p99=None if calm_p99 is None else ms(calm_p99),
            link_mbit=link,
            ttft_times=None if speed is None else speed.times,
            ttft_word=None if speed is None else speed.word,
        )


def _with_variant(one: Resource, model: str, variant: str) -> Resource:
    if not isinstance(one, Cluster):
        return one
    deployments = tuple(
        msgspec.structs.replace(deployment, variant=variant, profile=None)
        if deployment.variant.partition("/")[0] == model
        else deployment
        for deployment in one.spec.deployments
    )
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, deployments=deployments))
