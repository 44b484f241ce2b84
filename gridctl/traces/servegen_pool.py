"""ServeGen pool: the clients of one production model, how often each asked and how long its requests were, as arrays.

Decides what a valid row of the two tables is; `servegen_files` finds and splits them. Times are seconds from the pool's
first midnight. Invariant: what `read_pool` returns is finite, ordered and positive where it must be; a wrong row is an
error with its line. Source of the data and its meaning: Xiang et al., ServeGen, NSDI 2026 (arXiv 2505.09999), whose
per-client rates, burstiness and length distributions of language models these tables hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, did_you_mean
from gridctl.traces.servegen_files import LENGTH_COLUMNS, RATE_COLUMNS, Row, locate, rows

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Key = TypeVar("Key")
Value = TypeVar("Value")

WINDOW_S = 600
PERIOD_S = 21_600
WINDOWS_PER_PERIOD = PERIOD_S // WINDOW_S
MOST_CLIENTS = 4_096
MOST_PER_WINDOW = 1 << 24
FAMILIES = ("Gamma", "Weibull")
FIELDS = ("input_tokens", "output_tokens")
DEFAULT_POOL = "m-small"

_LARGEST_CV = 10_000.0
_MOST_TOKENS = 10_000_000
_MOST_CELLS = 1 << 24  # of clients × windows: ten times the largest published pool
_MOST_LEVELS = 101
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")


@dataclass(frozen=True, slots=True)
class ServegenPool:
    """Who asked how often, and how long their requests were.

    `rate_rps`, `cv` and `is_weibull` have shape `(clients, windows)`, rate 0 where a client is silent. `probability`
    holds the k levels of the quantiles; `quantile` has shape `(2, clients, periods, k)`, input first, and means
    something where `is_measured`, of shape `(clients, periods)`, is true.
    """

    name: str
    clients: tuple[str, ...]
    rate_rps: Floats
    cv: Floats
    is_weibull: Bools
    probability: Floats
    quantile: Floats
    is_measured: Bools

    @property
    def windows(self) -> int:
        return int(self.rate_rps.shape[1])

    @property
    def duration_s(self) -> int:
        return self.windows * WINDOW_S


def read_pool(places: Sequence[str | Path], pool: str = DEFAULT_POOL) -> ServegenPool:
    """The pool in a folder (files `servegen_POOL_rates.csv.gz` and `servegen_POOL_lengths.csv.gz`) or in the two files
    themselves. Raises `NotFoundError` for a missing file or pool and `InputError` with file:line for a wrong row."""
    name, rates_path, lengths_path = locate(places, pool)
    rates: dict[tuple[str, int], tuple[float, float, bool]] = {}
    for row in rows(rates_path, RATE_COLUMNS):
        _keep(rates, row, (_client(row), row.time(WINDOW_S)), _rate_values(row))
    if not rates:
        raise InputError("no client ever asks: the table has no row", where=str(rates_path), fix="check the file")
    clients = _ordered_clients(rates, rates_path)
    shape = (len(clients), max(window for _, window in rates) + 1)
    if shape[0] * shape[1] > _MOST_CELLS:
        raise InputError(
            f"{shape[0]:,} clients over {shape[1] * WINDOW_S / 86_400:,.0f} days: too much to hold",
            where=str(rates_path),
            fix="keep fewer clients or days",
        )
    number = {client: index for index, client in enumerate(clients)}
    rate, cv, weibull = np.zeros(shape), np.ones(shape), np.zeros(shape, bool)
    for (client, window), values in rates.items():
        place = number[client], window
        rate[place], cv[place], weibull[place] = values
    probability, quantile, measured = _read_lengths(lengths_path, number, shape[1])
    return ServegenPool(name, clients, rate, cv, weibull, probability, quantile, measured)


def _rate_values(row: Row) -> tuple[float, float, bool]:
    family = row.cells["dist"]
    if family not in FAMILIES:
        close = did_you_mean(family, FAMILIES)
        raise InputError(
            f"dist is {family[:40]!r}: expected Gamma or Weibull",
            where=row.where,
            fix=f"did you mean {close}?" if close else "correct or remove the row",
        )
    most = MOST_PER_WINDOW / WINDOW_S
    return row.number("rate_rps", 0, most), row.number("cv", 0, _LARGEST_CV), family == "Weibull"


def _read_lengths(path: Path, number: dict[str, int], windows: int) -> tuple[Floats, Floats, Bools]:
    """Levels, quantiles and which client has them in which period. Rows of clients that never ask do not count."""
    found: dict[tuple[str, int, str], Sequence[float]] = {}
    where: dict[tuple[str, int, str], str] = {}
    levels: list[str] = []
    for row in rows(path, LENGTH_COLUMNS):
        levels = levels or _levels(row)
        if row.cells["field"] not in FIELDS:
            continue
        key = (_client(row), row.time(PERIOD_S), row.cells["field"])
        values = [row.number(level, 0, _MOST_TOKENS) for level in levels]
        if any(low > high for low, high in pairwise(values)):
            raise InputError("the quantiles are not in order", where=row.where, fix="correct or remove the row")
        _keep(found, row, key, values)
        where[key] = row.where
    periods = -(-windows // WINDOWS_PER_PERIOD)
    quantile = np.zeros((len(FIELDS), len(number), periods, max(1, len(levels))))
    seen = np.zeros((len(FIELDS), len(number), periods), bool)
    for (client, period, field), row_values in found.items():
        other = FIELDS[1 - FIELDS.index(field)]
        if (client, period, other) not in found:
            raise InputError(
                f"client {client} has {field} here and no {other}",
                where=where[client, period, field],
                fix="a client and period need both rows, or none",
            )
        if client in number and period < periods:
            place = FIELDS.index(field), number[client], period
            quantile[place], seen[place] = row_values, True
    if not seen.any():
        raise InputError(
            "no client of the rates has lengths here",
            where=str(path),
            fix="the two tables must be of the same pool",
        )
    return np.array([float(level[1:]) / 100.0 for level in levels]), quantile, seen[0]


def _levels(row: Row) -> list[str]:
    levels = [name for name in row.cells if _QUANTILE.fullmatch(name)]
    values = [float(level[1:]) for level in levels]
    if not 2 <= len(levels) <= _MOST_LEVELS or any(low >= high for low, high in pairwise(values)):
        raise InputError(
            f"expected 2 to {_MOST_LEVELS} columns of quantiles, such as p5,p50,p95, in order",
            where=row.where.rpartition(":")[0],
            fix="export the table again",
        )
    return levels


def _client(row: Row) -> str:
    client = row.cells["client"]
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", client):
        raise InputError(
            f"client is {client[:40]!r}: expected letters, digits, dots, dashes",
            where=row.where,
            fix="correct or remove the row",
        )
    return client


def _ordered_clients(rates: dict[tuple[str, int], tuple[float, float, bool]], path: Path) -> tuple[str, ...]:
    clients = {client for client, _ in rates}
    if len(clients) > MOST_CLIENTS:
        raise InputError(
            f"{len(clients):,} clients: expected at most {MOST_CLIENTS:,}",
            where=str(path),
            fix="keep those with most requests",
        )
    return tuple(sorted(clients, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))


def _keep(table: dict[Key, Value], row: Row, key: Key, value: Value) -> None:
    if table.setdefault(key, value) is not value:
        raise InputError("this client and time appear twice", where=row.where, fix="keep one of the rows")
