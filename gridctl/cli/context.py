"""`gridctl context`: the grids this user knows, and which one commands work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.options import complete_contexts
from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import NotFoundError, UsageError
from gridctl.render.rows import Column

app = typer.Typer(help="Which grid commands work on.", no_args_is_help=True, add_completion=False)

_NAME = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_contexts)]
_COLUMNS = (
    Column("current", "current"),
    Column("name", "name"),
    Column("folder", "folder"),
    Column("url", "admin API"),
)
_CURRENT = (
    Column("folder", "folder"),
    Column("database", "database"),
    Column("runs", "runs"),
    Column("origin", "origin"),
    Column("url", "admin API"),
)


@app.command("list")
def list_(output: OutputOption = "table") -> None:
    """List the contexts.

    Example:
      gridctl context list
    """
    from gridctl.orchestrator.context import contexts, current_context, is_remote

    current = current_context()
    rows = [
        {
            "current": name == current,
            "name": name,
            "folder": None if is_remote(place) else place,
            "url": place if is_remote(place) else None,
        }
        for name, place in contexts().items()
    ]
    emit(rows, _COLUMNS, output, kind="ContextList")
    if not rows:
        note("no contexts; gridctl init NAME creates a grid and its context")


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An admin API: https://HOST:PORT, http:// on loopback, or unix:/PATH."),
    ] = None,
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="A grid's folder on this machine.")] = None,
    token_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="The variable that holds the token (else GRIDCTL_TOKEN).")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="The file that holds the token.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="PEM", help="The authority that signed its certificate.")] = None,
) -> None:
    """Remember a grid on this machine or an orchestrator elsewhere, and make it the current context.

    Every command then works on it; the token itself is never written to the configuration.

    Example:
      gridctl context add prod --url https://grid.example:8443 --token-file ~/.config/gridctl/prod.token
      gridctl --context prod site list
    """
    from gridctl.orchestrator.context import add_context, add_remote_context, check_name

    if (url is None) == (folder is None):
        raise UsageError("a context is an address or a folder", where="--url, --folder", fix="give one of them")
    if folder is not None and (token_env or token_file or ca):
        raise UsageError("a folder needs no token", where="--token-env, --token-file, --ca", fix="leave them out")
    if token_env is not None and token_file is not None:
        raise UsageError("two places for one token", where="--token-env, --token-file", fix="give one of them")
    check_name(name)
    if folder is not None:
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder}", where="--folder", fix="check the path")
        add_context(name, folder.absolute())
    else:
        token = f"env:{token_env}" if token_env else f"file:{token_file.absolute()}" if token_file else ""
        add_remote_context(name, url or "", token=token, authority=str(ca.absolute()) if ca else "")
    note(f"commands now work on {name}, unless a project folder or --store says otherwise")


@app.command()
def current(output: OutputOption = "table") -> None:
    """Show the grid commands work on here, and why that one.

    Example:
      gridctl context current
    """
    from gridctl.orchestrator.context import current_grid

    home = current_grid()
    row: dict[str, object] = {
        "folder": str(home.folder),
        "database": str(home.database),
        "runs": str(home.runs),
        "origin": home.origin,
        "url": home.remote.url if home.remote is not None else None,
    }
    if home.remote is not None:
        row |= {"folder": None, "database": None, "runs": None}
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
    """Forget a context. The grid itself stays.

    Example:
      gridctl context delete mygrid
    """
    from gridctl.orchestrator.context import delete_context

    delete_context(name)
    note(f"context {name} is forgotten; the grid itself is untouched")
