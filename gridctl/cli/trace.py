"""`gridctl trace`: measure, show, convert, generate and overlay request traces.

Parses options, calls the traces room, prints. Files go where the user says, figures to stdout, notes to stderr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.output import OutputOption, emit, note, progress

if TYPE_CHECKING:
    from gridctl.cli.servegen import Asked
    from gridctl.render.rows import Format
    from gridctl.resources import Site, Workload
    from gridctl.traces.trace import Trace

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Read, measure, convert and generate request traces."
)

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A trace, plain or gzip; - for standard input.")]
SourceArgument = Annotated[str, typer.Argument(metavar="IN", help="A trace, plain or gzip; - for standard input.")]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="OUT",
        help="File to write; gzip when it ends in .gz, a folder of columns in .columns; - for standard output.",
    ),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Refuse any other format than this one.")
]
SortOption = Annotated[bool, typer.Option("--sort", help="Accept requests in any order and sort them by arrival.")]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="Only the first N requests.")]
BlockTokensOption = Annotated[
    int | None, typer.Option(metavar="N", help="Tokens per prefix block, where the file does not say.")
]
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same trace.")]


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
    from gridctl.cli import tracerows
    from gridctl.traces.statistics import statistics

    figures = statistics(_read(file, format=format, sort=sort, limit=limit, block_tokens=block_tokens))
    if by is None:
        document = tracerows.statistics_document(figures)
        flat = tracerows.statistics_row(figures)
        emit([flat], tracerows.STATISTICS, output, kind="TraceStatistics", single=True, documents=[document])
    else:
        rows = [tracerows.group_row(group) for group in figures.groups if group.column == by]
        emit(rows, tracerows.GROUPS, output, kind="TraceGroupList")
    _say_notes(figures.notes)


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
    from gridctl.cli import tracerows

    trace = _read(file, format=format, sort=sort, limit=rows, block_tokens=block_tokens)
    emit(tracerows.request_rows(trace), tracerows.REQUESTS, output, kind="TraceRequestList", name_key="id")
    _say_notes(trace.notes)


@app.command()
def convert(
    source: SourceArgument,
    target: TargetArgument,
    to: Annotated[Literal["native", "mooncake"], typer.Option(help="The format to write.")] = "native",
    speed: Annotated[float, typer.Option(metavar="X", help="X times as fast: 2 halves every gap.")] = 1.0,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Drop what comes before: 90, 30s, 5m, 2h.")
    ] = "0",
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Drop what comes at this time or later.")] = None,
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
    trace = _read(source, format=format, sort=sort, limit=None, block_tokens=block_tokens)
    end_s = None if until is None else seconds(until, "--until")
    trace = slicing.cut(trace, seconds(start, "--from"), end_s, limit)
    trace = slicing.scale_time(trace, speed)
    if repeat > 1:
        trace = slicing.repeat(trace, repeat)
    _write(trace, target, to)


@app.command()
def generate(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(metavar="OUT", help="File to write; gzip when it ends in .gz; - for standard output."),
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long: 600, 600s, 10m, 2h, 1d; 1d with --servegen.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="RPS", help="Requests per second, the mean of a whole day.")
    ] = None,
    seed: SeedOption = 1,
    name: Annotated[str | None, typer.Option(help="The trace's name.")] = None,
    arrival_cv: Annotated[float, typer.Option(help="Burstiness: 1 Poisson, 4 bursty, 0 clockwork.")] = 1.0,
    diurnal: Annotated[float, typer.Option(help="Swing of day and night, 0 to 1, by each origin's longitude.")] = 0.0,
    peak_hour: Annotated[float, typer.Option(help="Local hour of most traffic.")] = 20.0,
    start_hour: Annotated[float, typer.Option(help="Hour of UTC at which the trace starts.")] = 0.0,
    input_tokens: Annotated[int | None, typer.Option(help="Mean prompt, instead of each workload's own.")] = None,
    output_tokens: Annotated[int | None, typer.Option(help="Mean answer, instead of each workload's own.")] = None,
    p95_over_mean: Annotated[float, typer.Option(help="How long the long tail of lengths is, 1 to 3.8.")] = 2.5,
    block_tokens: Annotated[int, typer.Option(help="Tokens per prefix block; 0 writes none.")] = 64,
    system_blocks: Annotated[int, typer.Option(help="Blocks every prompt of a workload and tenant shares.")] = 2,
    turns: Annotated[float, typer.Option(help="Mean requests per session.")] = 1.0,
    turn_gap: Annotated[str, typer.Option(metavar="TIME", help="Mean time between two of them.")] = "30s",
    prompts: Annotated[int, typer.Option(help="Distinct opening prompts per workload; 0: every one differs.")] = 0,
    zipf: Annotated[float, typer.Option(help="How unequal their popularity is; 0: all alike.")] = 1.0,
    prompt_text: Annotated[bool, typer.Option("--prompt-text", help="Write a short text for every prompt.")] = False,
    no_grid: Annotated[
        bool, typer.Option("--no-grid", help="Ignore the grid: say no origin, workload or tenant.")
    ] = False,
    servegen: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="ServeGen tables instead: their folder, or rates and lengths in turn."),
    ] = None,
    pool: Annotated[str, typer.Option(help="Which pool of the folder.")] = "m-small",
    fraction: Annotated[float, typer.Option(help="Share of every client's rate, as bursty as the whole.")] = 1.0,
    day: Annotated[int | None, typer.Option(min=1, help="Which day of the pool; 1 when nothing is said.")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Where to begin instead: 36h, 2d.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, write nothing.")] = False,
    output: OutputOption = "table",
) -> None:
    """Make a trace: synthetic from rates and lengths, or days of a production pool from ServeGen's tables.

    The same for the same seed. Origins by population, workloads by their share. With --servegen each client of the
    pool is a tenant; a day of m-small is 81 to 124 million requests, so take a --fraction, and --dry-run first.

    Example:
      gridctl trace generate day.jsonl.gz --duration 1h --rate 50 --diurnal 0.5 --turns 3 --seed 7
      gridctl trace generate day.jsonl.gz --servegen FOLDER --pool m-small --fraction 0.01 --day 3
    """
    from gridctl.cli.servegen import Asked, check_options
    from gridctl.errors import UsageError

    check_options(context, is_servegen=bool(servegen))
    if target is None and not dry_run:
        raise UsageError("no file to write", where="OUT", fix="gridctl trace generate day.jsonl.gz …")
    if servegen:
        asked = Asked(
            places=servegen,
            pool=pool,
            fraction=fraction,
            day=day,
            start_s=None if start is None else seconds(start, "--start"),
            duration_s=None if duration is None else seconds(duration, "--duration"),
            name=name,
            seed=seed,
        )
        _from_servegen(asked, target, output, no_grid=no_grid, dry_run=dry_run)
        return
    if duration is None or rate is None:
        missing = "--duration" if duration is None else "--rate"
        raise UsageError(f"missing {missing}", where=missing, fix="--duration 1h --rate 50, or --servegen FOLDER")
    from gridctl.traces.folder import SUFFIX
    from gridctl.traces.generate import GenerateSpec, generate_parts
    from gridctl.traces.generate import generate as generate_trace

    spec = GenerateSpec(
        duration_s=seconds(duration, "--duration"),
        rate_rps=rate,
        name=name or "generated",
        arrival_cv=arrival_cv,
        diurnal=diurnal,
        peak_hour=peak_hour,
        start_hour=start_hour,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        p95_over_mean=p95_over_mean,
        block_tokens=block_tokens,
        system_blocks=system_blocks,
        turns=turns,
        turn_gap_s=seconds(turn_gap, "--turn-gap"),
        prompts=prompts,
        zipf=zipf,
        prompt_text=prompt_text,
    )
    sites, workloads = ([], []) if no_grid else _grid_mix()
    assert target is not None
    if target.endswith(SUFFIX):
        from gridctl.traces.folderwriter import write_columns

        with progress("generating"):
            written = write_columns(generate_parts(spec, sites, workloads, seed), target)
        note(f"wrote {written:,} requests to {target}")
        return
    with progress("generating"):
        trace = generate_trace(spec, sites, workloads, seed)
    _write(trace, target, "native")


def _from_servegen(asked: Asked, target: str | None, output: Format, *, no_grid: bool, dry_run: bool) -> None:
    from gridctl.cli.servegen import open_stream, print_plan, write_span

    sites, workloads = ([], []) if no_grid else _grid_mix()
    stream = open_stream(asked, sites, workloads)
    if target is None or dry_run:
        print_plan(stream, compress=target is None or target.endswith(".gz"), output=output)
    else:
        write_span(stream, target)


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

    sites, workloads = _grid_mix()
    trace = _read(source, format=format, sort=sort, limit=limit, block_tokens=block_tokens)
    _write(overlay_trace(trace, sites, workloads, seed), target, "native")


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
    record_for(target, None if duration is None else seconds(duration, "--for"), detach=detach)


def seconds(text: str, flag: str) -> float:
    """A span of time as seconds: a plain number, or one with s, m, h or d.

    >>> seconds("5m", "--from")
    300.0
    """
    from gridctl.errors import UsageError

    units = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
    unit = units.get(text[-1:], 1.0)
    number = text[:-1] if text[-1:] in units else text
    try:
        value = float(number) * unit
    except ValueError:
        value = -1.0
    # NaN and infinity fail here too
    if not 0.0 <= value <= 1e9:
        raise UsageError(
            f"{text!r} is not a span of time", where=flag, fix=f"{flag} 90, {flag} 30s, {flag} 5m or {flag} 2h"
        )
    return value


def _read(
    file: str,
    *,
    format: str | None,  # noqa: A002
    sort: bool,
    limit: int | None,
    block_tokens: int | None,
) -> Trace:
    from gridctl.traces.reader import read_trace

    with progress("reading"):
        return read_trace(file, format=format, sort=sort, limit=limit, block_tokens=block_tokens)


def _write(trace: Trace, target: str, to: Literal["native", "mooncake"]) -> None:
    from gridctl.cli.tracerows import lost_in_mooncake
    from gridctl.traces.writer import write_trace

    with progress("writing"):
        write_trace(trace, target, to=to)
    _say_notes(trace.notes)
    if to == "mooncake":
        _say_notes(lost_in_mooncake(trace))
    place = "standard output" if target == "-" else target
    note(f"wrote {len(trace):,} requests over {trace.duration_ns / 1e9:,.3f} s to {place}")


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
    _say_notes(folder.notes)
    note(f"wrote {len(folder):,} requests over {folder.duration_ns / 1e9:,.3f} s to {target}")


def _say_notes(notes: tuple[str, ...]) -> None:
    for text in notes:
        note(f"note: {text}")


def _grid_mix() -> tuple[list[Site], list[Workload]]:
    from gridctl.errors import InputError
    from gridctl.orchestrator.context import current_grid
    from gridctl.resources import Site, Workload

    grid = current_grid()
    with grid.open_registry() as registry:
        sites = [stored.resource for stored in registry.list(Site)]
        workloads = [stored.resource for stored in registry.list(Workload)]
    for found, word in ((sites, "site"), (workloads, "workload")):
        if not found:
            raise InputError(
                f"the grid has no {word}s", where=str(grid.folder), fix="apply some: gridctl apply -f FOLDER"
            )
    return (
        [site for site in sites if isinstance(site, Site)],
        [workload for workload in workloads if isinstance(workload, Workload)],
    )
