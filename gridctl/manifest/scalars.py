"""Scalars: what an unquoted word in YAML, or a number in a CSV cell, stands for.

YAML 1.2's core schema, narrower: `true` and `false` are the only booleans, decimal numbers without leading zeros the
only numbers. Everything else is the text that stands there, so that nobody is surprised by `NO`, `0644` or `12:30`.
"""

from __future__ import annotations

import re

_WORDS: dict[str, object] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "false": False,
    ".nan": float("nan"),
    ".NaN": float("nan"),
    ".NAN": float("nan"),
    **{f"{sign}.{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")},
}
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(\.[0-9]*)?|(\.[0-9]+))([eE][-+]?[0-9]+)?")
_NUMBER_START = frozenset("0123456789+-.")
_LONGEST_INTEGER = 40
"""Digits; int() refuses thousands and is slow below that, and a longer number fails its range as a float, too."""


def plain_value(text: str) -> object:
    """The value of an unquoted scalar.

    >>> [plain_value(text) for text in ("NO", "true", "48.85", "7", "007", "1e3", "~")]
    ['NO', True, 48.85, 7, '007', 1000.0, None]
    """
    if text and text[0] not in _NUMBER_START:
        return _WORDS.get(text, text)
    found = _NUMBER.fullmatch(text)
    if found is None:
        return _WORDS.get(text, text)
    if found.lastindex is None and len(text) <= _LONGEST_INTEGER:
        return int(text)
    return float(text)
