"""`gridctl sweep pivot`: one number of a sweep over two of its axes, or how it changes when another does."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.output import OutputOption, emit
from gridctl.cli.sweep_argument import SweepArgument, WorkloadOption, read_sweep
from gridctl.errors import UsageError


def pivot(
    sweep: SweepArgument = None,
    rows: Annotated[str, typer.Option("--rows", metavar="AXIS", help="The axis that goes down.")] = "",
    columns: Annotated[str | None, typer.Option("--columns", metavar="AXIS", help="The axis that goes across.")] = None,
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help="The number.")] = "usd_per_mtok_goodput",
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="AXIS=VALUE,…", help="Only scenarios that have these.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="AXIS=VALUE,…", help="The change to the scenario that has these instead."),
    ] = None,
    workload: WorkloadOption = None,
    output: OutputOption = "table",
) -> None:
    """Print one number of a sweep over two of its axes, or how it changes when another axis does.

    With --to, a cell is the change from the scenario to the one that has the values given and agrees on every other
    axis both have: -10% of a cost is a saving. Where a sweep has draws, each cell has its range over them, a change
    compared draw by draw. Cells never average: --where says the rest.

    Example:
      gridctl sweep pivot burst --rows rtt_ms --columns overhead_ms --where place=centre
      gridctl sweep pivot burst --rows rtt_ms --metric goodput_tok_s --where place=centre --to place=grid
    """
    from gridctl.render.pivot import (
        Cell,
        PivotDocument,
        cell_names,
        csv_columns,
        pivot_cells,
        pivot_columns,
        pivot_items,
    )
    from gridctl.sweeps.pivot import check_axis, check_metric, parse_conditions
    from gridctl.sweeps.pivot import pivot as pivoted
    from gridctl.sweeps.results import drawn_rows, rows_of, spread

    found = read_sweep(sweep)
    axes = found.plan.axes
    if not rows:
        raise UsageError("which axis goes down?", where="--rows", fix=f"--rows {axes[0]}" if axes else None)
    for axis, flag in ((rows, "--rows"), (columns, "--columns")):
        if axis is not None:
            check_axis(axis, axes, flag)
    check_metric(metric)
    wheres, tos = parse_conditions(where or [], axes, "--where"), parse_conditions(to or [], axes, "--to")
    asked = ((rows, columns), metric, wheres, tos)
    down, along, plain = pivoted(rows_of(found, workload), *asked)
    drawn = [pivoted(one, *asked)[2] for one in drawn_rows(found, workload)]
    cells = [
        [Cell(value, *spread([one[i][j] for one in drawn])) for j, value in enumerate(line)]
        for i, line in enumerate(plain)
    ]
    names = cell_names(columns, along, metric)
    shown = pivot_items(rows, down, names, cells)
    document = PivotDocument(
        sweep=found.plan.name,
        metric=metric,
        rows=rows,
        columns=columns,
        where=wheres,
        to=tos,
        is_change=bool(tos),
        items=pivot_cells(down, along, cells, has_columns=columns is not None),
    )
    if output in ("json", "yaml"):
        emit([{"name": metric}], (), output, kind="SweepPivot", single=True, documents=[document])
    elif output == "csv":
        emit(shown, csv_columns(rows, names), output, kind="SweepPivot")
    else:
        titles = pivot_columns(rows, names, metric, is_change=bool(tos))
        emit(shown, titles, output, kind="SweepPivot", name_key=rows, documents=document.items)
