"""`gridctl sla`: read a run, judge it by its workloads' objectives, print what was met and why the rest was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, width_of_terminal, write
from gridctl.cli.run_argument import PhaseOption, RunArgument, comma_list, ensemble_of, phase_of, read_run
from gridctl.errors import NotFoundError, did_you_mean

if TYPE_CHECKING:
    from gridctl.accounts.tables import Sla, SlaRow


def command(
    run: RunArgument = None,
    by: Annotated[
        str, typer.Option("--by", metavar="LIST", help="What rows tell apart: workload, tenant, region.")
    ] = "workload,tenant,region",
    workload: Annotated[
        str | None, typer.Option("--workload", metavar="NAME", help="Print the rows of this workload only.")
    ] = None,
    worst: Annotated[
        int, typer.Option("--worst", metavar="N", min=0, help="Print the N sites with most bad requests.")
    ] = 5,
    phase: PhaseOption = None,
    output: OutputOption = "table",
) -> None:
    """Which objectives a run met, what is left of each error budget, and why requests missed.

    A row per workload and objective over all tenants and regions, then one per tenant and region of origin, then the
    worst sites. `undecided` means too few requests to conclude. `gridctl help sla` defines every column.

    Example:
      gridctl sla base
      gridctl sla base --by workload --worst 10
      gridctl sla base --workload voice-agent -o json
      gridctl sla paris-gone --phase during
    """
    from gridctl.accounts.intervals import promise_ranges, sla_total_ranges
    from gridctl.accounts.site_misses import worst_sites
    from gridctl.accounts.sla import sla
    from gridctl.render.sla import Drawn, document, row_columns, row_items, text

    found = phase_of(read_run(run), phase)
    chosen = comma_list(by)
    table = sla(found, chosen)
    pooled, finer = _chosen_rows(table, workload)
    rows = [*pooled, *finer]
    sites = worst_sites(found, worst)
    ensemble, drawn = ensemble_of(found) if phase is None else None, None
    if ensemble is not None:
        pools, others = promise_ranges(pooled, ["workload"], ensemble), promise_ranges(finer, chosen, ensemble)
        drawn = Drawn(ensemble, sla_total_ranges(ensemble), pools, others)
    if output in ("table", "wide", "markdown"):
        write(text(table, pooled, finer, sites, output, drawn, width_of_terminal()))
    elif output in ("json", "yaml"):
        emit(
            [{"name": table.run}],
            [],
            output,
            kind="Sla",
            single=True,
            documents=[{**document(table, pooled, finer, sites, drawn), **({"phase": phase} if phase else {})}],
        )
    else:
        promises = [*drawn.pooled, *drawn.finer] if drawn else []
        items = row_items(rows, promises if len(promises) == len(rows) else None)
        emit(items, row_columns(drawn), output, kind="Sla", documents=rows)
    undecided = sum(row.status == "undecided" for row in rows)
    if undecided:
        note(f"{undecided} of {len(rows)} rows are undecided: too few requests; see requests_to_prove in -o wide")
    if drawn is not None and finer and not drawn.finer:
        note("the draws keep no table of so many rows: only rows over all tenants and regions have ranges")
    note("shares and percentiles are exact for this run; 95 % bounds hold for independent requests only")


def _chosen_rows(table: Sla, workload: str | None) -> tuple[list[SlaRow], list[SlaRow]]:
    """Pooled rows and, where they tell more apart, the finer ones; of one workload only when it is named."""
    known = list(dict.fromkeys(row.workload for row in table.workloads))
    if workload is not None and workload not in known:
        near = did_you_mean(workload, known)
        fix = f"did you mean --workload {near}?" if near else f"one of: {', '.join(known)}"
        raise NotFoundError(f"run {table.run} has no workload {workload!r}", where="--workload", fix=fix)
    finer = table.rows if table.rows != table.workloads else ()
    pooled = [row for row in table.workloads if workload in (None, row.workload)]
    return pooled, [row for row in finer if workload in (None, row.workload)]
