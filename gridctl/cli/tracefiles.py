"""What the commands of `gridctl trace` share: their arguments, reading with progress, writing with its notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.output import note, progress

if TYPE_CHECKING:
    from gridctl.resources import Site, Workload
    from gridctl.traces.trace import Trace

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
SeedOption = Annotated[int, typer.Option(help="The same seed gives the same trace.")]


def read(
    file: str,
    *,
    format: str | None,  # noqa: A002
    sort: bool,
    limit: int | None,
    block_tokens: int | None,
) -> Trace:
    """A whole trace of any format, read with progress."""
    from gridctl.traces.reader import read_trace

    with progress("reading"):
        return read_trace(file, format=format, sort=sort, limit=limit, block_tokens=block_tokens)


def write(trace: Trace, target: str, to: Literal["native", "mooncake"]) -> None:
    """Write a trace; say what its reader noticed, what the format does not hold, and how much was written."""
    from gridctl.render.traces import lost_in_mooncake
    from gridctl.traces.writer import write_trace

    with progress("writing"):
        write_trace(trace, target, to=to)
    say_notes(trace.notes)
    if to == "mooncake":
        say_notes(lost_in_mooncake(trace))
    place = "standard output" if target == "-" else target
    note(f"wrote {len(trace):,} requests over {trace.duration_ns / 1e9:,.3f} s to {place}")


def say_notes(notes: tuple[str, ...]) -> None:
    """What a reader noticed, one line each."""
    for text in notes:
        note(f"note: {text}")


def grid_mix() -> tuple[list[Site], list[Workload]]:
    """Sites and workloads that requests may be drawn from. Raises: InputError when the grid has none."""
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
