"""Ready-made game days: a region lost, a flash crowd, stale telemetry, each a file that need not be written."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import complete_names
from gridctl.cli.output import OutputOption, emit, note, progress, write
from gridctl.cli.policy import complete_policy
from gridctl.cli.replayoptions import (
    AccountedOption,
    ReplaceOption,
    ReplaysOption,
    RunNameOption,
    RunSeedOption,
    TraceArgument,
)
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.replaying import Order
    from gridctl.resources.gameday import GameDay
    from gridctl.traces.trace import Traffic

PolicyOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE", help="A policy of the grid, a manifest, or an algorithm.", autocompletion=complete_policy
    ),
]
FlowsOption = Annotated[int, typer.Option("--flows", metavar="N", min=0, help="Print the N largest flows of a fault.")]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="When it begins; a quarter into the trace otherwise.")
]
LastsOption = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long; half the trace otherwise.")]
NoticedOption = Annotated[
    str | None, typer.Option("--noticed-after", metavar="TIME", help="How long the router does not know.")
]
PrintOption = Annotated[bool, typer.Option("--print", help="Print the game day as YAML, replay nothing.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print the game day, replay nothing.")
]


def complete_region(incomplete: str) -> list[str]:
    """Regions that start so."""
    from gridctl.geography.regions import REGIONS

    return [region for region in REGIONS if region.startswith(incomplete)]


def complete_place(context: typer.Context, incomplete: str) -> list[str]:
    """Regions, then sites, that start so."""
    return [*complete_region(incomplete), *complete_names("site")(context, incomplete)]


def region_loss(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[REGION] TRACE", help="A region such as EU, and a trace.", autocompletion=complete_region
        ),
    ],
    each: Annotated[bool, typer.Option("--each", help="Lose each region in turn and rank the losses.")] = False,
    name: RunNameOption = None,
    policy: PolicyOption = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    at: AtOption = None,
    lasts: LastsOption = None,
    noticed_after: NoticedOption = None,
    replace: ReplaceOption = False,
    flows: FlowsOption = 10,
    jobs: ReplaysOption = None,
    print_only: PrintOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Lose a whole region and report, or, with --each, every region in turn, ranked by harm; those are not kept.

    Example:
      gridctl gameday region-loss EU trace.jsonl.gz --for 5m --noticed-after 5s --name no-europe
      gridctl gameday region-loss --each trace.jsonl.gz
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import loss_day, loss_plan, regions_to_lose
    from gridctl.traces.reader import open_traffic

    if len(words) != (1 if each else 2):
        raise UsageError(
            "--each loses every region" if each and len(words) == 2 else "which region, and which trace?",
            where="[REGION] TRACE",
            fix="gridctl gameday region-loss EU TRACE, or: gridctl gameday region-loss --each TRACE",
        )
    home = current_grid()
    requests = open_traffic(words[-1])
    plan = loss_plan(requests, at, lasts, noticed_after)
    order = _order(name, policy, prices, seed, replace, words[-1])
    regions = regions_to_lose(home, prices) if each else words[:1]
    days = [loss_day(region, plan, "region") for region in regions]
    if print_only or dry_run:
        _show(home, requests, order, days, check=dry_run)
    elif each:
        _rank_regions(home, requests, order, at, lasts, noticed_after, jobs, output)
    else:
        _play(home, requests, order, days[0], flows, output)


def flash_crowd(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="An origin of the trace, a country or a region.", autocompletion=complete_place
        ),
    ],
    trace: TraceArgument,
    times: Annotated[float, typer.Option("--times", metavar="N", help="How many times the load.")] = 10.0,
    name: RunNameOption = None,
    policy: PolicyOption = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    at: AtOption = None,
    lasts: LastsOption = None,
    replace: ReplaceOption = False,
    flows: FlowsOption = 10,
    print_only: PrintOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Send N times the requests of a place for a time, and report.

    Example:
      gridctl gameday flash-crowd fr-paris-01 trace.jsonl.gz --times 10 --for 2m --name crowded
      gridctl gameday flash-crowd ES trace.jsonl.gz --times 3 --print > crowd.yaml
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import crowd_day, loss_plan, origins_in
    from gridctl.traces.reader import open_traffic

    if not 1 < times <= 1000:
        raise UsageError(f"{times:g} times the load is no crowd", where="--times", fix="more than 1, at most 1000")
    home = current_grid()
    requests = open_traffic(trace)
    order = _order(name, policy, prices, seed, replace, trace)
    plan = loss_plan(requests, at, lasts, None)
    day = crowd_day(place, times, plan, origins_in(home, requests, order))
    if print_only or dry_run:
        _show(home, requests, order, [day], check=dry_run)
        return
    _play(home, requests, order, day, flows, output)


def stale_telemetry(
    trace: TraceArgument,
    seconds: Annotated[float, typer.Option("--seconds", metavar="N", help="How long no telemetry arrives.")] = 300.0,
    policy: PolicyOption = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    at: AtOption = None,
    print_only: PrintOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Cut off all telemetry for a time, and show who herds.

    The policy beside itself with fresh telemetry, with and without the router's own counters of requests in flight:
    without them everybody follows what was seen last. Nothing is kept.

    Example:
      gridctl gameday stale-telemetry trace.jsonl.gz --seconds 300
      gridctl gameday stale-telemetry trace.jsonl.gz --policy least-loaded -o json
    """
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import herds, loss_plan, stale_day
    from gridctl.orchestrator.replaying import Listener
    from gridctl.render.gameday import HERD_COLUMNS, herd_items
    from gridctl.traces.reader import open_traffic

    if not 0 < seconds <= 86_400:
        raise UsageError(f"{seconds:g} s is no time to be blind", where="--seconds", fix="--seconds 300")
    home = current_grid()
    requests = open_traffic(trace)
    plan = loss_plan(requests, at, f"{seconds:.3f}".rstrip("0").rstrip(".") + "s", None)
    order = _order(None, policy, prices, seed, False, trace)
    if print_only or dry_run:
        _show(home, requests, order, [stale_day(plan)], check=dry_run)
        return
    ready_replay()
    with progress("replaying four times", 4 * len(requests)) as advance:
        found = herds(home, requests, order, plan, Listener(note, advance))
    emit(herd_items(found), HERD_COLUMNS, output, kind="HerdList", documents=found)
    note(f"requests that arrived from {plan.at} on for {plan.lasts}, while stale telemetry is from before")


def _order(name: str | None, policy: str | None, prices: str, seed: int, replace: bool, trace: str) -> Order:
    from gridctl.orchestrator.inputs import TraceSource, absolute
    from gridctl.orchestrator.replaying import Order

    source = TraceSource(path=absolute(trace))
    return Order(name, policy, prices, seed, with_centralized=False, replace=replace, source=source)


def _show(home: GridHome, requests: Traffic, order: Order, days: list[GameDay], *, check: bool) -> None:
    """Print game days as files; with `check`, hold each against the grid and the trace first."""
    from dataclasses import replace

    from gridctl.cli.replaying import say_unplayed
    from gridctl.manifest.gameday_file import GameDayFile
    from gridctl.orchestrator.replaying import check_order
    from gridctl.render.rows import yaml_text

    engines = 0
    for day in days if check else ():
        engines = check_order(home, requests, replace(order, game_day=GameDayFile(day, "gameday")), lambda text: None)
    for day in days:
        write(f"{'---' + chr(10) if len(days) > 1 else ''}kind: GameDay\n{yaml_text(day)}")
    if check:
        say_unplayed(len(requests), engines)


def _play(home: GridHome, requests: Traffic, order: Order, day: GameDay, flows: int, output: str) -> None:
    """Replay a game day beside its calm run, keep both, report."""
    from dataclasses import replace

    from gridctl.cli.warmup import ready_replay
    from gridctl.manifest.gameday_file import GameDayFile
    from gridctl.orchestrator.gamedays import report_of
    from gridctl.orchestrator.replaying import Listener, replay_trace

    ready_replay()
    order = replace(order, game_day=GameDayFile(day, "gameday"))
    with progress("replaying", 2 * len(requests)) as advance:
        info = replay_trace(home, requests, order, Listener(note, advance))
    emit_report(report_of(info.name, home, flows), output)


def _rank_regions(
    home: GridHome,
    requests: Traffic,
    order: Order,
    at: str | None,
    lasts: str | None,
    noticed_after: str | None,
    jobs: int | None,
    output: str,
) -> None:
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.gamedays import loss_plan, single_losses
    from gridctl.orchestrator.replaying import Listener
    from gridctl.render.gameday import REGION_COLUMNS, loss_items

    ready_replay()
    plan = loss_plan(requests, at, lasts, noticed_after)
    started = time.perf_counter()
    with progress("losing one region at a time") as advance:
        losses = single_losses(home, requests, order, plan, Listener(note, advance), jobs=jobs, word="region")
    emit(loss_items(losses), REGION_COLUMNS, output, kind="LossList", documents=losses)
    took = f"{sum(loss.replayed for loss in losses)} replays in {time.perf_counter() - started:.1f} s"
    note(f"each lost at {plan.at} for {plan.lasts}, noticed after {plan.noticed_after}; {took}")


def emit_report(found: object, output: str) -> None:
    """Print a game day's report."""
    from gridctl.accounts.phases import GameDayReport
    from gridctl.render.gameday import text

    assert isinstance(found, GameDayReport)
    if output in ("table", "wide", "markdown"):
        write(text(found, output))
        return
    emit([{"name": found.run}], (), output, kind="GameDayReport", single=True, documents=[found])
