"""The OpenAPI 3.1 document of the admin API, made from its routes and the structs they take and give.

Nothing is written twice: a route that is served is in the document, with the very type its body is decoded to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gridctl import __version__
from gridctl.control.admin import JSON, Route
from gridctl.control.messages import Problem
from gridctl.control.problems import MEDIA_TYPE

TEMPLATE = "#/components/schemas/{name}"
_NAME = re.compile(r"\{(\w+)\}")
ERRORS = {
    "400": "a parameter is wrong",
    "401": "no token, or none that is known",
    "403": "the role does not suffice",
    "404": "it does not exist",
    "408": "the body did not come in time",
    "409": "it changed since it was read",
    "413": "the body is too long",
    "415": "the body is not JSON",
    "422": "the body, or what it declares, is wrong",
    "500": "gridctl failed",
    "503": "the grid's database cannot be used now",
}


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document, as plain values."""
    types: list[Any] = [Problem]
    for route in routes:
        types += [kind() for kind in (route.answer, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, schema_hook=_any, ref_template=TEMPLATE)
    found = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gridctl admin API",
            "version": __version__,
            "description": "What a running orchestrator tells, and how its grid is changed. Roles: viewer < operator < "
            "admin; each route names the least it needs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "responses": {"Problem": _content("An error.", MEDIA_TYPE, found[id(Problem)])},
        },
    }


def _any(kind: type) -> dict[str, Any]:
    """A field that may hold any JSON value is declared as `object`."""
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError


def _operation(route: Route, found: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "description": f"Needs the role {route.role}.",
        "x-role": route.role,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _names(route)),
            *(
                {
                    "name": parameter.name,
                    "in": "query",
                    "required": False,
                    "description": parameter.description,
                    "schema": {"type": "integer", "minimum": 0} if parameter.is_integer else {"type": "string"},
                }
                for parameter in route.query
            ),
        ],
        "responses": {
            str(route.status): _content("Done.", "text/plain", {"type": "string"})
            if route.answer is None
            else _content("Done.", JSON, found[id(route.answer())]),
            **{status: {"$ref": "#/components/responses/Problem"} for status in ERRORS},
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": found[id(route.body())]}}}
    return operation


def _content(description: str, media_type: str, schema: object) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _names(route: Route) -> list[str]:
    return _NAME.findall(route.path)


def _identifier(route: Route) -> str:
    """A name for generated clients: getResourcesByKindByName.

    Unique, because a method and a path are."""
    parts = [
        f"by-{part.strip('{}')}" if part.startswith("{") else part
        for part in route.path.strip("/").replace(".", "-").split("/")
        if part != "v1"
    ]
    words = "-".join(parts).split("-")
    return route.method.lower() + "".join(word.capitalize() for word in words)
