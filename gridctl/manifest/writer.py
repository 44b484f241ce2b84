"""Writer: resources as canonical YAML, JSON, JSON Lines or CSV.

Canonical means: fields in the order the kinds declare them, defaults left out, labels sorted, one spelling for each
value; so that equal resources are equal text, and what is written reads back equal. Text is quoted wherever this or any
other YAML reader could take it for something else (`NO`, `1e5`, `2026-11-23`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal

import msgspec

from gridctl.errors import UsageError
from gridctl.resources import API_VERSION, Resource

Format = Literal["yaml", "json", "jsonl", "csv"]

_PLAIN = re.compile(r"[^\W\d_](?:[\w ./()'+-]*[\w./()'+-])?")
_RESERVED = frozenset(("y", "yes", "n", "no", "on", "off", "true", "false", "null", "none", "inf", "nan"))
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_LONGEST_SIMPLE_KEY = 1000
"""Characters; YAML allows 1,024 for a key on one line."""


def dump(resources: Iterable[Resource], format: Format) -> str:  # noqa: A002 (the word of the command line)
    """The resources as a manifest, in the order given.

    YAML is one document each, JSON one envelope with `items`, JSON Lines one resource on each line, CSV one row each.
    Raises UsageError for a CSV of several kinds and for an unknown format.
    """
    match format:
        case "yaml":
            return "---\n".join("".join(_yaml_mapping(canonical(one), "")) for one in resources)
        case "json":
            items = [canonical(one) for one in resources]
            text = msgspec.json.encode({"apiVersion": API_VERSION, "kind": "List", "items": items})
            return msgspec.json.format(text, indent=2).decode() + "\n"
        case "jsonl":
            return "".join(msgspec.json.encode(canonical(one)).decode() + "\n" for one in resources)
        case "csv":
            return _csv(list(resources))
    raise UsageError(f"manifests are not written as {format!r}", where="-o", fix="use yaml, json, jsonl or csv")


def canonical(resource: Resource) -> dict[str, Any]:
    """A resource as plain values, apiVersion and kind first, defaults left out."""
    return {
        "apiVersion": resource.apiVersion,
        "kind": resource.kind,
        "metadata": _pruned(resource.metadata),
        "spec": _pruned(resource.spec),
    }


@cache
def _defaults(struct: type[msgspec.Struct]) -> tuple[tuple[str, object], ...]:
    """Each field with its default; NODEFAULT for a required one."""
    pairs: list[tuple[str, object]] = []
    for field in msgspec.structs.fields(struct):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        pairs.append((field.name, default))
    return tuple(pairs)


def _pruned(struct: msgspec.Struct) -> dict[str, Any]:
    # msgspec's own omit_defaults compares floats by identity, so a default that was read from a file would stay
    return {
        name: _plain(value)
        for name, default in _defaults(type(struct))
        if (value := getattr(struct, name)) != default or default is msgspec.NODEFAULT
    }


def _plain(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        return _pruned(value)
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def _yaml_mapping(mapping: dict[str, Any], indent: str) -> Iterator[str]:
    """Lines of a block mapping; the first one has no indent, for the caller has written it."""
    lead = ""
    for key, value in mapping.items():
        name = _yaml_text(key)
        begin = f"{name}:" if len(name) <= _LONGEST_SIMPLE_KEY else f"? {name}\n{indent}:"
        yield f"{lead}{begin}"
        yield from _yaml_value(value, indent)
        lead = indent


def _yaml_value(value: object, indent: str) -> Iterator[str]:
    """What follows a key and its colon, up to and with the line's end."""
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        yield f"\n{deeper}"
        yield from _yaml_mapping(value, deeper)
    elif _is_points(value):
        yield f" {_yaml_scalar(value)}\n"
    elif isinstance(value, list) and value:
        yield "\n"
        for entry in value:
            yield f"{deeper}- "
            if isinstance(entry, dict) and entry:
                yield from _yaml_mapping(entry, deeper + "  ")
            else:
                yield _yaml_scalar(entry) + "\n"
    else:
        yield f" {_yaml_scalar(value)}\n"


def _is_points(value: object) -> bool:
    """A curve: a list of lists of numbers, written on as few lines as it takes."""
    return isinstance(value, list) and bool(value) and all(isinstance(entry, list) for entry in value)


def _yaml_scalar(value: object) -> str:
    if isinstance(value, str):
        return _yaml_text(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return f"[{', '.join(_yaml_scalar(entry) for entry in value)}]"
    text = repr(value)
    # YAML 1.1 readers take 1e-07 for text: a number with an exponent needs its point
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text


def _yaml_text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _RESERVED:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + _UNPRINTABLE.sub(_escape, escaped) + '"'


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _csv(resources: list[Resource]) -> str:
    from gridctl.manifest.csv_writer import write_csv

    kinds = {one.kind: type(one) for one in resources}
    if len(kinds) > 1:
        raise UsageError(
            f"a CSV holds one kind, and these are {', '.join(sorted(kinds))}",
            where="-o csv",
            fix="export one kind at a time, or use -o yaml",
        )
    return "".join(write_csv(kind, [canonical(one) for one in resources]) for kind in kinds.values())
