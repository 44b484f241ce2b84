"""`gridctl run`: the results of replays — list, get, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import YesOption
from gridctl.cli.output import OutputOption, emit, is_interactive, note
from gridctl.cli.run_argument import RunArgument, complete_run
from gridctl.errors import NotFoundError, StoreError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Results of replays.")


@app.command("list")
def list_(output: OutputOption = "table") -> None:
    """List the grid's runs, oldest first.

    Example:
      gridctl run list
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.runs import load_info
    from gridctl.render.runs import RUN_COLUMNS, run_item

    home = current_grid()
    infos = []
    for name in home.open_runs().list():
        try:
            infos.append(load_info(name, home))
        except StoreError as error:  # one damaged run does not hide the others
            note(f"{error.what}; {error.fix}")
    infos.sort(key=lambda info: info.created_ns)
    emit([run_item(info) for info in infos], RUN_COLUMNS, output, kind="RunList")
    if not infos:
        note("no runs yet; gridctl replay run TRACE makes one")


@app.command()
def get(run: RunArgument = None, output: OutputOption = "table") -> None:
    """Show one run: counts, digest, how it was made.

    Example:
      gridctl run get base -o json
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.plan import load_ensemble
    from gridctl.orchestrator.runs import load_info
    from gridctl.render.runs import DRAWN_COLUMNS, drawn_item

    home = current_grid()
    name = run or home.open_runs().latest()
    if name is None:
        raise NotFoundError("this grid has no runs yet", fix="gridctl replay run TRACE")
    info = load_info(name, home)
    emit([drawn_item(info, load_ensemble(info, home))], DRAWN_COLUMNS, output, kind="Run", single=True)


@app.command()
def delete(
    runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="Runs to delete.", autocompletion=complete_run)],
    yes: YesOption = False,
) -> None:
    """Delete runs, their request rows and their draws. The traces they were made from stay.

    Example:
      gridctl run delete run-1 run-2 --yes
    """
    from gridctl.orchestrator.context import current_grid

    home = current_grid()
    store, draws = home.open_runs(), home.open_draws()
    for name in runs:
        store.document(name)
    if not yes and is_interactive():
        typer.confirm(f"delete {len(runs)} runs?", abort=True, err=True)
    for name in runs:
        store.delete(name)
        draws.delete(name)
        note(f"deleted run {name}")
