"""Account cells: how the columns of accounts read to people, by the unit at the end of a column's name.

Decides rounding and nothing else. Must not compute: a value that is not there is `-`, never 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gridctl.render.cell import ABSENT, plain_text
from gridctl.render.rows import Column

SHARES = ("attainment", "attained", "attained_low", "attained_high", "available", "gpu_utilization", "target")


def share_text(value: float | None) -> str:
    """A share as a percentage; only nothing reads 0 and only everything reads 100.

    >>> share_text(0.5), share_text(0.99953), share_text(0.9999999), share_text(1.0), share_text(None)
    ('50.0%', '99.95%', '99.99999%', '100.0%', '-')
    """
    if value is None:
        return ABSENT
    percent = value * 100
    text = ""
    for digits in range(2 if 99 < percent < 100 else 1, 12):
        text = f"{percent:.{digits}f}"
        if float(text) not in (0.0, 100.0) or float(text) == percent:
            break
    return f"{text}%"


def usd_text(value: float | None) -> str:
    """Dollars to the cent above one dollar, to four significant digits below.

    >>> usd_text(1234.567), usd_text(0.5), usd_text(0.012345), usd_text(0.0), usd_text(None)
    ('1,234.57', '0.50', '0.01235', '0', '-')
    """
    if value is None:
        return ABSENT
    if abs(value) >= 1 or (value and value == round(value, 2)):
        return f"{value:,.2f}"
    return f"{value:.4g}"


def ms_text(value: float | None) -> str:
    """Milliseconds to a tenth below 100, whole above.

    >>> ms_text(12.345), ms_text(1234.5), ms_text(None)
    ('12.3', '1,234', '-')
    """
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def count_text(value: float | None) -> str:
    """A whole number or a rate, with thousands separated.

    >>> count_text(1234567), count_text(12.34), count_text(None)
    ('1,234,567', '12.3', '-')
    """
    if value is None:
        return ABSENT
    return f"{value:,.1f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def text_of(name: str) -> Callable[[Any], str] | None:
    """How the column of that name reads; None for words."""
    if name.endswith("_share") or name in SHARES:
        return share_text
    if name.endswith("usd") or "usd_per" in name:
        return usd_text
    if name.endswith("_ms"):
        return ms_text
    return None


def full_columns(table: type[msgspec.Struct]) -> list[Column]:
    """Every field of a table's rows as a column, under its own name."""
    columns = []
    for field in msgspec.structs.fields(table):
        is_word = field.type is str or field.name in ("status", "causes")
        reads = text_of(field.name) or (plain_text if is_word or field.type is bool else count_text)
        columns.append(Column(field.name, field.name, align="left" if is_word else "right", text=reads))
    return columns
