"""The screen: what fits a terminal, what reads without colour and without Unicode."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from gridctl.accounts.by_place import PlaceShare
from gridctl.geography.place import Place
from gridctl.render.table import display_width
from gridctl.report.content import Report, report_of
from gridctl.report.map_chart import Spot
from gridctl.report.markdown import markdown
from gridctl.report.screen import Canvas, screen
from gridctl.report.spark import spark, squeezed
from gridctl.report.terminal_map import terminal_map


def plain(text: str, style: str) -> str:
    return text


def canvas(width: int = 80, height: int = 24, *, is_ascii: bool = False) -> Canvas:
    return Canvas(width, height, is_ascii, plain)


def spot(name: str, lat: float, lon: float, good: int) -> Spot:
    share = PlaceShare(name=name, tier="", region="EU", requests=100, good=good, attainment=good / 100, main_cause="")
    return Spot(name, lat, lon, share, None)


@pytest.mark.parametrize("size", [(80, 24), (60, 24), (120, 50), (500, 10)])
def test_lines_fit_the_terminal(report: Report, size: tuple[int, int]) -> None:
    lines = screen(report, canvas(*size)).splitlines()
    assert max(map(display_width, lines)) <= max(size[0], 60)
    assert len(lines) <= max(size[1], 24)


def test_the_screen_says_the_numbers_that_matter(report: Report) -> None:
    text = screen(report, canvas())
    assert "run base: trace hand, policy default, 400 requests in 1 min 40 s" in text
    assert "good 89.8%, answered 99.75%; promises: 4 missed, 2 undecided" in text
    assert "most 4.0/s" in text  # 400 requests in 100 s
    assert "most $7.20/h" in text  # two GPUs at 3.60
    assert re.search(r"^chat +200 +90.0% .* missed$", text, re.MULTILINE)


def test_a_terminal_without_unicode_gets_ascii(report: Report) -> None:
    assert screen(report, canvas(is_ascii=True)).isascii()


def test_without_color_nothing_but_text_is_printed(report: Report) -> None:
    assert "\x1b" not in screen(report, canvas())


def test_a_hostile_name_cannot_move_the_cursor(make_run: Callable, places: dict[str, Place]) -> None:
    run = make_run("a\x1b[2Jb", trace="t\nrun fake", workload="w\x1b]0;x\x07")
    text = screen(report_of(run, made_ns=0, places=places), canvas())
    assert "\x1b" not in text
    assert "\nrun fake" not in text


def test_symbols_stand_where_places_are_and_the_worse_one_shows() -> None:
    spots = [spot("nw", 60, 0, 100), spot("ne", 60, 20, 97), spot("se", 40, 20, 20), spot("se2", 40.01, 20, 100)]
    lines = terminal_map(spots, 60, 12, is_ascii=True, paint=plain)
    found = {symbol: (row, line.index(symbol)) for row, line in enumerate(lines) for symbol in "o=X" if symbol in line}
    assert found["o"][0] == found["="][0] < found["X"][0]
    assert found["o"][1] < found["="][1] == found["X"][1]
    assert sum(line.count("o") for line in lines) == 1


def test_cities_are_braille_dots() -> None:
    lines = terminal_map([spot("a", 60, 0, 100), spot("b", 40, 20, 100)], 60, 12, is_ascii=False, paint=plain)
    cells = {c for line in lines for c in line} - set(" ●")
    assert cells
    assert all(0x2801 <= ord(c) <= 0x28FF for c in cells)


def test_sparks_rise_with_their_numbers() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert spark([5.0, 5.0]) == "██"
    assert spark([]) == ""
    assert squeezed([1.0] * 10, 3) == [1.0, 1.0, 1.0]
    assert squeezed([1.0, None], 5) == [1.0, None]


def test_markdown_holds_both_tables_and_no_foreign_markup(make_run: Callable, places: dict[str, Place]) -> None:
    run = make_run("a_b", trace="<img src=x>|*x*", workload="`w`|")
    text = markdown(report_of(run, made_ns=0, places=places, commands=("gridctl report a_b",)))
    assert "<img" not in text
    assert "## Tokenomics" in text
    assert "## SLA" in text
    assert "# Run a\\_b" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tables = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert all(count > 2 for count in tables)
