"""Tables: rows as HTML, with a caption, headed columns and rows, and a frame of their own to scroll in.

Decides how a row of `render.rows` looks on the page; which columns there are is the sections'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gridctl.render.rows import Column, Item
from gridctl.report.markup import Content, Markup, element, joined

MARKS = {
    "met": ("good", "✓"),
    "missed": ("bad", "✗"),
    "undecided": ("fair", "?"),
    "pass": ("good", "✓"),
    "fail": ("bad", "✗"),
    "error": ("fair", "!"),
}
FILTER_FROM = 12
"""Rows from which on a table gets a filter."""


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    items: Sequence[Item],
    *,
    note: str = "",
    is_sum: Callable[[Item], bool] = lambda item: False,
) -> Markup:
    """A table whose first column heads its rows. `name` is its id; rows that `is_sum` says are set off."""
    texts = [column.texts(items) for column in columns]
    head = element("tr", None, *(element("th", {"scope": "col", **_side(column)}, column.title) for column in columns))
    body = [
        element(
            "tr",
            {"class": "sum" if is_sum(item) else None},
            *(_cell(at, c, t[row]) for at, (c, t) in enumerate(zip(columns, texts, strict=True))),
        )
        for row, item in enumerate(items)
    ]
    whole = element(
        "table",
        {"id": name},
        element("caption", None, caption),
        element("thead", None, head),
        element("tbody", None, *body),
    )
    framed = element(
        "div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": f"{caption}, table"}, whole
    )
    told = element("p", {"class": "by"}, note) if note else None
    return joined(_filter(name, caption) if len(items) >= FILTER_FROM else None, framed, told)


def _cell(index: int, column: Column, text: str) -> Markup:
    if index == 0:
        return element("th", {"scope": "row", **_side(column)}, text)
    if text in MARKS and column.align == "left":
        css_class, mark = MARKS[text]
        return element("td", {"class": css_class}, element("span", {"aria-hidden": "true"}, f"{mark} "), text)
    return element("td", _side(column), text)


def _side(column: Column) -> dict[str, object]:
    return {"class": "n"} if column.align == "right" else {}


def _filter(name: str, caption: str) -> Markup:
    """A field that the script turns on."""
    field = element("input", {"type": "search"})
    return element(
        "div",
        {"class": "tools", "data-filter": name, "hidden": True},
        element("label", None, f"Filter: {caption}", field),
        element("output", {"aria-live": "polite"}),
    )


def folded(title: str, *parts: Content) -> Markup:
    """What opens under its title when it is asked for."""
    return element("details", None, element("summary", None, title), *parts)
