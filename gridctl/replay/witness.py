"""Witness: a replay stopped at one request, to look at everything its decision was made from.

The same compiled loop decides all requests before it and then, once, the request itself; nothing is decided here. What
the router did not price because it could not win is priced afterwards by the same loop, each candidate alone in its
list, on engines put back to the moment of the decision. Invariant: a decision that is not the stored run's is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED, LOST, NO_REASON, REASONS, RunRows
from gridctl.engine.state import GPU, grow_sequences
from gridctl.errors import StoreError
from gridctl.grid.candidates import refusals, request_class
from gridctl.grid.image import GridImage
from gridctl.kernels import Records
from gridctl.network.estimate import RttMatrix
from gridctl.replay.faults import Fault
from gridctl.replay.loop import replay_part
from gridctl.replay.scene import CLOSED, NUMBER, TPOT, TTFT, Outcomes, Requests, Scene
from gridctl.replay.script import without
from gridctl.replay.stage import Stage, set_stage
from gridctl.resources import PolicySpec
from gridctl.routing.price import price_candidate
from gridctl.routing.rows import CANDIDATE, GRID
from gridctl.traces.trace import Traffic
from gridctl.units import PS_PER_NS

NOTHING = 1 << 10
"""An algorithm that no policy has: rows are filled and nobody is chosen, so that a look leaves no trace."""
SCRAPED = ("scrape_running", "scrape_waiting", "scrape_pending_tokens", "scrape_kv_blocks")
OLDER = ("older_running", "older_waiting", "older_pending_tokens", "older_kv_blocks")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One request at the moment of its decision, as the kernels hold it.

    Per engine looked at, nearest first: `engines`, `rtt_us`, whether it `is_listed` (a candidate), whether the router
    `saw` a row of it, `rows` (priced; `has_row` where it has one), `idle` (the same without load) and `floors` (the
    best it could have been, where `has_floor`). `hosts` are all engines at that moment; `refused` says why
    each engine is no candidate."""

    stage: Stage
    number: int
    now_ps: int
    requests: Requests
    request: np.record
    policy: np.record
    engine: int | None
    outcome: int
    reason: int
    engines: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    is_listed: NDArray[np.bool_]
    saw: NDArray[np.bool_]
    seen_rows: Records
    rows: Records
    has_row: NDArray[np.bool_]
    idle: Records
    floors: Records
    has_floor: NDArray[np.bool_]
    hosts: Records
    refused: NDArray[np.int64]


def witness(
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    number: int,
    stored: RunRows,
    *,
    seed: int,
    beside: Sequence[int] = (),
    advanced: Callable[[int], None] = lambda requests: None,
    faults: Sequence[Fault] = (),
    may_have_moved: bool = False,
) -> Sighting:
    """Replay up to request `number` of the run whose rows are `stored`, and look. Engines `beside` are looked at, too,
    candidates or not. A request that was lost and sent elsewhere is looked at when it was sent the last time, which a
    replay beforehand finds out where it `may_have_moved`. Raises StoreError when any decision up to there differs from
    the stored one."""
    prefix = _Prefix(stored)
    stage = set_stage(prefix.keep, image, traffic, policy, seed=seed, faults=faults)
    moves = 0
    if may_have_moved:
        whole = set_stage(lambda rows: None, image, traffic, policy, seed=seed, faults=faults)
        whole.play_until(len(traffic), advanced)
        while whole.script.due_ns is not None:
            whole.strike()
        moves = whole.losses.get(number, 0) - int(stored.reason[number] == LOST)
    if moves:
        stage.watched = (number, moves)
        stage.play_until(len(traffic), advanced)
        while stage.halted is None:
            stage.strike()
    else:
        stage.play_until(number, advanced)
        while stage.script.due_ns is not None and stage.script.due_ns <= int(stored.arrival_ns[number]):
            stage.strike()
    prefix.check(stage, number)
    sighting = _looked(stage, number, beside, stage.halted)
    prefix.check_choice(sighting)
    return sighting


def _looked(stage: Stage, number: int, beside: Sequence[int], halted: Requests | None) -> Sighting:
    chunk = stage.requests(number, number + 1) if halted is None else halted
    which, workload = int(chunk.list_index[0]), int(chunk.workload[0])
    listed = slice(int(stage.scene.offset[which]), int(stage.scene.offset[which + 1]))
    engines, rtt_us = _with_others(stage, chunk, listed, number, beside)
    is_listed = np.arange(len(engines)) < listed.stop - listed.start
    first = number - stage.window.first
    stage.fleet = grow_sequences(stage.window.make_room(1), 4 + 3 * len(engines))
    look = _Look(stage, chunk, first)
    look.bring_to_now(engines, rtt_us)
    hosts = stage.fleet.engines.copy()
    seen, places = look.decide()
    request = stage.templates[workload].copy()
    memo = stage.scene.idle.copy()
    outcome = tuple(int(column[first]) for column in stage.window.outcomes)
    sent = stage.scene.sent.copy()
    policy = stage.policies[workload]
    rows, has_row, idle = _priced(look, stage, engines, rtt_us, hosts, request, policy, sent)
    floors, has_floor = _floors(stage, engines, rtt_us, workload, memo, first, request, policy)
    saw = np.zeros(len(engines), np.bool_)
    saw[places - listed.start] = True
    origin = stage.traffic.rows(number, number + 1)
    name = stage.traffic.workloads[workload]
    model = stage.traffic.models[int(origin.model[0])] if int(origin.model[0]) >= 0 else None
    asked = request_class(name, stage.workloads[name], model, stage.policy)
    whence = np.array([int(origin.origin[0])])
    paths = [path.of_origins(whence) for path in stage.links.changes()]
    return Sighting(
        stage=stage,
        number=number,
        now_ps=int(chunk.arrival[0]),
        requests=chunk,
        request=request,
        policy=policy,
        engine=outcome[0] if outcome[1] == COMPLETED else None,
        outcome=outcome[1],
        reason=outcome[2],
        engines=engines,
        rtt_us=rtt_us + int(stage.scene.access_us[workload]),
        is_listed=is_listed,
        saw=saw,
        seen_rows=seen,
        rows=rows,
        has_row=has_row,
        idle=idle,
        floors=floors,
        has_floor=has_floor,
        hosts=hosts,
        refused=refusals(
            without(stage.image, stage.script.known_down),
            stage.origins[int(whence[0])],
            asked,
            stage.places[int(whence[0])],
            paths,
        ),
    )


def _with_others(
    stage: Stage, chunk: Requests, listed: slice, number: int, beside: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The engines to look at and the round trips to them: the request's candidates, then those beside."""
    engines = stage.scene.candidate[listed].astype(np.int64)
    rtt_us = stage.scene.rtt_us[listed].astype(np.int64)
    others = [engine for engine in beside if engine not in set(engines.tolist())]
    if not others:
        return engines, rtt_us
    places = [stage.image.engines[engine].place for engine in others]
    there = [place for place in places if place is not None]
    origin = stage.places[int(stage.traffic.rows(number, number + 1).origin[0])]
    times = iter(RttMatrix(there, stage.image.view.links).from_places([origin])[0].tolist() if there else ())
    further = [0 if place is None else next(times) for place in places]
    whence = int(stage.traffic.rows(number, number + 1).origin[0])
    for change in (change for change in stage.links.changes() if change.origins[whence]):
        further = [
            rtt + change.added_us * int(change.engines[engine]) for rtt, engine in zip(further, others, strict=True)
        ]
    return np.concatenate([engines, others]).astype(np.int64), np.concatenate([rtt_us, further]).astype(np.int64)


class _Look:
    """The compiled loop run on one request, over lists of our making."""

    def __init__(self, stage: Stage, chunk: Requests, first: int) -> None:
        self._stage = stage
        self._chunk = chunk
        self._pricing = stage.policies.copy()
        self._pricing.algorithm = GRID
        self._pricing.allow_serverless = self._pricing.allow_fallback = 1
        self._pricing.allow_reject = 0
        if self._pricing.gpu_weight[0] == 0.0:
            self._pricing.gpu_weight = 1.0  # so that the GPU time is worked out; it is weighed again afterwards
        self._scratch = Outcomes(*(np.zeros(first + 1, np.int64) for _ in Outcomes._fields))

    def bring_to_now(self, engines: NDArray[np.int64], rtt_us: NDArray[np.int64]) -> None:
        """Advance the engines to the decision, exactly, by a look of which nothing comes."""
        stage = self._stage
        stage.fleet.engines.calm_until[engines] = 0
        watching = stage.policies.copy()
        watching.algorithm = NOTHING
        rows = np.zeros(max(1, len(engines)), CANDIDATE).view(np.recarray)
        if len(engines):
            self._run(self._scene(engines, rtt_us), self._unlisted(), self._scratch, rows, watching)

    def decide(self) -> tuple[Records, NDArray[np.int64]]:
        """The decision itself: the rows `route` was given, and the places of their candidates."""
        stage = self._stage
        stage.scene.places[:] = -1
        stage.scene.idle[:] = -1.0
        self._run(stage.scene, self._chunk, stage.window.outcomes, stage.rows, stage.policies, stage.templates)
        count = int(np.argmax(np.append(stage.scene.places, -1) < 0))
        return stage.rows[:count].copy().view(np.recarray), stage.scene.places[:count].copy()

    def price(self, engine: int, rtt_us: int) -> np.record | None:
        """The row of one engine as if it were the only candidate; None when the request cannot go there at all."""
        scene = self._scene(np.array([engine]), np.array([rtt_us]))
        scene.places[:] = -1
        rows = np.zeros(1, CANDIDATE).view(np.recarray)
        self._run(scene, self._unlisted(), self._scratch, rows, self._pricing)
        return rows[0] if scene.places[0] >= 0 else None

    def _run(
        self,
        scene: Scene,
        chunk: Requests,
        outcomes: Outcomes,
        rows: Records,
        policies: Records,
        templates: Records | None = None,
    ) -> None:
        own = self._stage.templates.copy() if templates is None else templates
        replay_part(self._stage.fleet, scene, chunk, outcomes, rows, own, policies, False)

    def _unlisted(self) -> Requests:
        return self._chunk._replace(list_index=np.zeros(1, np.int64))

    def _scene(self, engines: NDArray[np.int64], rtt_us: NDArray[np.int64]) -> Scene:
        """The scene with these candidates as its only list."""
        scene = self._stage.scene
        return scene._replace(
            offset=np.array([0, len(engines)], np.int64),
            candidate=engines.astype(np.int32),
            rtt_us=rtt_us.astype(np.int32),
            wire_us=rtt_us.astype(np.int32),
            last_place=np.full(1, len(engines), np.int32),
            profiles=np.full(1, len(engines) + 1, np.int32),
            reason=np.zeros(1, np.int64),
            turns=np.zeros(2, np.int64),
            idle=np.full_like(scene.idle, -1.0),
            places=np.full(max(1, len(engines)), -1, np.int64),
        )


def _priced(
    look: _Look,
    stage: Stage,
    engines: NDArray[np.int64],
    rtt_us: NDArray[np.int64],
    hosts: Records,
    request: np.record,
    policy: np.record,
    sent: NDArray[np.int64],
) -> tuple[Records, NDArray[np.bool_], Records]:
    """A row per engine with its load, and one as if it were idle, both priced by the run's own policy."""
    rows = np.zeros(len(engines), CANDIDATE).view(np.recarray)
    idle = rows.copy()
    has_row = np.zeros(len(engines), np.bool_)
    for index, (engine, rtt) in enumerate(zip(engines.tolist(), rtt_us.tolist(), strict=True)):
        for target, load in ((rows, 1), (idle, 0)):
            host = hosts[engine].copy()
            for field in ("in_flight", "pending_tokens", *SCRAPED, *OLDER):
                host[field] *= load
            stage.fleet.engines[engine] = host
            stage.scene.sent[:] = sent
            found = look.price(engine, rtt)
            stage.fleet.engines[engine] = hosts[engine]
            if found is not None:
                target[index] = found
                price_candidate(target[index], request, policy)
                has_row[index] |= load == 1
    return rows, has_row, idle


def _floors(
    stage: Stage,
    engines: NDArray[np.int64],
    rtt_us: NDArray[np.int64],
    workload: int,
    memo: NDArray[np.float64],
    number: int,
    request: np.record,
    policy: np.record,
) -> tuple[Records, NDArray[np.bool_]]:
    """The bounds by which `grid` passed profiles over: what each engine could not have been better than."""
    floors = np.zeros(len(engines), CANDIDATE).view(np.recarray)
    known = memo[stage.scene.profile_of[engines]]
    is_gpu = stage.fleet.engines.kind[engines] == GPU
    has_floor = is_gpu & (known[:, NUMBER] == number) & (policy.algorithm == GRID)
    for index in np.flatnonzero(has_floor).tolist():
        row = floors[index]
        row.rtt_us = float(rtt_us[index] + stage.scene.access_us[workload])
        row.ttft_us, row.tpot_us = known[index, TTFT], known[index, TPOT]
        price_candidate(row, request, policy)
    # Only a profile that was passed over needs its bound told.
    return floors, has_floor & (known[:, CLOSED] == number)


class _Prefix:
    """Compares what is replayed with what is stored, decision by decision."""

    def __init__(self, stored: RunRows) -> None:
        self._stored = stored
        self._kept = 0

    def keep(self, rows: RunRows) -> None:
        """Rows that are final must be the stored ones, column by column."""
        stop = self._kept + len(rows)
        for field in fields(RunRows):
            here, there = getattr(rows, field.name), getattr(self._stored, field.name)[self._kept : stop]
            if not np.array_equal(here, there):
                raise self._other(self._kept + int(np.argmax(here != there)), field.name, here, there)
        self._kept = stop

    def check(self, stage: Stage, number: int) -> None:
        """Those that are still in flight must have been sent where the stored ones went; unless a fault may yet send
        them elsewhere, as it did in the run."""
        if stage.script.has_faults:
            return
        first = stage.window.first
        outcomes, some = stage.window.outcomes, slice(first, number)
        count = number - first
        done = outcomes.outcome[:count] == COMPLETED
        pairs = (
            ("engine", outcomes.engine[:count], self._stored.engine[some]),
            ("outcome", outcomes.outcome[:count], self._stored.outcome[some]),
            ("reason", outcomes.reason[:count], self._stored.reason[some]),
            ("rtt_ns", np.where(done, outcomes.rtt[:count] // PS_PER_NS, 0), self._stored.rtt_ns[some]),
        )
        for name, here, there in pairs:
            if not np.array_equal(here, there):
                raise self._other(first + int(np.argmax(here != there)), name, here, there)

    def check_choice(self, sighting: Sighting) -> None:
        """The request itself, too."""
        number = sighting.number
        here = np.array([-1 if sighting.engine is None else sighting.engine, sighting.outcome, sighting.reason])
        columns = (self._stored.engine, self._stored.outcome, self._stored.reason)
        there = np.array([int(column[number]) for column in columns])
        if there[2] == LOST:  # it was sent there, and given up later
            there[1:] = COMPLETED, NO_REASON
        if not np.array_equal(here, there):
            words = [f"engine {row[0]} {REASONS[row[2]]}".strip() for row in (here.tolist(), there.tolist())]
            raise self._other(number, f"decision ({words[0]} for {words[1]})", here, there)

    def _other(self, number: int, what: str, here: NDArray[np.integer], there: NDArray[np.integer]) -> StoreError:
        return StoreError(
            f"the replay is not the run: {what} of request {number:,} differs "
            f"({_short_digest(here)} replayed, {_short_digest(there)} stored)",
            fix="another gridctl made the run: replay its trace again, then explain that run",
        )


def _short_digest(column: NDArray[np.integer]) -> str:
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(column, '<i8').tobytes()).hexdigest()[:16]}"
