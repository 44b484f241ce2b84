"""`gridctl context`: the grids this user knows, and which one commands work on."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import complete_contexts
from gridctl.cli.output import OutputOption, emit, note
from gridctl.render.rows import Column

app = typer.Typer(help="Which grid commands work on.", no_args_is_help=True, add_completion=False)

_NAME = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_contexts)]
_COLUMNS = (Column("current", "current"), Column("name", "name"), Column("folder", "folder"))
_CURRENT = (
    Column("folder", "folder"),
    Column("database", "database"),
    Column("runs", "runs"),
    Column("origin", "origin"),
)


@app.command("list")
def list_(output: OutputOption = "table") -> None:
    """List the contexts.

    Example:
      gridctl context list
    """
    from gridctl.orchestrator.context import contexts, current_context

    current = current_context()
    rows = [{"current": name == current, "name": name, "folder": folder} for name, folder in contexts().items()]
    emit(rows, _COLUMNS, output, kind="ContextList")
    if not rows:
        note("no contexts; gridctl init NAME creates a grid and its context")


@app.command()
def current(output: OutputOption = "table") -> None:
    """Show the grid commands work on here, and why that one.

    Example:
      gridctl context current
    """
    from gridctl.orchestrator.context import current_grid

    home = current_grid()
    row = {
        "folder": str(home.folder),
        "database": str(home.database),
        "runs": str(home.runs),
        "origin": home.origin,
    }
    emit([row], _CURRENT, output, kind="Context", name_key="folder", single=True)


@app.command()
def use(name: _NAME) -> None:
    """Make a context the current one.

    Example:
      gridctl context use mygrid
    """
    from gridctl.orchestrator.context import use_context

    use_context(name)
    note(f"commands now work on {name}, unless a project folder or --store says otherwise")


@app.command()
def delete(name: _NAME) -> None:
    """Forget a context. The grid's folder stays.

    Example:
      gridctl context delete mygrid
    """
    from gridctl.orchestrator.context import delete_context

    delete_context(name)
    note(f"context {name} is forgotten; its folder is untouched")
