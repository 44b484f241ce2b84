"""A pivot as text: one number of a sweep over two axes, or its change. Decides titles and rounding only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gridctl.render.account import count_text, text_of
from gridctl.render.cell import ABSENT, plain_text, visible
from gridctl.render.rows import Column, Item

Value = float | str


class Cell(NamedTuple):
    """A number or a change, and between which values it lay over the draws; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


LOW, HIGH, TOLD = "_draws_low", "_draws_high", "_told"


def change_text(value: float | None) -> str:
    """A change as a signed percentage.

    >>> change_text(-0.0921), change_text(1.951), change_text(None)
    ('-9.2%', '+195.1%', '-')
    """
    return ABSENT if value is None else f"{value:+.1%}"


def cell_names(across: str | None, along: Sequence[Value], metric: str) -> list[str]:
    """What the columns of a pivot are called: the other axis's values, or the number itself where there is none."""
    return [metric if across is None else f"{across}={plain_text(value)}" for value in along]


def pivot_items(axis: str, down: Sequence[Value], names: Sequence[str], cells: Sequence[Sequence[Cell]]) -> list[Item]:
    """A row per value of the axis that goes down: a cell's number under its column's name, its range beside it."""
    found: list[Item] = []
    for first, line in zip(down, cells, strict=True):
        row: dict[str, object] = {axis: first}
        for name, cell in zip(names, line, strict=True):
            row |= {name: cell.value, f"{name}{LOW}": cell.low, f"{name}{HIGH}": cell.high, f"{name}{TOLD}": cell}
        found.append(row)
    return found


def pivot_columns(axis: str, names: Sequence[str], metric: str, *, is_change: bool) -> list[Column]:
    """The axis, then a column of text per name."""
    reads = change_text if is_change else text_of(metric) or count_text
    own = [Column(axis, visible(axis), align="right", text=plain_text)]
    return [*own, *(Column(f"{name}{TOLD}", visible(name), align="right", text=_telling(reads)) for name in names)]


def csv_columns(axis: str, names: Sequence[str]) -> list[Column]:
    """The axis, then a column of exact numbers per name, and two for its range."""
    return [Column(axis, axis), *(Column(f"{name}{end}", name) for name in names for end in ("", LOW, HIGH))]


def _telling(reads: Callable[[Any], str]) -> Callable[[Cell], str]:
    """A cell as text: the number and, where there are draws, its range."""

    def text(cell: Cell) -> str:
        if cell.low is None or cell.high is None:
            return reads(cell.value)
        return f"{reads(cell.value)} ({reads(cell.low)}…{reads(cell.high)})"

    return text


class PivotCell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as JSON."""

    row: Value
    column: Value | None
    value: float | None
    low: float | None
    high: float | None


class PivotDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A pivot as one JSON object."""

    sweep: str
    metric: str
    rows: str
    columns: str | None
    where: dict[str, str]
    to: dict[str, str]
    is_change: bool
    items: list[PivotCell]


def pivot_cells(
    down: Sequence[Value], along: Sequence[Value], cells: Sequence[Sequence[Cell]], *, has_columns: bool
) -> list[PivotCell]:
    """Every cell with the values of its two axes."""
    return [
        PivotCell(row=first, column=second if has_columns else None, value=cell.value, low=cell.low, high=cell.high)
        for first, line in zip(down, cells, strict=True)
        for second, cell in zip(along, line, strict=True)
    ]
