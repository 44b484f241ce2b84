"""`gridctl report`: one run as a page to hand on, as Markdown, as data, or on one screen of the terminal.

Decides what stands beside the run and where the report goes; what it says is the report's own.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.gating import GateOption
from gridctl.cli.output import OutputOption, emit, note, painted, progress, write, write_file
from gridctl.cli.run_argument import RunArgument, complete_run, ensemble_of, read_run
from gridctl.errors import InputError, NotFoundError, UsageError

if TYPE_CHECKING:
    from gridctl.accounts.rows import Run
    from gridctl.report.content import Report

STDOUT = "-"
_PIPE = os.terminal_size((80, 40))
"""What is assumed of a reader that is no terminal."""


def command(
    run: RunArgument = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="RUN", help="Set this run beside it.", autocompletion=complete_run),
    ] = None,
    gates: GateOption = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write one self-contained HTML file; - for stdout.")
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show the page in a browser; without --html it is RUN.html, here.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Report on a run: what was replayed, what it cost, what held, what missed and why.

    With --html, a page that needs no network: both tables, a map, distributions, load and cost over time, flows, and
    the commands that make it again. Without, one screen; -o markdown and -o json for other programs. The grid's gates,
    or those of --gate, are held and shown; they do not change the exit code. `gridctl help report`.

    Example:
      gridctl report base
      gridctl report new --compare base --html new.html
      gridctl report base -o markdown > base.md
    """
    _check(output, html, open_page)
    with progress("reporting", 3) as advance:
        found = read_run(run)
        advance(1)
        made = _made(found, compare, gates or [])
        advance(1)
        if html is not None or open_page:
            from gridctl.report.page import page

            text = page(made)
            advance(1)
    if html == STDOUT:
        write(text)
    elif html is not None or open_page:
        _keep(text, Path(html or f"{found.info.name}.html"), open_page)
    elif output == "markdown":
        from gridctl.report.markdown import markdown

        write(markdown(made))
    elif output in ("json", "yaml"):
        from gridctl.report.document import document

        emit([{"name": found.info.name}], [], output, kind="Report", single=True, documents=[document(made)])
    else:
        _show(made)
    if made.gates is not None and made.gates.outcome != "pass":
        note(f"not every gate holds; for an exit code: gridctl replay gate {found.info.name}")


def _check(output: str, html: str | None, open_page: bool) -> None:
    """Refuse, before any work, what cannot be printed."""
    if open_page and html == STDOUT:
        raise UsageError("a page on stdout cannot be opened", where="--open", fix="give --html FILE")
    path = Path(html or ".")
    if html is not None and html != STDOUT and path.is_dir():
        raise InputError("that is a folder", where=f"--html {html}", fix=f"--html {path / 'report.html'}")
    if html is not None and html != STDOUT and not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", where="--html", fix="make it, or write elsewhere")
    if html is None and not open_page and output in ("csv", "jsonl", "name"):
        raise UsageError(
            f"a report has no rows to print as {output}",
            where="-o/--output",
            fix=f"-o json, or rows: gridctl tokenomics -o {output}, gridctl sla -o {output}",
        )


def _made(run: Run, compare: str | None, gates: list[str]) -> Report:
    """The report of a run, with everything the grid knows of it."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.reporting import commands_of, gates_of, places_of
    from gridctl.render.time import stamped_ns
    from gridctl.report.content import report_of

    home, ensemble = current_grid(), ensemble_of(run)
    if compare == run.info.name:
        raise UsageError(f"run {compare} would stand beside itself", where="--compare", fix="name another run")
    return report_of(
        run,
        made_ns=stamped_ns(run.info.created_ns),
        places=places_of(run.info, home),
        centralized=_centralized(run),
        compared=None if compare is None else read_run(compare),
        ensemble=ensemble,
        gates=gates_of(run, gates, compare, home),
        commands=commands_of(run.info, compare, ensemble.asked if ensemble else 1),
    )


def _centralized(run: Run) -> Run | None:
    """The run's centralised alternative, if it was replayed and is still there."""
    name = run.info.centralized
    if not name or name == run.info.name:
        return None
    try:
        return read_run(name)
    except NotFoundError:
        note(f"the centralised alternative {name} was deleted; the report does without")
        return None


def _keep(text: str, path: Path, open_page: bool) -> None:
    """Write the page, and show it where a person asked for that."""
    write_file(path, text)
    note(f"wrote {path}, {len(text.encode()) / 1000:,.0f} kB, to hand on as it is")
    if open_page:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            note(f"no browser answered; open {path} yourself")


def _show(made: Report) -> None:
    from gridctl.report.screen import Canvas, screen

    size = shutil.get_terminal_size(_PIPE) if sys.stdout.isatty() else _PIPE
    write(screen(made, Canvas(size.columns, size.lines - 1, _is_ascii(), painted)))


def _is_ascii() -> bool:
    """Whether stdout can show no more than ASCII: by its encoding, or because the console has no such glyphs."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return not encoding.startswith("utf") or (sys.stdout.isatty() and os.environ.get("TERM") in ("dumb", "linux"))
