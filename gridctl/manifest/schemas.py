"""Schemas: a JSON Schema for each kind, for editors and for programs that write manifests."""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.resources import Resource

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(kind: type[Resource]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a kind's manifest: ranges, defaults, and a description of every field."""
    from gridctl.manifest.fields import DESCRIPTIONS

    generated = msgspec.json.schema(kind)
    definitions: dict[str, Any] = generated["$defs"]
    for struct_name, definition in definitions.items():
        properties: dict[str, Any] = definition.get("properties", {})
        for name, sentence in DESCRIPTIONS.get(struct_name, {}).items():
            # a reference to another definition keeps its own description beside this one: 2020-12 allows both
            properties[name]["description"] = sentence
    return {
        "$schema": DIALECT,
        "title": kind.__name__,
        "description": kind.summary,
        **generated,
    }
