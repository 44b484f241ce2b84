"""JSON and JSONL text to items, with what lenient JSON parsers let through refused.

A key given twice, NaN and infinity, NUL and lone surrogates, and nesting bombs are errors. The standard library's
scanner does the work (its pair hook sees duplicate keys, which msgspec's decoder does not report); a small tokenizer
finds positions when something is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from gridctl.errors import InputError
from gridctl.manifest.document import (
    MAX_DEPTH,
    MAX_LINE,
    Item,
    Path,
    Places,
    Spot,
    at,
    check_count,
    depth_error,
    entries_of,
    nul_error,
    spot_at,
)

_SPACE = re.compile(r"[ \t\n\r]*")
# Possessive: a string matches in one way only, and remembering the others took 100 bytes a character.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},:]|[^\s"\[\]{},:]+', re.DOTALL)
_RISKY_ESCAPE = re.compile(r"\\u(?:0000|[dD][89abAB-fF])")
_LONGEST_INTEGER = 40


class _DuplicateKeyError(Exception):
    """A key that an object gives twice; its position is found afterwards."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise _DuplicateKeyError
    return mapping


def _integer(text: str) -> int | float:
    # int() refuses thousands of digits and takes quadratic time below that; as a float it fails its range check.
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer).raw_decode


def read_json(text: str, name: str, problems: list[InputError]) -> Iterator[Item]:
    """The items of a JSON text: one value, or several one after another.

    Raises InputError at the first thing that is not JSON; `problems` is part of every reader's signature.
    """
    index = _skip(text, 0)
    line = 1 + text.count("\n", 0, index)
    while index < len(text):
        value, end = decode_value(text, index, name, 1)
        for entry, begin, finish, path in _entries(text, index, end, value):
            line += text.count("\n", index, begin)
            index = begin
            yield Item(entry, line, partial(_places_at, text, begin, finish, path, 1), path)
        line += text.count("\n", index, end)
        index = _skip(text, end)
        line += text.count("\n", end, index)


def read_jsonl(text: str, name: str, problems: list[InputError]) -> Iterator[Item]:
    """The items of a JSON Lines text: each line one value. Bad lines go to `problems` and reading goes on."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.isspace():
            continue
        check_count(problems, name)
        if len(line) > MAX_LINE:
            problems.append(line_error(f"{name}:{number}"))
            continue
        begin = _skip(line, 0)
        try:
            value, end = decode_value(line, begin, name, number)
        except InputError as error:
            problems.append(error)
            continue
        if line[end:].strip():
            problems.append(
                InputError(
                    "more text follows the value on this line",
                    where=f"{name}:{number}:{_skip(line, end) + 1}",
                    fix="write one resource per line",
                )
            )
            continue
        for entry, start, finish, path in _entries(line, begin, end, value):
            yield Item(entry, number, partial(_places_at, line, start, finish, path, number), path)


def line_error(where: str) -> InputError:
    """The refusal of a line that is too long."""
    return InputError(f"the line is longer than {MAX_LINE:,} characters", where=where, fix="split it into resources")


def decode_value(text: str, index: int, name: str, first_line: int) -> tuple[object, int]:
    """The value at `index` and the offset after it. Raises InputError with the position of what is wrong."""
    try:
        value, end = _decode(text, index)
    except json.JSONDecodeError as error:
        raise _syntax_error(error, text, name, first_line) from None
    except (_DuplicateKeyError, RecursionError):
        raise _structure_error(text, index, name, first_line) from None
    if _RISKY_ESCAPE.search(text, index, end):
        _check_characters(value, (), _places_at(text, index, end, (), first_line), name)
    return value, end


def _skip(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _entries(text: str, begin: int, end: int, value: object) -> Iterator[tuple[object, int, int, Path]]:
    """Each resource of a decoded value with its span; the text is known to be sound."""
    entries, prefix = entries_of(value)
    if entries is None:
        yield value, begin, end, ()
        return
    index = begin
    if prefix:
        index = _skip(text, begin + 1)
        while True:
            key, index = _decode(text, index)
            index = _skip(text, _skip(text, index) + 1)
            if key == "items":
                break
            _, index = _decode(text, index)
            index = _skip(text, _skip(text, index) + 1)
    for position in range(len(entries)):
        index = _skip(text, index + 1)
        entry, finish = _decode(text, index)
        yield entry, index, finish, (*prefix, position)
        index = _skip(text, finish)


def _places_at(text: str, begin: int, end: int, path: Path, first_line: int) -> Places:
    """Positions of every key and value in `text[begin:end]`, which is sound, under `path`."""
    places = Places()
    for spot, place, is_key in _walk(text, begin, end, first_line):
        (places.keys if is_key else places.values)[path + place] = spot
    return places


def _walk(text: str, begin: int, end: int, first_line: int) -> Iterator[tuple[Spot, Path, bool]]:
    """Every key and value of `text[begin:end]`: its spot, its path, and whether it is a key.

    Text that is not JSON makes no error here, only places of no use.
    """
    stack: list[list[Any]] = []  # [key or index, whether a key comes next]
    line, col = spot_at(text, begin)
    line, line_start, last = line + first_line - 1, begin - col + 1, begin
    for token in _TOKEN.finditer(text, begin, end):
        word, start = token.group(), token.start()
        if breaks := text.count("\n", last, start):
            line, line_start = line + breaks, text.rfind("\n", last, start) + 1
        last = start
        top = stack[-1] if stack else None
        if word in "]}":
            if stack:
                stack.pop()
        elif word == ",":
            if top is not None and isinstance(top[0], int):
                top[0] += 1
            elif top is not None:
                top[1] = True
        elif word != ":":
            is_key = top is not None and top[1]
            if top is not None and is_key:
                top[:] = [_text_of(word), False]
            yield (line, start - line_start + 1), tuple(step for step, _ in stack), is_key
            if word in "{[" and not is_key:
                stack.append(["", True] if word == "{" else [0, False])


def _text_of(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError:
        return word


def _structure_error(text: str, begin: int, name: str, first_line: int) -> InputError:
    """The duplicate key or the nesting that stopped the decoder."""
    seen: set[Path] = set()
    for spot, path, is_key in _walk(text, begin, len(text), first_line):
        if len(path) > MAX_DEPTH:
            return depth_error(at(name, spot))
        if is_key and path in seen:
            what = f"the key {str(path[-1])[:60]!r} is given twice"
            return InputError(what, where=at(name, spot), fix="remove one of the two")
        if is_key:
            seen.add(path)
    return InputError("not valid JSON", where=f"{name}:{first_line}", fix="write the file again")


def _syntax_error(error: json.JSONDecodeError, text: str, name: str, first_line: int) -> InputError:
    line, col = spot_at(text, error.pos)
    where = at(name, (line + first_line - 1, col))
    if error.msg.startswith("Unterminated string") or not text[error.pos :].strip():
        return InputError(
            "the JSON ends before it is complete", where=where, fix="the file was cut short; write it again"
        )
    fix = "check the comma, quote or bracket here"
    if text[error.pos] in "'":
        fix = "JSON text stands in double quotes"
    elif text.startswith(("//", "/*", "#"), error.pos):
        fix = "JSON has no comments; use YAML for them"
    elif text[error.pos] in "}]" and text[: error.pos].rstrip().endswith(","):
        fix = "remove the comma before it"
    return InputError(f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}", where=where, fix=fix)


def _check_characters(value: object, path: Path, places: Places, name: str) -> None:
    """Refuse NUL and lone surrogates, which the escapes of JSON can smuggle in."""
    if len(path) > MAX_DEPTH:
        raise depth_error(at(name, places.of(path)))
    if isinstance(value, str):
        if "\0" in value:
            raise nul_error(at(name, places.of(path)))
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InputError(
                "half of a surrogate pair is not text", where=at(name, places.of(path)), fix="write the whole character"
            )
    elif isinstance(value, dict):
        for key, entry in value.items():
            _check_characters(key, (*path, key), places, name)
            _check_characters(entry, (*path, key), places, name)
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            _check_characters(entry, (*path, position), places, name)
