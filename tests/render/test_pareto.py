"""A sweep as table, picture and drawing: letters, hostile names, determinism, and a drawing that says what it shows."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

from gridctl.accounts.pareto import NUMBERS, Numbers, SweepRow, front
from gridctl.render.pareto import csv_columns, items, letters, picture, table, told
from gridctl.render.pareto_svg import pareto_svg
from gridctl.render.rows import render_rows

SVG = "{http://www.w3.org/2000/svg}"


def numbers(cost: float | None, attainment: float, **own: object) -> Numbers:
    fields = dict.fromkeys(NUMBERS, 1) | {"usd_per_mtok_goodput": cost, "attainment": attainment} | own
    return Numbers(**fields)


def rows_of(points: list[tuple[float | None, float] | None], name: str = "x") -> list[SweepRow]:
    on = front(points)
    return [
        SweepRow(
            scenario=number,
            values={name: number},
            state="done" if point else "invalid",
            reason="" if point else "site nowhere does not exist",
            numbers=numbers(*point) if point else None,
            on_front=on[number - 1],
            replays=1 if point else 0,
            front_share=None,
            usd_per_mtok_goodput_low=None,
            usd_per_mtok_goodput_high=None,
            attainment_low=None,
            attainment_high=None,
            digest="",
        )
        for number, point in enumerate(points, start=1)
    ]


def test_the_cheapest_of_the_front_is_a() -> None:
    rows = rows_of([(3.0, 0.99), (1.0, 0.5), (2.0, 0.9), (2.5, 0.8)])
    assert letters(rows) == {2: "A", 3: "B", 1: "C"}


def test_more_than_52_on_the_front_are_stars() -> None:
    rows = rows_of([(1.0 + number, 0.1 + number / 100) for number in range(54)])
    marks = letters(rows)
    assert [marks[number] for number in (1, 26, 27, 52, 53, 54)] == ["A", "Z", "a", "z", "*", "*"]


def test_the_picture_fits_80_columns_and_24_lines_with_and_without_braille() -> None:
    rows = rows_of([(0.1 * number, 1 - 1 / number) for number in range(2, 30)])
    for is_ascii in (False, True):
        text = picture(rows, 79, is_ascii=is_ascii)
        lines = text.splitlines()
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 79
        assert text.isascii() or not is_ascii
        assert "A" in text


def test_there_is_no_picture_of_nothing() -> None:
    assert picture(rows_of([None, (None, 0.0)]), 79, is_ascii=True) == ""
    assert "No scenario answered anybody in time" in pareto_svg("none", rows_of([None]))


def test_what_was_not_replayed_is_named_with_its_reason() -> None:
    rows = rows_of([(1.0, 0.9), None, (None, 0.0)])
    assert "invalid" in table(rows, ["x"], "table", None)
    lines = told(rows, "table")
    assert "#2 was not replayed: site nowhere does not exist" in lines
    assert any("answered nobody in time" in line and "#3" in line for line in lines)


def test_a_long_sweep_shows_its_front_and_says_so() -> None:
    rows = rows_of([(1.0 + number, 0.9) for number in range(70)])
    assert len(table(rows, ["x"], "table", None).splitlines()) == 2
    assert len(table(rows, ["x"], "wide", None).splitlines()) == 71
    assert told(rows, "table") == ["1 of 70 scenarios are on the front; -o wide prints all"]


def test_csv_holds_every_number_and_every_axis() -> None:
    axis = "link/a-b spec.rtt_ms"
    rows = rows_of([(1.5, 0.9)], name=axis)
    text = render_rows(items(rows, [axis]), csv_columns(rows, [axis]), "csv", kind="")
    (line,) = csv.DictReader(io.StringIO(text))
    assert line[f"axis:{axis}"] == "1"
    assert set(NUMBERS) <= set(line)
    assert (line["usd_per_mtok_goodput"], line["on_front"], line["mark"]) == ("1.5", "true", "A")


def test_the_drawing_is_well_formed_and_says_in_words_what_it_shows() -> None:
    rows = rows_of([(1.0, 0.5), (2.0, 0.9), (3.0, 0.7)])
    root = ElementTree.fromstring(pareto_svg("fleets", rows))
    assert root.get("role") == "img"
    titled = {child.get("id"): child.text for child in root if child.tag in (f"{SVG}title", f"{SVG}desc")}
    assert root.get("aria-labelledby") == "title desc"
    assert "fleets" in (titled["title"] or "")
    assert "A: #1 x=1" in (titled["desc"] or "")
    assert "B: #2 x=2" in (titled["desc"] or "")
    shapes = [element.tag.removeprefix(SVG) for element in root if element.find(f"{SVG}title") is not None]
    assert shapes == ["circle", "path", "path"]


def test_hostile_names_are_text_and_nothing_else() -> None:
    rows = rows_of([(1.0, 0.5)], name="</title><script>alert(1)</script>\x1b[31m")
    text = pareto_svg('"><script>', rows)
    root = ElementTree.fromstring(text)
    assert not list(root.iter(f"{SVG}script"))
    assert "\x1b" not in text
    assert "\x1b" not in table(rows, list(rows[0].values), "table", None)


def test_the_drawing_knows_light_and_dark_and_loads_nothing() -> None:
    text = pareto_svg("fleets", rows_of([(1.0, 0.5), (2.0, 0.9)]))
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_and_shapes_stand_out_from_the_paper() -> None:
    """WCAG 2.2: 4.5 to 1 for text, 3 to 1 for graphics, in both schemes."""
    for paper, inks in (("#ffffff", ("#1a1f24", "#56606b", "#0b5cad")), ("#14181c", ("#eef1f4", "#a7b1bb", "#6db3ff"))):
        for ink in inks:
            high, low = sorted((luminance(paper), luminance(ink)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (paper, ink)
