"""Gate report: what holding gates against a run comes to, and the one order in which outcomes count.

An error outweighs a failure: a gate that could not be decided says that nothing was proved about the run, and must not
look like the plain miss that a failure is. Both are printed; only the exit code has to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from gridctl.resources import GateSpec

Outcome = Literal["pass", "fail", "error"]
Reason = Literal[
    "", "missed", "undecided", "too-few-samples", "scope", "no-baseline", "no-number", "no-draws", "no-promise"
]


@dataclass(frozen=True, slots=True)
class NamedGate:
    """A gate, its name, and where it was written: file and line, neither for one from the command line or the grid."""

    name: str
    spec: GateSpec
    file: str | None = None
    line: int | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate's outcome. A field's comment is its definition; names are JSON keys."""

    name: str
    gate: str  # the expression
    outcome: Outcome
    reason: Reason  # why not pass; "" when it passed
    message: str  # the outcome in words
    fix: str  # what to do about an error; "" otherwise
    metric: str
    scope: dict[str, str]
    op: str
    expected: float | None  # the threshold, in the metric's unit
    expected_text: str  # as it was written
    actual: float | None  # the run's number
    baseline: float | None  # the baseline's number
    off_by: float | None  # actual − expected
    off_by_share: float | None  # off_by ÷ |expected|
    samples: int | None  # requests the number is of
    unserved: int | None  # requests of the scope that were never answered: not in any time
    decided_by: str  # exact, counts, blocks, draws, or share of draws
    low: float | None  # lower bound of actual − expected, where the method gives one
    high: float | None  # upper bound
    needed: int | None  # requests it takes, where they were too few
    draws: int | None  # draws that were looked at
    draws_held: int | None  # of these, in how many the gate held
    allowed_undecided: bool  # whether allow_undecided made the run's own number decide
    file: str | None
    line: int | None


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every gate's outcome, and what they were held against."""

    run: str
    trace: str
    policy: str
    digest: str  # of the run's rows
    created_ns: int  # when the run was made
    baseline: str | None  # a run or a file
    paired: bool  # whether the baseline is a run of the very same requests
    outcome: Outcome
    passed: int
    failed: int
    errors: int
    items: tuple[GateResult, ...]


def overall(results: tuple[GateResult, ...]) -> Outcome:
    """The outcome of all gates together; of none at all, an error."""
    outcomes = {result.outcome for result in results}
    if "error" in outcomes or not outcomes:
        return "error"
    return "fail" if "fail" in outcomes else "pass"
