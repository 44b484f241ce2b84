"""`gridctl trace generate --servegen`: days of a published client pool as a trace, or what they would be.

Parses options, calls the traces room, prints. The command itself is in `generating`; here is what it does when given
ServeGen tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from gridctl.cli.output import emit, note, progress
from gridctl.cli.tracefiles import grid_mix
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.render.rows import Format
    from gridctl.resources import Site, Workload
    from gridctl.traces.servegen_stream import Forecast, ServegenStream
    from gridctl.traces.trace import Trace

SHARED = frozenset({"target", "duration", "seed", "name", "no_grid"})
"""Options that both kinds of `trace generate` understand."""
OWN = frozenset({"servegen", "pool", "fraction", "day", "start", "dry_run", "output"})
"""Options that need `--servegen`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of the span; times in seconds, None where it says nothing."""

    places: Sequence[str]
    pool: str
    fraction: float
    day: int | None
    start_s: float | None
    duration_s: float | None
    name: str | None
    seed: int


def check_options(context: typer.Context, *, is_servegen: bool) -> None:
    """Refuse an option that would have no effect. Raises `UsageError` naming it."""
    # by name, because click, whose enumeration this is, is typer's dependency and not ours
    given = {
        name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }
    stray = sorted(given - SHARED - OWN if is_servegen else given & OWN)
    if stray:
        flag = "--" + stray[0].replace("_", "-")
        what = "does not go with --servegen, whose tables decide it" if is_servegen else "needs --servegen"
        raise UsageError(f"{flag} {what}", where=flag, fix=f"remove {flag}")


def generate_span(asked: Asked, target: str | None, output: Format, *, no_grid: bool, dry_run: bool) -> None:
    """Write the span, or print what writing it would give."""
    sites, workloads = ([], []) if no_grid else grid_mix()
    stream = open_stream(asked, sites, workloads)
    if target is None or dry_run:
        print_plan(stream, compress=target is None or target.endswith(".gz"), output=output)
    else:
        write_span(stream, target)


def open_stream(asked: Asked, sites: Sequence[Site], workloads: Sequence[Workload]) -> ServegenStream:
    """Read the tables and choose the span."""
    from gridctl.traces.servegen_pool import read_pool
    from gridctl.traces.servegen_stream import DAY_S, ServegenSpan, ServegenStream

    if asked.day is not None and asked.start_s is not None:
        raise UsageError("--day and --start both say where to begin", where="--start", fix="keep one of them")
    with progress("reading"):
        pool = read_pool(asked.places, asked.pool)
    start_s = asked.start_s if asked.start_s is not None else ((asked.day or 1) - 1) * float(DAY_S)
    duration_s = float(DAY_S) if asked.duration_s is None else asked.duration_s
    span = ServegenSpan(start_s, duration_s, asked.fraction, asked.name or f"servegen-{pool.name}")
    return ServegenStream(pool, span, sites, workloads, asked.seed)


def write_span(stream: ServegenStream, target: str) -> None:
    """Write the span, with progress, and say what a reader should know of it."""
    from gridctl.traces.writer import Header, write_stream

    forecast = stream.forecast()
    header = Header(
        gridctl_trace="v1",
        name=stream.name,
        requests=forecast.requests if forecast.is_exact else None,
        origins=stream.origins,
        workloads=stream.workloads,
        tenants=stream.tenants,
    )
    written, last_ns = 0, 0

    def counted(pieces: Iterator[Trace]) -> Iterator[Trace]:
        nonlocal written, last_ns
        for piece in pieces:
            yield piece
            written, last_ns = written + len(piece), int(piece.arrival_ns[-1])
            advance(len(piece))

    with progress("generating", forecast.requests) as advance:
        write_stream(header, counted(stream.pieces()), target)
    _say_notes(forecast)
    place = "standard output" if target == "-" else target
    note(f"wrote {written:,} requests over {last_ns / 1e9:,.3f} s to {place}")


def print_plan(stream: ServegenStream, *, compress: bool, output: Format) -> None:
    """Print what writing the span would give and take."""
    from gridctl.render import traces
    from gridctl.traces.servegen_plan import plan

    with progress("estimating"):
        found = plan(stream, compress=compress)
    emit(
        [traces.plan_row(stream.name, stream.duration_s, found)],
        traces.PLAN,
        output,
        kind="TracePlan",
        single=True,
    )
    _say_notes(found.forecast)


def _say_notes(forecast: Forecast) -> None:
    if forecast.borrowed_share:
        note(
            f"note: {forecast.borrowed_share * 100:.1f} % of the requests are of clients whose lengths the tables lack:"
            " theirs are drawn from the other clients of the same 6 hours, by how much these send"
        )
    if forecast.silent_windows:
        note(f"note: windows of 10 minutes in which no client sends: {forecast.silent_windows}")
