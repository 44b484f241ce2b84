"""Schemas of what gridctl prints: a JSON Schema for each kind of `-o json`.

The schemas of results are files, written by hand when a key is added and never otherwise: they are the promise, and the
tests hold the output to them. Those of resources follow from the kinds, because what is printed applies again. Must not
read anything but the package's own files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.resources import KINDS, kind_named

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
_LIST = "List"


def result_kinds() -> list[str]:
    """Names of the kinds that are results, not resources."""
    return sorted(path.stem for path in SCHEMAS.glob("*.json"))


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a resource (`site`, `Site`), a list of them (`SiteList`) or a result (`Run`).

    Raises: NotFoundError with the nearest name.
    """
    if name in result_kinds():
        found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        return found
    kind = kind_named(name)
    if kind is not None:
        from gridctl.manifest import schema

        return schema(kind)
    if name.endswith(_LIST) and name.removesuffix(_LIST) in KINDS:
        return _list_schema(name)
    known = [*KINDS, *(f"{kind}{_LIST}" for kind in KINDS), *result_kinds()]
    near = did_you_mean(name, known)
    raise NotFoundError(
        f"there is no schema of {name[:64]!r}",
        where="KIND",
        fix=f"did you mean {near}?" if near else "kinds: " + ", ".join(known),
    )


def _list_schema(name: str) -> dict[str, Any]:
    """The envelope that `list -o json` prints around resources."""
    inner = schema_of(name.removesuffix(_LIST))
    dialect, definitions = inner.pop("$schema"), inner.pop("$defs")
    return {
        "$schema": dialect,
        "title": name,
        "description": f"Resources of kind {inner['title']}, as list and get print them.",
        "type": "object",
        "required": ["apiVersion", "kind", "items"],
        "properties": {
            "apiVersion": {"const": "gridctl/v1"},
            "kind": {"const": name},
            "items": {"type": "array", "items": {"$ref": inner["$ref"]}},
        },
        "$defs": definitions,
    }
