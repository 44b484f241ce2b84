"""`gridctl replay`: send a trace through the router in virtual time, and print what happened to each request."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gridctl.cli.comparing import compare
from gridctl.cli.decisions import decisions
from gridctl.cli.gating import BaselineOption, GateOption, JunitOption, SummaryOption, gate
from gridctl.cli.live_load import (
    ConnectionsOption,
    LiveKeyOption,
    LiveModelOption,
    LiveOption,
    LiveOptions,
    NetworkOption,
    PlainOption,
    PromptSeedOption,
    ThinkOption,
    TimeoutOption,
    refuse_beside_live,
    run_live,
)
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.cli.policy import complete_policy
from gridctl.cli.replayoptions import (
    EVERY_SOURCE,
    AccountedOption,
    BlockTokensOption,
    CheckOption,
    DrawOption,
    FirstRequestsOption,
    MakerOption,
    ReplaceOption,
    ReplaysOption,
    RunNameOption,
    RunSeedOption,
    TraceArgument,
    UntilOption,
)
from gridctl.cli.run_argument import RunArgument, read_run

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Send a trace through the router in virtual time.")

app.command("gate")(gate)
app.command("compare")(compare)
app.command("decisions")(decisions)

ROWS_SHOWN = 50
"""Requests a table shows unless --limit says otherwise; csv and jsonl print all."""


@app.command()
def run(
    trace: TraceArgument,
    name: RunNameOption = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A policy of the grid, a manifest, or an algorithm such as least-loaded.",
            autocompletion=complete_policy,
        ),
    ] = None,
    prices: AccountedOption = "default",
    seed: RunSeedOption = 1,
    speed: Annotated[float, typer.Option(metavar="X", help="Replay X times as fast: 2 doubles the load.")] = 1.0,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Skip what comes before: 90, 30s, 5m.")] = "0",
    until: UntilOption = None,
    limit: FirstRequestsOption = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The trace N times in a row.")] = 1,
    sort: Annotated[bool, typer.Option("--sort", help="Accept requests in any order and sort them.")] = False,
    block_tokens: BlockTokensOption = None,
    centralized: Annotated[
        bool,
        typer.Option(
            "--centralized/--no-centralized", help="Replay the same trace on the same GPUs, all in the core, too."
        ),
    ] = True,
    replace: ReplaceOption = False,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="N replays, drawn differently: intervals in the tables.")
    ] = 1,
    draw: DrawOption = EVERY_SOURCE,
    jobs: ReplaysOption = None,
    executor: MakerOption = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Make the replays that an interrupted command of that name did not.")
    ] = False,
    keep_draws: Annotated[
        bool, typer.Option("--keep-draws", help="Keep the requests of every replay, as runs NAME.draw-1, …")
    ] = False,
    faults: Annotated[
        str | None, typer.Option("--faults", metavar="FILE", help="What goes wrong meanwhile: gridctl help gamedays.")
    ] = None,
    rollout: Annotated[
        str | None, typer.Option("--rollout", metavar="FILE", help="A rollout meanwhile: gridctl help rollout.")
    ] = None,
    cache: Annotated[
        Literal["off", "exact", "semantic", "as-declared"],
        typer.Option(help="Answer repeats from caches at sites: all workloads alike, or as each declares."),
    ] = "off",
    cache_at: Annotated[
        Literal["edge", "regional"],
        typer.Option(help="Which caches are asked: the nearest, or the nearest above edge."),
    ] = "edge",
    live: LiveOption = None,
    model: LiveModelOption = "",
    api_key_env: LiveKeyOption = "",
    max_connections: ConnectionsOption = 4096,
    answer_timeout: TimeoutOption = "10m",
    think: ThinkOption = "0s",
    network: NetworkOption = "modelled",
    plain: PlainOption = False,
    prompt_seed: PromptSeedOption = None,
    gates: GateOption = None,
    baseline: BaselineOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    dry_run: CheckOption = False,
    output: OutputOption = "table",
) -> None:
    """Replay a trace over the grid and keep the result as a run.

    Requests that do not say where they come from, or for which workload, get an origin by population and a workload by
    traffic share, drawn with the seed. With --seeds the tables say how sure they are: `gridctl help uncertainty`. With
    --gate the run is kept and the exit code says whether the gates hold: `gridctl help ci`. With --faults things go
    wrong meanwhile, and the run stands beside the same one in which they do not: `gridctl help gamedays`. With --cache
    repeats are answered from caches, told by `prompt` texts and `answer_key`, by keys alone, or by prefix blocks (word
    for word only); without it nothing is, whatever workloads declare. With --live
    nothing is simulated: the trace goes to a running endpoint, each request at its moment, and the answers are the run.

    Example:
      gridctl replay run trace.jsonl.gz --name base
      gridctl replay run trace.jsonl.gz --name sure --seeds 20
      gridctl replay run trace.jsonl.gz --name cached --cache as-declared
      gridctl replay run azure.csv --speed 10 --policy least-loaded --name heavy -o json
      gridctl replay run trace.jsonl.gz --name new --gate gates.yaml --baseline base --junit gates.xml
      gridctl replay run trace.jsonl.gz --name friday --rollout friday.yaml
      gridctl replay run trace.jsonl.gz --name real --live http://127.0.0.1:8080 --api-key-env GRID_KEY
    """
    from gridctl.cli import replaying
    from gridctl.cli.gating import gates_of
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.ensemble import Spread, parse_sources
    from gridctl.orchestrator.replaying import Order

    home = current_grid()
    held = gates_of(gates, baseline, junit, summary, home, seeds)
    source = replaying.source_of(trace, sort, block_tokens, start, until, limit, speed, repeat)
    requests = replaying.read_source(source)
    alone = Order(name, policy, prices, seed, False, replace, None, source)
    meanwhile = replaying.Meanwhile(faults, rollout, cache, cache_at)
    if live is not None or model or api_key_env or plain:
        of_replays = [("--policy", policy is not None), ("--seeds", seeds > 1), ("--resume", resume)]
        refuse_beside_live([*of_replays, ("--keep-draws", keep_draws), *meanwhile.options()])
        given = LiveOptions(
            live or "", model, api_key_env, max_connections, answer_timeout, think, network, plain, prompt_seed
        )
        run_live(home, requests, alone, given, held, output, dry_run=dry_run)
        return
    replay = replaying.planned(home, requests, alone, meanwhile, centralized=centralized, is_drawn=seeds > 1 or resume)
    spread = Spread(seeds, parse_sources(draw), jobs, executor, resume, keep_draws)
    if dry_run:
        replaying.say_checked(home, requests, replay.order)
        return
    replaying.emit_run(replay, replaying.made(replay, spread), held, output)


@app.command()
def requests(
    run: RunArgument = None,
    workload: Annotated[str | None, typer.Option(metavar="NAME", help="Only this workload.")] = None,
    outcome: Annotated[
        Literal["completed", "rejected", "failed"] | None, typer.Option(help="Only this outcome.")
    ] = None,
    slowest: Annotated[bool, typer.Option("--slowest", help="By falling time to first token.")] = False,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most N requests.")] = None,
    output: OutputOption = "table",
) -> None:
    """Print what happened to each request of a run.

    csv and jsonl print every request; other formats the first 50 unless --limit says otherwise.

    Example:
      gridctl replay requests base -o csv > requests.csv
      gridctl replay requests base --slowest --limit 10
    """
    from gridctl.cli.output import write
    from gridctl.render.requests import PIECE_ROWS, REQUEST_COLUMNS, chosen_rows, csv_pieces, items, jsonl_pieces

    found = read_run(run)
    rows = chosen_rows(found, workload, outcome, slowest=slowest)
    if output in ("csv", "jsonl"):
        rows = rows[:limit]
        with progress("writing", len(rows)) as advance:
            for piece in csv_pieces(found, rows) if output == "csv" else jsonl_pieces(found, rows):
                write(piece)
                advance(PIECE_ROWS)
        return
    shown = rows[: limit or ROWS_SHOWN]
    emit(items(found, shown), REQUEST_COLUMNS, output, kind="RequestList", name_key="id")
    if len(shown) < len(rows):
        note(f"{len(shown)} of {len(rows):,} requests; -o csv prints all, --limit N more")
