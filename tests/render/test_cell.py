"""Cells: the text of one value, and what text from outside may not do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.render.cell import (
    csv_text,
    csv_texts,
    float_text,
    plain_text,
    plain_texts,
    short_float,
    visible,
    visible_texts,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (3, "3"),
        (2.0, "2"),
        (0.5, "0.5"),
        ([], "-"),
        ((1, "a"), "1,a"),
        ({"a": 1}, "a=1"),
    ],
)
def test_values_read_plainly(value: object, text: str) -> None:
    assert plain_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (123.456, "123.5"),
        (12.3456, "12.35"),
        (1e-7, "1e-07"),
        (-0.25, "-0.25"),
        (1e16, "10000000000000000.0"),
    ],
)
def test_floats_for_people_are_short(value: float, text: str) -> None:
    assert short_float(value) == text


def test_exact_floats_read_back() -> None:
    assert float_text(0.1 + 0.2) == "0.30000000000000004"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_formulas_are_defused_in_csv(text: str) -> None:
    assert csv_text(text).startswith("'")


@pytest.mark.parametrize(
    ("value", "text"), [("-5", "-5"), (-5, "-5"), (-0.5, "-0.5"), ("+3.2", "+3.2"), ("fr-paris", "fr-paris")]
)
def test_numbers_and_names_stay_as_they_are_in_csv(value: object, text: str) -> None:
    assert csv_text(value) == text


def test_control_characters_become_visible() -> None:
    assert visible("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert visible("Zürich 東京") == "Zürich 東京"


VALUES = st.lists(
    st.one_of(
        st.none(), st.text(max_size=6), st.integers(), st.booleans(), st.floats(), st.lists(st.integers(), max_size=2)
    )
)


@given(VALUES)
def test_a_column_reads_as_its_cells_do(values: list[object]) -> None:
    assert plain_texts(values) == [plain_text(value) for value in values]
    assert csv_texts(values) == [csv_text(value) for value in values]


@given(st.lists(st.text(max_size=5)))
def test_a_column_of_texts_is_as_visible_as_each(texts: list[str]) -> None:
    assert visible_texts(texts) == [visible(text) for text in texts]
