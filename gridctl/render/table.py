"""The plain table: aligned columns separated by two spaces, fast enough for thousands of rows.

Decides widths, clipping, and which columns stay where not all fit. Works column by column, because one join and one
scan per column is far cheaper than a check per cell (4,400 rows of ten columns take single-digit milliseconds). Clips
only when a width is given, which happens only on a terminal: a pipe always gets whole values. Texts are clipped, but
never a number, which would be another number then, nor a title, nor what a row is called while anything else may give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gridctl.render.cell import visible, visible_texts

GAP = "  "
MIN_CLIPPED_WIDTH = 8
NAME_WIDTH = 24
TEXT_WIDTH = 16
"""Of a row's name and of another text, so much stays while a column may go instead: they are there to be read."""
ELLIPSIS = "…"


def display_width(text: str) -> int:
    """Terminal cells `text` takes: wide East Asian characters count two, combining marks none.

    >>> display_width("Zürich"), display_width("東京")
    (6, 4)
    """
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(
    titles: Sequence[str],
    columns: Sequence[Sequence[str]],
    aligns: Sequence[Literal["left", "right"]],
    *,
    width: int | None = None,
) -> str:
    """Lines of an aligned table, header first, each ended by a newline. `columns` holds texts, column by column."""
    cells = [[title, *visible_texts(list(column))] for title, column in zip(titles, columns, strict=True)]
    simple = [_is_simple(column) for column in cells]
    widths = [max(map(len if plain else display_width, column)) for column, plain in zip(cells, simple, strict=True)]
    if width is not None:
        widths = _fit(widths, _floors(cells, widths, aligns), width)
    padded = [
        _pad(column, size, align, is_simple=plain)
        for column, size, align, plain in zip(cells, widths, aligns, simple, strict=True)
    ]
    return "".join([f"{line.rstrip()}\n" for line in map(GAP.join, zip(*padded, strict=True))])


def facts(titles: Sequence[str], texts: Sequence[str]) -> str:
    """One thing, a fact per line: title, then value."""
    size = max(map(display_width, titles), default=0)
    return "".join(
        f"{title}{' ' * (size - display_width(title))}{GAP}{visible(text)}\n"
        for title, text in zip(titles, texts, strict=True)
    )


def fitting(
    titles: Sequence[str],
    columns: Sequence[Sequence[str]],
    aligns: Sequence[Literal["left", "right"]],
    kept: Sequence[bool],
    width: int,
) -> list[bool]:
    """Which columns are shown where `width` is too little for all, though texts are clipped: the last ones go
    first, `kept` ones and the first never."""
    cells = [[title, *visible_texts(list(column))] for title, column in zip(titles, columns, strict=True)]
    widths = [max(map(display_width, column)) for column in cells]
    needed = [
        width if align == "right" else min(width, TEXT_WIDTH if at else NAME_WIDTH)
        for at, (width, align) in enumerate(zip(widths, aligns, strict=True))
    ]
    shown = [True] * len(cells)
    for at in reversed(range(1, len(cells))):
        if sum(size + len(GAP) for size, is_shown in zip(needed, shown, strict=True) if is_shown) - len(GAP) <= width:
            break
        shown[at] = kept[at]
    return shown


def _is_simple(column: list[str]) -> bool:
    """Whether every character takes one cell, so that `len` is the width; decided once for the distinct characters."""
    text = "".join(column)
    return text.isascii() or all(display_width(character) == 1 for character in set(text))


def _floors(cells: Sequence[list[str]], widths: list[int], aligns: Sequence[str]) -> list[int]:
    """How narrow each column may become: numbers stay whole, texts keep their title and `MIN_CLIPPED_WIDTH`."""
    return [
        width if align == "right" else min(width, max(display_width(column[0]), MIN_CLIPPED_WIDTH))
        for column, width, align in zip(cells, widths, aligns, strict=True)
    ]


def _fit(widths: list[int], floors: list[int], limit: int) -> list[int]:
    """Narrow the widest texts until the line fits: the first column, the rows' names, after all others."""
    fitted = list(widths)
    excess = sum(fitted) + len(GAP) * (len(fitted) - 1) - limit
    for columns in (range(1, len(fitted)), range(min(1, len(fitted)))):
        while excess > 0 and (soft := [at for at in columns if fitted[at] > floors[at]]):
            fitted[max(soft, key=fitted.__getitem__)] -= 1
            excess -= 1
    return fitted


def _pad(column: list[str], size: int, align: Literal["left", "right"], *, is_simple: bool) -> list[str]:
    if is_simple and max(map(len, column)) <= size:
        return [text.rjust(size) for text in column] if align == "right" else [text.ljust(size) for text in column]
    return [_pad_one(text, size, align) for text in column]


def _pad_one(text: str, size: int, align: Literal["left", "right"]) -> str:
    taken = display_width(text)
    if taken > size:
        kept = text[: size - 1]
        while display_width(kept) > size - 1:
            kept = kept[:-1]
        text, taken = kept + ELLIPSIS, display_width(kept) + 1
    blank = " " * (size - taken)
    return blank + text if align == "right" else text + blank
