"""Cells: comma-separated text as columns, parsed a block at a time with array arithmetic instead of a loop over rows.

Decides where cells begin and end and what numbers and times they hold. Knows no trace format. Invariant: integers and
times are exact (no float in between); anything the fast path does not recognise is read again, slowly and strictly.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.traces.lines import Block
from gridctl.units import NS_PER_S, NS_PER_US

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NEWLINE, _COMMA, _RETURN, _ZERO = 10, 44, 13, 48
_INTEGER_DIGITS = 10  # beyond this the slow path decides
_SECOND_DIGITS = 11
_FRACTION_DIGITS = 9
_DATE_TIME = 19  # characters of 2023-11-16 18:15:46
_LATEST_NS = 1 << 62


@dataclass(frozen=True, slots=True)
class Cells:
    """One block's cells: `starts` and `ends` of shape (rows, columns) into `text`, padded for reading past an end."""

    text: NDArray[np.uint8]
    starts: Ints
    ends: Ints
    block: Block
    where: str

    def __len__(self) -> int:
        return len(self.starts)

    def cell(self, row: int, column: int) -> str:
        """One cell as text, without surrounding blanks."""
        raw = self.text[self.starts[row, column] : self.ends[row, column]].tobytes()
        try:
            return raw.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise self.error(row, "not UTF-8 text", "save the file as UTF-8") from None

    def strings(self, column: int) -> list[str]:
        """A column as text."""
        data = self.text.tobytes()
        pairs = zip(self.starts[:, column].tolist(), self.ends[:, column].tolist(), strict=True)
        try:
            return [data[start:end].decode("utf-8").strip() for start, end in pairs]
        except UnicodeDecodeError:
            raise InputError(
                "not UTF-8 text", where=f"{self.where}:{self.block.first_line}", fix="save the file as UTF-8"
            ) from None

    def error(self, row: int, what: str, fix: str) -> InputError:
        """An error at a row's line."""
        return InputError(what, where=f"{self.where}:{self.block.line_of(row)}", fix=fix)


def split_cells(block: Block, columns: int, where: str) -> Cells:
    """The cells of a block whose rows all have `columns` cells; blank lines do not count."""
    data = block.data.replace(b'"', b"") if b'"' in block.data else block.data
    block = Block(data, block.first_line)
    text = np.frombuffer(data + b"\n" + b"\0" * 32, np.uint8)
    body = text[: len(data) + 1]
    delimiters = np.flatnonzero((body == _NEWLINE) | (body == _COMMA))
    line_ends = np.flatnonzero(body[delimiters] == _NEWLINE)
    per_line = np.diff(line_ends, prepend=-1)
    starts = np.concatenate([np.zeros(1, np.int64), delimiters[:-1] + 1])
    ends = delimiters.copy()
    last_cells = delimiters[line_ends]
    ends[line_ends] -= (last_cells > 0) & (text[last_cells - 1] == _RETURN) & (starts[line_ends] < last_cells)
    blank = (per_line == 1) & (ends[line_ends] <= starts[line_ends])
    wrong = ~blank & (per_line != columns)
    if wrong.any():
        line = int(np.argmax(wrong))
        raise InputError(
            f"{int(per_line[line])} cells where the header has {columns}",
            where=f"{where}:{block.first_line + line}",
            fix="correct or remove the row; the file may be cut short",
        )
    kept = np.repeat(~blank, per_line)
    shape = (int(np.count_nonzero(~blank)), columns)
    return Cells(text, starts[kept].reshape(shape), ends[kept].reshape(shape), block, where)


def _digits(cells: Cells, starts: Ints, widths: Ints, most: int) -> tuple[Ints, Bools]:
    """Unsigned decimal numbers of `widths` ≤ `most` characters, and which of them are nothing but digits."""
    values = np.zeros(len(starts), np.int64)
    good = (widths >= 1) & (widths <= most)
    for place in range(min(most, int(widths.max(initial=0)))):
        within = place < widths
        digit = cells.text[np.minimum(starts + place, len(cells.text) - 1)].astype(np.int64) - _ZERO
        good &= ~within | ((digit >= 0) & (digit <= 9))
        values = np.where(within, values * 10 + digit, values)
    return values, good


def integers(cells: Cells, column: int, what: str) -> Ints:
    """A column of whole numbers; `374`, `374.0` and `-1` are, `NaN`, `3.7` and an empty cell are not."""
    starts, ends = cells.starts[:, column], cells.ends[:, column]
    values, good = _digits(cells, starts, ends - starts, _INTEGER_DIGITS)
    for row in np.flatnonzero(~good).tolist():
        values[row] = _slow_integer(cells, row, column, what)
    return values


def _slow_integer(cells: Cells, row: int, column: int, what: str) -> int:
    cell = cells.cell(row, column)
    try:
        number = Decimal(cell)
        if number == number.to_integral_value() and abs(number) < _LATEST_NS:
            return int(number)
    except (InvalidOperation, ValueError):
        pass
    raise cells.error(row, f"{what} is {cell[:40]!r}: expected a whole number", "correct or remove the row")


def seconds_as_ns(cells: Cells, column: int, what: str) -> Ints:
    """A column of seconds with up to nine decimals as exact nanoseconds."""
    starts, ends = cells.starts[:, column], cells.ends[:, column]
    widths = ends - starts
    point = np.full(len(starts), -1, np.int64)
    for place in range(min(_SECOND_DIGITS + 1, int(widths.max(initial=0)))):
        is_point = (cells.text[np.minimum(starts + place, len(cells.text) - 1)] == ord(".")) & (place < widths)
        point = np.where((point < 0) & is_point, place, point)
    whole_width = np.where(point < 0, widths, point)
    fraction_width = np.where(point < 0, 0, widths - point - 1)
    whole, good = _digits(cells, starts, whole_width, _SECOND_DIGITS)
    fraction, fine = _fraction_ns(cells, starts + whole_width + 1, fraction_width)
    good &= fine & (whole < _LATEST_NS // NS_PER_S)
    values = np.where(good, whole, 0) * NS_PER_S + fraction
    for row in np.flatnonzero(~good).tolist():
        values[row] = _slow_seconds(cells, row, column, what)
    return values


def _fraction_ns(cells: Cells, starts: Ints, widths: Ints) -> tuple[Ints, Bools]:
    """Decimals of a second, `widths` of them (0 allowed), as nanoseconds."""
    digits, good = _digits(cells, starts, widths, _FRACTION_DIGITS)
    power = 10 ** (_FRACTION_DIGITS - np.clip(widths, 0, _FRACTION_DIGITS))
    none = widths == 0
    return np.where(none, 0, digits * power), good | none


def _slow_seconds(cells: Cells, row: int, column: int, what: str) -> int:
    cell = cells.cell(row, column)
    try:
        number = Decimal(cell) * NS_PER_S
        if 0 <= number < _LATEST_NS:
            return int(number.to_integral_value())
    except (InvalidOperation, ValueError):
        pass
    raise cells.error(row, f"{what} is {cell[:40]!r}: expected seconds, 0 or more", "correct or remove the row")


def date_times_as_ns(cells: Cells, column: int, what: str) -> Ints:
    """A column of ISO 8601 date-times (`T` or blank between, up to nine decimals, `Z`, `±hh:mm` or no offset, which
    reads as UTC) as nanoseconds since 1970."""
    starts, ends = cells.starts[:, column], cells.ends[:, column]
    widths = ends - starts
    good = widths >= _DATE_TIME
    parts = []
    for offset, width, low, high in (
        (0, 4, 1970, 2200),
        (5, 2, 1, 12),
        (8, 2, 1, 31),
        (11, 2, 0, 23),
        (14, 2, 0, 59),
        (17, 2, 0, 60),
    ):
        value, fine = _digits(cells, starts + offset, np.full(len(starts), width), width)
        good &= fine & (value >= low) & (value <= high)
        parts.append(np.where(good, value, low))
    for offset, marks in ((4, b"-"), (7, b"-"), (10, b" T"), (13, b":"), (16, b":")):
        character = _characters(cells, starts + offset)
        good &= np.isin(character, np.frombuffer(marks, np.uint8))
    year, month, day, hour, minute, second = parts
    days, real = _days(year, month, day)
    zone_width, zone_s, fine = _zones(cells, ends, widths)
    fraction_width = widths - zone_width - _DATE_TIME
    has_point = _characters(cells, starts + _DATE_TIME) == ord(".")
    fraction, fraction_fine = _fraction_ns(cells, starts + _DATE_TIME + 1, np.where(has_point, fraction_width - 1, 0))
    good &= real & fine & fraction_fine & np.where(has_point, fraction_width >= 2, fraction_width == 0)
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - zone_s
    values = np.where(good, seconds, 0) * NS_PER_S + np.where(good, fraction, 0)
    for row in np.flatnonzero(~good).tolist():
        values[row] = _slow_date_time(cells, row, column, what)
    return values


def _characters(cells: Cells, places: Ints) -> NDArray[np.uint8]:
    return cells.text[np.clip(places, 0, len(cells.text) - 1)]


def _days(year: Ints, month: Ints, day: Ints) -> tuple[Ints, Bools]:
    """Days since 1970-01-01, and which dates exist."""
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    dates = months.astype("M8[D]") + (day - 1).astype("m8[D]")
    return dates.astype(np.int64), dates.astype("M8[M]") == months


def _zones(cells: Cells, ends: Ints, widths: Ints) -> tuple[Ints, Ints, Bools]:
    """Characters of the offset at the end, its seconds, and which are well formed."""
    zulu = _characters(cells, ends - 1) == ord("Z")
    sign = _characters(cells, ends - 6)
    signed = ((sign == ord("+")) | (sign == ord("-"))) & (widths >= _DATE_TIME + 6)
    two = np.full(len(ends), 2)
    hours, hours_good = _digits(cells, np.maximum(ends - 5, 0), two, 2)
    minutes, minutes_good = _digits(cells, np.maximum(ends - 2, 0), two, 2)
    colon = _characters(cells, ends - 3) == ord(":")
    seconds = np.where(sign == ord("-"), -1, 1) * (hours * 3_600 + minutes * 60)
    good = ~signed | (hours_good & minutes_good & colon & (hours < 24) & (minutes < 60))
    return np.where(signed, 6, np.where(zulu, 1, 0)), np.where(signed & good, seconds, 0), good


def _slow_date_time(cells: Cells, row: int, column: int, what: str) -> int:
    cell = cells.cell(row, column)
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        raise cells.error(
            row, f"{what} is {cell[:40]!r}: expected a date and time", "for example 2023-11-16 18:15:46.6805900"
        ) from None
    zone = moment.utcoffset()
    elapsed = moment.replace(tzinfo=None) - datetime(1970, 1, 1)
    if zone is not None:
        elapsed -= zone
    return (elapsed.days * 86_400 + elapsed.seconds) * NS_PER_S + elapsed.microseconds * NS_PER_US
