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

from gridctl.accounts.rows import EngineFacts, Origin, RunRows, empty_rows
from gridctl.engine.fleet import build_fleet
from gridctl.engine.state import GPU, LEARNED, Fleet, grow_sequences, records
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.grid.candidates import CandidateLists, find_candidates
from gridctl.grid.image import GridImage
from gridctl.grid.stepprofiles import context_notes
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.kernels import Records
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.classes import Classes, find_classes
from gridctl.replay.loop import replay_part
from gridctl.replay.noise import from_quantiles, small_draws
from gridctl.replay.prefixes import Prefixes
from gridctl.replay.scene import Requests, Scene, list_ends, profile_rows
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
) -> Replayed:
    """`replay_into` with the rows kept in memory."""
    rows = empty_rows(len(traffic))
    done = 0

    def keep(some: RunRows) -> None:
        nonlocal done
        for field in dataclasses.fields(RunRows):
            getattr(rows, field.name)[done : done + len(some)] = getattr(some, field.name)
        done += len(some)

    played = replay_into(keep, image, traffic, policy, seed=seed, advanced=advanced, longest_jump=longest_jump)
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
) -> Played:
    """Replay `traffic` over `image` under `policy`; `keep` is given the rows in order, as soon as they are final.

    Every request must have an origin and a workload (see `traces.overlay`). `advanced` is told how many requests each
    chunk finished. `longest_jump` limits how many decode steps the twin takes at once; it changes nothing but speed.
    In memory are the trace's prefix stretches and what is in flight, not the requests. Raises InputError for names the
    grid does not know and for a trace longer than 30 days.
    """
    stage = set_stage(keep, image, traffic, policy, seed=seed, longest_jump=longest_jump)
    for start in range(0, len(traffic), CHUNK_REQUESTS):
        stop = min(len(traffic), start + CHUNK_REQUESTS)
        stage.play(stop)
        advanced(stop - start)
    return stage.finish()


@dataclass(slots=True)
class Stage:
    """A trace set up over a grid: all requests before number `done` are decided. `play` decides more of them."""

    image: GridImage
    traffic: Traffic
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

    def play(self, stop: int) -> None:
        """Decide the requests before number `stop`; after the last of all, run every engine until it is empty."""
        start, window = self.done, self.window
        self.fleet = grow_sequences(window.make_room(stop - start), stop - start)
        self.scene.idle[:] = -1.0  # it is kept by request number, and those count from the window's first
        chunk = self.requests(start, stop)
        first, is_last = start - window.first, stop == len(self.traffic)
        replay_part(
            self.fleet, self.scene, chunk, first, window.outcomes, self.rows, self.templates, self.policies, is_last
        )
        self.longest = max(self.longest, int((chunk.prompt_tokens + chunk.output_tokens).max()))
        self.done = stop
        window.played(self.fleet, stop)

    def requests(self, start: int, stop: int) -> Requests:
        """The requests `start … stop − 1` as the kernel takes them, with their noise."""
        return _requests(self.traffic, self.lists, self.classes, self.prefixes, self.seed, start, stop)

    def finish(self) -> Played:
        """Let the last rows go; what is to be said of the whole."""
        self.window.finish()
        image, prefixes = self.image, self.prefixes
        facts = tuple(
            msgspec.structs.replace(engine.facts, busy_ns=int(self.fleet.engines[index].busy) // PS_PER_NS)
            for index, engine in enumerate(image.engines)
        )
        beyond = context_notes((engine.spec.profile for engine in image.engines), self.longest)
        notes = (*image.notes, *beyond, *((prefixes.note,) if prefixes.note else ()))
        return Played(facts, self.origins, self.workloads, self.traffic.tenants, self.window.window_ns, notes)


def set_stage(
    keep: Callable[[RunRows], None],
    image: GridImage,
    traffic: Traffic,
    policy: PolicySpec,
    *,
    seed: int,
    longest_jump: int | None = None,
) -> Stage:
    """Everything a replay needs, nothing of it decided yet; the arguments are those of `replay_into`."""
    workloads = _workload_specs(image.view, traffic)
    places, origins = _resolve_origins(image.view, traffic)
    classes = find_classes(traffic)
    specs = list(workloads.values())
    lists = find_candidates(image, places, origins, classes.described(traffic, specs), policy.candidates)
    batching = [engine.spec for engine in image.engines if engine.spec.kind == GPU]
    prefixes = Prefixes(traffic, {spec.block_size for spec in batching if spec.prefix_caching})
    fleet = build_fleet(
        [engine.spec for engine in image.engines],
        requests=min(len(traffic), 2 * CHUNK_REQUESTS),
        workloads=max(1, len(workloads)),
        stretches=prefixes.stretches,
        node_tokens=prefixes.tokens,
        scrape_period=round(policy.telemetry.period_ms * PS_PER_MS),
        **({} if longest_jump is None else {"longest_jump": longest_jump}),
    )
    widest = int(np.diff(lists.offset).max(initial=1))
    return Stage(
        image=image,
        traffic=traffic,
        seed=seed,
        workloads=workloads,
        places=places,
        origins=origins,
        classes=classes,
        lists=lists,
        prefixes=prefixes,
        fleet=fleet,
        scene=_scene(image, lists, specs, policy, fleet),
        rows=np.zeros(widest, CANDIDATE).view(np.recarray),
        templates=request_records(specs),
        policies=policy_records([policy.for_workload(name) for name in workloads] or [policy]),
        window=Window(image, traffic, fleet, keep),
    )


def check_trace(view: GridView, trace: Traffic) -> None:
    """Raise what `replay` would: InputError for names the grid does not know and for a trace that is too long."""
    _workload_specs(view, trace)
    _resolve_origins(view, trace)
    find_classes(trace)


def _workload_specs(view: GridView, trace: Traffic) -> dict[str, WorkloadSpec]:
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


def _resolve_origins(view: GridView, trace: Traffic) -> tuple[list[Place], tuple[Origin, ...]]:
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
        places=np.zeros(int(np.diff(lists.offset).max(initial=1)), np.int64),
        period=round(policy.telemetry.period_ms * PS_PER_MS),
        delay=round(policy.telemetry.delay_ms * PS_PER_MS),
        counts_in_flight=1 if policy.telemetry.in_flight == "local" else 0,
    )


def _requests(
    traffic: Traffic,
    lists: CandidateLists,
    classes: Classes,
    prefixes: Prefixes,
    seed: int,
    start: int,
    stop: int,
) -> Requests:
    """The chunk `start … stop − 1` as the kernel takes it, with its noise."""
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
    )
