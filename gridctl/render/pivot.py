"""A pivot as text: one number of a sweep over two axes, or its change. Decides titles and rounding only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridctl.render.account import count_text, text_of
from gridctl.render.cell import ABSENT, plain_text
from gridctl.render.rows import Column, Item

Value = float | str
Cell = float | None


def change_text(value: float | None) -> str:
    """A change as a signed percentage.

    >>> change_text(-0.0921), change_text(1.951), change_text(None)
    ('-9.2%', '+195.1%', '-')
    """
    return ABSENT if value is None else f"{value:+.1%}"


def pivot_items(
    axis: str, down: Sequence[Value], along: Sequence[Value], cells: Sequence[Sequence[Cell]]
) -> list[Item]:
    """A row per value of the axis that goes down."""
    titles = [_key(value) for value in along]
    return [{axis: first, **dict(zip(titles, line, strict=True))} for first, line in zip(down, cells, strict=True)]


def pivot_columns(
    axis: str, across: str | None, along: Sequence[Value], metric: str, *, is_change: bool
) -> list[Column]:
    """The axis, then a column per value of the other; with one axis the number's own name."""
    reads = change_text if is_change else text_of(metric) or count_text
    own = [Column(axis, axis, align="right", text=plain_text)]
    for value in along:
        title = metric if across is None else f"{across}={plain_text(value)}"
        own.append(Column(_key(value), title, align="right", text=reads))
    return own


def pivot_document(
    sweep: str,
    metric: str,
    across: tuple[str, str | None],
    where: Mapping[str, str],
    to: Mapping[str, str],
    down: Sequence[Value],
    along: Sequence[Value],
    cells: Sequence[Sequence[Cell]],
) -> dict[str, object]:
    """The pivot as one JSON object: a cell per item."""
    items = []
    for first, line in zip(down, cells, strict=True):
        for second, value in zip(along, line, strict=True):
            items.append({"row": first, "column": None if across[1] is None else second, "value": value})
    return {
        "sweep": sweep,
        "metric": metric,
        "rows": across[0],
        "columns": across[1],
        "where": dict(where),
        "to": dict(to),
        "is_change": bool(to),
        "items": items,
    }


def _key(value: Value) -> str:
    return f"={plain_text(value)}"
