"""`gridctl replay gate`, and what `replay run --gate` shares with it: options, reports, the exit code.

Decides the order at the end: files and annotations first, then stdout, then the exit code, so that a report that cannot
be written leaves stdout empty.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, emit, note, write, write_file
from gridctl.cli.run_argument import RunArgument, complete_run, read_run
from gridctl.errors import GateFailed, GridctlError, InputError, UsageError

if TYPE_CHECKING:
    from gridctl.accounts.gate_report import GateReport, NamedGate
    from gridctl.accounts.rows import Run
    from gridctl.orchestrator.context import GridHome
    from gridctl.render.rows import Column

GateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="FILE|EXPRESSION",
        help="Gates to hold: a file of them, or one such as 'ttft_ms.p95 < 200ms where workload=voice-agent'.",
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="RUN|FILE",
        help="What gates with `baseline` compare with: a run, or a report of an earlier one.",
        autocompletion=complete_run,
    ),
]
JunitOption = Annotated[
    str | None, typer.Option("--junit", metavar="FILE", help="Write the gates as a JUnit test report.")
]
SummaryOption = Annotated[
    str | None,
    typer.Option(
        "--summary", metavar="FILE", help="Write the gates as Markdown; $GITHUB_STEP_SUMMARY is appended to otherwise."
    ),
]


def gate(
    run: RunArgument = None,
    gates: GateOption = None,
    baseline: BaselineOption = None,
    junit: JunitOption = None,
    summary: SummaryOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Hold gates against a run: exit code 0 when all hold, 99 when one fails, 3 when one cannot be decided.

    Without --gate, the grid's own gates. A gate over too few requests, an empty scope or a missing baseline is an
    error, never a pass. `gridctl help ci` has the language.

    Example:
      gridctl replay gate base --gate 'attainment >= 99% where workload=voice-agent'
      gridctl replay gate new --gate gates.yaml --baseline base --junit gates.xml
      gridctl replay gate --gate gates.yaml --dry-run
    """
    from gridctl.errors import NotFoundError
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.gating import check_gates, hold, read_gates

    if dry_run:
        try:
            home = current_grid()
        except NotFoundError:
            if not gates:
                raise
            home = None
        found = read_gates(gates or (), home)
        _emit_dry(found, output)
        note(f"dry run: {len(found)} gates are valid; none was held")
        return
    home = current_grid()
    found = read_gates(gates or (), home)
    check_gates(found, baseline, home, None)
    report = hold(found, read_run(run), baseline, home)
    write_reports(report, junit, summary)
    emit_report(report, output)
    if (error := ending(report)) is not None:
        raise error


SHOWN = 5
"""Gates that the last words of a command name."""


@dataclass(frozen=True, slots=True)
class Held:
    """Gates that a replay will be held against, and where their report goes."""

    gates: list[NamedGate]
    baseline: str | None
    junit: str | None
    summary: str | None


def gates_of(
    gates: list[str] | None, baseline: str | None, junit: str | None, summary: str | None, home: GridHome, seeds: int
) -> Held | None:
    """The gates of a replay's options, checked before it is made; None when it has none.

    Raises: UsageError for options that only gates need, and what `read_gates` and `check_gates` do."""
    from gridctl.orchestrator.gating import check_gates, read_gates

    if not gates:
        for option, value in (("--baseline", baseline), ("--junit", junit), ("--summary", summary)):
            if value is not None:
                raise UsageError(f"{option} is for gates, and there is none", where=option, fix="give --gate, too")
        return None
    found = read_gates(gates, home)
    check_gates(found, baseline, home, seeds)
    return Held(found, baseline, junit, summary)


def emit_gated(
    item: Mapping[str, object], columns: Sequence[Column], output: str, held: Held, run: Run, home: GridHome
) -> None:
    """A replayed run and its gates on stdout, in one document. Raises: the error the gates end with."""
    from gridctl.orchestrator.gating import hold
    from gridctl.render import gates
    from gridctl.render.rows import render_rows

    report = hold(held.gates, run, held.baseline, home)
    write_reports(report, held.junit, held.summary)
    if output in ("table", "wide", "markdown"):
        rows = render_rows([item], columns, output, kind="Run", single=True)
        write(f"{rows}\n{gates.text(report, output, marks())}")
    elif output in ("json", "yaml"):
        document = {**item, "gates": gates.document(report)}
        emit([item], columns, output, kind="Run", single=True, documents=[document])
    else:
        emit([item], columns, output, kind="Run", single=True)
        note(gates.headline(report))
    if (error := ending(report)) is not None:
        raise error


def write_reports(report: GateReport, junit: str | None, summary: str | None) -> None:
    """The files and annotations a pipeline reads. Raises: InputError when one cannot be written."""
    from gridctl.render.annotations import annotation_lines
    from gridctl.render.gates import summary as summary_text
    from gridctl.render.junit import junit as junit_text

    if junit is not None:
        write_file(Path(junit), junit_text(report))
    if summary is not None:
        write_file(Path(summary), summary_text(report))
    elif appended := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(appended), summary_text(report))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        sys.stderr.write(annotation_lines(report))


def emit_report(report: GateReport, output: str) -> None:
    """The gates on stdout."""
    from gridctl.render import gates

    if output in ("table", "wide", "markdown"):
        write(gates.text(report, output, marks()))
    elif output in ("json", "yaml"):
        document = gates.document(report)
        emit([{"name": report.run}], (), output, kind="GateReport", single=True, documents=[document])
    else:
        emit(gates.items(report), gates.columns(output), output, kind="GateReport", documents=report.items)


def ending(report: GateReport) -> GridctlError | None:
    """What the command ends with: nothing, a failed gate (99), or, before that, one that could not be decided (3)."""
    from gridctl.render.gates import result_text

    if report.outcome == "pass":
        return None
    chosen = [item for item in report.items if item.outcome == report.outcome]
    told = [result_text(item) for item in chosen[:SHOWN]]
    more = f"\nand {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else ""
    shown = "\n".join(told) + more
    where, total = f"run {report.run}", len(report.items)
    if report.outcome == "fail":
        see = f"gridctl sla {report.run} says why; the run is kept"
        return GateFailed(f"{report.failed} of {total} gates failed:\n{shown}", where=where, fix=see)
    also = f", and {report.failed} failed" if report.failed else ""
    fix = next((item.fix for item in chosen if item.fix), None)
    return InputError(f"{report.errors} of {total} gates could not be decided{also}:\n{shown}", where=where, fix=fix)


def marks() -> Mapping[str, str]:
    """Marks that stdout can show."""
    from gridctl.render.gates import ASCII_MARKS, MARKS

    try:
        "".join(MARKS.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_MARKS
    return MARKS


def _emit_dry(found: Sequence[NamedGate], output: str) -> None:
    from gridctl.render.rows import Column, Item
    from gridctl.resources.gate_expression import gate_text

    rows: list[Item] = [
        {"name": one.name, "gate": gate_text(one.spec), "file": one.file, "line": one.line} for one in found
    ]
    columns = (Column("name", "name"), Column("gate", "gate"), Column("file", "file"), Column("line", "line"))
    emit(rows, columns, output, kind="GateCheckList")


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(
            f"cannot write the summary: {error.strerror}", where=str(path), fix="give --summary FILE"
        ) from None
