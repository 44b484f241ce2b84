"""The replay service: a grid's registry and a trace in, saved runs out — the run, and its centralised alternative.

Decides which policy and prices apply and what a run is called; the replay itself is the replay room's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridctl import __version__
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run, RunInfo
from gridctl.errors import InputError, Interrupted
from gridctl.grid.centralized import centralize
from gridctl.grid.image import GridImage, build_image
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.policies import centralized_policy, choose_policy
from gridctl.orchestrator.runs import load_info, save_run
from gridctl.replay.digest import digest_rows
from gridctl.replay.replay import check_trace, replay
from gridctl.resources import Policy, Resource, Site, Workload
from gridctl.traces.overlay import overlay
from gridctl.traces.trace import UNSAID, Trace

CENTRALIZED_SUFFIX = ".centralized"


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for. `policy` is a Policy's name, a manifest file or an algorithm; None is the default."""

    name: str | None = None
    policy: str | None = None
    prices: str = "default"
    seed: int = 1
    with_centralized: bool = True
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what happens: `say` a sentence, `advanced` how many more requests are done."""

    say: Callable[[str], None] = lambda text: None
    advanced: Callable[[int], None] = lambda requests: None


def replay_trace(home: GridHome, trace: Trace, order: Order, listener: Listener) -> RunInfo:
    """Replay a trace over the grid at `home` and save the run; its centralised alternative is saved first.

    Raises InputError for a trace or grid that cannot be replayed, Interrupted when the user stops it; in both cases
    nothing is saved.
    """
    resources = resources_of(home)
    name = run_name(home, order)
    policy = choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, listener.say)
    central = f"{name}{CENTRALIZED_SUFFIX}" if order.with_centralized else ""
    main = replayed(name, complete, resources, policy, order, listener, central)
    if central:
        beside = replayed(
            central, complete, centralize(resources), centralized_policy(policy), order, listener, central
        )
        save_run(beside, home, replace=True)
    try:
        save_run(main, home, replace=order.replace)
    except BaseException:  # a full disk or an impatient user: a comparison without its run is of no use
        if central:
            home.open_runs().delete(central)
        raise
    return main.info


def check_order(home: GridHome, trace: Trace, order: Order, say: Callable[[str], None]) -> int:
    """Check everything a replay would stumble over; returns how many engines would take part. Writes nothing."""
    resources = resources_of(home)
    run_name(home, order)
    choose_policy(resources, order.policy)
    complete = overlaid(trace, resources, order.seed, say)
    image = build_image(resources, price_book=order.prices)
    check_trace(image.view, complete)
    return len(image.engines)


def resources_of(home: GridHome) -> list[Resource]:
    """Everything the grid declares."""
    with home.open_registry() as registry:
        return [stored.resource for stored in registry.all()]


def run_name(home: GridHome, order: Order) -> str:
    """The name to save under. Refuses one that is taken, or none, before any work is done."""
    store = home.open_runs()
    name = order.name or store.fresh_name()
    wanted = [name, f"{name}{CENTRALIZED_SUFFIX}"] if order.with_centralized else [name]
    store.check_name(wanted[-1])
    taken = [] if order.replace else store.list()
    for one in (name for name in wanted if name in taken):
        # The alternative of an earlier run may be written again; a run that somebody gave that name may not.
        if one == name or load_info(one, home).centralized != one:
            raise InputError(f"run {one} exists", where="--name", fix="choose another --name, or give --replace")
    return name


def overlaid(trace: Trace, resources: Sequence[Resource], seed: int, say: Callable[[str], None]) -> Trace:
    """The trace with origin, workload and tenant of every request, from the grid's own mix where it does not say."""
    if not len(trace):
        raise InputError("the trace has no requests", where=trace.name, fix="give a trace with at least one request")
    columns = {"origin": trace.origin, "workload": trace.workload, "tenant": trace.tenant}
    missing = [column for column, values in columns.items() if int(values.min()) == UNSAID]
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
    return overlay(trace, sites, workloads, seed)


def replayed(
    name: str,
    trace: Trace,
    resources: Sequence[Resource],
    policy: Policy,
    order: Order,
    listener: Listener,
    central: str,
    changed: Callable[[GridImage], GridImage] = lambda image: image,
) -> Run:
    """One replay of a complete trace, not saved; `changed` is what becomes of the grid before it."""
    image = changed(build_image(resources, price_book=order.prices))
    done = 0

    def advanced(requests: int) -> None:
        nonlocal done
        done += requests
        listener.advanced(requests)

    started = time.perf_counter()
    try:
        result = replay(image, trace, policy.spec, seed=order.seed, advanced=advanced)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped after {done} of {len(trace)} requests; no run was saved, the grid is unchanged",
            fix="replay less: --limit N, --from, --until",
        ) from None
    wall_s = time.perf_counter() - started
    if name != central:
        for text in result.notes:
            listener.say(text)
    outcome = result.rows.outcome
    info = RunInfo(
        name=name,
        trace=trace.name,
        policy=policy.name,
        algorithm=policy.spec.algorithm,
        seed=order.seed,
        created_ns=time.time_ns(),
        wall_s=wall_s,
        requests=len(trace),
        completed=int((outcome == COMPLETED).sum()),
        rejected=int((outcome == REJECTED).sum()),
        failed=int((outcome == FAILED).sum()),
        input_tokens=int(result.rows.input_tokens.sum()),
        output_tokens=int(result.rows.output_tokens.sum()),
        window_ns=result.window_ns,
        digest=digest_rows(result),
        gridctl_version=__version__,
        engines=result.engines,
        origins=result.origins,
        workloads=result.workloads,
        workload_names=trace.workloads,
        tenant_names=trace.tenants,
        notes=(*trace.notes, *result.notes),
        centralized=central,
    )
    return Run(info, result.rows)
