"""Ensemble: a run and the draws that say how sure it is, made together, kept together, taken up again together.

The plain replay is saved first, exactly as without draws; each draw's tables are kept the moment they are there. So an
interruption costs the draws that were under way and nothing else: the same command with `resume` makes those that are
missing. A plan beside the draws holds what they were made from, and of which run; draws that do not fit their run any
more (it was replaced) are no draws of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from gridctl.accounts.facts import RunInfo
from gridctl.errors import InputError, Interrupted, NotFoundError, StoreError, UsageError, did_you_mean
from gridctl.executors.pool import Pool, running
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.plan import Inputs, Plan, inputs_of, read_plan, read_summary, write_plan
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import (
    CENTRALIZED_SUFFIX,
    Listener,
    Order,
    replay_trace,
    resources_of,
    run_name,
)
from gridctl.orchestrator.runs import load_info, save_run
from gridctl.orchestrator.scenario import SOURCES, Job, Outcome, Scenario, Source, Stage, draw_name, run_job
from gridctl.traces.trace import Traffic

MOST_SEEDS = 10_000


@dataclass(frozen=True, slots=True)
class Spread:
    """How many replays, what differs between them, and who makes them. `jobs` None is every processor there is."""

    seeds: int = 1
    drawn: tuple[Source, ...] = SOURCES
    jobs: int | None = None
    executor: str = "local"
    resume: bool = False
    keeps_rows: bool = False


def parse_sources(text: str) -> tuple[Source, ...]:
    """`jitter,arrivals` as sources, in their own order. Raises UsageError for a word that is none, or for nothing."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in SOURCES:
            near = did_you_mean(word, SOURCES)
            raise UsageError(
                f"{word!r} is nothing that can be drawn",
                where="--draw",
                fix=f"did you mean {near}?" if near else f"choose among {','.join(SOURCES)}",
            )
    if not words:
        raise UsageError("nothing is drawn, so all replays would be the same", where="--draw", fix="--draw jitter")
    return tuple(source for source in SOURCES if source in words)


def replay_seeds(home: GridHome, trace: Traffic, order: Order, spread: Spread, listener: Listener) -> RunInfo:
    """Replay the trace and `spread.seeds − 1` draws of it; returns the plain run. With one seed, just the run.

    Raises what `replay_trace` does; InputError when draws to resume were made from something else, UnreachableError
    when the executor is lost, Interrupted with what was kept.
    """
    if spread.seeds <= 1 and not spread.resume:
        info = replay_trace(home, trace, order, listener)
        _forget(home, info.name)
        return info
    if spread.resume and order.name is None:
        raise UsageError("which run is to be resumed?", where="--resume", fix="give its name: --name RUN")
    policy = choose_policy(resources := resources_of(home), order.policy)
    plan = Plan(seeds=spread.seeds, drawn=spread.drawn, inputs=inputs_of(trace, resources, policy, order))
    saved = _resumable(home, order, plan) if spread.resume else None
    if spread.resume and saved is None:
        order = replace(order, replace=True)  # what there may be of the run is of the interrupted command itself
    name = saved.name if saved else _fresh_name(home, order)
    if spread.keeps_rows:
        _check_draw_names(home, name, order, spread)
    order = replace(order, name=name)
    with home.open_draws().making(name):
        if saved is None:
            home.open_draws().clear(name)
        kept = [] if saved is None else _readable(home, name, order)
        write_plan(home, name, plan, saved)
        jobs = [Job(0, draw, spread.drawn, spread.keeps_rows) for draw in range(1, spread.seeds) if draw not in kept]
        day = order.game_day
        drawn = order if day is None else replace(order, game_day=day.made())
        stage = Stage(trace, (Scenario(tuple(resources), policy, drawn),))
        size = len(trace) * (2 if order.with_centralized else 1)
        listener.advanced(size * len(kept))
        try:
            with running(spread.executor, run_job, stage, jobs, workers=spread.jobs, own=0 if saved else 1) as pool:
                info = saved or replay_trace(home, trace, order, listener)
                _bind(home, plan, info, is_new=saved is None)
                _collect(home, pool, jobs, size, order, spread, listener)
        except KeyboardInterrupt:
            raise _interrupted(home, name, spread.seeds) from None
        except BaseException:
            _forget_nothing(home, name)
            raise
    return info


def _bind(home: GridHome, plan: Plan, info: RunInfo, *, is_new: bool) -> None:
    """From now on the draws are those of this run and of its alternative."""
    write_plan(home, info.name, plan, info)
    if info.centralized:
        with home.open_draws().making(info.centralized):
            if is_new:
                home.open_draws().clear(info.centralized)
            write_plan(home, info.centralized, plan, load_info(info.centralized, home))


def _collect(
    home: GridHome,
    pool: Pool[Outcome],
    jobs: Sequence[Job],
    size: int,
    order: Order,
    spread: Spread,
    listener: Listener,
) -> None:
    """Keep every draw as it comes. The listener hears of `size` requests a draw, whatever the pool tells on the way."""
    told = [0] * len(jobs)

    def advanced(number: int, requests: int) -> None:
        # A draw that is tried again counts its requests once.
        requests = min(requests, size - told[number])
        told[number] += requests
        listener.advanced(requests)

    assert order.name is not None, "the run has been named by now"
    store = home.open_draws()
    for number, outcome in pool.results(advanced):
        draw = jobs[number].draw
        for run in outcome.runs:
            save_run(run, home, replace=True)
        # The alternative first: a draw counts as made when the run itself has it.
        if outcome.central is not None:
            store.add(f"{order.name}{CENTRALIZED_SUFFIX}", draw, msgspec.json.encode(outcome.central))
        store.add(order.name, draw, msgspec.json.encode(outcome.main))
        advanced(number, size)


def _resumable(home: GridHome, order: Order, plan: Plan) -> RunInfo | None:
    """The run whose draws are to be taken up again; None when it was interrupted before the run itself was saved."""
    assert order.name is not None, "a name is asked for first"
    before = read_plan(home, order.name)
    if before is None:
        raise NotFoundError(
            f"there are no draws of a run {order.name} to resume",
            where="--resume",
            fix="give the command without --resume",
        )
    if before.drawn != plan.drawn:
        raise InputError(
            f"the draws of run {order.name} were drawn from {','.join(before.drawn)}",
            where="--draw",
            fix=f"--draw {','.join(before.drawn)}, or --replace without --resume to begin again",
        )
    for field in msgspec.structs.fields(Inputs):
        if getattr(before.inputs, field.name) != getattr(plan.inputs, field.name):
            what = {"options": "seed, prices or --no-centralized", "gridctl": "gridctl itself"}.get(
                field.name, f"the {field.name}"
            )
            raise InputError(
                f"{what} changed since the draws of run {order.name} were made",
                where="--resume",
                fix="put it back as it was, or begin again: --replace without --resume",
            )
    if before.created_ns is None:
        return None
    try:
        info = load_info(order.name, home)
    except NotFoundError:
        return None
    if info.created_ns != before.created_ns:
        raise InputError(
            f"run {order.name} was replaced since its draws were made",
            where="--resume",
            fix="begin again: --replace without --resume",
        )
    return info


def _fresh_name(home: GridHome, order: Order) -> str:
    """The run's name. An interrupted ensemble of that name is not thrown away by accident."""
    unfinished = read_plan(home, order.name) if order.name and not order.replace else None
    if order.name and unfinished is not None:
        kept = len(home.open_draws().numbers(order.name))
        if kept and kept + 1 < unfinished.seeds:
            raise InputError(
                f"run {order.name} has {kept + 1} of {unfinished.seeds} replays: it was interrupted",
                where="--name",
                fix="go on with --resume, or begin again with --replace",
            )
    return run_name(home, order)


def _check_draw_names(home: GridHome, name: str, order: Order, spread: Spread) -> None:
    """Refuse before any work what the draws' runs could not be called, or would overwrite."""
    suffix = CENTRALIZED_SUFFIX if order.with_centralized else ""
    home.open_runs().check_name(f"{draw_name(name, spread.seeds - 1)}{suffix}")
    taken = [] if order.replace or spread.resume else home.open_runs().list()
    for draw in range(1, spread.seeds):
        if draw_name(name, draw) in taken:
            raise InputError(
                f"run {draw_name(name, draw)} exists", where="--keep-draws", fix="choose another --name, or --replace"
            )


def _readable(home: GridHome, name: str, order: Order) -> list[int]:
    """Draws that are there whole, of the run and of its alternative; one that is damaged is made again."""
    names = [name, f"{name}{CENTRALIZED_SUFFIX}"] if order.with_centralized else [name]
    kept = []
    for number in home.open_draws().numbers(name):
        try:
            for one in names:
                read_summary(home, one, number)
        except StoreError:
            continue
        kept.append(number)
    return kept


def _interrupted(home: GridHome, name: str, seeds: int) -> Interrupted:
    if name not in home.open_runs().list():
        _forget_nothing(home, name)
        return Interrupted("stopped; no run was saved, the grid is unchanged", fix="replay less: --limit N, --seeds N")
    kept = len(home.open_draws().numbers(name)) + 1
    return Interrupted(
        f"stopped after {kept} of {seeds} replays; run {name} and its {kept - 1} draws are kept",
        fix=f"the same command with --resume --name {name} makes the others",
    )


def _forget_nothing(home: GridHome, name: str) -> None:
    """Leave no plan behind where neither run nor draw came of it."""
    store = home.open_draws()
    if not store.numbers(name) and name not in home.open_runs().list():
        store.clear(name)


def _forget(home: GridHome, name: str) -> None:
    """Draws of an earlier run of that name."""
    for one in (name, f"{name}{CENTRALIZED_SUFFIX}"):
        home.open_draws().delete(one)
