"""`gridctl run`: the results of replays — list, get, export, delete."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from gridctl.cli.options import YesOption
from gridctl.cli.output import OutputOption, emit, is_interactive, note, write
from gridctl.cli.run_argument import RunArgument, complete_run
from gridctl.errors import NotFoundError, StoreError, UsageError

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
def get(
    run: RunArgument = None,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="Show what it was made from: trace, policy, prices, seed.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Show one run: counts, digest, how it was made; or what it was made from.

    Example:
      gridctl run get base -o json
      gridctl run get base --inputs
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
    if inputs:
        from gridctl.orchestrator.inputs import inputs_item, load_inputs
        from gridctl.render.runs import INPUT_COLUMNS

        emit([inputs_item(name, load_inputs(name, home))], INPUT_COLUMNS, output, kind="RunInputs", single=True)
        return
    emit([drawn_item(info, load_ensemble(info, home))], DRAWN_COLUMNS, output, kind="Run", single=True)


@app.command()
def export(
    run: RunArgument = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="yaml, json or jsonl.")] = "yaml",
) -> None:
    """Print the grid a run was made with, and its policy, as manifests ready for apply.

    Example:
      gridctl run export base > as-it-was.yaml
    """
    from gridctl.manifest import dump
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.inputs import load_inputs

    formats = ("yaml", "json", "jsonl")
    if output not in formats:
        raise UsageError(f"run export does not write {output!r}", where="-o/--output", fix=", ".join(formats))
    home = current_grid()
    name = run or home.open_runs().latest()
    if name is None:
        raise NotFoundError("this grid has no runs yet", fix="gridctl replay run TRACE")
    kept = load_inputs(name, home)
    policy = kept.header.policy
    others = [one for one in kept.resources if (type(one), one.name) != (type(policy), policy.name)]
    write(dump([*others, policy], cast("Literal['yaml', 'json', 'jsonl']", output)))


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
    runs = list(dict.fromkeys(runs))
    for name in runs:
        store.document(name)
    if not yes and is_interactive():
        typer.confirm(f"delete {len(runs)} run{'s' * (len(runs) != 1)}?", abort=True, err=True)
    for name in runs:
        store.delete(name)
        draws.delete(name)
        note(f"deleted run {name}")
    beside = [one for one in store.list() if one.removesuffix(".centralized").removesuffix(".calm") in runs]
    if beside:
        note(f"what was made beside {'it' if len(runs) == 1 else 'them'} stays: gridctl run delete {' '.join(beside)}")
