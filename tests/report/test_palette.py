"""Palette: contrast, by WCAG's own examples and for every role."""

from __future__ import annotations

import re

import pytest

from gridctl.report.palette import DARK, LIGHT, MARK_ROLES, TEXT_ROLES, contrast
from gridctl.report.style import style_sheet

PALETTES = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]


def test_contrast_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # famous for just failing
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # and for just passing


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_words_stand_out_from_their_ground(palette: dict[str, str], ground: str) -> None:
    assert {
        role: contrast(palette[role], palette[ground])
        for role in TEXT_ROLES
        if contrast(palette[role], palette[ground]) < 4.5
    } == {}


@pytest.mark.parametrize("palette", PALETTES)
def test_marks_stand_out_from_paper(palette: dict[str, str]) -> None:
    assert {role for role in MARK_ROLES if contrast(palette[role], palette["paper"]) < 3} == set()


def test_every_color_of_the_sheet_is_the_palettes() -> None:
    assert set(LIGHT) == set(DARK)
    sheet = style_sheet()
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", sheet)) == {*LIGHT.values(), *DARK.values()}
    assert set(re.findall(r"var\(--([a-z]+)\)", sheet)) == set(LIGHT)


def test_the_sheet_loads_nothing() -> None:
    assert not re.search(r"url\(|@import|https?:|expression\(", style_sheet())
