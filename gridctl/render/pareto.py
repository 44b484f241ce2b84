"""A sweep as people and machines read it: rows, the front as a picture in the terminal, the front as a static SVG.

Decides which columns a format shows, how scenarios on the front are called (A is the cheapest), and what a person is
told beside the table. Must not compute: who is on the front comes with the rows. The same rows make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gridctl.accounts.pareto import NUMBERS, SweepRow
from gridctl.render.account import count_text, ms_text, share_text, text_of, usd_text
from gridctl.render.cell import ABSENT, plain_text, short_float, visible
from gridctl.render.rows import Column, Item, render_rows
from gridctl.render.scatter import MARKS, Span, Spot, scatter, span

MOST_ROWS = 60
"""A sweep of more scenarios shows those on the front, unless the format is wide or for machines."""
MOST_TOLD = 8
HEIGHT = 14
BEYOND = "*"
X_TITLE = "dollars per million output tokens of good requests"
Y_TITLE = "share of requests that were good"
_SHOWN = (
    ("usd_per_mtok_goodput", "$/M good"),
    ("attainment", "attained"),
    ("ttft_p99_ms", "ttft p99"),
    ("tpot_p99_ms", "tpot p99"),
    ("good", "good"),
    ("rejected", "rejected"),
)


def letters(rows: Sequence[SweepRow]) -> dict[int, str]:
    """What scenarios on the front are called, by number: A is the cheapest; equal ones go by number."""
    points = [row for row in rows if row.on_front and row.numbers is not None]
    points.sort(key=lambda row: (_place(row), row.scenario))
    return {row.scenario: MARKS[i] if i < len(MARKS) else BEYOND for i, row in enumerate(points)}


def _place(row: SweepRow) -> tuple[float, float]:
    assert row.numbers is not None, "only scenarios with numbers are drawn"
    cost, attained = row.numbers.usd_per_mtok_goodput, row.numbers.attainment
    assert cost is not None, "only scenarios with a cost are drawn"
    assert attained is not None, "a scenario with a cost has requests"
    return cost, attained


def items(rows: Sequence[SweepRow], axes: Sequence[str]) -> list[Item]:
    """Rows for tables and CSV: a key for each axis and each number."""
    marks = letters(rows)
    found: list[Item] = []
    for row in rows:
        numbers = msgspec.structs.asdict(row.numbers) if row.numbers is not None else {}
        fields = {name: getattr(row, name) for name in SweepRow.__struct_fields__ if name not in ("values", "numbers")}
        item: dict[str, object] = {"scenario": row.scenario, **{f"axis:{axis}": row.values.get(axis) for axis in axes}}
        found.append({**item, **numbers, **fields, "mark": marks.get(row.scenario)})
    return found


def columns(rows: Sequence[SweepRow], axes: Sequence[str]) -> list[Column]:
    """The table's columns; with draws, ranges; where a scenario has no result, its state."""
    found = [Column("scenario", "#", align="right")]
    found += [_axis_column(axis, rows) for axis in axes]
    found += [Column(name, title, align="right", text=text_of(name) or count_text) for name, title in _SHOWN]
    if any(row.state != "done" for row in rows):
        found.append(Column("state", "state"))
    found.append(Column("mark", "front"))
    has_draws = any(row.replays > 1 for row in rows)
    bounds = ("usd_per_mtok_goodput", "attainment")
    found.append(Column("front_share", "on the front", wide=not has_draws, align="right", text=share_text))
    for name in bounds:
        for end in ("low", "high"):
            key = f"{name}_{end}"
            found.append(Column(key, key, wide=True, align="right", text=text_of(name)))
    shown = {name for name, _ in _SHOWN}
    others = [name for name in NUMBERS if name not in shown]
    found += [Column(name, name, wide=True, align="right", text=text_of(name) or count_text) for name in others]
    found += [Column("on_front", "on_front", wide=True), Column("replays", "replays", wide=True, align="right")]
    if not any(row.state != "done" for row in rows):
        found.append(Column("state", "state", wide=True))
    return [*found, Column("reason", "reason", wide=True), Column("digest", "digest", wide=True)]


def csv_columns(rows: Sequence[SweepRow], axes: Sequence[str]) -> list[Column]:
    """The same with every number under its own name, axes under theirs."""
    return [Column(column.key, column.key) for column in columns(rows, axes)]


def _axis_column(axis: str, rows: Sequence[SweepRow]) -> Column:
    is_number = all(not isinstance(row.values.get(axis), str) for row in rows)
    return Column(f"axis:{axis}", axis, align="right" if is_number else "left", text=plain_text)


def table(rows: Sequence[SweepRow], axes: Sequence[str], output: str, width: int | None) -> str:
    """Rows for `table`, `wide` and `markdown`."""
    shown = rows
    if output == "table" and len(rows) > MOST_ROWS:
        shown = [row for row in rows if row.on_front]
    chosen = items(rows, axes) if shown is rows else [one for one in items(rows, axes) if one["on_front"]]
    return render_rows(chosen, columns(shown, axes), output, kind="SweepResult", width=width)


def told(rows: Sequence[SweepRow], output: str) -> list[str]:
    """What a person must know beside the table, a sentence each."""
    lines = []
    front = [row for row in rows if row.on_front]
    done = [row for row in rows if row.state == "done"]
    if output == "table" and len(rows) > MOST_ROWS:
        lines.append(f"{len(front)} of {len(rows):,} scenarios are on the front; -o wide prints all")
    nothing = [row for row in done if row.numbers is not None and row.numbers.usd_per_mtok_goodput is None]
    if nothing:
        numbers = ", ".join(f"#{row.scenario}" for row in nothing[:MOST_TOLD])
        lines.append(f"{len(nothing)} scenarios answered nobody in time, so a good token has no price there: {numbers}")
    missing = [row for row in rows if row.state == "missing"]
    if missing:
        lines.append(f"{len(missing)} of {len(rows):,} scenarios are not replayed yet: sweep run … --resume")
    invalid = [row for row in rows if row.state == "invalid"]
    lines += [f"#{row.scenario} was not replayed: {visible(row.reason)}" for row in invalid[:MOST_TOLD]]
    if len(invalid) > MOST_TOLD:
        lines.append(f"nor were {len(invalid) - MOST_TOLD} more; -o csv has every reason")
    return lines


def picture(
    rows: Sequence[SweepRow], width: int, *, is_ascii: bool, paint: Callable[[str], str] = lambda text: text
) -> str:
    """The scenarios in a terminal: dots, and letters for the front. Empty when no scenario has a cost."""
    drawn = [row for row in rows if row.numbers is not None and row.numbers.usd_per_mtok_goodput is not None]
    if not drawn:
        return ""
    marks = letters(rows)
    places = [(_place(row), row) for row in drawn]
    spots = [Spot(cost, attained, marks.get(row.scenario, "")) for (cost, attained), row in places]
    spots.sort(key=lambda spot: (spot.x, -spot.y))
    x, y = spans(rows)
    lines = scatter(spots, x, y, width=width, height=HEIGHT, is_ascii=is_ascii, paint=paint)
    return "\n".join([Y_TITLE, *lines, f"{X_TITLE:>{width}}", ""])


def spans(rows: Sequence[SweepRow]) -> tuple[Span, Span]:
    """The two axes of the picture."""
    places = [_place(row) for row in rows if row.numbers is not None and row.numbers.usd_per_mtok_goodput is not None]
    costs, attained = [cost for cost, _ in places], [share for _, share in places]
    x = span(costs, lambda value: f"${short_float(value)}", least=0.0, most=None)
    y = span(attained, _share, least=0.0, most=1.0)
    return x, (y if not y.is_log else Span(0.0, 1.0, False, _share))


def _share(value: float) -> str:
    return f"{short_float(round(value * 100, 6))}%"


def description(row: SweepRow) -> str:
    """A scenario in words, for people who do not see the picture."""
    named = " ".join(f"{axis}={plain_text(value)}" for axis, value in row.values.items())
    if row.numbers is None:
        return f"#{row.scenario} {named}: {row.state}"
    cost = usd_text(row.numbers.usd_per_mtok_goodput)
    late = ms_text(row.numbers.ttft_p99_ms)
    attained = share_text(row.numbers.attainment)
    return (
        f"#{row.scenario} {named}: ${cost} per million, {attained} good, TTFT p99 {late} ms"
        if cost != ABSENT
        else named
    )
