"""`gridctl config`: settings, and where each value comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note, write
from gridctl.orchestrator.config import KEYS, Setting
from gridctl.render.rows import Column

app = typer.Typer(help="Settings and where they come from.", no_args_is_help=True, add_completion=False)

_KEY = Annotated[str, typer.Argument(metavar="KEY", autocompletion=lambda incomplete: _keys(incomplete))]


def _keys(incomplete: str) -> list[str]:
    return [name for name in KEYS if name.startswith(incomplete)]


@app.command()
def view(
    show_origin: Annotated[bool, typer.Option("--show-origin", help="Add where each value comes from.")] = False,
    output: OutputOption = "table",
) -> None:
    """Show every setting in effect. The first that sets a value wins: flag, GRIDCTL_* variable, project, user, default.

    Example:
      gridctl config view --show-origin
    """
    from gridctl.orchestrator.config import settings

    columns = [Column("key", "key"), Column("value", "value")]
    if show_origin:
        columns.append(Column("origin", "origin"))
    rows = [{"key": one.key, "value": one.value, "origin": one.origin} for one in [*settings(), *_grid()]]
    emit(rows, columns, output, kind="SettingList", name_key="key")


@app.command()
def get(key: _KEY) -> None:
    """Print the value of one setting.

    Example:
      gridctl config get output
    """
    from gridctl.orchestrator.config import setting

    write(setting(key).value + "\n")


@app.command("set")
def set_(
    key: _KEY,
    value: Annotated[str, typer.Argument(metavar="VALUE")],
) -> None:
    """Set one setting in the user's configuration.

    Example:
      gridctl config set color never
    """
    from gridctl.orchestrator.config import set_user_setting

    path = set_user_setting(key, value)
    note(f"wrote {path}")


def _grid() -> list[Setting]:
    """The grid in effect as one more line, or none when there is no grid."""
    from gridctl.errors import NotFoundError
    from gridctl.orchestrator.context import current_grid

    try:
        home = current_grid()
    except NotFoundError:
        return []
    return [Setting("grid", str(home.folder), home.origin)]
