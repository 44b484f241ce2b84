"""`gridctl doctor`: is this machine, this installation and this grid fit to serve?"""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, painted, width_of_terminal, write
from gridctl.render.rows import Column

DIFFERS = 10
COLUMNS = (
    Column("check", "check"),
    Column("verdict", "verdict"),
    Column("found", "found"),
    Column("fix", "fix"),
)


def command(
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Where requests would come in.")] = "127.0.0.1:8080",
    engines: Annotated[
        bool, typer.Option("--engines/--no-engines", help="Ask every engine whether it answers.")
    ] = True,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 10 unless everything is OK.")] = False,
    output: OutputOption = "table",
) -> None:
    """Look at Python, packages, limits, disk, clock, database, orchestrator and engines, and say what to do.

    Example:
      gridctl doctor
      gridctl doctor --exit-code -o json
    """
    from gridctl.orchestrator.doctor import examine
    from gridctl.render.doctor import findings_text

    findings = examine(listen, engines=engines)
    rows = [finding._asdict() for finding in findings]
    if output in ("table", "wide"):
        write(findings_text(rows, width_of_terminal(), painted))
    else:
        emit(rows, COLUMNS, output, kind="FindingList", name_key="check")
    bad = sum(1 for finding in findings if finding.verdict == "FAIL")
    doubtful = sum(1 for finding in findings if finding.verdict == "WARN")
    note(f"{bad} failed, {doubtful} to look at" if bad or doubtful else "all is well")
    if exit_code and (bad or doubtful):
        raise typer.Exit(DIFFERS)
