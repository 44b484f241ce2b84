"""The plain table: alignment, width of other scripts, clipping only on a terminal."""

from __future__ import annotations

from gridctl.render.table import display_width, facts, table


def test_columns_align_left_and_right() -> None:
    assert table(["A", "N"], [["x", "long"], ["1", "22"]], ["left", "right"]) == "A      N\nx      1\nlong  22\n"


def test_wide_characters_count_two_and_accents_one() -> None:
    assert display_width("東京") == 4
    assert display_width("é") == 1
    assert display_width("e\u0301") == 1
    text = table(["CITY", "N"], [["東京", "Zürich", "Oslo"], ["1", "2", "3"]], ["left", "left"])
    assert text == "CITY    N\n東京    1\nZürich  2\nOslo    3\n"


def test_lines_are_clipped_to_a_terminal_and_never_in_a_pipe() -> None:
    long = "x" * 100
    columns = [["a"], [long]]
    assert long in table(["N", "T"], columns, ["left", "left"])
    clipped = table(["N", "T"], columns, ["left", "left"], width=40).splitlines()[1]
    assert clipped == "a  " + "x" * 36 + "…"
    assert len(clipped) == 40


def test_clipping_leaves_something_of_every_column() -> None:
    line = table(["A", "B"], [["x" * 50], ["y" * 50]], ["left", "left"], width=5).splitlines()[1]
    assert line == "x" * 7 + "…  " + "y" * 7 + "…"


def test_facts_are_title_and_value() -> None:
    assert facts(["name", "gpu"], ["a", "l4\x1b"]) == "name  a\ngpu   l4\\x1b\n"
