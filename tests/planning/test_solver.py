"""The solver: a program whose answer is known, what it prints, and what is said where it is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.planning.solver import Program, solve


def knapsack() -> Program:
    """Cover 7 with pieces of 3 (cost 4) and 2 (cost 3): 3 + 2 + 2 costs 10, 3 + 3 + 2 costs 11, so 10."""
    program = Program()
    three, two = program.column(4.0, integer=True), program.column(3.0, integer=True)
    program.row([(three, 3.0), (two, 2.0)], low=7.0)
    return program


def test_a_small_program_is_solved_to_the_end() -> None:
    found = solve(knapsack(), seconds=10, gap=0.0)
    assert found is not None
    assert found.cost == pytest.approx(10.0)
    assert found.values.round().tolist() == [1.0, 2.0]
    assert (found.gap, found.stopped_by) == (pytest.approx(0.0, abs=1e-9), "gap")


def test_it_costs_no_more_than_the_start_it_was_given() -> None:
    found = solve(knapsack(), seconds=10, gap=0.5, start=np.array([1.0, 2.0]))
    assert found is not None
    assert found.cost == pytest.approx(10.0)


def test_a_program_without_a_solution_has_none() -> None:
    program = knapsack()
    program.row([(0, 1.0), (1, 1.0)], high=1.0)
    assert solve(program, seconds=10, gap=0.0) is None


def test_nothing_is_printed_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    solve(knapsack(), seconds=10, gap=0.0)
    assert capfd.readouterr().out == ""


def test_a_missing_solver_is_answered_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(InputError) as found:
        solve(knapsack(), seconds=10, gap=0.0)
    assert found.value.fix == "pip install 'gridctl[plan]'"
