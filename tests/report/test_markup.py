"""Markup: whatever a name is made of, it is text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from outline import outline

from gridctl.render.cell import visible
from gridctl.report.markup import Markup, element, escape, number


@given(st.text())
def test_any_text_reads_back_as_itself_with_controls_made_visible(text: str) -> None:
    (node,) = outline(element("p", {"title": text}, text)).children
    assert node.attributes == {"title": visible(text)}
    assert node.text() == visible(text)
    assert node.children == []


def test_only_what_is_markup_already_is_left_alone() -> None:
    assert element("p", None, element("b", None, "x"), "<b>") == "<p><b>x</b>&lt;b&gt;</p>"
    assert escape(Markup("<i>")) == "<i>"
    assert not isinstance("<b>" + Markup("<i>"), Markup)


def test_characters_that_turn_text_around_are_shown() -> None:
    assert escape("a\u202ecod.exe") == "a\\u202ecod.exe"


@given(st.floats(-1e6, 1e6))
def test_coordinates_are_right_to_a_tenth(value: float) -> None:
    assert abs(float(number(value)) - value) <= 0.0501
