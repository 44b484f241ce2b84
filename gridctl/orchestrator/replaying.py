"""The replay service: a grid's registry and a trace in, saved runs out — the run, and its centralised alternative.

Decides which policy and prices apply and what a run is called; the replay itself is the replay room's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from gridctl import __version__
from gridctl.accounts.facts import RunInfo
from gridctl.accounts.rows import ROW_TYPES, Run
from gridctl.errors import InputError
from gridctl.grid.candidates import CandidateLists
from gridctl.grid.centralized import centralize
from gridctl.grid.image import GridImage, build_image
from gridctl.manifest.gameday_file import GameDayFile
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.inputs import VERSION, InputsHeader, RunInputs, TraceSource, encode_inputs
from gridctl.orchestrator.playing import HeldRows, Part, RowSink, play
from gridctl.orchestrator.policies import centralized_policy, choose_policy
from gridctl.orchestrator.runs import load_info
from gridctl.replay.caching import CachePlan, check_cached
from gridctl.replay.faults import Fault
from gridctl.replay.origins import origins_of
from gridctl.replay.prefixes import parts
from gridctl.replay.repeats import Telling
from gridctl.replay.replay import check_trace
from gridctl.replay.resolving import resolve_faults
from gridctl.resources import Policy, Resource, Site, Workload
from gridctl.resources.pricebook import PriceBookSpec
from gridctl.traces.crowd import crowded
from gridctl.traces.identity import trace_digest
from gridctl.traces.overlay import overlay
from gridctl.traces.trace import UNSAID, Traffic

CENTRALIZED_SUFFIX = ".centralized"
CALM_SUFFIX = ".calm"


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """Caches in a replay: the mode of every workload or each one's own, and at which sites they are asked."""

    mode: Literal["exact", "semantic", "as-declared"]
    placement: Literal["edge", "regional"] = "edge"


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for. `policy` is a Policy's name, a manifest file or an algorithm; None is the default.

    A run with a `game_day` stands beside the same run without it, and not beside a centralised one, in which the game
    day's places would not exist."""

    name: str | None = None
    policy: str | None = None
    prices: str = "default"
    seed: int = 1
    with_centralized: bool = True
    replace: bool = False
    game_day: GameDayFile | None = None
    source: TraceSource | None = None  # where the trace was read, kept with the run
    cache: CacheOrder | None = None  # None: nothing is answered from a cache, whatever workloads declare

    @property
    def beside(self) -> str:
        """What is added to the run's name for the run made beside it; "" when there is none."""
        if self.game_day is not None:
            return CALM_SUFFIX
        return CENTRALIZED_SUFFIX if self.with_centralized else ""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens: `say` a sentence, `advanced` how many more requests are done."""

    say: Callable[[str], None] = lambda text: None
    advanced: Callable[[int], None] = lambda requests: None


def replay_trace(home: GridHome, trace: Traffic, order: Order, listener: Listener) -> RunInfo:
    """Replay a trace over the grid at `home` and save the run; its alternative, centralised or calm, is saved first.

    Raises InputError for a trace or grid that cannot be replayed, Interrupted when the user stops it; in both cases
    nothing is saved.
    """
    resources = resources_of(home)
    name = run_name(home, order)
    policy = choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, listener.say)
    beside_name = f"{name}{order.beside}" if order.beside else ""
    # The centralised alternative has no caches: what they save is part of what the edge is for.
    calm = replace(order, game_day=None, cache=order.cache if order.game_day is not None else None)
    central = "" if order.game_day is not None else beside_name
    image = build_image(resources, price_book=order.prices)
    # A game day that cannot be is refused before anything is replayed.
    told, faults = scripted(complete, image, order.game_day)
    part = Part(name=name, trace=told, image=image, policy=policy, seed=order.seed, central=central, faults=faults)
    store = home.open_runs()
    digest = trace_digest(trace)
    with contextlib.ExitStack() as drafts:
        draft = drafts.enter_context(store.writing(name, ROW_TYPES, len(told), replace=order.replace))
        info = _played(part, order, draft, listener)
        if order.game_day is not None:
            info = msgspec.structs.replace(info, calm=beside_name)
        if beside_name:
            beside = drafts.enter_context(store.writing(beside_name, ROW_TYPES, len(complete), replace=True))
            there, alike = (centralize(resources), centralized_policy(policy)) if central else (resources, policy)
            grid = build_image(there, price_book=order.prices)
            other = replace(part, name=beside_name, trace=complete, image=grid, policy=alike, faults=())
            made = _played(other, calm, beside, Listener(advanced=listener.advanced))
            run_name(home, replace(order, name=name))  # another command may have taken it meanwhile
            beside.finish(msgspec.json.encode(made), _inputs(digest, trace, there, alike, calm))
        try:
            draft.finish(msgspec.json.encode(info), _inputs(digest, trace, resources, policy, order))
        except BaseException:  # a full disk or an impatient user: a comparison without its run is of no use
            if beside_name and (order.replace or name not in store.list()):  # else it is that of another command's run
                store.delete(beside_name)
            raise
    return info


def _inputs(digest: str, trace: Traffic, resources: Sequence[Resource], policy: Policy, order: Order) -> bytes:
    """What a run follows from, as it is kept in its folder."""
    header = InputsHeader(
        gridctl_run=VERSION,
        gridctl_version=__version__,
        policy=policy,
        prices=order.prices,
        seed=order.seed,
        trace_name=trace.name,
        trace_digest=digest,
        requests=len(trace),
        source=order.source,
        game_day=order.game_day.gameday if order.game_day is not None else None,
    )
    return encode_inputs(RunInputs(header, tuple(resources)))


def check_order(home: GridHome, trace: Traffic, order: Order, say: Callable[[str], None]) -> int:
    """Check everything a replay would stumble over; returns how many engines would take part. Writes nothing."""
    resources = resources_of(home)
    run_name(home, order)
    choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, say)
    image = build_image(resources, price_book=order.prices)
    check_trace(image.view, complete)
    told, _ = scripted(complete, image, order.game_day)
    if order.cache is not None:
        check_cached(image, told.whole(), cache_plan(image, order.cache, order))
    return len(image.engines)


def resources_of(home: GridHome) -> list[Resource]:
    """Everything the grid declares."""
    with home.open_registry() as registry:
        return [stored.resource for stored in registry.all()]


def run_name(home: GridHome, order: Order) -> str:
    """The name to save under. Refuses one that is taken, or none, before any work is done."""
    store = home.open_runs()
    name = order.name or store.fresh_name()
    wanted = [name, f"{name}{order.beside}"] if order.beside else [name]
    for one in wanted:
        store.check_name(one)
    taken = [] if order.replace else store.list()
    for one in (name for name in wanted if name in taken):
        # The alternative of an earlier run may be written again; a run that somebody gave that name may not.
        if one == name or not _is_alternative(one, name, home):
            raise InputError(f"run {one} exists", where="--name", fix="choose another --name, or give --replace")
    return name


def _is_alternative(one: str, name: str, home: GridHome) -> bool:
    """Whether the run `one` was made beside run `name`."""
    if load_info(one, home).centralized == one:
        return True
    return name in home.open_runs().list() and load_info(name, home).calm == one


def scripted(trace: Traffic, image: GridImage, game_day: GameDayFile | None) -> tuple[Traffic, tuple[Fault, ...]]:
    """What a game day makes of a complete trace, which has its crowds then, and its faults on this grid.

    Raises InputError."""
    if game_day is None:
        return trace, ()
    spec, place = game_day.gameday.spec, game_day.fault_at
    faults = resolve_faults(spec, image, place, origins_of(image.view, trace))
    crowds = [fault for fault in faults if fault.kind == "crowd"]
    if not crowds:
        return trace, faults
    told = trace.whole()
    for fault in crowds:  # crowds of one origin do not overlap, and none is a crowd of a crowd
        told = crowded(told, fault.origins, fault.at_ns, fault.until_ns, fault.amount)
    return told, resolve_faults(spec, image, place, origins_of(image.view, told))


def overlaid(trace: Traffic, resources: Sequence[Resource], seed: int, say: Callable[[str], None]) -> Traffic:
    """The trace with origin, workload and tenant of every request, from the grid's own mix where it does not say."""
    if not len(trace):
        raise InputError("the trace has no requests", where=trace.name, fix="give a trace with at least one request")
    missing = [column for column in ("origin", "workload", "tenant") if _is_unsaid(trace, column)]
    if not missing:
        return trace
    sites = [resource for resource in resources if isinstance(resource, Site)]
    workloads = [resource for resource in resources if isinstance(resource, Workload)]
    if not workloads:
        raise InputError(
            "the trace names no workload and the grid has none",
            where=trace.name,
            fix="apply at least one Workload: gridctl explain workload",
        )
    if not sites:
        raise InputError("the grid has no sites", where="registry", fix="gridctl apply -f FOLDER")
    say(f"{trace.name} does not say {', '.join(missing)}: drawn from the grid's own mix (seed {seed})")
    return overlay(trace.whole(), sites, workloads, seed)


def _is_unsaid(trace: Traffic, column: str) -> bool:
    """Whether some request does not say."""
    return any(int(getattr(rows, column).min()) == UNSAID for rows, _ in parts(trace))


def replayed(
    name: str,
    trace: Traffic,
    resources: Sequence[Resource],
    policy: Policy,
    order: Order,
    listener: Listener,
    central: str,
    changed: Callable[[GridImage], GridImage] = lambda image: image,
    lists: CandidateLists | None = None,
) -> Run:
    """One replay of a complete trace, kept in memory; `changed` is what becomes of the grid before it, `lists` the
    candidates where they are known (`candidates_of`)."""
    held = HeldRows()
    image = changed(build_image(resources, price_book=order.prices))
    told, faults = scripted(trace, image, order.game_day)
    part = Part(
        name=name,
        trace=told,
        image=image,
        policy=policy,
        seed=order.seed,
        central=central,
        faults=faults,
        lists=lists,
    )
    return Run(_played(part, order, held, listener), held.rows())


def _played(part: Part, order: Order, sink: RowSink, listener: Listener) -> RunInfo:
    """Play it with the order's caches, and say what was noticed, unless it is the alternative of another run."""
    if order.cache is not None:
        part = replace(part, cache=cache_plan(part.image, order.cache, order))
    info = play(part, sink, listener.advanced)
    if part.name != part.central:
        for text in info.notes[len(part.trace.notes) :]:
            listener.say(text)
    return info


def cache_plan(image: GridImage, cache: CacheOrder, order: Order) -> CachePlan:
    """Caches as a replay takes them: with the embedder that the workloads declare, where they declare one alike."""
    policies = [workload.spec.cache for workload in image.view.workloads.values()]
    declared = {policy.embedder for policy in policies if policy.mode == "semantic" and "://" not in policy.embedder}
    book = image.view.prices.get(order.prices)
    return CachePlan(
        cache.mode,
        cache.placement,
        Telling(embedder=next(iter(declared)) if len(declared) == 1 else "hashed", seed=order.seed),
        (book.spec if book is not None else PriceBookSpec()).egress_usd_per_gb,
    )
