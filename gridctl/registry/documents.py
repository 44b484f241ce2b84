"""Resources as canonical JSON text, and back.

Canonical: fields in the order the kind declares them, map keys sorted, defaults left out, numbers as their declared
type. Invariant: what is written can be read, because every text is decoded, and so validated, before it is stored.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from gridctl.errors import InputError, StoreError, raise_all
from gridctl.resources import KINDS, Resource, ResourceKey, key_of

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Draft(NamedTuple):
    """A resource ready to be stored: validated, with its canonical text."""

    key: ResourceKey
    resource: Resource
    text: str


@functools.cache
def _decoder(kind: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(KINDS[kind])


def drafts_of(resources: Sequence[Resource]) -> list[Draft]:
    """Canonical texts of `resources`, in order.

    Raises InputError for values outside their kind's range, text no store can hold, and a resource declared twice;
    all of them in one error.
    """
    drafts: list[Draft] = []
    errors: list[InputError] = []
    for resource in resources:
        try:
            drafts.append(_draft(resource))
        except InputError as error:
            errors.append(error)
    times = Counter(draft.key for draft in drafts)
    errors += [
        InputError(f"{key} is declared {count} times", where=str(key), fix="keep one of the declarations")
        for key, count in times.items()
        if count > 1
    ]
    raise_all(errors)
    return drafts


def _draft(resource: Resource) -> Draft:
    key = key_of(resource)
    try:
        text = _ENCODER.encode(resource).decode()
        canonical: Resource = _decoder(key.kind).decode(text)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{key} cannot be stored: {error}", where=str(key), fix="correct the value") from error
    # Databases disagree on U+0000 in text, and a terminal shows nothing where it stands.
    if "\\u0000" in text and _holds_nul(msgspec.to_builtins(canonical)):
        raise InputError(f"{key} holds a NUL character", where=str(key), fix="remove the character U+0000")
    return Draft(key, canonical, text)


def _holds_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_holds_nul(item) for pair in value.items() for item in pair)
        case list() | tuple():
            return any(_holds_nul(item) for item in value)
    return False


def resource_from(kind: str, name: str, text: str) -> Resource:
    """The resource a stored text declares. Raises StoreError when it is not one of this version's."""
    try:
        resource: Resource = _decoder(kind).decode(text)
    except KeyError:
        detail = f"this version knows no kind {kind}"
    except msgspec.MsgspecError as error:
        detail = str(error)
    else:
        return resource
    raise StoreError(
        f"{kind} {name} in the registry cannot be read: {detail}",
        where=f"{kind} {name}",
        fix="use the gridctl version that wrote it, or restore the registry from a backup",
    )
