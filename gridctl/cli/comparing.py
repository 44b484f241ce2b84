"""`gridctl replay compare`: runs beside a baseline, number by number, and what moved where."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from gridctl.cli.output import OutputOption, emit, note, progress, write
from gridctl.cli.run_argument import comma_list, complete_run


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE RUN…", help="The baseline first, then one run or more.", autocompletion=complete_run
        ),
    ],
    by: Annotated[
        str, typer.Option("--by", metavar="LIST", help="Tables for each workload, tenant, region, origin, too.")
    ] = "",
    place: Annotated[
        Literal["site", "cluster", "tier", "region", "variant"],
        typer.Option("--place", help="Between what requests move."),
    ] = "site",
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="Print the N largest movers.")] = 5,
    output: OutputOption = "table",
) -> None:
    """Runs beside a baseline: every number of both tables, whether it changed by more than chance, and what moved.

    Runs of the same requests are compared in pairs, so a small change shows in a short trace. Runs of different
    requests are compared by totals only. `gridctl help ci` has the method.

    Example:
      gridctl replay compare base new
      gridctl replay compare base new newer --by workload,region -o json
      gridctl replay compare base new --place tier --top 20 -o markdown
    """
    from gridctl.orchestrator.comparing import compare_runs
    from gridctl.orchestrator.context import current_grid
    from gridctl.render import comparison

    with progress("comparing") as advance:
        found = compare_runs(runs, comma_list(by), place, top, current_grid(), advance)
    parts = (found.unpaired, found.contrasts, found.movements)
    if output in ("table", "wide", "markdown"):
        write(comparison.text(found.baseline, *parts, output))
    elif output in ("json", "yaml"):
        document = comparison.document(found.baseline, found.runs, *parts)
        emit([{"name": found.baseline}], (), output, kind="RunComparison", single=True, documents=[document])
    elif output == "name":
        emit([{"name": name} for name in (found.baseline, *found.runs)], (), output, kind="RunComparison")
    else:
        items = comparison.contrast_items(found.contrasts)
        emit(items, comparison.contrast_columns(), output, kind="RunComparison", documents=found.contrasts)
    for name, why in found.unpaired.items():
        if why:
            note(f"{name} is not of the baseline's requests: {why}; no pairs, no verdicts, no flows")
