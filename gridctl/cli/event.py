"""`gridctl event`: the history of the grid's declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import UsageError
from gridctl.render.rows import Column
from gridctl.render.time import utc_text

if TYPE_CHECKING:
    from gridctl.resources import Resource

app = typer.Typer(help="What changed, when, by whom and why.", no_args_is_help=True, add_completion=False)

DEFAULT_LIMIT = 50

_COLUMNS = (
    Column("version", "version", align="right"),
    Column("time", "time"),
    Column("actor", "actor"),
    Column("action", "action"),
    Column("kind", "kind"),
    Column("name", "name"),
    Column("cause", "cause"),
    Column("fields", "fields", wide=True),
)


@app.callback()
def _noun() -> None:
    return None


@app.command("list")
def list_(
    about: Annotated[
        str | None,
        typer.Option("--for", metavar="KIND[/NAME]", help="Only of this kind or resource; key, cache: of those."),
    ] = None,
    since_version: Annotated[int, typer.Option(min=0, help="Only events after this version.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = DEFAULT_LIMIT,
    output: OutputOption = "table",
) -> None:
    """List events, oldest first. JSON and YAML tell every field's value before and after.

    Example:
      gridctl event list --for site/fr-paris-01
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.resources import kind_or_fail
    from gridctl.registry.keys import KIND as KEY
    from gridctl.registry.ledger import CACHE

    kind: type[Resource] | str | None = None
    name = None
    if about is not None:
        word, slash, rest = about.partition("/")
        others = {KEY.lower(): KEY, CACHE.lower(): CACHE}
        kind, name = others.get(word.lower()) or kind_or_fail(word), rest or None
        if slash and not rest:
            raise UsageError("a name is missing after the slash", where="--for", fix=f"write --for {word}/NAME")
    with current_grid().open_registry() as registry:
        events = registry.events(kind=kind, name=name, since_version=since_version, limit=limit)
    rows = [
        {
            "version": event.version,
            "time": utc_text(event.time_ns),
            "actor": event.actor,
            "action": event.action,
            "kind": event.kind,
            "name": event.name,
            "cause": event.cause,
            "changes": [{"path": c.path, "before": c.before, "after": c.after} for c in event.diff],
            "fields": [change.path for change in event.diff] if event.action == "updated" else [],
        }
        for event in events
    ]
    documents = [{key: value for key, value in row.items() if key != "fields"} for row in rows]
    emit(rows, _COLUMNS, output, kind="EventList", documents=documents)
    if not rows:
        note("no events")
