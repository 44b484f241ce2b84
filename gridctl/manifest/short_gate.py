"""Short gates: an entry of a list that is a gate in one line, alone or under a name.

    - ttft_ms.p95 < 200ms where workload=voice-agent
    - cheap: usd_per_mtok <= baseline * 1.05

Decides when an entry is one; the language is `resources.gate_expression`'s.
"""

from __future__ import annotations

import msgspec

from gridctl.errors import InputError
from gridctl.manifest.document import Item
from gridctl.resources import Gate, Metadata
from gridctl.resources.gate_expression import gate_name, gate_text, parse_gate

_COMPARES = ("<", ">", "≤", "≥", "=")


def is_short_gate(item: Item) -> bool:
    """Whether a list entry is meant as a gate in one line: text that compares something."""
    return bool(item.path) and _expression(item.value) is not None


def short_gate(item: Item, name: str) -> Gate:
    """The gate of an entry. Raises: InputError at the entry's place."""
    found = _expression(item.value)
    assert found is not None, "only entries that are short gates come here"
    title, text = found
    where = item.where(name, () if title is None else (title,))
    try:
        spec = parse_gate(text)
        metadata = msgspec.convert({"name": gate_name(gate_text(spec)) if title is None else title}, Metadata)
    except InputError as error:
        error.where = where
        raise
    except msgspec.ValidationError:
        raise InputError(
            f"{str(title)[:63]!r} is no name for a gate", where=where, fix=f"call it {gate_name(str(title))}"
        ) from None
    return Gate(metadata=metadata, spec=spec)


def _expression(value: object) -> tuple[str | None, str] | None:
    """The name, if it has one, and the text of a gate in one line; None for anything else."""
    title: str | None = None
    if isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        if key == "kind" or not isinstance(key, str):
            return None
        title = key
    if not isinstance(value, str) or not any(sign in value for sign in _COMPARES):
        return None
    return title, value
