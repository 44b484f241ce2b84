"""Cells: how one value is written in a CSV cell, and read back without loss.

Text stands as it is; text that a reader or a spreadsheet would change (empty, with outer spaces, beginning with a quote
or with one of = + - @, which spreadsheets run as formulas) stands as a JSON string. A list is written `a;b`, or as a
JSON array where an entry needs it or entries are structs; an entry of a mapping that is a struct is a JSON object. An
empty cell means the field is absent.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import inspect

from gridctl.errors import InputError
from gridctl.manifest.json_reader import decode_value
from gridctl.manifest.scalars import plain_value
from gridctl.manifest.shape import bare_type, fields_of, item_type, struct_of
from gridctl.resources import Resource

Column = tuple[tuple[str, ...], inspect.Type]
"""A field's path and the type of its cells."""

_FORMULA = ("=", "+", "-", "@", "\t")
_LIST_BREAK = ";"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def spec_of(kind: type[Resource]) -> type[msgspec.Struct]:
    """The struct of a kind's `spec`."""
    spec = struct_of(fields_of(kind)["spec"].type)
    assert spec is not None
    return spec


def columns_of(struct: type[msgspec.Struct], prefix: tuple[str, ...] = ()) -> dict[str, Column]:
    """Every column of a struct by dotted name: the path of its field and the type of its cells.

    A mapping's column is named `field.` and stands for all columns that begin so.
    """
    columns: dict[str, Column] = {}
    for name, field in fields_of(struct).items():
        path = (*prefix, name)
        if isinstance(field.type, inspect.StructType):
            columns |= columns_of(field.type.cls, path)
        elif isinstance(field.type, inspect.DictType):
            columns[".".join(path) + "."] = path, bare_type(field.type.value_type)[0]
        else:
            columns[".".join(path)] = path, field.type
    return columns


def write_text(text: str) -> str:
    """Text as a cell (or as the last part of a column's name)."""
    if not text or text != text.strip() or text[0] == '"' or text.startswith(_FORMULA) or _CONTROL.search(text):
        return msgspec.json.encode(text).decode()
    return text


def write_cell(value: object) -> str:
    """A plain value as a cell; None is an empty one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return write_text(value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, str) and one[:1] != "[" and _is_list_safe(one) for one in value):
            return _LIST_BREAK.join(value)
        return msgspec.json.encode(value).decode()
    return repr(value)


def _is_list_safe(text: str) -> bool:
    return _LIST_BREAK not in text and write_text(text) == text


def read_text(cell: str, where: str) -> str:
    """The text of a cell; a JSON string is decoded. Raises InputError."""
    if cell[:1] != '"':
        return cell
    value = _read_json(cell, where)
    return value if isinstance(value, str) else cell


def read_cell(cell: str, type_: inspect.Type, where: str) -> Any:
    """The value of a non-empty cell for a field of that type.

    A cell that does not fit its type is returned as text, for the diagnosis to explain. Raises InputError for broken
    JSON in the cell.
    """
    inner = item_type(type_)
    if inner is not None:
        if cell[0] == "[":
            return _read_json(cell, where)
        entry_type = bare_type(inner)[0]
        return [read_cell(one.strip(), entry_type, where) for one in cell.split(_LIST_BREAK) if one.strip()]
    match type_:
        case inspect.IntType() | inspect.FloatType():
            value = plain_value(cell)
            return value if isinstance(value, int | float) and not isinstance(value, bool) else cell
        case inspect.StructType() if cell[0] == "{":
            return _read_json(cell, where)
        case inspect.BoolType():
            return {"true": True, "false": False}.get(cell.lower(), cell)
        case _:
            return read_text(cell, where)


def _read_json(cell: str, where: str) -> object:
    try:
        value, end = decode_value(cell, 0, where, 1)
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix) from None
    if cell[end:].strip():
        raise InputError("more text follows the value in this cell", where=where, fix="write one value in a cell")
    return value
