"""Judging: is a fresh answer the same as the kept one? It makes the labels that the promise is kept by.

Decides by one of two rules, a workload's `judge`:

    text      the same words, up to case, width, spacing and the punctuation at the ends
    meaning   cosine of the answers' vectors ≥ 0.86, and no number, date, unit, negation or piece of code differs

An error towards "different" costs hits; one towards "same" would break the promise, so in doubt they differ. `text` has
no such errors where an answer is data (a call, a label, a template); it calls free prose different almost always.
`meaning` calls a false pair the same where the difference is in a name that its guards do not see, so names are
compared as well: a capitalised word that only one answer has makes them differ. What users report can only take away.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.cache.exact import normalised
from gridctl.cache.guards import Rarity, compare, read

SAME_MEANING = 0.86
"""Least cosine of answers that mean the same; calibrate it against `gridctl cache feedback` where it matters."""
LONGEST_JUDGED = 4_096
"""Characters; longer answers are the same only when their text is, since the guards read no further."""
_ENDS = " \t\n\r.!?,;:\"'`*_"
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[^\W\d_a-z][\w-]*")
_NO_RARITY = Rarity()

VectorOf = Callable[[str], "NDArray[np.float32] | None"]


def text_of(content: bytes) -> str:
    """The words of a stored answer: its `content`, `text` or `output`, in one or in parts; what has none of them is
    compared whole, as canonical JSON."""
    try:
        value = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content.decode("utf-8", "replace")
    found = _words(value)
    return msgspec.json.encode(value, order="sorted").decode() if found is None else found


def is_same(judge: str, fresh: str, kept: str, vector_of: VectorOf) -> bool:
    """Whether two answers' texts are the same. `vector_of` gives a text's unit vector, None when there is none."""
    if _plain(fresh) == _plain(kept):
        return True
    if judge != "meaning" or max(len(fresh), len(kept)) > LONGEST_JUDGED:
        return False
    if _details_differ(fresh, kept):
        return False
    first, second = vector_of(fresh), vector_of(kept)
    return first is not None and second is not None and float(first @ second) >= SAME_MEANING


def _plain(text: str) -> str:
    return normalised(text).strip(_ENDS)


def _details_differ(a: str, b: str) -> bool:
    pair = compare(read(a), read(b), _NO_RARITY)
    if pair.numbers_differ or pair.dates_differ or pair.units_differ or pair.polarity_differs or pair.code_differs:
        return True
    if read(a).is_negated != read(b).is_negated:
        return True
    names, others = set(_NAME.findall(a)), set(_NAME.findall(b))
    spoken_a, spoken_b = a.lower(), b.lower()
    return any(name.lower() not in spoken_b for name in names) or any(name.lower() not in spoken_a for name in others)


def _words(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    message = value.get("message")
    for place in (message if isinstance(message, dict) else {}, value):
        for name in ("content", "text", "output"):
            said = place.get(name)
            if isinstance(said, str):
                return said
            if isinstance(said, list) and said:
                return _of_parts(said)
    return None


def _of_parts(parts: list[Any]) -> str | None:
    """The words of parts that all have some, one below the other."""
    words = [_words(part) for part in parts]
    return "\n".join([word for word in words if word is not None]) if None not in words else None
