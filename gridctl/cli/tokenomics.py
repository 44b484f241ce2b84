"""`gridctl tokenomics`: read a run, have it accounted for, print it beside its centralised alternative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, write
from gridctl.cli.run_argument import PhaseOption, RunArgument, comma_list, ensemble_of, phase_of, read_run
from gridctl.errors import NotFoundError, did_you_mean

if TYPE_CHECKING:
    from gridctl.accounts.rows import Run
    from gridctl.accounts.tables import Tokenomics
    from gridctl.render.tokenomics import Drawn


def command(
    run: RunArgument = None,
    by: Annotated[
        str, typer.Option("--by", metavar="LIST", help="What rows tell apart: workload, tier, variant.")
    ] = "workload,tier,variant",
    workload: Annotated[
        str | None, typer.Option("--workload", metavar="NAME", help="Print the rows of this workload only.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="RUN", help="Compare with this run instead of the centralised one."),
    ] = None,
    phase: PhaseOption = None,
    output: OutputOption = "table",
) -> None:
    """What a run cost per million tokens, how fast it was and how much of it was good.

    Rows by workload, tier and model variant, with subtotals and the total; beside the total, the same trace on the
    same GPUs, all in the core. `gridctl help tokenomics` defines every column.

    Example:
      gridctl tokenomics base
      gridctl tokenomics base --by workload -o markdown
      gridctl tokenomics new --against base -o json
      gridctl tokenomics paris-gone --phase during --against paris-gone.calm
    """
    from gridctl.accounts.comparison import compare
    from gridctl.accounts.tokenomics import tokenomics
    from gridctl.render.tokenomics import document, row_columns, row_items, text

    chosen = comma_list(by)
    if workload is not None and "workload" not in chosen:
        chosen.append("workload")
    whole = read_run(run)
    found = phase_of(whole, phase)
    table = tokenomics(found, chosen)
    beside = _other(found, against)
    if beside is not None:
        beside = phase_of(beside, phase, whole)
    other = None if beside is None else tokenomics(beside, chosen)
    comparisons = () if other is None else compare(table, other)
    if workload is not None:
        table = _only(table, workload)
        comparisons = tuple(part for part in comparisons if part.workload == workload)
    ranged = [part.workload for part in comparisons]
    drawn = _drawn(found, table, chosen, beside, ranged) if phase is None else None
    if output in ("table", "wide", "markdown"):
        write(text(table, comparisons, output, drawn))
    elif output in ("json", "yaml"):
        emit(
            [{"name": table.run}],
            [],
            output,
            kind="Tokenomics",
            single=True,
            documents=[{**document(table, other, comparisons, drawn), **({"phase": phase} if phase else {})}],
        )
    else:
        items = row_items(table.rows, drawn.ranges.items if drawn else None)
        emit(items, row_columns(drawn), output, kind="Tokenomics", documents=table.rows)
    if found.info.window_ns == 0:
        note("the run has no span of time: nothing per second, and no GPU-hours")


def _other(run: Run, against: str | None) -> Run | None:
    """The run to compare with: the one named, else the centralised one if the replay made it and it is still there."""
    if against is not None:
        return read_run(against)
    if not run.info.centralized or run.info.centralized == run.info.name:
        note("no centralised alternative was replayed with this run; --against RUN compares with any other")
        return None
    try:
        return read_run(run.info.centralized)
    except NotFoundError:
        note(f"the centralised alternative {run.info.centralized} was deleted; --against RUN compares with another")
        return None


def _drawn(run: Run, table: Tokenomics, by: list[str], beside: Run | None, workloads: list[str]) -> Drawn | None:
    """The ranges of the table and of what stands beside it, where the run has draws."""
    from gridctl.accounts.intervals import row_ranges, saving_ranges, tokenomics_ranges
    from gridctl.render.tokenomics import Drawn

    ensemble = ensemble_of(run)
    if ensemble is None:
        return None
    other = ensemble_of(beside) if beside is not None else None
    if other is None:
        return Drawn(ensemble, tokenomics_ranges(table, by, ensemble))
    savings = saving_ranges(workloads, ensemble, other)
    if not savings:
        note("the two runs were not drawn alike: their savings have no range")
    ranges = tokenomics_ranges(table, by, ensemble)
    return Drawn(ensemble, ranges, row_ranges(table.total.workload, other), savings)


def _only(table: Tokenomics, workload: str) -> Tokenomics:
    """The part of the table that is one workload's; its total is that workload's subtotal."""
    import msgspec

    subtotals = {row.workload: row for row in table.workloads}
    if workload not in subtotals:
        near = did_you_mean(workload, subtotals)
        fix = f"did you mean --workload {near}?" if near else f"one of: {', '.join(sorted(subtotals))}"
        raise NotFoundError(f"no request of run {table.run} has workload {workload!r}", where="--workload", fix=fix)
    return msgspec.structs.replace(
        table,
        rows=tuple(row for row in table.rows if row.workload == workload),
        workloads=(subtotals[workload],),
        tiers=(),
        total=subtotals[workload],
    )
