"""A pivot holds one scenario a cell, or says which axis is in the way; a change is there over here, less one."""

from __future__ import annotations

import pytest

from gridctl.accounts.pareto import NUMBERS, Numbers, SweepRow
from gridctl.errors import UsageError
from gridctl.sweeps.pivot import check_metric, parse_conditions, pivot


def row(number: int, good: int, **values: float | str) -> SweepRow:
    return SweepRow(
        scenario=number,
        values=values,
        state="done",
        reason="",
        numbers=Numbers(**(dict.fromkeys(NUMBERS, 1) | {"good": good})),
        on_front=False,
        replays=1,
        front_share=None,
        usd_per_mtok_goodput_low=None,
        usd_per_mtok_goodput_high=None,
        attainment_low=None,
        attainment_high=None,
        digest="",
    )


ROWS = [
    row(1, 100, case="grid", rate=60.0),
    row(2, 180, case="grid", rate=120.0),
    row(3, 50, case="hub", rate=60.0, rtt_ms=40),
    row(4, 40, case="hub", rate=60.0, rtt_ms=80),
    row(5, 90, case="hub", rate=120.0, rtt_ms=40),
]
AXES = ["case", "rate", "rtt_ms"]


def test_a_cell_holds_the_number_of_its_scenario_and_nothing_where_there_is_none() -> None:
    down, along, cells = pivot(ROWS, ("rtt_ms", "rate"), "good", {"case": "hub"}, {})
    assert (down, along) == ([40, 80], [60.0, 120.0])
    assert cells == [[50, 90], [40, None]]


def test_a_change_is_to_the_scenario_that_agrees_on_every_axis_both_have() -> None:
    """From the hub to the grid: 100 / 50 − 1, 180 / 90 − 1, 100 / 40 − 1."""
    _, _, cells = pivot(ROWS, ("rtt_ms", "rate"), "good", {"case": "hub"}, {"case": "grid"})
    assert cells == [[1.0, 1.0], [1.5, None]]


def test_one_axis_is_a_column() -> None:
    down, along, cells = pivot(ROWS, ("rate", None), "good", {"case": "grid"}, {})
    assert (down, along, cells) == ([60.0, 120.0], [""], [[100], [180]])


def test_two_scenarios_in_a_cell_are_refused_with_the_axis_that_tells_them_apart() -> None:
    with pytest.raises(UsageError) as raised:
        pivot(ROWS, ("case", None), "good", {}, {})
    assert "2 scenarios would share a cell: they differ in rate" in raised.value.what
    assert raised.value.fix == "--where rate=60"


def test_two_scenarios_to_change_to_are_refused() -> None:
    with pytest.raises(UsageError) as raised:
        pivot(ROWS, ("rate", None), "good", {"case": "grid"}, {"case": "hub"})
    assert raised.value.where == "--to"
    assert raised.value.fix == "--to rtt_ms=40"


def test_conditions_and_numbers_that_are_none_are_told_what_is_near() -> None:
    assert parse_conditions(["case=hub, rate=60", "rtt_ms=40"], AXES, "--where") == {
        "case": "hub",
        "rate": "60",
        "rtt_ms": "40",
    }
    with pytest.raises(UsageError, match="the sweep has no axis 'rte'"):
        parse_conditions(["rte=60"], AXES, "--where")
    with pytest.raises(UsageError, match="'rate' is no condition"):
        parse_conditions(["rate"], AXES, "--where")
    with pytest.raises(UsageError) as raised:
        check_metric("goodput_tok")
    assert raised.value.fix == "did you mean goodput_tok_s?"
