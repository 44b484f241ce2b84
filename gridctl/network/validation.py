"""Validation: the model's error against measured pairs, as one table by class of pair.

Error is estimate − measurement in milliseconds, so a negative bias means the network is slower than the model says.
Percentiles are nearest-rank. A pair is left out, and counted, when a city has no coordinates or, on request, suspect
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from gridctl.errors import InputError
from gridctl.network.measured import MeasuredCity, MeasuredPair
from gridctl.network.model import PairClass, pair_class, rtt_ms

CLASSES: tuple[PairClass, ...] = ("same-country", "same-region", "inter-region")


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """The error over `pairs` pairs of a class, or over all."""

    pair_class: PairClass | str
    pairs: int
    mae_ms: float
    median_ms: float
    p90_ms: float
    bias_ms: float
    mean_rtt_ms: float


@dataclass(frozen=True, slots=True)
class Validation:
    """The rows, `all` first, and what was left out."""

    rows: tuple[ErrorRow, ...]
    skipped_unknown: int
    skipped_suspect: int


def validate(
    pairs: Sequence[MeasuredPair], cities: Mapping[str, MeasuredCity], *, exclude_suspect: bool = True
) -> Validation:
    """Compare every measured pair with the model.

    Raises: InputError when no pair has coordinates at both ends.
    """
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in ("all", *CLASSES)}
    unknown = suspect = 0
    for pair in pairs:
        source, target = cities.get(pair.source), cities.get(pair.target)
        if source is None or target is None:
            unknown += 1
        elif exclude_suspect and (source.is_suspect or target.is_suspect):
            suspect += 1
        else:
            entry = (rtt_ms(source.place, target.place) - pair.rtt_ms, pair.rtt_ms)
            errors["all"].append(entry)
            errors[pair_class(source.place, target.place)].append(entry)
    if not errors["all"]:
        raise InputError(
            "no measured pair has usable coordinates at both ends",
            where="--cities",
            fix="list the cities of the measured file by the same names",
        )
    rows = tuple(_row(name, entries) for name, entries in errors.items() if entries)
    return Validation(rows, unknown, suspect)


def _row(name: str, entries: list[tuple[float, float]]) -> ErrorRow:
    sizes = sorted(abs(error) for error, _ in entries)
    n = len(entries)
    return ErrorRow(
        pair_class=name,
        pairs=n,
        mae_ms=sum(sizes) / n,
        median_ms=sizes[ceil(0.5 * n) - 1],
        p90_ms=sizes[ceil(0.9 * n) - 1],
        bias_ms=sum(error for error, _ in entries) / n,
        mean_rtt_ms=sum(rtt for _, rtt in entries) / n,
    )
