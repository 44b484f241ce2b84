"""Explanation: what a kind's fields are, as rows for `gridctl explain`. Renders nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.resources import KINDS, Metadata, Resource, kind_named

if TYPE_CHECKING:
    import msgspec

    from gridctl.manifest.shape import Field

_LONGEST_WORD = 64


def explain(path: str) -> list[dict[str, object]]:
    """Rows for a kind (`site`: all its fields) or a field and what is below it (`site.tier`, `workload.objectives`).

    Each row has `field, type, required, default, allowed, description`; `field` is the path in a manifest, with `[]`
    after a list and `.*` after a mapping. `spec.` may be left out of `path`.

    >>> explain("site.tier")[0]["allowed"]
    'edge | metro | regional | core'

    Raises NotFoundError naming the closest kind or field.
    """
    word, *steps = path.replace("[]", "").replace(".*", "").strip(".").split(".")
    kind = kind_named(word)
    if kind is None:
        nouns = [one.noun for one in KINDS.values()]
        raise NotFoundError(
            f"there is no kind {word[:_LONGEST_WORD]!r}", where=path[:200], fix=_suggestion(word, nouns, "")
        )
    if not steps:
        from gridctl.manifest.cells import spec_of

        return [*_rows(Metadata, "metadata"), *_rows(spec_of(kind), "spec")]
    return _rows_of_field(kind, steps, path)


def _rows_of_field(kind: type[Resource], steps: list[str], path: str) -> list[dict[str, object]]:
    from gridctl.manifest.cells import spec_of
    from gridctl.manifest.shape import fields_of, struct_of

    at: str
    struct: type[msgspec.Struct]
    if steps[0] in ("spec", "metadata"):
        at, steps = steps[0], steps[1:]
    else:
        at = "metadata" if steps[0] in fields_of(Metadata) else "spec"
    struct = Metadata if at == "metadata" else spec_of(kind)
    if not steps:
        return list(_rows(struct, at))
    seen = kind.noun
    for position, step in enumerate(steps):
        fields = fields_of(struct)
        field = fields.get(step)
        if field is None:
            what = f"{seen} has no field {step[:_LONGEST_WORD]!r}"
            raise NotFoundError(what, where=path[:200], fix=_suggestion(step, list(fields), f"{seen}."))
        here = f"{at}.{step}"
        seen = f"{seen}.{step}"
        inner = struct_of(field.type)
        if position == len(steps) - 1:
            return [_row(field, here), *(_rows(inner, _inside(field, here)) if inner else ())]
        if inner is None:
            raise NotFoundError(f"{seen} has no fields of its own", where=path[:200], fix=f"gridctl explain {seen}")
        struct, at = inner, _inside(field, here)
    return []


def _suggestion(word: str, known: list[str], prefix: str) -> str:
    close = did_you_mean(word.lower(), known) if len(word) <= _LONGEST_WORD else None
    return f"did you mean {prefix}{close}?" if close else "known: " + ", ".join(known)


def _inside(field: Field, at: str) -> str:
    from msgspec import inspect

    from gridctl.manifest.shape import item_type

    if isinstance(field.type, inspect.DictType):
        return f"{at}.*"
    return f"{at}[]" if item_type(field.type) is not None else at


def _rows(struct: type[msgspec.Struct], at: str) -> Iterator[dict[str, object]]:
    """One row for each field of a struct and, below it, for each field of the structs inside."""
    from gridctl.manifest.shape import fields_of, struct_of

    for name, field in fields_of(struct).items():
        here = f"{at}.{name}"
        yield _row(field, here)
        inner = struct_of(field.type)
        if inner is not None:
            yield from _rows(inner, _inside(field, here))


def _row(field: Field, at: str) -> dict[str, object]:
    from gridctl.manifest.shape import type_words

    return {
        "field": at,
        "type": type_words(field.type),
        "required": field.required,
        "default": None if field.required else _default_words(field.default),
        "allowed": field.range,
        "description": field.description,
    }


def _default_words(default: Any) -> str:
    """A default as a manifest would write it; `none` for an absent one, and a struct's own fields say theirs."""
    from gridctl.manifest.shape import number_words

    if default is None:
        return "none"
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, int | float):
        return number_words(default)
    if isinstance(default, str):
        return default or '""'
    if isinstance(default, tuple | list):
        return "[" + ", ".join(map(str, default)) + "]"
    return "{}" if isinstance(default, dict) else "see its fields"
