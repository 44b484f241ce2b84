"""`gridctl trace`: measure, show, convert, generate and overlay request traces.

Parses options, calls the traces room, prints. Files go where the user says, figures to stdout, notes to stderr.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gridctl.cli.amounts import span_if_given, span_of
from gridctl.cli.generating import generate
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.cli.replayoptions import BlockTokensOption, UntilOption
from gridctl.cli.tracefiles import (
    FileArgument,
    FormatOption,
    LimitOption,
    SeedOption,
    SortOption,
    SourceArgument,
    TargetArgument,
    grid_mix,
    read,
    say_notes,
    write,
)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Read, measure, convert and generate request traces."
)


@app.command()
def stat(
    file: FileArgument,
    by: Annotated[
        Literal["origin", "workload", "tenant", "model"] | None,
        typer.Option(help="One row for each origin, workload, tenant or model instead."),
    ] = None,
    format: FormatOption = None,  # noqa: A002
    sort: SortOption = False,
    limit: LimitOption = None,
    block_tokens: BlockTokensOption = None,
    output: OutputOption = "table",
) -> None:
    """Show rates, burstiness, lengths, and how much of the prompts a perfect prefix cache would hold.

    Example:
      gridctl trace stat requests.jsonl.gz
      gridctl trace stat requests.jsonl.gz --by workload -o json
    """
    from gridctl.render import traces
    from gridctl.traces.statistics import statistics

    figures = statistics(read(file, format=format, sort=sort, limit=limit, block_tokens=block_tokens))
    if by is None:
        document = traces.statistics_document(figures)
        flat = traces.statistics_row(figures)
        emit([flat], traces.STATISTICS, output, kind="TraceStatistics", single=True, documents=[document])
    else:
        rows = [traces.group_row(group) for group in figures.groups if group.column == by]
        emit(rows, traces.GROUPS, output, kind="TraceGroupList")
    say_notes(figures.notes)


@app.command()
def head(
    file: FileArgument,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=1_000_000, help="How many requests.")] = 10,
    format: FormatOption = None,  # noqa: A002
    sort: SortOption = False,
    block_tokens: BlockTokensOption = None,
    output: OutputOption = "table",
) -> None:
    """Show the first requests of a trace, whatever its format.

    Example:
      gridctl trace head requests.csv -n 5
    """
    from gridctl.render import traces

    trace = read(file, format=format, sort=sort, limit=rows, block_tokens=block_tokens)
    emit(traces.request_rows(trace), traces.REQUESTS, output, kind="TraceRequestList", name_key="id")
    say_notes(trace.notes)


@app.command()
def convert(
    source: SourceArgument,
    target: TargetArgument,
    to: Annotated[Literal["native", "mooncake"], typer.Option(help="The format to write.")] = "native",
    speed: Annotated[float, typer.Option(metavar="X", help="X times as fast: 2 halves every gap.")] = 1.0,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Drop what comes before: 90, 30s, 5m, 2h.")
    ] = "0",
    until: UntilOption = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="The result N times in a row.")] = 1,
    format: FormatOption = None,  # noqa: A002
    sort: SortOption = False,
    limit: LimitOption = None,
    block_tokens: BlockTokensOption = None,
) -> None:
    """Write a trace in gridctl's own format or Mooncake's, cut, sped up or repeated on the way.

    Times count from the first request. Cutting comes first, then speed, then repetition. A folder of columns is what
    tens of millions of requests are replayed from: it is written and read in little memory.

    Example:
      gridctl trace convert azure.csv azure.jsonl.gz --speed 2 --from 5m --until 15m
      gridctl trace convert year.jsonl.gz year.columns
    """
    from gridctl.traces import slicing
    from gridctl.traces.folder import SUFFIX

    is_whole = start == "0" and until is None and speed == 1.0 and repeat == 1
    if is_whole and to == "native" and target.endswith(SUFFIX):
        _convert_to_columns(source, target, format=format, sort=sort, limit=limit, block_tokens=block_tokens)
        return
    trace = read(source, format=format, sort=sort, limit=None, block_tokens=block_tokens)
    end_s = span_if_given(until, "--until")
    trace = slicing.cut(trace, span_of(start, "--from"), end_s, limit)
    trace = slicing.scale_time(trace, speed)
    if repeat > 1:
        trace = slicing.repeat(trace, repeat)
    write(trace, target, to)


app.command("generate")(generate)


@app.command()
def overlay(
    source: SourceArgument,
    target: TargetArgument,
    seed: SeedOption = 1,
    format: FormatOption = None,  # noqa: A002
    sort: SortOption = False,
    limit: LimitOption = None,
    block_tokens: BlockTokensOption = None,
) -> None:
    """Give requests that have none an origin, a workload and a tenant, from the current grid's mix.

    Example:
      gridctl trace overlay azure.csv azure-on-grid.jsonl.gz --seed 7
    """
    from gridctl.traces.overlay import overlay as overlay_trace

    sites, workloads = grid_mix()
    trace = read(source, format=format, sort=sort, limit=limit, block_tokens=block_tokens)
    write(overlay_trace(trace, sites, workloads, seed), target, "native")


@app.command()
def record(
    target: Annotated[
        str | None,
        typer.Argument(metavar="OUT", help="The recording to make: a folder whose name ends in .recording."),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h; until Ctrl-C unless said.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it recording; --stop ends it.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the recording that runs.")] = False,
) -> None:
    """Record the traffic of the running orchestrator: lengths, prefix blocks, origins and decisions, no texts.

    A recording is a trace: replay it, convert it, gate a change on it. `gridctl up --record` records from the start.
    With a context elsewhere, OUT lies on the orchestrator's machine, with its recordings unless it begins with /.

    Example:
      gridctl trace record day.recording --for 10m
      gridctl replay run day.recording --policy new.yaml --gate gates.yaml
      gridctl replay decisions day.recording
    """
    from gridctl.cli.recording import end_recording, record_for
    from gridctl.errors import UsageError

    if stop:
        if target is not None or duration is not None or detach:
            raise UsageError("--stop takes nothing else", where="--stop", fix="gridctl trace record --stop")
        end_recording()
        return
    if target is None:
        raise UsageError("no recording to make", where="OUT", fix="gridctl trace record day.recording --for 10m")
    if detach and duration is not None:
        raise UsageError("--detach ends with --stop, not after a time", where="--for", fix="leave one of them out")
    record_for(target, span_if_given(duration, "--for"), detach=detach)


def _convert_to_columns(
    source: str,
    target: str,
    *,
    format: str | None,  # noqa: A002
    sort: bool,
    limit: int | None,
    block_tokens: int | None,
) -> None:
    from gridctl.traces.reader import convert_to_columns

    with progress("converting"):
        folder = convert_to_columns(source, target, format=format, limit=limit, sort=sort, block_tokens=block_tokens)
    say_notes(folder.notes)
    note(f"wrote {len(folder):,} requests over {folder.duration_ns / 1e9:,.3f} s to {target}")
