"""`gridctl get`: resources of any kind, kubectl's way."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import SelectorOption, complete_get
from gridctl.cli.output import OutputOption


def command(
    kind: Annotated[str, typer.Argument(metavar="KIND[/NAME]", autocompletion=complete_get)],
    name: Annotated[list[str] | None, typer.Argument(metavar="NAME...", autocompletion=complete_get)] = None,
    selector: SelectorOption = None,
    output: OutputOption = "table",
) -> None:
    """Show resources of a kind: all, those named, or those a selector chooses.

    Example:
      gridctl get sites -l tier=core
      gridctl get cluster/paris-rtx -o yaml
    """
    from gridctl.cli.kind import show
    from gridctl.orchestrator.resources import kind_or_fail

    word, slash, named = kind.partition("/")
    show(kind_or_fail(word), [*([named] if slash else []), *(name or ())], selector or (), output)
