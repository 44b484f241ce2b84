"""Options and arguments that several commands share, and the resource names they complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

FilesOption = Annotated[
    list[str],
    typer.Option("--file", "-f", metavar="PATH", help="A manifest, a folder of them, a URL, or - for standard input."),
]
SelectorOption = Annotated[
    list[str] | None,
    typer.Option("--selector", "-l", metavar="KEY=VALUE,…", help="Choose by fields and labels: tier=edge,country!=FR."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would happen, write nothing.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
ReasonOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why; kept with the event, shown by gridctl event list.")
]


def complete_names(word: str) -> Callable[[typer.Context, str], list[str]]:
    """A completion of the names of a kind in the current grid; no grid, no names, never an error."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return names_of(word, incomplete)

    return complete


def names_of(word: str, incomplete: str) -> list[str]:
    """Names of a kind in the current grid that start so; none, and no error, when there is no grid to ask."""
    try:
        return _names(word, incomplete)
    except Exception:
        return []


def complete_get(context: typer.Context, incomplete: str) -> list[str]:
    """Kinds first, then names of the kind given."""
    try:
        kind = context.params.get("kind")
        return _names(kind, incomplete) if kind else complete_kinds(incomplete)
    except Exception:
        return []


def complete_kinds(incomplete: str) -> list[str]:
    """Nouns of the kinds."""
    from gridctl.resources import KINDS

    return [kind.noun for kind in KINDS.values() if kind.noun.startswith(incomplete)]


def complete_contexts(incomplete: str) -> list[str]:
    """Names of contexts."""
    try:
        from gridctl.orchestrator.context import contexts

        return [name for name in contexts() if name.startswith(incomplete)]
    except Exception:
        return []


def _names(word: str, incomplete: str) -> list[str]:
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import kind_or_fail

    with current_grid().open_registry() as registry:
        return [name for name in registry.names(kind_or_fail(word)) if name.startswith(incomplete)]
