"""Site rows: a grid's sites as a CSV table, the form planners keep them in.

Reads the columns `site,city,country,lat,lon,tier,served_population` (others are ignored), gzip or plain, found out
from the first bytes. Every wrong row is reported with its line. Accents are taken off site names, which are ASCII in
gridctl; nothing else is repaired.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from pathlib import Path
from typing import NamedTuple

from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.geography.cities import unaccented
from gridctl.geography.regions import is_country
from gridctl.resources.site import TIERS, Tier

COLUMNS = ("site", "city", "country", "lat", "lon", "tier", "served_population")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_MAX_BYTES = 256 << 20
_MAX_ERRORS = 20


class SiteRow(NamedTuple):
    """A site before it has any capacity."""

    site: str
    city: str
    country: str
    lat: float
    lon: float
    tier: Tier
    served_population: int


def read_site_rows(path: str | Path) -> list[SiteRow]:
    """The rows of a site table, in file order.

    Raises: InputError with `file:line` for everything wrong with it, up to twenty problems at once.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[SiteRow] = []
    errors: list[InputError] = []
    seen: dict[str, int] = {}
    try:
        header = next(reader, [])
        places = _columns(header, path)
        for cells in reader:
            if not cells:
                continue
            where = f"{path}:{reader.line_num}"
            try:
                row = _row(cells, places, len(header), where)
                if row.site in seen:
                    raise InputError(
                        f"site {row.site} is listed twice",
                        where=where,
                        fix=f"rename it; the first is on line {seen[row.site]}",
                    )
                seen[row.site] = reader.line_num
                rows.append(row)
            except InputError as error:
                errors.append(error)
                if len(errors) >= _MAX_ERRORS:
                    break
    except csv.Error as error:
        raise InputError(
            f"this is not CSV: {error}", where=f"{path}:{reader.line_num}", fix="quote the cell or save it as CSV"
        ) from error
    raise_all(errors)
    if not rows:
        raise InputError("the table has no sites", where=str(path), fix="add one row for each site under the header")
    return rows


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the site table: {error.strerror}", where=str(path), fix="check the path"
        ) from error
    if raw[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(raw)) as stream:
                raw = stream.read(_MAX_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError("the gzip file is cut short or damaged", where=str(path), fix="fetch it again") from error
    if len(raw) > _MAX_BYTES:
        raise InputError("the site table is larger than 256 MiB", where=str(path), fix="split it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the site table is not UTF-8 text (byte {error.start})", where=str(path), fix="save it as CSV in UTF-8"
        ) from error


def _columns(header: list[str], path: Path) -> list[int]:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        near = did_you_mean(missing[0], header)
        fix = f"rename column {near!r} to {missing[0]!r}" if near else f"the header must hold {','.join(COLUMNS)}"
        raise InputError(f"the site table has no column {missing[0]!r}", where=f"{path}:1", fix=fix)
    return [header.index(name) for name in COLUMNS]


def _row(cells: list[str], places: list[int], width: int, where: str) -> SiteRow:
    if len(cells) != width:
        raise InputError(f"{len(cells)} cells where the header has {width}", where=where, fix="check the commas")
    site, city, country, lat, lon, tier, population = (cells[i].strip() for i in places)
    site = unaccented(site)
    if not _NAME.fullmatch(site):
        raise InputError(
            f"{site[:80]!r} is not a site name",
            where=where,
            fix="use lower-case letters, digits, '-' and '.' (at most 63)",
        )
    if not is_country(country):
        raise InputError(f"no country has the code {country[:20]!r}", where=where, fix="use ISO 3166-1 alpha-2, as FR")
    if tier not in TIERS:
        near = did_you_mean(tier, TIERS)
        fix = f"did you mean {near}?" if near else f"use one of {', '.join(TIERS)}"
        raise InputError(f"{tier[:40]!r} is not a tier", where=where, fix=fix)
    return SiteRow(
        site,
        city[:256],
        country,
        _number(lat, "lat", 90, where),
        _number(lon, "lon", 180, where),
        tier,
        _count(population, where),
    )


def _number(text: str, name: str, most: int, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -most <= value <= most:
        raise InputError(f"{name} is {text[:40]!r}", where=where, fix=f"write degrees from -{most} to {most}")
    return value


def _count(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 1_000_000_000:
        raise InputError(
            f"served_population is {text[:40]!r}", where=where, fix="write a whole number from 0 to 1000000000"
        )
    return int(text)
