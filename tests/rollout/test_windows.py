"""Windows: hours as clocks on a wall show them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gridctl.errors import UsageError
from gridctl.rollout.protocol import Window
from gridctl.rollout.windows import is_open, parse_window, text_of


def at(text: str, zone: str = "Europe/Paris") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-23T21:59:59", False),  # a Monday
        ("2026-11-23T22:00:00", True),
        ("2026-11-24T05:59:59", True),
        ("2026-11-24T06:00:00", False),
        ("2026-11-28T05:00:00", True),  # Saturday morning belongs to Friday night
        ("2026-11-28T23:00:00", False),  # Saturday night does not begin on a weekday
        ("2026-11-30T05:00:00", False),  # Monday morning belongs to Sunday night
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(moment: str, expected: bool) -> None:
    assert is_open([parse_window("Mon-Fri 22:00-06:00 Europe/Paris")], at(moment)) is expected


def test_the_zone_decides_and_summer_time_moves_it() -> None:
    window = [parse_window("03:00-04:00 Europe/Paris")]
    assert is_open(window, at("2026-01-15T02:30:00", "UTC"))  # winter: an hour ahead
    assert not is_open(window, at("2026-07-15T02:30:00", "UTC"))
    assert is_open(window, at("2026-07-15T01:30:00", "UTC"))  # summer: two


def test_without_windows_it_is_always_open_and_with_several_one_is_enough() -> None:
    assert is_open([], 0.0)
    both = [parse_window("01:00-02:00"), parse_window("Sun 00:00-24:00".replace("24:00", "23:59"))]
    assert is_open(both, at("2026-11-22T15:00:00", "UTC"))
    assert not is_open(both, at("2026-11-23T15:00:00", "UTC"))


def test_days_may_run_over_the_end_of_the_week_and_be_listed() -> None:
    assert parse_window("Sat-Mon 1:00-5:00").days == ("mon", "sat", "sun")
    assert parse_window("Mon,Wed-Thu 01:00-05:00").days == ("mon", "wed", "thu")


@pytest.mark.parametrize(
    "text",
    ["", "22:00", "Mon-Foo 22:00-06:00", "25:00-06:00", "22:60-06:00", "22:00-22:00", "22:00-06:00 Mars/Olympus",
     "Mon 22:00-06:00 ../../etc/passwd", "22:00-06:00 " + "x" * 500],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_window_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert "Europe/Paris" in str(caught.value.fix)


def test_a_window_reads_back_as_it_was_written() -> None:
    window = Window(("fri", "sat"), "22:00", "06:00", "Asia/Tokyo")
    assert parse_window(text_of(window)) == window
    assert parse_window(text_of(Window((), "01:00", "02:00"))) == Window((), "01:00", "02:00")
