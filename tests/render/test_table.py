"""The plain table: alignment, width of other scripts, clipping only on a terminal."""

from __future__ import annotations

from gridctl.render.table import display_width, facts, fitting, table


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


def test_a_number_is_never_clipped_because_it_would_be_another() -> None:
    line = table(["NAME", "CITY", "PEOPLE"], [["a"], ["x" * 40], ["12,345,678"]], ["left", "left", "right"], width=30)
    assert line.splitlines()[1] == "a     " + "x" * 11 + "…  12,345,678"


def test_a_name_stays_whole_while_other_texts_can_give() -> None:
    columns = [["fr-paris-01", "fr-paris-02"], ["the first of two texts", "the second"]]
    lines = table(["SITE", "WHY"], columns, ["left", "left"], width=25).splitlines()
    assert lines == ["SITE         WHY", "fr-paris-01  the first o…", "fr-paris-02  the second"]


def test_titles_are_not_clipped() -> None:
    lines = table(["N", "JURISDICTION"], [["a"], ["x" * 30]], ["left", "left"], width=5).splitlines()
    assert lines[0] == "N  JURISDICTION"


def test_columns_that_do_not_fit_go_from_the_right_and_kept_ones_stay() -> None:
    texts = [["fr-paris-01"], ["1,000"], ["active"], ["22"]]
    titles, aligns = ["SITE", "COUNT", "STATE", "N"], ["left", "right", "left", "right"]
    kept = [False, False, True, False]
    assert fitting(titles, texts, aligns, kept, 30) == [True, True, True, True]  # 11 + 5 + 6 + 2 and three gaps of 2
    assert fitting(titles, texts, aligns, kept, 29) == [True, True, True, False]
    assert fitting(titles, texts, aligns, kept, 20) == [True, False, True, False]
    assert fitting(titles, texts, aligns, kept, 4) == [True, False, True, False]
