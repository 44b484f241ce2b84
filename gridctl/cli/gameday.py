"""`gridctl gameday`: faults in replay — run, report, and which single loss hurts most."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, progress, write
from gridctl.cli.readymade import (
    FlowsOption,
    LastsOption,
    NoticedOption,
    PolicyOption,
    emit_report,
    flash_crowd,
    region_loss,
    stale_telemetry,
)
from gridctl.cli.replayoptions import (
    AccountedOption,
    CheckOption,
    ReplaceOption,
    ReplaysOption,
    RunNameOption,
    RunSeedOption,
    TraceArgument,
)
from gridctl.cli.run_argument import RunArgument

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Faults in replay: what was lost, how long recovery took."
)

app.command("region-loss")(region_loss)
app.command("flash-crowd")(flash_crowd)
app.command("stale-telemetry")(stale_telemetry)


@app.command()
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file with kind: GameDay.")],
    trace: TraceArgument,
    name: RunNameOption = None,
    policy: PolicyOption = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    replace: ReplaceOption = False,
    flows: FlowsOption = 10,
    dry_run: CheckOption = False,
    output: OutputOption = "table",
) -> None:
    """Replay a trace while the file's faults happen, beside the same run without them, and report.

    `replay run --faults FILE` makes the same run with every option of a replay; this prints the report at once.

    Example:
      gridctl gameday run lose-paris.yaml trace.jsonl.gz --name paris-gone
    """
    from gridctl.cli.replaying import say_checked
    from gridctl.cli.warmup import ready_replay
    from gridctl.manifest.gameday_file import read_game_day
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import report_of
    from gridctl.orchestrator.inputs import TraceSource, absolute
    from gridctl.orchestrator.replaying import Listener, Order, replay_trace
    from gridctl.traces.reader import open_traffic

    home = current_grid()
    order = Order(
        name,
        policy,
        prices,
        seed,
        with_centralized=False,
        replace=replace,
        game_day=read_game_day(file),
        source=TraceSource(path=absolute(trace)),
    )
    requests = open_traffic(trace)
    if dry_run:
        say_checked(home, requests, order)
        return
    ready_replay()
    with progress("replaying", 2 * len(requests)) as advance:
        info = replay_trace(home, requests, order, Listener(note, advance))
    emit_report(report_of(info.name, home, flows), output)


@app.command()
def report(run: RunArgument = None, flows: FlowsOption = 10, output: OutputOption = "table") -> None:
    """Before, during and after each fault of a run; what was lost, when it was over, and who served instead.

    `gridctl help gamedays` says what recovery means and what every number counts.

    Example:
      gridctl gameday report paris-gone
      gridctl gameday report paris-gone -o json
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import report_of

    emit_report(report_of(run, current_grid(), flows), output)


@app.command("n-1")
def single_losses(
    trace: TraceArgument,
    policy: PolicyOption = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When a site is lost; a quarter in otherwise.")
    ] = None,
    lasts: LastsOption = None,
    noticed_after: NoticedOption = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Print the N most harmful only.")] = None,
    jobs: ReplaysOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print a game day for each site as YAML, replay nothing.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Lose each site that serves traffic, one at a time, and rank the losses by harm: good requests, then dollars.

    Sites that serve nobody are answered without a replay. Nothing is saved.

    Example:
      gridctl gameday n-1 trace.jsonl.gz
      gridctl gameday n-1 trace.jsonl.gz --at 5m --for 10m --noticed-after 5s --limit 10
    """
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gamedays import loss_day, loss_plan, single_losses, sites_to_lose
    from gridctl.orchestrator.replaying import Listener, Order
    from gridctl.render.gameday import LOSS_COLUMNS, loss_items
    from gridctl.traces.reader import open_traffic

    home = current_grid()
    requests = open_traffic(trace)
    plan = loss_plan(requests, at, lasts, noticed_after)
    if dry_run:
        from gridctl.render.rows import yaml_text

        for site in sites_to_lose(home, prices):
            write(f"---\nkind: GameDay\n{yaml_text(loss_day(site, plan))}")
        return
    ready_replay()
    order = Order(None, policy, prices, seed, with_centralized=False)
    started = time.perf_counter()
    with progress("losing one site at a time") as advance:
        losses = single_losses(home, requests, order, plan, Listener(note, advance), jobs=jobs)
    quiet = sum(not loss.replayed for loss in losses)
    shown = losses[:limit]
    emit(loss_items(shown), LOSS_COLUMNS, output, kind="LossList", documents=shown)
    took = f"{len(losses) - quiet} replays in {time.perf_counter() - started:.1f} s"
    note(f"each lost at {plan.at} for {plan.lasts}, noticed after {plan.noticed_after}; {took}")
    if quiet:
        note(f"{quiet} of {len(losses)} sites served nobody: no replay, no harm")
