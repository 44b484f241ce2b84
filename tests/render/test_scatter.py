"""Points in a terminal: where they stand, what the axes say, and nothing wider than asked for."""

from __future__ import annotations

import pytest

from gridctl.render.scatter import Span, Spot, round_steps, scatter, span


def plain(value: float) -> str:
    return f"{value:g}"


UNIT = Span(0.0, 1.0, False, plain)


def test_corners_stand_in_the_corners() -> None:
    spots = [Spot(0.0, 0.0, "A"), Spot(1.0, 0.0, "B"), Spot(0.0, 1.0, "C"), Spot(1.0, 1.0, "D"), Spot(0.5, 0.5)]
    lines = scatter(spots, UNIT, UNIT, width=40, height=9, is_ascii=True)
    assert lines[0].split("|")[1][0] == "C"
    assert lines[0][-1] == "D"
    assert lines[8].split("|")[1][0] == "A"
    assert lines[8][-1] == "B"
    assert "." in lines[4]
    assert all(len(line) <= 40 for line in lines)
    assert all(line.isascii() for line in lines)


def test_a_braille_dot_is_raised_where_the_point_is() -> None:
    """The lower left corner of the plot is the dot of the left column in the first row of its character's four."""
    lines = scatter([Spot(0.0, 0.0)], UNIT, UNIT, width=40, height=9, is_ascii=False)
    assert lines[8].split("│")[1][0] == "\u2801"


def test_the_first_letter_stands_where_two_meet_and_above_dots() -> None:
    spots = [Spot(0.5, 0.5, "B"), Spot(0.5, 0.5, "C"), Spot(0.5, 0.5)]
    text = "".join(scatter(spots, UNIT, UNIT, width=40, height=9, is_ascii=True)[:9])
    assert "B" in text
    assert "C" not in text
    assert "." not in text.replace("0.5", "")


def test_letters_are_painted_and_dots_are_not() -> None:
    spots = [Spot(0.2, 0.2, "A"), Spot(0.8, 0.8)]
    lines = scatter(spots, UNIT, UNIT, width=40, height=9, is_ascii=True, paint=lambda text: f"<{text}>")
    assert sum(line.count("<A>") for line in lines) == 1
    assert sum(line.count("<") for line in lines) == 1


@pytest.mark.parametrize(
    ("low", "high", "most", "steps"),
    [
        (0.0, 1.0, 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 1.0, 3, [0.0, 0.5, 1.0]),
        (9.91, 9.97, 4, [9.92, 9.94, 9.96]),
        (-3.0, 3.0, 4, [-2.0, 0.0, 2.0]),
    ],
)
def test_steps_are_round(low: float, high: float, most: int, steps: list[float]) -> None:
    assert round_steps(low, high, most) == steps


def test_an_axis_over_decades_steps_by_ratios() -> None:
    axis = span([0.1, 10.0], plain, least=0.0, most=None)
    assert axis.is_log
    assert axis.share(1.0) == pytest.approx(0.5)
    assert axis.steps(9) == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    assert axis.steps(3) == [0.1, 1.0, 10.0]


def test_one_value_alone_has_room_on_both_sides() -> None:
    axis = span([0.5], plain, least=0.0, most=1.0)
    assert axis.low < 0.5 < axis.high
    assert span([0.0], plain, least=0.0, most=1.0).low == 0.0


def test_an_axis_keeps_to_what_is_possible() -> None:
    axis = span([0.2, 1.0], plain, least=0.0, most=1.0)
    assert axis.high == 1.0
    assert 0.0 <= axis.low < 0.2
