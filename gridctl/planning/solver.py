"""Solver: a mixed-integer program in sparse columns, solved by HiGHS, whole or as far as its bounds allow.

Decides the solver's settings and nothing of what is solved. One thread, a fixed seed and a limit of nodes make the same
program give the same answer; only a run that the clock stops may differ, and it says so. HiGHS is an extra: where it is
missing the error names the command that installs it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError

INFINITY = float("inf")
NODES = 200
"""Branches looked at: what bounds the work the same way on every machine."""


@dataclass(slots=True)
class Program:
    """Minimise cost · x under rows of `low ≤ a · x ≤ high`; built a column and a row at a time."""

    cost: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    row_low: list[float] = field(default_factory=list)
    row_high: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def column(self, cost: float, upper: float = INFINITY, *, integer: bool = False) -> int:
        """A variable from 0 (see `lower`) to `upper`; its number."""
        self.cost.append(cost)
        self.lower.append(0.0)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.cost) - 1

    def row(self, terms: list[tuple[int, float]], low: float = -INFINITY, high: float = INFINITY) -> None:
        """A constraint; `terms` are pairs of a variable and its factor."""
        self.columns.extend(column for column, _ in terms)
        self.values.extend(value for _, value in terms)
        self.starts.append(len(self.columns))
        self.row_low.append(low)
        self.row_high.append(high)


@dataclass(frozen=True, slots=True)
class Solution:
    """The best found. `gap` is its cost over the bound, less 1, as a share of the cost."""

    values: NDArray[np.float64]
    cost: float
    bound: float
    gap: float
    nodes: int
    stopped_by: str


def solver_version() -> str:
    """The solver's version. Raises: InputError with the command that installs it."""
    return str(getattr(_highs(), "__version__", "")) or "HiGHS"


def solve(program: Program, *, seconds: float, gap: float, start: NDArray[np.float64] | None = None) -> Solution | None:
    """The cheapest solution found until it is proved within `gap` of the best, or time or nodes run out; None when
    there is none, or none was found. It costs no more than `start`, a solution to begin with."""
    highs = _highs()
    with _quiet():  # the constructor prints its name to stdout
        model = highs.Highs()
    options: dict[str, object] = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "time_limit": float(seconds),
        "mip_rel_gap": gap,
        "mip_max_nodes": NODES,
    }
    for name, value in options.items():
        model.setOptionValue(name, value)
    model.HandleKeyboardInterrupt = True
    model.passModel(_linear_program(highs, program))
    if start is not None:
        given = highs.HighsSolution()
        given.col_value = start.tolist()
        model.setSolution(given)
    model.solve()
    status, info = model.getModelStatus(), model.getInfo()
    found = info.primal_solution_status == highs.SolutionStatus.kSolutionStatusFeasible
    values = np.array(model.getSolution().col_value, np.float64) if found else start
    if values is None:
        return None
    costs = np.array(program.cost, np.float64)
    if start is not None and float(costs @ start) < float(costs @ values):
        values = start
    cost, bound = float(costs @ values), max(0.0, float(info.mip_dual_bound))
    kinds = highs.HighsModelStatus
    stopped_by = {kinds.kOptimal: "gap", kinds.kTimeLimit: "time"}.get(status, "nodes")
    return Solution(values, cost, bound, _gap(cost, bound), int(info.mip_node_count), stopped_by)


def _gap(cost: float, bound: float) -> float:
    return max(0.0, (cost - bound) / abs(cost)) if cost else 0.0


def _linear_program(highs: Any, program: Program) -> Any:
    model = highs.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), len(program.row_low)
    model.col_cost_ = np.array(program.cost, np.float64)
    model.col_lower_ = np.array(program.lower, np.float64)
    model.col_upper_ = np.array(program.upper, np.float64)
    model.row_lower_ = np.array(program.row_low, np.float64)
    model.row_upper_ = np.array(program.row_high, np.float64)
    model.a_matrix_.format_ = highs.MatrixFormat.kRowwise
    model.a_matrix_.start_ = np.array(program.starts, np.int32)
    model.a_matrix_.index_ = np.array(program.columns, np.int32)
    model.a_matrix_.value_ = np.array(program.values, np.float64)
    kinds = highs.HighsVarType
    model.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in program.integer]
    return model


def _highs() -> Any:
    try:
        return importlib.import_module("highspy")
    except ImportError as error:
        raise InputError(
            f"placing needs the solver HiGHS: {error}", where="plan place", fix="pip install 'gridctl[plan]'"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """What compiled code prints to stdout meanwhile goes nowhere: stdout is a command's data."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # stdout is closed: nothing to keep clean
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
