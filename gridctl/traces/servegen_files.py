"""ServeGen files: finds the two tables of a pool and splits them into rows that know their line.

The tables, plain or gzip, are told apart by their header: `client,t_s,rate_rps,cv,dist` (one row per client and window
of 10 minutes; no row: the client was silent) and `client,t_s,field,p1,…,p99` (length quantiles per client and period
of 6 hours, `field` being `input_tokens` or `output_tokens`). Must not know what a valid pool is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridctl.errors import GridctlError, InputError, NotFoundError, UsageError, did_you_mean
from gridctl.traces.lines import read_blocks

RATE_COLUMNS = ("client", "t_s", "rate_rps", "cv", "dist")
LENGTH_COLUMNS = ("client", "t_s", "field")

_LONGEST_S = 366 * 86_400
_FILE = re.compile(r"(?:servegen_)?(?P<pool>.+)_(?P<table>rates|lengths)\.csv(?:\.gz)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row's cells by column name, and its line for errors."""

    cells: dict[str, str]
    where: str

    def number(self, column: str, least: float, most: float) -> float:
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # written so that NaN fails too
        if not least <= value <= most:
            raise InputError(
                f"{column} is {text[:40]!r}: expected {least:g} to {most:g}",
                where=self.where,
                fix="correct or remove the row",
            )
        return value

    def time(self, step: int) -> int:
        """`t_s` in steps of `step` seconds."""
        value = self.number("t_s", 0, _LONGEST_S)
        if value % step:
            raise InputError(
                f"t_s is {value:g}: expected a multiple of {step}",
                where=self.where,
                fix=f"a row describes {step} s from t_s on; check the unit of t_s",
            )
        return int(value) // step


def rows(path: Path, expected: tuple[str, ...]) -> Iterator[Row]:
    names: list[str] = []
    for block in read_blocks(path):
        for line, data in block.lines():
            where = f"{path}:{line}"
            try:
                cells = [cell.strip() for cell in data.decode("utf-8").replace('"', "").split(",")]
            except UnicodeDecodeError:
                raise InputError("not UTF-8 text", where=where, fix="save the file as UTF-8") from None
            if not names:
                names = cells
                _check_header(names, expected, where)
            elif len(cells) != len(names):
                raise InputError(
                    f"{len(cells)} cells where the header has {len(names)}",
                    where=where,
                    fix="correct or remove the row; the file may be cut short",
                )
            else:
                yield Row(dict(zip(names, cells, strict=True)), where)


def _check_header(names: list[str], expected: tuple[str, ...], where: str) -> None:
    missing = [name for name in expected if name not in names]
    if missing or len(set(names)) != len(names):
        what = f"no column {missing[0]!r}" if missing else "a column appears twice"
        raise InputError(f"{what}: expected {','.join(expected)},…", where=where, fix="export the table again")


def locate(places: Sequence[str | Path], pool: str) -> tuple[str, Path, Path]:
    """The pool's name and the paths of its rates and lengths."""
    paths = [Path(place) for place in places]
    if len(paths) == 1 and paths[0].is_dir():
        return _in_folder(paths[0], pool)
    if len(paths) != 2:
        if len(paths) == 1 and not paths[0].exists():
            raise NotFoundError("no such folder", where=str(paths[0]), fix=f"ls {paths[0].parent}")
        raise UsageError(
            "expected one folder, or the two files of rates and lengths",
            where="--servegen",
            fix="--servegen FOLDER, or --servegen RATES --servegen LENGTHS",
        )
    tables = {_table_of(path): path for path in paths}
    if len(tables) != 2:
        raise UsageError(
            f"both files are tables of {next(iter(tables))}",
            where="--servegen",
            fix="--servegen RATES --servegen LENGTHS",
        )
    match = _FILE.fullmatch(tables["rates"].name)
    return match["pool"] if match else "servegen", tables["rates"], tables["lengths"]


def _in_folder(folder: Path, pool: str) -> tuple[str, Path, Path]:
    found: dict[str, dict[str, Path]] = {}
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"the folder cannot be read: {error.strerror}", where=str(folder), fix="check its mode"
        ) from None
    for path in inside:
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(match["pool"], {}).setdefault(match["table"], path)
    whole = [name for name, tables in found.items() if len(tables) == 2]
    if pool in whole:
        return pool, found[pool]["rates"], found[pool]["lengths"]
    if pool in found:
        (there,) = found[pool]
        wanted = "lengths" if there == "rates" else "rates"
        missing: GridctlError = NotFoundError(
            f"pool {pool} has {there} here and no {wanted}",
            where=str(folder),
            fix=f"put servegen_{pool}_{wanted}.csv.gz beside it",
        )
    elif whole:
        close = did_you_mean(pool, whole)
        missing = NotFoundError(
            f"no pool {pool} here, only {', '.join(whole)}", where=str(folder), fix=f"--pool {close or whole[0]}"
        )
    else:
        missing = NotFoundError(
            "no ServeGen tables here",
            where=str(folder),
            fix=f"put servegen_{pool}_rates.csv.gz and servegen_{pool}_lengths.csv.gz in it",
        )
    raise missing


def _table_of(path: Path) -> str:
    for block in read_blocks(path):
        for _, data in block.lines():
            names = [name.strip().strip('"') for name in data.decode("utf-8", errors="replace").split(",")]
            if "rate_rps" in names:
                return "rates"
            if "field" in names:
                return "lengths"
            break
        break
    raise InputError(
        f"neither rates ({','.join(RATE_COLUMNS)},…) nor lengths ({','.join(LENGTH_COLUMNS)},p1,…)",
        where=f"{path}:1",
        fix="export the tables again",
    )
