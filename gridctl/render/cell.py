"""One cell: how a value becomes text, the same in every format that is not JSON or YAML.

Decides the text of floats, absent values, nested values, and makes text from outside harmless: control characters
become visible escapes (a site's city must not move the cursor of a terminal), and a CSV cell that a spreadsheet would
run as a formula gets a leading apostrophe (OWASP, "CSV Injection": cells starting with = + - @, tab or carriage
return). Must not know columns or formats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

ABSENT = "-"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def float_text(value: float) -> str:
    """The shortest text that reads back as `value`; empty for NaN and infinities, which are not data.

    >>> float_text(0.1), float_text(2.0), float_text(float("nan"))
    ('0.1', '2.0', '')
    """
    return repr(float(value)) if math.isfinite(value) else ""


def short_float(value: float) -> str:
    """A float for people: whole numbers plain, others with about four significant digits.

    >>> [short_float(v) for v in (3.0, 1234.56, 12.3456, 0.012345, 0.0000002)]
    ['3', '1234.6', '12.35', '0.01235', '2e-07']
    """
    if not math.isfinite(value):
        return ABSENT
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.4g}"


def counted(value: int) -> str:
    """A count for people.

    >>> counted(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def visible(text: str) -> str:
    """`text` with control characters, line breaks and other unprintable characters as escapes.

    >>> visible("red \\x1b[31m")
    'red \\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plain_text(value: object) -> str:
    """A value as table text, before `visible`: absent values are `-`, nested ones short."""
    if value is None or value == "":
        return ABSENT
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short_float(value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={plain_text(item)}" for key, item in value.items()) or ABSENT
    if isinstance(value, Sequence):
        return ",".join(plain_text(item) for item in value) or ABSENT
    return str(value)


def plain_texts(values: Sequence[object]) -> list[str]:
    """`plain_text` of a whole column; a column of one type, which most are, costs no decision per cell."""
    types = set(map(type, values))
    if types == {str}:
        return [value or ABSENT for value in values]  # type: ignore[misc]
    if types == {int}:
        return list(map(str, values))
    if types == {float}:
        return list(map(short_float, values))  # type: ignore[arg-type]
    return list(map(plain_text, values))


def visible_texts(texts: list[str]) -> list[str]:
    """`visible` of a whole column, looking closer only when there is something to escape."""
    return texts if "".join(texts).isprintable() else list(map(visible, texts))


def csv_texts(values: Sequence[object]) -> list[str]:
    """`csv_text` of a whole column; texts that need no change, which most are, are recognised together."""
    types = set(map(type, values))
    if types == {str} and "".join(values).isprintable():  # type: ignore[arg-type]
        starts = {value[:1] for value in values}  # type: ignore[index]
        if starts.isdisjoint(_FORMULA_STARTS):
            return list(values)  # type: ignore[arg-type]
    if types == {int}:
        return list(map(str, values))
    if types == {float}:
        return list(map(float_text, values))  # type: ignore[arg-type]
    return list(map(csv_text, values))


def csv_text(value: object) -> str:
    """A value as a CSV cell: exact numbers, nested values as JSON, and nothing a spreadsheet would execute."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return float_text(value)
    if not isinstance(value, str):
        import msgspec

        value = msgspec.json.encode(value).decode()
    text = visible(value)
    return "'" + text if value.startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
