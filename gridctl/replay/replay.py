"""Replay: a trace through the router, over the twin of a grid, in virtual time. Arrays in, run rows out.

Everything is decided by the inputs and the seed: the clock is the trace's, noise is hashed from request numbers, and
chunking only bounds memory and lets progress be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED, EngineFacts, Origin, RunRows
from gridctl.engine.clock import drain
from gridctl.engine.fleet import build_fleet
from gridctl.engine.state import GPU, LEARNED, SERVERLESS, UNUSED, Fleet, grow_sequences, records
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.grid.candidates import CandidateLists, RequestClass, find_candidates
from gridctl.grid.image import GridImage
from gridctl.grid.view import GridView, jurisdiction_at
from gridctl.network.jitter import JITTER_PPM
from gridctl.replay.loop import replay_chunk
from gridctl.replay.noise import from_quantiles, small_draws
from gridctl.replay.prefixes import Prefixes
from gridctl.replay.scene import Outcomes, Requests, Scene
from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.routing.rows import CANDIDATE, policy_record, request_records
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_S, PS_PER_MS, PS_PER_NS

CHUNK_REQUESTS = 50_000
LONGEST_TRACE_NS = 30 * 86_400 * NS_PER_S
"""30 days: virtual time is counted in picoseconds, and engines must be able to finish what the trace leaves."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Rows, engines with their busy time, and where requests came from."""

    rows: RunRows
    engines: tuple[EngineFacts, ...]
    origins: tuple[Origin, ...]
    workloads: dict[str, WorkloadSpec]
    tenants: tuple[str, ...]
    window_ns: int
    notes: tuple[str, ...]


def replay(
    image: GridImage,
    trace: Trace,
    policy: PolicySpec,
    *,
    seed: int = 1,
    advanced: Callable[[int], None] = lambda requests: None,
    longest_jump: int | None = None,
) -> Replayed:
    """Replay `trace` over `image` under `policy`.

    Every request must have an origin and a workload (see `traces.overlay`). `advanced` is told how many requests each
    chunk finished. `longest_jump` limits how many decode steps the twin takes at once; it changes nothing but speed.
    Raises InputError for names the grid does not know and for a trace longer than 30 days.
    """
    workloads = _workload_specs(image.view, trace)
    places, origins = _resolve_origins(image.view, trace)
    lists, classes = _candidate_lists(image, trace, policy, places, origins, list(workloads.values()))
    batching = [engine.spec for engine in image.engines if engine.spec.kind == GPU]
    prefixes = Prefixes(trace, {spec.block_size for spec in batching if spec.prefix_caching})
    period = round(policy.telemetry.period_ms * PS_PER_MS)
    fleet = build_fleet(
        [engine.spec for engine in image.engines],
        requests=len(trace),
        workloads=max(1, len(workloads)),
        stretches=prefixes.stretches,
        node_tokens=prefixes.tokens,
        scrape_period=period,
        **({} if longest_jump is None else {"longest_jump": longest_jump}),
    )
    scene = _scene(image, lists, list(workloads.values()), policy, fleet)
    n = len(trace)
    outcomes = Outcomes(np.full(n, -1, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))
    widest = int(np.diff(lists.offset).max(initial=1))
    rows = np.zeros(widest, CANDIDATE).view(np.recarray)
    templates, policies = request_records(list(workloads.values())), policy_record(policy)
    for start in range(0, n, CHUNK_REQUESTS):
        stop = min(n, start + CHUNK_REQUESTS)
        fleet = grow_sequences(fleet, stop - start)
        chunk = _requests(trace, lists, classes, prefixes, seed, start, stop)
        replay_chunk(fleet, scene, chunk, start, outcomes, rows, templates, policies)
        advanced(stop - start)
    drain(fleet)
    facts = tuple(
        msgspec.structs.replace(engine.facts, busy_ns=int(fleet.engines[index].busy) // PS_PER_NS)
        for index, engine in enumerate(image.engines)
    )
    run_rows = _run_rows(image, trace, fleet, outcomes)
    notes = (*image.notes, *((prefixes.note,) if prefixes.note else ()))
    return Replayed(run_rows, facts, origins, workloads, trace.tenants, _window_ns(run_rows), notes)


def check_trace(view: GridView, trace: Trace) -> None:
    """Raise what `replay` would: InputError for names the grid does not know and for a trace that is too long."""
    _workload_specs(view, trace)
    _resolve_origins(view, trace)


def _workload_specs(view: GridView, trace: Trace) -> dict[str, WorkloadSpec]:
    """The declared workload of every name the trace uses, in the trace's order."""
    if len(trace) and (int(trace.workload.min()) == UNSAID or int(trace.origin.min()) == UNSAID):
        raise InputError(
            "some requests have no origin or workload", where=f"trace {trace.name}", fix="gridctl trace overlay IN OUT"
        )
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


def _resolve_origins(view: GridView, trace: Trace) -> tuple[list[Place], tuple[Origin, ...]]:
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


def _place_named(name: str, view: GridView, trace: Trace) -> Place:
    try:
        return resolve_place(name, view.sites)
    except NotFoundError as error:
        raise InputError(
            f"a request comes from {name}, which is neither a site, a city nor lat,lon",
            where=f"trace {trace.name}",
            fix=error.fix,
        ) from None


def _candidate_lists(
    image: GridImage,
    trace: Trace,
    policy: PolicySpec,
    places: Sequence[Place],
    origins: Sequence[Origin],
    workloads: Sequence[WorkloadSpec],
) -> tuple[CandidateLists, NDArray[np.int64]]:
    """The lists, and each request's class: one per (workload, model) pair that occurs."""
    width = len(trace.models) + 1
    pairs, classes = np.unique(trace.workload.astype(np.int64) * width + trace.model + 1, return_inverse=True)
    described = [
        RequestClass(workloads[pair // width], trace.models[pair % width - 1] if pair % width else None)
        for pair in pairs.tolist()
    ]
    return find_candidates(image, places, origins, described, policy.candidates), classes.astype(np.int64)


def _scene(
    image: GridImage, lists: CandidateLists, workloads: Sequence[WorkloadSpec], policy: PolicySpec, fleet: Fleet
) -> Scene:
    engines = image.engines
    return Scene(
        offset=lists.offset,
        candidate=lists.engine,
        rtt_us=lists.rtt_us,
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
        sent=np.zeros(len(fleet.holders), np.bool_),
        lessons=records(max(1, len(workloads)), LEARNED),
        next_lesson=np.zeros(1, np.int64),
        idle=np.full((len(fleet.profiles.pair_fs), 3), -1.0),
        period=round(policy.telemetry.period_ms * PS_PER_MS),
        delay=round(policy.telemetry.delay_ms * PS_PER_MS),
        counts_in_flight=1 if policy.telemetry.in_flight == "local" else 0,
    )


def _requests(
    trace: Trace,
    lists: CandidateLists,
    classes: NDArray[np.int64],
    prefixes: Prefixes,
    seed: int,
    start: int,
    stop: int,
) -> Requests:
    """The chunk `start … stop − 1` as the kernel takes it, with its noise."""
    part = slice(start, stop)
    numbers = np.arange(start, stop, dtype=np.int64)
    leaf, blocks_full = prefixes.of(trace.part(start, stop), start)
    sessions = np.where(trace.session[part] >= 0, trace.session[part], numbers + (1 << 40))
    return Requests(
        arrival=trace.arrival_ns[part] * PS_PER_NS,
        list_index=lists.of[trace.origin[part], classes[part]],
        workload=trace.workload[part].astype(np.int64),
        prompt_tokens=trace.input_tokens[part].astype(np.int64),
        output_tokens=trace.output_tokens[part].astype(np.int64),
        leaf=leaf,
        blocks_full=blocks_full,
        jitter_ppm=from_quantiles(seed, "jitter", numbers, np.array(JITTER_PPM, np.int64)),
        draw=small_draws(seed, "ties", numbers),
        session=small_draws(seed, "sessions", sessions),
    )


def _run_rows(image: GridImage, trace: Trace, fleet: Fleet, outcomes: Outcomes) -> RunRows:
    """Picoseconds of the twin → nanoseconds of the run; columns a request never reached are 0."""
    results = fleet.results
    engine = outcomes.engine
    is_done = (outcomes.outcome == COMPLETED) & (results.last_token >= 0)
    if not np.array_equal(is_done, outcomes.outcome == COMPLETED):
        raise InputError(
            "the grid needs more than 53 days of virtual time to finish this trace",
            where=f"trace {trace.name}",
            fix="the load is far beyond the grid: lower --speed, or add GPUs",
        )
    kinds = np.array([item.spec.kind for item in image.engines], np.int64)
    gpus = np.array([item.spec.gpus for item in image.engines], np.int64)
    arrived = trace.arrival_ns * PS_PER_NS + outcomes.rtt // 2
    kind = np.where(engine >= 0, kinds[engine], UNUSED)
    zero = np.zeros(len(trace), np.int64)

    def span(later: NDArray[np.int64], earlier: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(is_done, (later - earlier) // PS_PER_NS, zero)

    return RunRows(
        arrival_ns=trace.arrival_ns.astype(np.int64),
        origin=trace.origin.astype(np.int32),
        workload=trace.workload.astype(np.int32),
        tenant=trace.tenant.astype(np.int32),
        engine=engine.astype(np.int32),
        outcome=outcomes.outcome.astype(np.int8),
        reason=outcomes.reason.astype(np.int8),
        input_tokens=trace.input_tokens.astype(np.int64),
        cached_tokens=np.where(is_done, results.cached_tokens, zero),
        output_tokens=trace.output_tokens.astype(np.int64),
        rtt_ns=np.where(is_done, outcomes.rtt // PS_PER_NS, zero),
        queue_ns=span(results.scheduled, arrived),
        compute_ns=span(results.first_token, results.scheduled),
        decode_ns=span(results.last_token, results.first_token),
        preemptions=np.where(is_done, results.preemptions, zero).astype(np.int32),
        gpu_ns=np.where(kind == GPU, results.share * gpus[engine] // PS_PER_NS, zero),
        serverless_ns=np.where(kind == SERVERLESS, results.share // PS_PER_NS, zero),
    )


def _window_ns(rows: RunRows) -> int:
    """From the first arrival to the last token or refusal; at least a nanosecond once there is a request."""
    if not len(rows):
        return 0
    ends = rows.arrival_ns + rows.rtt_ns // 2 + rows.queue_ns + rows.compute_ns + rows.decode_ns
    return max(1, int(ends.max() - rows.arrival_ns[0]))
