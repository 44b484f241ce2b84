"""Replay: a trace through the router, over the twin of a grid, in virtual time. A trace in, run rows out.

Everything is decided by the inputs and the seed: the clock is the trace's, noise is hashed from request numbers, and
reading and writing in chunks only bounds memory and lets progress be shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED, FAILED, LOST, EngineFacts, FaultFacts, Origin, RunRows, empty_rows
from gridctl.engine.fleet import build_fleet
from gridctl.engine.state import GPU, LEARNED, NIL, Fleet, grow_sequences, records
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.grid.candidates import CandidateLists, find_candidates, without_engines
from gridctl.grid.image import GridImage
from gridctl.grid.stepprofiles import context_notes
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.kernels import Records
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.classes import Classes, find_classes
from gridctl.replay.faults import Fault
from gridctl.replay.loop import replay_part
from gridctl.replay.noise import from_quantiles, small_draws
from gridctl.replay.prefixes import Prefixes
from gridctl.replay.scene import Requests, Scene, list_ends, profile_rows
from gridctl.replay.script import Script, without
from gridctl.replay.window import Window
from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.routing.rows import CANDIDATE, policy_records, request_records
from gridctl.traces.trace import Traffic
from gridctl.units import NS_PER_S, PS_PER_MS, PS_PER_NS

CHUNK_REQUESTS = 50_000
LONGEST_TRACE_NS = 30 * 86_400 * NS_PER_S
"""30 days: virtual time is counted in picoseconds, and engines must be able to finish what the trace leaves."""


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
class Replayed(Played):
    """A replay whose rows lie in memory."""

    rows: RunRows


def replay(
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    longest_jump: int | None = None,
    faults: Sequence[Fault] = (),
) -> Replayed:
    """`replay_into` with the rows kept in memory."""
    rows = empty_rows(len(traffic))
    done = 0

    def keep(some: RunRows) -> None:
        nonlocal done
        for field in dataclasses.fields(RunRows):
            getattr(rows, field.name)[done : done + len(some)] = getattr(some, field.name)
        done += len(some)

    played = replay_into(
        keep, image, traffic, policy, seed=seed, advanced=advanced, longest_jump=longest_jump, faults=faults
    )
    return Replayed(**{field.name: getattr(played, field.name) for field in dataclasses.fields(Played)}, rows=rows)


def replay_into(
    keep: Callable[[RunRows], None],
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    longest_jump: int | None = None,
    faults: Sequence[Fault] = (),
    lists: CandidateLists | None = None,
) -> Played:
    """Replay `traffic` over `image` under `policy`; `keep` is given the rows in order, as soon as they are final.

    Every request must have an origin and a workload (see `traces.overlay`). `advanced` is told how many requests each
    chunk finished. `longest_jump` limits how many decode steps the twin takes at once; it changes nothing but speed.
    `faults` happen at their moments (see `replay.faults`). `lists` are the candidates of `candidates_of`, where many
    replays share them.
    In memory are the trace's prefix stretches and what is in flight, not the requests. Raises InputError for names the
    grid does not know and for a trace longer than 30 days.
    """
    stage = set_stage(keep, image, traffic, policy, seed=seed, longest_jump=longest_jump, faults=faults, lists=lists)
    script = stage.script
    while stage.done < len(traffic) or script.due_ns is not None:
        start, stop = stage.done, min(len(traffic), stage.done + CHUNK_REQUESTS)
        if script.due_ns is not None:
            stop = start + int(np.searchsorted(traffic.rows(start, stop).arrival_ns, script.due_ns))
        if stop == start:
            stage.strike()
            continue
        stage.play(stop)
        advanced(stop - start)
    return stage.finish()


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
    done: int = 0
    longest: int = 0
    _losses: dict[int, int] = dataclasses.field(default_factory=dict)
    _seen: dict[frozenset[int], CandidateLists] = dataclasses.field(default_factory=dict)

    def play(self, stop: int) -> None:
        """Decide the requests before number `stop`; after the last of all, run every engine until it is empty."""
        start = self.done
        self.fleet = grow_sequences(self.window.make_room(stop - start), stop - start)
        chunk = self.requests(start, stop)
        self._decide(chunk, is_last=stop == len(self.traffic) and not self.script.has_faults)
        self.longest = max(self.longest, int((chunk.prompt_tokens + chunk.output_tokens).max()))
        self.done = stop
        self.window.played(self.fleet, stop)

    def strike(self) -> None:
        """Let the fault that is due happen: from now on the router chooses among who is left, and what was lost is
        sent elsewhere."""
        script, now_ns, down = self.script, self.script.due_ns or 0, self.script.known_down
        lost, fault = script.act(self.fleet)
        if script.known_down != down:
            self._see(self._candidates(script.known_down))
        if len(lost):
            script.note(fault, len(lost), *self._lost(lost, now_ns))

    def requests(self, start: int, stop: int) -> Requests:
        """The requests `start … stop − 1` as the kernel takes them, with their noise."""
        first = self.window.first
        return _requests(self.traffic, self.lists, self.classes, self.prefixes, self.seed, start, stop, first)

    def _candidates(self, down: frozenset[int]) -> CandidateLists:
        """The candidates when these engines are known to be lost."""
        whole = self._seen.setdefault(frozenset(), self.lists)
        if down not in self._seen:
            gone, image = np.array(sorted(down), np.int64), without(self.image, down)
            described = self.classes.described(self.traffic, list(self.workloads.values()))
            limit = self.policy.candidates
            self._seen[down] = without_engines(whole, gone, image, self.places, self.origins, described, limit)
        return self._seen[down]

    def _see(self, lists: CandidateLists) -> None:
        self.lists = lists
        self.scene = _with_lists(self.scene, lists, self.fleet)
        self.rows = _candidate_rows(lists)

    def _lost(self, numbers: NDArray[np.int64], now_ns: int) -> tuple[int, int]:
        """Send lost requests elsewhere, as the policy says, from where their clients are: they start again. `numbers`
        count from the window's first request. Returns how many were taken up, and how many failed."""
        absolute = numbers + self.window.first
        again = np.zeros(len(numbers), np.bool_)
        for place, number in enumerate(absolute.tolist()):
            losses = self._losses.get(number, 0) + 1
            self._losses[number] = losses
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
            self._decide(some._replace(arrival=np.full(len(sent), now_ns * PS_PER_NS, np.int64)), is_last=False)
        taken = int((outcomes.outcome[numbers[again]] == COMPLETED).sum())
        self.window.played(self.fleet, self.done)
        return taken, len(numbers) - len(sent)

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
    described = classes.described(traffic, specs)
    if lists is None:
        lists = find_candidates(image, places, origins, described, policy.candidates)
    batching = [engine.spec for engine in image.engines if engine.spec.kind == GPU]
    prefixes = Prefixes(traffic, {spec.block_size for spec in batching if spec.prefix_caching})
    period = round(policy.telemetry.period_ms * PS_PER_MS)
    script = Script(faults, image, period)
    fleet = build_fleet(
        [engine.spec for engine in image.engines],
        requests=min(len(traffic), 2 * CHUNK_REQUESTS),
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
    )


def candidates_of(image: GridImage, traffic: Traffic, policy: PolicySpec) -> CandidateLists:
    """The candidates of every request of a trace, as `replay_into` finds them."""
    specs = list(workload_specs(image.view, traffic).values())
    places, origins = resolve_origins(image.view, traffic)
    described = find_classes(traffic).described(traffic, specs)
    return find_candidates(image, places, origins, described, policy.candidates)


def check_trace(view: GridView, trace: Traffic) -> None:
    """Raise what `replay` would: InputError for names the grid does not know and for a trace that is too long."""
    workload_specs(view, trace)
    resolve_origins(view, trace)
    find_classes(trace)


def workload_specs(view: GridView, trace: Traffic) -> dict[str, WorkloadSpec]:
    """The declared workload of every name the trace uses, in the trace's order."""
    specs: dict[str, WorkloadSpec] = {}
    for name in trace.workloads:
        if name not in view.workloads:
            close = did_you_mean(name, view.workloads)
            raise InputError(
                f"the trace names workload {name}, which the grid does not have",
                where=f"trace {trace.name}",
                fix=f"did you mean {close}?" if close else "gridctl workload list",
            )
        specs[name] = view.workloads[name].spec
    for name in trace.models:
        if name not in view.models:
            close = did_you_mean(name, view.models)
            raise InputError(
                f"the trace names model {name}, which the grid does not have",
                where=f"trace {trace.name}",
                fix=f"did you mean {close}?" if close else "gridctl model list",
            )
    if trace.duration_ns > LONGEST_TRACE_NS:
        raise InputError(
            "the trace spans more than 30 days", where=f"trace {trace.name}", fix="slice it: --from, --until, --speed"
        )
    return specs


def resolve_origins(view: GridView, trace: Traffic) -> tuple[list[Place], tuple[Origin, ...]]:
    """Where each origin name of the trace is."""
    places: list[Place] = []
    origins: list[Origin] = []
    for name in trace.origins:
        site = view.sites.get(name)
        try:
            place = place_of(site) if site is not None else _place_named(name, view, trace)
        except NotFoundError as error:
            raise InputError(
                f"the trace names an origin: {error.what}", where=f"trace {trace.name}", fix=error.fix
            ) from error
        jurisdiction = jurisdiction_at(site) if site is not None else jurisdiction_of(place.country)
        places.append(place)
        origins.append(
            Origin(name=name, country=place.country, region=region_of(place.country), jurisdiction=jurisdiction)
        )
    return places, tuple(origins)


def _place_named(name: str, view: GridView, trace: Traffic) -> Place:
    try:
        return resolve_place(name, view.sites)
    except NotFoundError as error:
        raise InputError(
            f"a request comes from {name}, which is neither a site, a city nor lat,lon",
            where=f"trace {trace.name}",
            fix=error.fix,
        ) from None


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


def _with_lists(scene: Scene, lists: CandidateLists, fleet: Fleet) -> Scene:
    """The scene with other candidates; whose turn it is starts anew."""
    last_place, profiles = list_ends(lists.offset, lists.engine, scene.profile_of, len(fleet.profiles.dense_ps))
    return scene._replace(
        offset=lists.offset,
        candidate=lists.engine,
        rtt_us=lists.rtt_us,
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
) -> Requests:
    """The chunk `start … stop − 1` as the kernel takes it, with its noise; `first` is the window's first request."""
    some = traffic.rows(start, stop)
    numbers = np.arange(start, stop, dtype=np.int64)
    leaf, blocks_full = prefixes.of(traffic, some, start)
    sessions = np.where(some.session >= 0, some.session, numbers + (1 << 40))
    return Requests(
        arrival=some.arrival_ns * PS_PER_NS,
        list_index=lists.of[some.origin, classes.of(some)],
        workload=some.workload.astype(np.int64),
        prompt_tokens=some.input_tokens.astype(np.int64),
        output_tokens=some.output_tokens.astype(np.int64),
        leaf=leaf,
        blocks_full=blocks_full,
        jitter_ppm=from_quantiles(seed, "jitter", numbers, np.array(JITTER_PPM, np.int64)),
        draw=small_draws(seed, "ties", numbers),
        session=small_draws(seed, "sessions", sessions),
        number=numbers - first,
    )
