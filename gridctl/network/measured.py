"""Measured round trips: city pairs and city coordinates from CSV, gzip or plain, found out from the first bytes.

Pairs: columns `src,dst,rtt_avg_ms` and, where there, `rtt_min_ms,rtt_max_ms,rtt_mdev_ms`. Cities:
`city,lat,lon,country` (a name or a code) and, where there, `coord_suspect` (1: the coordinates contradict the
measurements' own distances). Other columns are ignored. Nothing is repaired: a wrong cell is an error with its line.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gridctl.errors import InputError, did_you_mean
from gridctl.geography.cities import country_code
from gridctl.geography.place import Place

_MAX_BYTES = 1 << 30
_MAX_MS = 3_600_000.0


class MeasuredPair(NamedTuple):
    """One direction of a pair. `spread_ms` is (min, max, mean deviation) of its pings, where the file has them."""

    source: str
    target: str
    rtt_ms: float
    spread_ms: tuple[float, float, float] | None


class MeasuredCity(NamedTuple):
    """Where a measured city is."""

    place: Place
    is_suspect: bool


def read_pairs(path: str | Path) -> list[MeasuredPair]:
    """The measured pairs, in file order.

    Raises: InputError with `file:line`.
    """
    pairs = []
    for where, row in _rows(Path(path), ("src", "dst", "rtt_avg_ms")):
        spread = None
        if row.get("rtt_mdev_ms"):
            low, high, deviation = (
                _number(row, f"rtt_{name}_ms", 0, _MAX_MS, where) for name in ("min", "max", "mdev")
            )
            spread = (low, high, deviation)
        rtt = _number(row, "rtt_avg_ms", 0, _MAX_MS, where)
        if rtt == 0:
            raise InputError("rtt_avg_ms is 0", where=where, fix="leave out pairs that were not measured")
        pairs.append(MeasuredPair(row["src"], row["dst"], rtt, spread))
    if not pairs:
        raise InputError("the file has no measured pairs", where=str(path), fix="add rows under the header")
    return pairs


def read_cities(path: str | Path) -> dict[str, MeasuredCity]:
    """The cities by name.

    Raises: InputError with `file:line`, also for a name listed twice.
    """
    cities: dict[str, MeasuredCity] = {}
    for where, row in _rows(Path(path), ("city", "lat", "lon", "country")):
        name = row["city"]
        if name in cities:
            raise InputError(f"city {name!r} is listed twice", where=where, fix="keep one of the rows")
        country = country_code(row["country"])
        if country is None:
            raise InputError(f"no country called {row['country']!r}", where=where, fix="use a two-letter code, as FR")
        lat, lon = _number(row, "lat", -90, 90, where), _number(row, "lon", -180, 180, where)
        cities[name] = MeasuredCity(Place(name, lat, lon, country), row.get("coord_suspect", "0") not in ("", "0"))
    if not cities:
        raise InputError("the file has no cities", where=str(path), fix="add rows under the header")
    return cities


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:line, cells by column) of every row."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        for column in needed:
            if column not in header:
                near = did_you_mean(column, header)
                fix = f"rename column {near!r} to {column!r}" if near else f"the header must hold {','.join(needed)}"
                raise InputError(f"the file has no column {column!r}", where=f"{path}:1", fix=fix)
        for cells in reader:
            if not cells:
                continue
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise InputError(
                    f"{len(cells)} cells where the header has {len(header)}", where=where, fix="check the commas"
                )
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(
            f"this is not CSV: {error}", where=f"{path}:{reader.line_num}", fix="save it as CSV"
        ) from error


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(raw)) as stream:
                raw = stream.read(_MAX_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError("the gzip file is cut short or damaged", where=str(path), fix="fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", where=str(path), fix="check the path") from error
    if len(raw) > _MAX_BYTES:
        raise InputError("the file is larger than 1 GiB", where=str(path), fix="split it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", where=str(path), fix="save it as CSV in UTF-8") from error


def _number(row: dict[str, str], column: str, low: float, high: float, where: str) -> float:
    text = row.get(column, "")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise InputError(f"{column} is {text[:40]!r}", where=where, fix=f"write a number from {low:g} to {high:g}")
    return value
