"""`gridctl replay`: send a trace through the router in virtual time, and print what happened to each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
from gridctl.cli.run_argument import RunArgument, read_run
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.manifest.gameday_file import GameDayFile
    from gridctl.orchestrator.inputs import TraceSource
    from gridctl.traces.trace import Traffic

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Send a trace through the router in virtual time.")

app.command("gate")(gate)
app.command("compare")(compare)
app.command("decisions")(decisions)

ROWS_SHOWN = 50
"""Requests a table shows unless --limit says otherwise; csv and jsonl print all."""


@app.command()
def run(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="A trace in any format gridctl reads; - for stdin.")],
    name: Annotated[str | None, typer.Option(metavar="RUN", help="The run's name; run-1, run-2, … otherwise.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A policy of the grid, a manifest, or an algorithm such as least-loaded.",
            autocompletion=complete_policy,
        ),
    ] = None,
    prices: Annotated[str, typer.Option(metavar="NAME", help="The price book to account with.")] = "default",
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same run, byte for byte.")] = 1,
    speed: Annotated[float, typer.Option(metavar="X", help="Replay X times as fast: 2 doubles the load.")] = 1.0,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Skip what comes before: 90, 30s, 5m.")] = "0",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Drop what comes at this time or later.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N requests.")] = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The trace N times in a row.")] = 1,
    sort: Annotated[bool, typer.Option("--sort", help="Accept requests in any order and sort them.")] = False,
    block_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens per prefix block, where the file does not say.")
    ] = None,
    centralized: Annotated[
        bool,
        typer.Option(
            "--centralized/--no-centralized", help="Replay the same trace on the same GPUs, all in the core, too."
        ),
    ] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a run of that name.")] = False,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="N replays, drawn differently: intervals in the tables.")
    ] = 1,
    draw: Annotated[
        str, typer.Option(metavar="LIST", help="What differs between them: jitter, mix, arrivals, profile.")
    ] = "jitter,mix,arrivals,profile",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Replays at a time; all processors otherwise.")
    ] = None,
    executor: Annotated[
        Literal["local", "ray"], typer.Option(help="Who makes them: this machine, or the cluster at RAY_ADDRESS.")
    ] = "local",
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, replay nothing.")] = False,
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
    from gridctl.cli.gating import emit_gated, gates_of
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.ensemble import Spread, parse_sources, replay_seeds
    from gridctl.orchestrator.plan import load_ensemble
    from gridctl.orchestrator.replaying import CacheOrder, Listener, Order, check_order
    from gridctl.render.runs import DRAWN_COLUMNS, cache_lines, drawn_item

    home = current_grid()
    held = gates_of(gates, baseline, junit, summary, home, seeds)
    source = _source(trace, sort, block_tokens, start, until, limit, speed, repeat)
    requests = _read(source)
    if live is not None or model or api_key_env or plain:
        given = LiveOptions(
            live or "", model, api_key_env, max_connections, answer_timeout, think, network, plain, prompt_seed
        )
        refuse_beside_live(
            [("--policy", policy is not None), ("--seeds", seeds > 1), ("--resume", resume),
             ("--keep-draws", keep_draws), ("--faults", faults is not None), ("--rollout", rollout is not None),
             ("--cache", cache != "off")]
        )  # fmt: skip
        alone = Order(name, None, prices, seed, False, replace, None, source)
        run_live(home, requests, alone, given, held, output, dry_run=dry_run)
        return
    planned = None
    if rollout is not None:
        from gridctl.cli.rolloutreplay import prepared

        planned = prepared(
            rollout, home, requests, Order(name, policy, prices, seed, False), [("--faults", faults is not None)]
        )
    day = _game_day(faults) if planned is None else planned.day
    # A run with faults stands beside its calm one, and so do not its draws.
    caches = None if cache == "off" else CacheOrder(cache, cache_at)
    if caches is not None and (seeds > 1 or resume):
        raise UsageError("caches and draws do not go together", where="--cache", fix="--seeds 1, or --cache off")
    order = Order(name, policy, prices, seed, centralized and day is None, replace, day, source, caches)
    spread = Spread(seeds, parse_sources(draw), jobs, executor, resume, keep_draws)
    if dry_run:
        checked = check_order(home, requests, order, note)
        note(f"dry run: {len(requests):,} requests over {checked} engines would be replayed; nothing was written")
        return
    ready_replay()
    total = len(requests) * (2 if order.with_centralized else 1) * seeds + (len(requests) if day else 0)
    with progress("replaying" if seeds == 1 else f"replaying {seeds} times", total) as advance:
        info = replay_seeds(home, requests, order, spread, Listener(note, advance))
    item = drawn_item(info, load_ensemble(info, home))
    if held:
        emit_gated(item, DRAWN_COLUMNS, output, held, read_run(info.name), home)
        return
    if planned is not None:
        from gridctl.cli.rolloutreplay import emit_phases

        emit_phases(planned, read_run(info.name), read_run(info.calm), output)
        return
    emit([item], DRAWN_COLUMNS, output, kind="Run", single=True)
    for line in cache_lines(info):
        note(line)
    first = f"gridctl gameday report {info.name}; " if info.calm else ""
    note(f"next: {first}gridctl tokenomics {info.name}; gridctl sla {info.name}")


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


def _game_day(faults: str | None) -> GameDayFile | None:
    """The game day of --faults."""
    if faults is None:
        return None
    from gridctl.manifest.gameday_file import read_game_day

    return read_game_day(faults)


def _source(
    path: str,
    sort: bool,
    block_tokens: int | None,
    start: str,
    until: str | None,
    limit: int | None,
    speed: float,
    repeat: int,
) -> TraceSource:
    """The trace that is asked for, in words the run keeps."""
    from gridctl.cli.trace import seconds
    from gridctl.orchestrator.inputs import TraceSource, absolute

    return TraceSource(
        path=absolute(path),
        sort=sort,
        block_tokens=block_tokens,
        from_s=seconds(start, "--from"),
        until_s=None if until is None else seconds(until, "--until"),
        limit=limit,
        speed=speed,
        repeat=repeat,
    )


def _read(source: TraceSource) -> Traffic:
    from gridctl.orchestrator.inputs import shaped
    from gridctl.traces.reader import open_traffic

    with progress("reading"):
        traffic = open_traffic(source.path, sort=source.sort, block_tokens=source.block_tokens)
    return shaped(traffic, source)
