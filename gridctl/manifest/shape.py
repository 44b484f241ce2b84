"""Shape: the fields of a kind, as data: type, default, range, description, and their words for people.

Read once per struct from msgspec's own description of it, so that error messages, `explain`, the CSV columns and the
JSON Schemas can never disagree with what the kinds enforce.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from gridctl.manifest.fields import DESCRIPTIONS


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct. `type` has no null and no annotation; `optional` says null is allowed; `range` is the
    allowed values in words."""

    name: str
    type: inspect.Type
    optional: bool
    required: bool
    default: object
    range: str
    description: str


@cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """The fields of a struct by name, in the order they are declared."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    hints = get_type_hints(struct)
    described = DESCRIPTIONS.get(struct.__name__, {})
    fields: dict[str, Field] = {}
    for one in info.fields:
        bare, optional, note = bare_type(one.type)
        default: object = None
        if one.default is not msgspec.NODEFAULT:
            default = one.default
        elif one.default_factory is not msgspec.NODEFAULT:
            default = one.default_factory()
        limits = " | ".join(_choices(hints[one.name])) or range_words(bare, note)
        fields[one.name] = Field(one.name, bare, optional, one.required, default, limits, described.get(one.name, ""))
    return fields


def _choices(hint: object) -> tuple[str, ...]:
    """The values of a Literal in the order they are declared, which msgspec does not keep."""
    if get_origin(hint) is Literal:
        return tuple(str(value) for value in get_args(hint))
    return next((found for part in get_args(hint) if (found := _choices(part))), ())


def bare_type(type_: inspect.Type) -> tuple[inspect.Type, bool, str]:
    """The type without null and annotation, whether null is allowed, and the annotation's description."""
    optional = False
    note = ""
    if isinstance(type_, inspect.UnionType):
        optional = any(isinstance(one, inspect.NoneType) for one in type_.types)
        type_ = next(one for one in type_.types if not isinstance(one, inspect.NoneType))
    if isinstance(type_, inspect.Metadata):
        note = str((type_.extra_json_schema or {}).get("description", ""))
        type_ = type_.type
    return type_, optional, note


def item_type(type_: inspect.Type) -> inspect.Type | None:
    """The type of a list's entries, or None for anything but a list."""
    return type_.item_type if isinstance(type_, inspect.VarTupleType | inspect.ListType) else None


def struct_of(type_: inspect.Type) -> type[msgspec.Struct] | None:
    """The struct a field holds, directly or as list entries, or None."""
    inner = item_type(type_)
    if inner is not None:
        type_ = bare_type(inner)[0]
    return type_.cls if isinstance(type_, inspect.StructType) else None


def type_words(type_: inspect.Type) -> str:
    """A type in words: `whole number`, `list of text`."""
    inner = item_type(type_)
    if inner is not None:
        return f"list of {type_words(bare_type(inner)[0])}"
    match type_:
        case inspect.IntType():
            return "whole number"
        case inspect.FloatType():
            return "number"
        case inspect.BoolType():
            return "true or false"
        case inspect.StructType() | inspect.DictType():
            return "mapping"
        case inspect.TupleType():
            return f"[{', '.join(type_words(bare_type(one)[0]) for one in type_.item_types)}]"
        case _:
            return "text"


def range_words(type_: inspect.Type, note: str = "") -> str:
    """The allowed values in words: `-90 to 90`, `edge, metro, regional or core`; empty when anything goes."""
    match type_:
        case inspect.IntType() | inspect.FloatType():
            return _number_range(type_)
        case inspect.LiteralType():
            return " | ".join(str(value) for value in type_.values)
        case inspect.BoolType():
            return "true | false"
        case inspect.StrType():
            if type_.pattern is not None:
                return note
            return f"up to {type_.max_length} characters" if type_.max_length else note
        case inspect.DictType():
            return _dict_range(type_)
    inner = item_type(type_)
    if inner is None:
        return note
    bare, _, inner_note = bare_type(inner)
    words = range_words(bare, inner_note)
    if getattr(type_, "min_length", None):
        return f"at least {type_.min_length}" + (f"; {words}" if words else "")  # type: ignore[attr-defined]
    return words


def _dict_range(type_: inspect.DictType) -> str:
    value, _, note = bare_type(type_.value_type)
    words = range_words(value, note)
    return f"values: {words}" if words else ""


def _number_range(type_: inspect.IntType | inspect.FloatType) -> str:
    low = type_.ge if type_.ge is not None else type_.gt
    high = type_.le if type_.le is not None else type_.lt
    if low is None or high is None:
        return ""
    text = f"{number_words(low)} to {number_words(high)}"
    if type_.gt is not None:
        text = (
            f"more than {number_words(low)}, " + ("below " if type_.lt is not None else "up to ") + number_words(high)
        )
    elif type_.lt is not None:
        text = f"{number_words(low)} to below {number_words(high)}"
    return text


def number_words(value: float) -> str:
    """A number as a manifest writes it: 90 rather than 90.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)
