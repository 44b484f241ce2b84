"""`gridctl explain`: what a kind or a field means."""

from __future__ import annotations

from typing import Annotated

import typer

from gridctl.cli.options import complete_kinds
from gridctl.cli.output import OutputOption, emit, write
from gridctl.errors import UsageError
from gridctl.render.rows import Column

_COLUMNS = (
    Column("field", "field"),
    Column("type", "type"),
    Column("required", "required"),
    Column("default", "default"),
    Column("allowed", "allowed"),
    Column("description", "description"),
)


def command(
    path: Annotated[
        str | None, typer.Argument(metavar="[KIND[.FIELD]]", help="Dotted when nested.", autocompletion=complete_kinds)
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of a kind, of a list (SiteList) or of a result (Run)."),
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Describe a kind's fields, or one field: type, default, range, meaning. With no argument, the kinds.

    Example:
      gridctl explain workload.objectives
      gridctl explain site --schema > site.schema.json
      gridctl explain Tokenomics --schema
    """
    if schema:
        _print_schema(path)
    elif path is None:
        _emit_kinds(output)
    else:
        emit_explanation(path, output)


def _print_schema(name: str | None) -> None:
    from gridctl.render.rows import json_text
    from gridctl.render.schemas import result_kinds, schema_of

    if name is None:
        results = ", ".join(result_kinds())
        raise UsageError("say which schema", where="--schema", fix=f"gridctl explain site --schema; results: {results}")
    write(json_text(schema_of(name)))


def emit_explanation(path: str, output: str) -> None:
    """Print the fields below `path`, such as `site` or `site.serverless`."""
    from gridctl.manifest import explain

    emit(explain(path), _COLUMNS, output, kind="FieldList", name_key="field")


def _emit_kinds(output: str) -> None:
    from gridctl.resources import KINDS

    columns = (Column("noun", "kind"), Column("kind", "in manifests"), Column("description", "description"))
    rows = [{"noun": kind.noun, "kind": name, "description": kind.summary} for name, kind in KINDS.items()]
    emit(rows, columns, output, kind="KindList", name_key="noun")
