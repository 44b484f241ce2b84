"""Pivot: one number of a sweep over two of its axes, and how it changes when another axis does.

Decides which scenario a cell holds: the one that has the row's and the column's value and meets every condition. Two
that do are an axis nobody has said anything about, which is refused, never averaged. A change is what the number is in
the scenario that meets the other conditions and agrees on every other axis both have, over what it is here, less one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridctl.accounts.pareto import NUMBERS, SweepRow
from gridctl.errors import UsageError, did_you_mean
from gridctl.sweeps.axes import Value, value_text

Conditions = Mapping[str, str]
Cell = float | None


def parse_conditions(texts: Sequence[str], axes: Sequence[str], flag: str) -> dict[str, str]:
    """`["case=grid,rate=120"]` by axis. Raises UsageError for an axis the sweep does not have."""
    found: dict[str, str] = {}
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, sign, value = part.partition("=")
        if not sign:
            raise UsageError(f"{part!r} is no condition", where=flag, fix=f"{flag} AXIS=VALUE")
        check_axis(name.strip(), axes, flag)
        found[name.strip()] = value.strip()
    return found


def check_axis(name: str, axes: Sequence[str], flag: str) -> None:
    """Refuse a name that is no axis of the sweep. Raises UsageError with the nearest."""
    if name not in axes:
        near = did_you_mean(name, axes)
        fix = f"did you mean {near}?" if near else f"the axes are {', '.join(axes)}"
        raise UsageError(f"the sweep has no axis {name!r}", where=flag, fix=fix)


def check_metric(name: str) -> None:
    """Refuse a number that sweeps do not keep. Raises UsageError with the nearest."""
    if name not in NUMBERS:
        near = did_you_mean(name, NUMBERS)
        fix = f"did you mean {near}?" if near else f"one of: {', '.join(NUMBERS)}"
        raise UsageError(f"there is no number {name!r}", where="--metric", fix=fix)


def pivot(
    rows: Sequence[SweepRow], across: tuple[str, str | None], metric: str, where: Conditions, to: Conditions
) -> tuple[list[Value], list[Value], list[list[Cell]]]:
    """Values of the first axis, of the second (one value, empty, where there is none), and the cells between them.

    Raises UsageError when a cell would hold more than one scenario."""
    chosen = [row for row in rows if _meets(row, where)]
    down, along = (_values(chosen, axis) for axis in across)
    cells: list[list[Cell]] = []
    for first in down:
        line: list[Cell] = []
        for second in along:
            wanted = {across[0]: first} | ({across[1]: second} if across[1] is not None else {})
            found = [row for row in chosen if all(row.values.get(axis) == value for axis, value in wanted.items())]
            line.append(_cell(_only(found, where, "--where"), rows, metric, where, to))
        cells.append(line)
    return down, along, cells


def _values(rows: Sequence[SweepRow], axis: str | None) -> list[Value]:
    """What the rows have on an axis, in the order of the sweep."""
    if axis is None:
        return [""]
    return list(dict.fromkeys(row.values[axis] for row in rows if axis in row.values))


def _cell(row: SweepRow | None, rows: Sequence[SweepRow], metric: str, where: Conditions, to: Conditions) -> Cell:
    value = _number(row, metric)
    if row is None or not to:
        return value
    shared = {axis: own for axis, own in row.values.items() if axis not in to}
    found = [
        other
        for other in rows
        if _meets(other, to) and all(other.values.get(axis, own) == own for axis, own in shared.items())
    ]
    other = _number(_only(found, {**where, **to}, "--to"), metric)
    return other / value - 1 if value and other is not None else None


def _only(found: Sequence[SweepRow], said: Conditions, flag: str) -> SweepRow | None:
    if len(found) > 1:
        first, second = found[0].values, found[1].values
        differing = next(axis for axis in first if first[axis] != second.get(axis))
        raise UsageError(
            f"{len(found)} scenarios would share a cell: they differ in {differing}",
            where=flag,
            fix=f"{flag} {differing}={value_text(first[differing])}",
        )
    return found[0] if found else None


def _meets(row: SweepRow, conditions: Conditions) -> bool:
    """Whether a scenario has the values asked for; one that lacks an axis does not meet a condition on it."""
    return all(axis in row.values and _is(row.values[axis], text) for axis, text in conditions.items())


def _is(value: Value, text: str) -> bool:
    if isinstance(value, str):
        return value == text
    try:
        return float(text) == value
    except ValueError:
        return False


def _number(row: SweepRow | None, metric: str) -> Cell:
    if row is None or row.numbers is None:
        return None
    found: Cell = getattr(row.numbers, metric)
    return found
