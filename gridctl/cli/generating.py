"""`gridctl trace generate`: a synthetic trace, or days of a production pool from ServeGen's tables.

Decides which of the two it is and refuses options of the other; drawing is the traces room's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.amounts import span_if_given, span_of
from gridctl.cli.output import OutputOption, note, progress
from gridctl.cli.tracefiles import SeedOption, grid_mix, write

if TYPE_CHECKING:
    from gridctl.traces.generate import GenerateSpec


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
    from gridctl.cli.servegen import Asked, check_options, generate_span
    from gridctl.errors import UsageError

    check_options(context, is_servegen=bool(servegen))
    if target is None and not dry_run:
        raise UsageError("no file to write", where="OUT", fix="gridctl trace generate day.jsonl.gz …")
    if servegen:
        start_s, duration_s = span_if_given(start, "--start"), span_if_given(duration, "--duration")
        asked = Asked(servegen, pool, fraction, day, start_s, duration_s, name, seed)
        generate_span(asked, target, output, no_grid=no_grid, dry_run=dry_run)
        return
    if duration is None or rate is None:
        missing = "--duration" if duration is None else "--rate"
        raise UsageError(f"missing {missing}", where=missing, fix="--duration 1h --rate 50, or --servegen FOLDER")
    assert target is not None, "--dry-run without --servegen is refused first"
    from gridctl.traces.generate import GenerateSpec

    spec = GenerateSpec(
        duration_s=span_of(duration, "--duration"),
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
        turn_gap_s=span_of(turn_gap, "--turn-gap"),
        prompts=prompts,
        zipf=zipf,
        prompt_text=prompt_text,
    )
    _generate_synthetic(spec, target, seed, no_grid=no_grid)


def _generate_synthetic(spec: GenerateSpec, target: str, seed: int, *, no_grid: bool) -> None:
    """Draw the trace and write it; a folder of columns piece by piece, so that it may be larger than memory."""
    from gridctl.traces.folder import SUFFIX
    from gridctl.traces.generate import generate, generate_parts

    sites, workloads = ([], []) if no_grid else grid_mix()
    if target.endswith(SUFFIX):
        from gridctl.traces.folderwriter import write_columns

        with progress("generating"):
            written = write_columns(generate_parts(spec, sites, workloads, seed), target)
        note(f"wrote {written:,} requests to {target}")
        return
    with progress("generating"):
        trace = generate(spec, sites, workloads, seed)
    write(trace, target, "native")
