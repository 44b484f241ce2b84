"""Diagnosis: every problem of one value that its kind refused, in words, with the edit that repairs it.

Runs only after msgspec has refused a value. msgspec stops at the first problem and speaks of Python types; an operator
wants all of them at once, in the manifest's words. Accepts nothing and changes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from msgspec import inspect

from gridctl.errors import did_you_mean
from gridctl.manifest.document import Path
from gridctl.manifest.quantities import meant_number
from gridctl.manifest.shape import (
    Field,
    bare_type,
    fields_of,
    item_type,
    number_words,
    range_words,
    struct_of,
    type_words,
)
from gridctl.resources import API_VERSION

_SHOWN = 60
_LONGEST_WORD = 64
_MANY_CHOICES = 20
"""More allowed words than this are for `gridctl explain` to list, not for a message."""
_TEXT_TRUE = frozenset(("true", "yes", "on", "y", "1"))
_TEXT_FALSE = frozenset(("false", "no", "off", "n", "0"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at `path` (a field path, or None for the item itself) and the edit that repairs it.

    `text` follows the field's name: "is 95, which is outside -90 to 90". `at_key` points at the key, not the value.
    """

    path: Path
    text: str
    fix: str | None = None
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class _Expected:
    """A type to hold a value against: its field's name (for units), the allowed values in words, null or not."""

    type: inspect.Type
    name: str
    range: str
    optional: bool


def diagnose(value: object, kind: type[msgspec.Struct]) -> Iterator[Problem]:
    """Every problem of a mapping that should be a `kind`."""
    assert isinstance(value, dict)
    yield from _struct({name: entry for name, entry in value.items() if name != "kind"}, kind, ())


def show(value: object) -> str:
    """A value as an error message quotes it.

    >>> show("a" * 90)[-8:], show(float("nan")), show([1])
    ('aaaa..."', 'NaN', 'a list')
    """
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) + '"'
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("infinity" if value > 0 else "-infinity")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:_SHOWN]


def _struct(value: dict[str, object], struct: type[msgspec.Struct], path: Path) -> Iterator[Problem]:
    fields = fields_of(struct)
    for name, entry in value.items():
        field = fields.get(name)
        if field is None:
            yield Problem((*path, name), "is not a field here", _unknown_fix(name, fields), at_key=True)
        else:
            expected = _Expected(field.type, name, field.range, field.optional)
            yield from _value(entry, expected, (*path, name))
    for name, field in fields.items():
        if field.required and name not in value:
            yield Problem((*path, name), "is missing", f"add {name}: {_filling(field)}")


def _filling(field: Field) -> str:
    """What to put after a missing field's name."""
    inner = struct_of(field.type)
    if inner is not None:
        return "with " + ", ".join(name for name, one in fields_of(inner).items() if one.required)
    return f"({type_words(field.type)}, {field.range})" if field.range else f"({type_words(field.type)})"


def _unknown_fix(name: str, fields: dict[str, Field]) -> str:
    if len(name) <= _LONGEST_WORD:
        folded = {one.lower().replace("_", "").replace("-", ""): one for one in fields}
        close = folded.get(name.lower().replace("_", "").replace("-", "")) or did_you_mean(name, fields)
        if close is not None:
            return f"did you mean {close}?"
        for outer, field in fields.items():
            inner = struct_of(field.type)
            if inner is not None and name in fields_of(inner):
                return f"did you mean {outer}.{name}? Indent it under {outer}"
    return "the fields here are " + ", ".join(fields)


def _value(value: object, expected: _Expected, path: Path) -> Iterator[Problem]:
    if value is None and expected.optional:
        return
    match expected.type:
        case inspect.IntType() | inspect.FloatType():
            yield from _number(value, expected, expected.type, path)
        case inspect.StructType():
            if isinstance(value, dict):
                yield from _struct(value, expected.type.cls, path)
            else:
                names = ", ".join(fields_of(expected.type.cls))
                yield Problem(path, f"is {show(value)}, not a mapping", f"indent its fields below it: {names}")
        case inspect.DictType():
            yield from _dict(value, expected.type, path)
        case inspect.LiteralType():
            yield from _choice(value, expected, expected.type, path)
        case inspect.BoolType():
            yield from _boolean(value, path)
        case inspect.StrType():
            yield from _text(value, expected, expected.type, path)
        case inspect.TupleType():
            yield from _entries(value, expected, expected.type, path)
        case _:
            yield from _list(value, expected, path)


def _list(value: object, expected: _Expected, path: Path) -> Iterator[Problem]:
    inner = item_type(expected.type)
    if inner is None:
        return
    if not isinstance(value, list):
        fix = f"write [{value}]" if isinstance(value, str | int | float) else 'begin each entry with "- "'
        yield Problem(path, f"is {show(value)}, not a list", fix)
        return
    least = getattr(expected.type, "min_length", None)
    if least is not None and len(value) < least:
        yield Problem(path, f"is an empty list; it needs at least {least}", f"add an entry to {path[-1]}")
    most = getattr(expected.type, "max_length", None)
    if most is not None and len(value) > most:
        yield Problem(path, f"has {len(value):,} entries; it may have {most:,}", "leave some out")
        return
    bare, optional, note = bare_type(inner)
    entry_expected = _Expected(bare, expected.name, range_words(bare, note), optional)
    for position, entry in enumerate(value):
        yield from _value(entry, entry_expected, (*path, position))


def _entries(value: object, expected: _Expected, type_: inspect.TupleType, path: Path) -> Iterator[Problem]:
    """A list of so many entries, each of a type of its own: a point of a curve."""
    bare_types = [bare_type(one) for one in type_.item_types]
    words = type_words(type_)
    if not isinstance(value, list):
        yield Problem(path, f"is {show(value)}, not a list", f"write {words}")
        return
    if len(value) != len(bare_types):
        yield Problem(path, f"has {len(value)} entries, not {len(bare_types)}", f"write {words}")
        return
    for position, (entry, (bare, optional, note)) in enumerate(zip(value, bare_types, strict=True)):
        inner = _Expected(bare, expected.name, range_words(bare, note), optional)
        yield from _value(entry, inner, (*path, position))


def _dict(value: object, type_: inspect.DictType, path: Path) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem(path, f"is {show(value)}, not a mapping", "write one 'key: value' on each line below it")
        return
    key_type, _, key_note = bare_type(type_.key_type)
    value_type, optional, note = bare_type(type_.value_type)
    expected_key = _Expected(key_type, str(path[-1]), range_words(key_type, key_note), False)
    expected = _Expected(value_type, str(path[-1]), range_words(value_type, note), optional)
    for key, entry in value.items():
        for problem in _value(key, expected_key, (*path, key)):
            yield Problem(problem.path, f"has a key that {problem.text}", problem.fix, at_key=True)
        yield from _value(entry, expected, (*path, key))


def _number(
    value: object, expected: _Expected, type_: inspect.IntType | inspect.FloatType, path: Path
) -> Iterator[Problem]:
    whole = isinstance(type_, inspect.IntType)
    wanted = "a whole number" if whole else "a number"
    if isinstance(value, str):
        meant = meant_number(value, expected.name)
        if meant is None:
            fix = f"write {wanted}" + (f", {expected.range}" if expected.range else "")
        else:
            fix = f"write {number_words(meant)}"
            fix += "; the unit is in the field's name" if re.search(r"[A-Za-z%$€£°]", value) else " without quotes"
        yield Problem(path, f"is the text {show(value)}, not {wanted}", fix)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        yield Problem(path, f"is {show(value)}, not {wanted}", f"write {wanted}, {expected.range}".rstrip(", "))
    elif not _within(value, type_):
        yield Problem(path, f"is {show(value)}; it must be {expected.range or 'finite'}")
    elif whole and isinstance(value, float):
        fix = f"write {int(value)}" if value.is_integer() else "round it to a whole number"
        yield Problem(path, f"is {show(value)}, not a whole number", fix)


def _within(value: float, type_: inspect.IntType | inspect.FloatType) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return (
        (type_.ge is None or value >= type_.ge)
        and (type_.gt is None or value > type_.gt)
        and (type_.le is None or value <= type_.le)
        and (type_.lt is None or value < type_.lt)
    )


def _choice(value: object, expected: _Expected, type_: inspect.LiteralType, path: Path) -> Iterator[Problem]:
    known = [str(one) for one in type_.values]
    if value in type_.values and isinstance(value, str):
        return
    if known == [API_VERSION]:
        yield Problem(path, f"is {show(value)}; this gridctl reads {API_VERSION}", f"write {API_VERSION}")
        return
    word = str(value) if isinstance(value, str) and len(value) <= _LONGEST_WORD else ""
    close = word.lower() if word.lower() in known else did_you_mean(word, known)
    allowed = f"one of {expected.range}" if len(known) <= _MANY_CHOICES else f"one of {len(known)} words"
    yield Problem(path, f"is {show(value)}; it must be {allowed}", f"did you mean {close}?" if close else None)


def _boolean(value: object, path: Path) -> Iterator[Problem]:
    if isinstance(value, bool):
        return
    word = str(value).lower()
    fix = "write true" if word in _TEXT_TRUE else "write false" if word in _TEXT_FALSE else "write true or false"
    yield Problem(path, f"is {show(value)}, not true or false", fix)


def _text(value: object, expected: _Expected, type_: inspect.StrType, path: Path) -> Iterator[Problem]:
    if not isinstance(value, str):
        plain = isinstance(value, int | float)
        fix = f'put it in quotes: "{show(value)}"' if plain else "write text, or remove the line"
        yield Problem(path, f"is {show(value)}, not text", fix)
    elif type_.max_length is not None and len(value) > type_.max_length:
        yield Problem(path, f"is {len(value):,} characters long", f"shorten it to {type_.max_length} characters")
    elif type_.pattern is not None and not re.search(type_.pattern, value):
        respelled = next((one for one in _respelled(value) if re.search(type_.pattern, one)), None)
        fix_words = f"write {respelled}" if respelled else None
        yield Problem(path, f"is {show(value)}; it must be {expected.range}", fix_words)


def _respelled(value: str) -> Iterator[str]:
    """Spellings a person may have meant: trimmed, in the other case, without accents, with '-' for what names lack."""
    import unicodedata

    text = value.strip()[:200]
    yield text
    yield text.upper()
    yield text.lower()
    ascii_text = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    yield re.sub(r"[^a-z0-9.-]+", "-", ascii_text).strip("-.")[:63].strip("-.")
