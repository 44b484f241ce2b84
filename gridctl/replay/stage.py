"""Stage: a trace set up over a grid, played request by request and struck by faults. Decides when, never where to.

Invariant: whatever the chunks, the same requests meet the same moments in the same order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import EngineFacts, FaultFacts, Origin
from gridctl.accounts.rows import COMPLETED, FAILED, LOST, RunRows
from gridctl.engine.fleet import build_fleet
from gridctl.engine.state import GPU, LEARNED, NIL, Fleet, copied, grow_sequences, records
from gridctl.geography.place import Place
from gridctl.grid.candidates import CandidateLists, RequestClass, find_candidates, revised
from gridctl.grid.image import GridImage
from gridctl.grid.stepprofiles import context_notes
from gridctl.kernels import Records
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.classes import Classes, find_classes
from gridctl.replay.declared import workload_specs
from gridctl.replay.faults import BEGIN, END, Fault, Moment
from gridctl.replay.links import Links
from gridctl.replay.loop import replay_part
from gridctl.replay.noise import from_quantiles, small_draws
from gridctl.replay.origins import resolve_origins
from gridctl.replay.prefixes import Prefixes
from gridctl.replay.prices import priced
from gridctl.replay.scene import Requests, Scene, list_ends, profile_rows
from gridctl.replay.script import NOBODY, Script, without
from gridctl.replay.window import NOBODYS, Window
from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.routing.rows import CANDIDATE, policy_records, request_records
from gridctl.traces.crowd import is_crowd
from gridctl.traces.trace import Traffic
from gridctl.units import PS_PER_MS, PS_PER_NS

CHUNK_REQUESTS = 50_000


@dataclass(frozen=True, slots=True)
class Played:
    """What a replay says beside its rows: engines with their busy time, and where requests came from."""

    engines: tuple[EngineFacts, ...]
    origins: tuple[Origin, ...]
    workloads: dict[str, WorkloadSpec]
    tenants: tuple[str, ...]
    window_ns: int
    notes: tuple[str, ...]
    faults: tuple[FaultFacts, ...]


@dataclass(frozen=True, slots=True)
class WholeLists:
    """The candidates when nothing is known to have failed, and the scene's ends of their lists."""

    lists: CandidateLists
    last_place: NDArray[np.int32]
    profiles: NDArray[np.int32]


@dataclass(slots=True)
class Stage:
    """A trace set up over a grid: all requests before number `done` are decided. `play` decides more of them."""

    image: GridImage
    traffic: Traffic
    policy: PolicySpec
    script: Script
    seed: int
    workloads: dict[str, WorkloadSpec]
    places: list[Place]
    origins: tuple[Origin, ...]
    classes: Classes
    lists: CandidateLists
    prefixes: Prefixes
    fleet: Fleet
    scene: Scene
    rows: Records
    templates: Records
    policies: Records
    window: Window
    links: Links
    whole: WholeLists
    described: list[RequestClass]
    noise: NDArray[np.int64] | None = None
    done: int = 0
    longest: int = 0
    watched: tuple[int, int] | None = None
    halted: Requests | None = None
    losses: dict[int, int] = dataclasses.field(default_factory=dict)
    _seen: dict[tuple[frozenset[int], frozenset[int]], CandidateLists] = dataclasses.field(default_factory=dict)

    def play_until(self, stop: int, advanced: Callable[[int], None]) -> None:
        """Decide the requests before number `stop`, each fault happening before the first request that comes no sooner.
        `advanced` is told how many requests each chunk decided. Stops, too, before the decision that is `watched`: that
        which sends a request elsewhere after so many losses; it is then in `halted`."""
        while self.done < stop and self.halted is None:
            start, end = self.done, min(stop, self.done + CHUNK_REQUESTS)
            if self.script.due_ns is not None:
                end = start + int(np.searchsorted(self.traffic.rows(start, end).arrival_ns, self.script.due_ns))
            if end == start:
                self.strike()
                continue
            self.play(end)
            advanced(end - start)

    def play(self, stop: int) -> None:
        """Decide the requests before number `stop`; after the last of all, run every engine until it is empty."""
        start = self.done
        self.fleet = grow_sequences(self.window.make_room(stop - start), stop - start)
        chunk = self.requests(start, stop)
        self._decide(chunk, is_last=stop == len(self.traffic) and not self.script.has_faults)
        self.longest = max(self.longest, int((chunk.prompt_tokens + chunk.output_tokens).max()))
        self.done = stop
        self.window.played(self.fleet, stop)

    def forked(self, keep: Callable[[RunRows], None], faults: Sequence[Fault]) -> Stage:
        """The stage in the same state, from which on these faults happen; further rows go to `keep`. None of the faults
        may have begun, or change an engine's pace, for which the fleet's tables have no rows."""
        assert not self.script.has_faults, "a stage is forked before anything happens"
        assert not any(fault.kind in ("slow", "crowd") for fault in faults), "pace and requests are set up at first"
        fleet, scene = copied(self.fleet), self.scene
        return dataclasses.replace(
            self,
            script=Script(faults, self.image, round(self.policy.telemetry.period_ms * PS_PER_MS)),
            links=Links(faults, len(self.origins), len(self.image.engines)),
            fleet=fleet,
            scene=scene._replace(
                turns=scene.turns.copy(),
                sent=scene.sent.copy(),
                lessons=scene.lessons.copy(),
                next_lesson=scene.next_lesson.copy(),
                idle=scene.idle.copy(),
                places=scene.places.copy(),
            ),
            rows=self.rows.copy(),
            templates=self.templates.copy(),
            window=self.window.forked(fleet, keep),
            losses={},
            _seen={},
        )

    def strike(self) -> None:
        """Let the fault that is due happen: from now on the router chooses among who is left, and what was lost is
        sent elsewhere."""
        before = self.script.known_down, self.links.known
        moment = self.script.next()
        kind = self.script.faults[moment.fault].kind
        lost = NOBODY
        if kind == "price":
            self.scene = priced(self.scene, self.image, self.script.faults, moment.at_ns)
        elif kind == "link":
            lost = self._change_paths(moment)
        else:
            lost = self.script.act(self.fleet, moment)
        if kind == "link" or before != (self.script.known_down, self.links.known):
            self._see(self._candidates(self.script.known_down, self.links.known))
        if len(lost):
            self.script.note(moment.fault, len(lost), *self._lost(lost, moment.at_ns))

    def _change_paths(self, moment: Moment) -> NDArray[np.int64]:
        """Paths change, or it is noticed, or they are as they were. Returns the requests whose loss comes out."""
        fault, number = self.script.faults[moment.fault], moment.fault
        window, fleet = self.window, self.fleet
        origin = self.traffic.rows(window.first, self.done).origin.astype(np.int64)
        if moment.what == BEGIN:
            self.links.begin(number)
            if fault.is_cut:
                self.script.catch_up(fleet, moment)
                now = moment.at_ns * PS_PER_NS
                self.script.begun(number, self.links.cut_off(number, fleet, window.outcomes, origin, now))
            return NOBODY
        is_news = number not in self.links.known
        self.links.notice(number)
        lost = NOBODY
        if fault.is_cut and is_news:
            lost = self.links.given_up(number, fleet, window.outcomes, origin)
        if moment.what == END:
            self.links.end(number)
        return lost

    def requests(self, start: int, stop: int) -> Requests:
        """The requests `start … stop − 1` as the kernel takes them, with their noise."""
        first, noise = self.window.first, np.arange(start, stop, dtype=np.int64)
        if self.noise is not None:
            noise = self.noise[start:stop]
        return _requests(self.traffic, self.lists, self.classes, self.prefixes, self.seed, start, stop, first, noise)

    def _candidates(self, down: frozenset[int], paths: frozenset[int]) -> CandidateLists:
        """The candidates when these engines are known to be lost, and these faults to have changed paths."""
        if not down and not paths:
            return self.whole.lists
        if (down, paths) not in self._seen:
            self._seen[down, paths] = revised(
                self.whole.lists,
                np.array(sorted(down), np.int64),
                without(self.image, down),
                self.places,
                self.origins,
                self.described,
                self.policy.candidates,
                self.links.changes(),
            )
        return self._seen[down, paths]

    def _see(self, lists: CandidateLists) -> None:
        if lists is not self.lists:
            self.lists = lists
            self.scene = _with_lists(self.scene, lists, self.whole, self.fleet)
            self.rows = _candidate_rows(lists)
        self.scene = self.scene._replace(wire_us=self.links.wire_us(lists))

    def _lost(self, numbers: NDArray[np.int64], now_ns: int) -> tuple[int, int]:
        """Send lost requests elsewhere, as the policy says, from where their clients are: they start again. `numbers`
        count from the window's first request. Returns how many were taken up, and how many failed."""
        absolute = numbers + self.window.first
        again = np.zeros(len(numbers), np.bool_)
        for place, number in enumerate(absolute.tolist()):
            losses = self.losses.get(number, 0) + 1
            self.losses[number] = losses
            again[place] = self.policy.on_loss == "failover" and losses <= self.policy.retries
        outcomes = self.window.outcomes
        outcomes.outcome[numbers[~again]] = FAILED
        outcomes.reason[numbers[~again]] = LOST
        sent = absolute[again]
        if len(sent):
            self.fleet = grow_sequences(self.fleet, len(sent))
            outcomes.engine[numbers[again]] = NIL
            first = int(sent[0])
            chunk = self.requests(first, int(sent[-1]) + 1)
            some = Requests(*(column[sent - first] for column in chunk))
            some = some._replace(arrival=np.full(len(sent), now_ns * PS_PER_NS, np.int64))
            self._decide(self._up_to_watched(some, sent), is_last=False)
        taken = int((outcomes.outcome[numbers[again]] == COMPLETED).sum())
        self.window.played(self.fleet, self.done)
        return taken, len(numbers) - len(sent)

    def _up_to_watched(self, chunk: Requests, numbers: NDArray[np.int64]) -> Requests:
        """What is sent elsewhere before the request that is watched, if it is among them for the time that counts."""
        if self.watched is None or self.losses.get(self.watched[0]) != self.watched[1]:
            return chunk
        places = np.flatnonzero(numbers == self.watched[0])
        if not len(places):
            return chunk
        place = int(places[0])
        self.halted = Requests(*(column[place : place + 1] for column in chunk))
        return Requests(*(column[:place] for column in chunk))

    def _decide(self, chunk: Requests, *, is_last: bool) -> None:
        self.scene.idle[:] = -1.0  # it is kept by request number, and those count from the window's first
        outcomes = self.window.outcomes
        replay_part(self.fleet, self.scene, chunk, outcomes, self.rows, self.templates, self.policies, is_last)

    def finish(self) -> Played:
        """Let every engine finish and the last rows go; what is to be said of the whole."""
        if self.script.has_faults:
            self._decide(Requests(*(np.zeros(0, np.int64) for _ in Requests._fields)), is_last=True)
        self.window.finish()
        image, prefixes, script = self.image, self.prefixes, self.script
        facts = tuple(
            msgspec.structs.replace(engine.facts, busy_ns=int(self.fleet.engines[index].busy) // PS_PER_NS)
            for index, engine in enumerate(image.engines)
        )
        beyond = context_notes((engine.spec.profile for engine in image.engines), self.longest)
        late = script.late(self.traffic.duration_ns)
        notes = (*image.notes, *beyond, *((prefixes.note,) if prefixes.note else ()), *late)
        window_ns, tenants = self.window.window_ns, self.traffic.tenants
        return Played(facts, self.origins, self.workloads, tenants, window_ns, notes, script.facts())


def set_stage(
    keep: Callable[[RunRows], None],
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int,
    longest_jump: int | None = None,
    faults: Sequence[Fault] = (),
    lists: CandidateLists | None = None,
) -> Stage:
    """Everything a replay needs, nothing of it decided yet; the arguments are those of `replay_into`."""
    workloads = workload_specs(image.view, traffic)
    places, origins = resolve_origins(image.view, traffic)
    classes = find_classes(traffic)
    specs = list(workloads.values())
    described = classes.described(traffic, specs, policy)
    if lists is None:
        lists = find_candidates(image, places, origins, described, policy.candidates)
    batching = [engine.spec for engine in image.engines if engine.spec.kind == GPU]
    prefixes = Prefixes(traffic, {spec.block_size for spec in batching if spec.prefix_caching})
    period = round(policy.telemetry.period_ms * PS_PER_MS)
    script = Script(faults, image, period)
    is_added = _added(traffic)
    for number, fault in enumerate(faults):
        if fault.kind == "crowd" and is_added is not None:
            script.added(number, _brought(traffic, fault, is_added))
    fleet = build_fleet(
        [engine.spec for engine in image.engines],
        requests=min(len(traffic), 2 * CHUNK_REQUESTS) + NOBODYS,
        workloads=max(1, len(workloads)),
        stretches=prefixes.stretches,
        node_tokens=prefixes.tokens,
        scrape_period=period,
        paces=script.paces,
        **({} if longest_jump is None else {"longest_jump": longest_jump}),
    )
    return Stage(
        image=image,
        traffic=traffic,
        policy=policy,
        script=script,
        seed=seed,
        workloads=workloads,
        places=places,
        origins=origins,
        classes=classes,
        lists=lists,
        prefixes=prefixes,
        fleet=fleet,
        scene=_scene(image, lists, specs, policy, fleet),
        rows=_candidate_rows(lists),
        templates=request_records(specs),
        policies=policy_records([policy.for_workload(name) for name in workloads] or [policy]),
        window=Window(image, traffic, fleet, keep),
        links=Links(faults, len(origins), len(image.engines)),
        whole=WholeLists(lists, *_ends(lists, fleet)),
        described=described,
        noise=None if is_added is None else _noise_numbers(is_added),
    )


def _added(traffic: Traffic) -> NDArray[np.bool_] | None:
    """Which requests a crowd added; None where there is no crowd."""
    crowds = [number for number, name in enumerate(traffic.origins) if is_crowd(name)]
    return np.isin(traffic.rows(0, len(traffic)).origin, crowds) if crowds else None


def _brought(traffic: Traffic, fault: Fault, is_added: NDArray[np.bool_]) -> int:
    """How many requests of a crowd came in its time: no two crowds of an origin overlap."""
    rows = traffic.rows(0, len(traffic))
    there = np.isin(rows.origin, fault.origins) & (rows.arrival_ns >= fault.at_ns) & (rows.arrival_ns < fault.until_ns)
    return int((there & is_added).sum())


def _noise_numbers(is_added: NDArray[np.bool_]) -> NDArray[np.int64]:
    """By which numbers requests draw their noise: their own without the crowd, so that it is the same with one."""
    base = int((~is_added).sum())
    return np.where(is_added, base + np.cumsum(is_added) - 1, np.cumsum(~is_added) - 1).astype(np.int64)


def _scene(
    image: GridImage, lists: CandidateLists, workloads: Sequence[WorkloadSpec], policy: PolicySpec, fleet: Fleet
) -> Scene:
    engines, profiles = image.engines, len(fleet.profiles.dense_ps)
    profile_of = profile_rows(fleet)
    last_place, profiles_in = list_ends(lists.offset, lists.engine, profile_of, profiles)
    return Scene(
        offset=lists.offset,
        candidate=lists.engine,
        rtt_us=lists.rtt_us,
        wire_us=lists.rtt_us,
        last_place=last_place,
        profiles=profiles_in,
        reason=lists.reason,
        turns=np.zeros(len(lists.reason) + 1, np.int64),
        is_core=np.array([engine.facts.tier == "core" for engine in engines], np.int64),
        gpu_usd_per_ps=np.array([engine.gpu_usd_per_ps for engine in engines]),
        cash_usd_per_ps=np.array([engine.cash_usd_per_ps for engine in engines]),
        usd_per_input_token=np.array([engine.usd_per_input_token for engine in engines]),
        usd_per_output_token=np.array([engine.usd_per_output_token for engine in engines]),
        access_us=np.array([round(spec.access_rtt_ms * 1000) for spec in workloads] or [0], np.int64),
        priority=np.array([spec.priority for spec in workloads] or [0], np.int64),
        mean_output_tokens=np.array([spec.traffic.mean_output_tokens for spec in workloads] or [1], np.int64),
        sent=np.zeros(len(fleet.holders), np.int64),
        lessons=records(max(1, len(workloads)), LEARNED),
        next_lesson=np.zeros(1, np.int64),
        profile_of=profile_of,
        idle=np.full((profiles + 1, 4), -1.0),
        places=np.zeros(_widest(lists), np.int64),
        period=round(policy.telemetry.period_ms * PS_PER_MS),
        delay=round(policy.telemetry.delay_ms * PS_PER_MS),
        counts_in_flight=1 if policy.telemetry.in_flight == "local" else 0,
    )


def _ends(lists: CandidateLists, fleet: Fleet, start: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """`Scene.last_place` and `Scene.profiles` of the lists from number `start` on."""
    first = lists.offset[start]
    offset, engines = lists.offset[start:] - first, lists.engine[first:]
    last, profiles = list_ends(offset, engines, profile_rows(fleet), len(fleet.profiles.dense_ps))
    return np.where(last >= 0, last + np.int32(first), last), profiles


def _with_lists(scene: Scene, lists: CandidateLists, whole: WholeLists, fleet: Fleet) -> Scene:
    """The scene with other candidates, the whole grid's or those with further ones behind them; whose turn it is starts
    anew."""
    last_place, profiles = whole.last_place, whole.profiles
    if lists is not whole.lists:
        further = _ends(lists, fleet, len(whole.lists.reason))
        last_place, profiles = np.concatenate([last_place, further[0]]), np.concatenate([profiles, further[1]])
    return scene._replace(
        offset=lists.offset,
        candidate=lists.engine,
        rtt_us=lists.rtt_us,
        wire_us=lists.rtt_us,
        last_place=last_place,
        profiles=profiles,
        reason=lists.reason,
        turns=np.zeros(len(lists.reason) + 1, np.int64),
        places=np.zeros(_widest(lists), np.int64),
    )


def _candidate_rows(lists: CandidateLists) -> Records:
    return np.zeros(_widest(lists), CANDIDATE).view(np.recarray)


def _widest(lists: CandidateLists) -> int:
    return int(np.diff(lists.offset).max(initial=1))


def _requests(
    traffic: Traffic,
    lists: CandidateLists,
    classes: Classes,
    prefixes: Prefixes,
    seed: int,
    start: int,
    stop: int,
    first: int,
    noise: NDArray[np.int64],
) -> Requests:
    """The chunk `start … stop − 1` as the kernel takes it, with its noise, drawn by the numbers `noise`; `first` is the
    window's first request."""
    some = traffic.rows(start, stop)
    numbers = np.arange(start, stop, dtype=np.int64)
    leaf, blocks_full = prefixes.of(traffic, some, start)
    sessions = np.where(some.session >= 0, some.session, noise + (1 << 40))
    return Requests(
        arrival=some.arrival_ns * PS_PER_NS,
        list_index=lists.of[some.origin, classes.of(some)],
        workload=some.workload.astype(np.int64),
        prompt_tokens=some.input_tokens.astype(np.int64),
        output_tokens=some.output_tokens.astype(np.int64),
        leaf=leaf,
        blocks_full=blocks_full,
        jitter_ppm=from_quantiles(seed, "jitter", noise, np.array(JITTER_PPM, np.int64)),
        draw=small_draws(seed, "ties", noise),
        session=small_draws(seed, "sessions", sessions),
        number=numbers - first,
    )
