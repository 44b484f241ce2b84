"""CSV of one kind: a header of dotted field names and a row for each resource, as `csv_reader` reads it back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from gridctl.manifest.cells import columns_of, spec_of, write_cell, write_text
from gridctl.resources import Resource


def write_csv(kind: type[Resource], documents: Iterable[Mapping[str, Any]]) -> str:
    """Resources of one kind, given in canonical form, as a CSV; columns that no resource uses are left out."""
    known = list(columns_of(spec_of(kind)))
    rows = [_row(document, known) for document in documents]
    used = {column for row in rows for column in row}
    header: list[str] = []
    for column in ["kind", "name", *known, "labels."]:
        if column.endswith("."):
            header += sorted(one for one in used if one.startswith(column))
        elif column in used:
            header.append(column)
    text = io.StringIO()
    table = csv.DictWriter(text, header, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _row(document: Mapping[str, Any], known: list[str]) -> dict[str, str]:
    metadata = document["metadata"]
    row = {"kind": document["kind"], "name": metadata["name"]}
    _flatten(document["spec"], "", known, row)
    row |= {f"labels.{write_text(key)}": write_cell(value) for key, value in metadata.get("labels", {}).items()}
    return row


def _flatten(mapping: Mapping[str, Any], prefix: str, known: list[str], row: dict[str, str]) -> None:
    for name, value in mapping.items():
        column = prefix + name
        if not isinstance(value, dict):
            row[column] = write_cell(value)
        elif f"{column}." in known:
            row |= {f"{column}.{write_text(key)}": write_cell(entry) for key, entry in value.items()}
        else:
            _flatten(value, f"{column}.", known, row)
