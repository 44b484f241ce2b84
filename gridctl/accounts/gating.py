"""Gating: every gate held against a run, each with one of three outcomes.

    pass    the number is on the right side of its threshold, and the run proves it
    fail    it is on the wrong side, and the run proves that
    error   nothing may be concluded: the scope holds no request, the baseline is missing or has no such number, too
            few requests, an interval that straddles the threshold (`undecided`), or draws that are not there

An error is never a pass. `allow_undecided` lets the run's own number decide where the requests prove nothing; it does
not help against a scope or a baseline that is not there. What counts as proof is `evidence`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gridctl.accounts.drawn import Drawn
from gridctl.accounts.evidence import (
    ENOUGH_DRAWS,
    Claim,
    Evidence,
    by_blocks,
    by_draws,
    by_requests,
    by_sum,
    holds,
    is_sampled,
)
from gridctl.accounts.gate_report import GateResult, NamedGate, Outcome, Reason
from gridctl.accounts.measures import Measures, Scope
from gridctl.accounts.percentiles import exact
from gridctl.errors import InputError
from gridctl.resources import GateSpec
from gridctl.resources.gate import scope_of
from gridctl.resources.gate_expression import gate_text, threshold_text


@dataclass(frozen=True, slots=True)
class Subject:
    """The run under test: its measures, and its draws where it has any."""

    measures: Measures
    drawn: Drawn | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What gates compare with. `read` gives a number, or None where there is none; `measures` only where the baseline
    is a run of the very requests under test, which are then compared one by one."""

    name: str
    read: Callable[[str, Scope], float | None]
    measures: Measures | None = None
    drawn: Drawn | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    reason: Reason = ""
    message: str = ""
    fix: str = ""
    evidence: Evidence | None = None
    decided_by: str = ""
    draws: int | None = None
    draws_held: int | None = None
    allowed: bool = False


def hold_gates(gates: Sequence[NamedGate], subject: Subject, baseline: Baseline | None) -> tuple[GateResult, ...]:
    """The outcome of each gate, in order."""
    return tuple(hold_gate(gate, subject, baseline) for gate in gates)


def hold_gate(gate: NamedGate, subject: Subject, baseline: Baseline | None) -> GateResult:
    """The outcome of one gate. Never raises for what a person wrote: that is an outcome, too."""
    spec, scope = gate.spec, scope_of(gate.spec)
    try:
        reading = subject.measures.reading(spec.metric, scope)
    except InputError as error:
        reason: Reason = "no-promise" if spec.metric.startswith("promises_") and "promises" in error.what else "scope"
        return _result(gate, _Verdict("error", reason, error.what, error.fix or ""))
    numbers: dict[str, float | int | None] = {
        "actual": reading.value,
        "samples": reading.samples,
        "unserved": reading.unserved,
    }
    if reading.value is None:
        verdict = _Verdict("error", "no-number", f"run {subject.measures.run.info.name} has no {spec.metric} there")
        return _result(gate, verdict, **numbers)
    try:
        threshold, numbers["baseline"] = _threshold(spec, scope, baseline)
    except InputError as error:
        return _result(gate, _Verdict("error", "no-baseline", error.what, error.fix or ""), **numbers)
    claim = _claim(spec, scope, threshold)
    if spec.draws is not None:
        found = _by_share_of_draws(spec.draws, claim, subject, baseline if spec.baseline else None)
    else:
        evidence = _evidence(claim, spec, reading.value, subject, baseline)
        found = _decided(spec, claim, reading.value, reading.samples, evidence)
    return _result(gate, found, expected=threshold, **numbers)


def _threshold(spec: GateSpec, scope: Scope, baseline: Baseline | None) -> tuple[float, float | None]:
    """The number to compare with, and the baseline's own. Raises: InputError when there is none."""
    if spec.baseline is None:
        return spec.value, None
    if baseline is None:
        raise InputError(
            "the gate compares with a baseline, and none was given", fix="--baseline RUN or --baseline FILE"
        )
    number = baseline.read(spec.metric, scope)
    if number is None:
        raise InputError(
            f"baseline {baseline.name} has no {spec.metric} there",
            fix="name a run, or a report in which the same gate was held",
        )
    return (spec.value * number if spec.baseline == "times" else number + spec.value), number


def _claim(spec: GateSpec, scope: Scope, threshold: float) -> Claim:
    if spec.baseline == "times":
        return Claim(spec.metric, spec.op, threshold, scope, factor=spec.value)
    plus = spec.value if spec.baseline else 0.0
    return Claim(spec.metric, spec.op, threshold, scope, plus=plus)


def _evidence(claim: Claim, spec: GateSpec, value: float, subject: Subject, baseline: Baseline | None) -> Evidence:
    """The strongest evidence there is: draws, then pairs of requests, then requests, then the number itself."""
    drawn = _margins(claim, subject, baseline if spec.baseline else None)
    if drawn is not None and len(drawn) >= ENOUGH_DRAWS:
        return by_draws(claim, drawn)
    is_paired = spec.baseline is not None and baseline is not None and baseline.measures is not None
    if is_paired and is_sampled(claim.metric) and subject.measures.column_of(claim.metric) is not None:
        assert baseline is not None, "a pair has two runs"
        return by_blocks(claim, subject.measures, baseline.measures)
    return by_requests(claim, subject.measures, value) if is_sampled(claim.metric) else by_sum(claim, value)


def _margins(claim: Claim, subject: Subject, baseline: Baseline | None) -> list[float | None] | None:
    """In each draw, number less threshold; the baseline's own draw where it was drawn alike. None without draws."""
    if subject.drawn is None:
        return None
    values = subject.drawn.values(claim.metric, claim.scope)
    if values is None:
        return None
    if baseline is not None and baseline.drawn is not None and subject.drawn.is_like(baseline.drawn):
        bases = baseline.drawn.values(claim.metric, claim.scope)
        if bases is not None:
            return [
                None if value is None or base is None else value - (claim.factor * base + claim.plus)
                for value, base in zip(values, bases, strict=True)
            ]
    return [None if value is None else value - claim.threshold for value in values]


def _by_share_of_draws(share: float, claim: Claim, subject: Subject, baseline: Baseline | None) -> _Verdict:
    """`in all draws`, `in 90% of draws`: how many hold. A draw without the number does not."""
    name = subject.measures.run.info.name
    if subject.drawn is None:
        what, fix = f"run {name} has no draws", "replay it with --seeds 20"
        return _Verdict("error", "no-draws", what, fix)
    margins = _margins(claim, subject, baseline)
    if margins is None:
        what = f"the draws of run {name} keep no {claim.metric} of that scope"
        return _Verdict("error", "no-draws", what, "replay with --keep-draws, which keeps every number")
    least = 1 if share == 1 else math.ceil(1 / (1 - exact(share)))
    if len(margins) < least:
        what = f"{len(margins)} draws cannot tell {share:.0%} of draws: it takes {least}"
        return _Verdict("error", "no-draws", what, f"replay with --seeds {least + 1}")
    held = sum(margin is not None and holds(margin, claim.op, 0.0) for margin in margins)
    is_held = held >= exact(share) * len(margins)
    words = f"held in {held} of {len(margins)} draws"
    return _Verdict(
        "pass" if is_held else "fail",
        "" if is_held else "missed",
        words,
        decided_by="share of draws",
        draws=len(margins),
        draws_held=held,
    )


def _decided(spec: GateSpec, claim: Claim, value: float, samples: int, evidence: Evidence) -> _Verdict:
    is_held = holds(value, claim.op, claim.threshold)
    by = evidence.method
    if evidence.finding == ("proved" if is_held else "refuted"):
        if is_held:
            return _Verdict("pass", "", "held", evidence=evidence, decided_by=by)
        return _Verdict("fail", "missed", "missed", evidence=evidence, decided_by=by)
    words = _open_words(evidence, samples)
    if spec.allow_undecided:
        told = f"{'held' if is_held else 'missed'}, undecided: {words}"
        if is_held:
            return _Verdict("pass", "", told, evidence=evidence, decided_by=by, allowed=True)
        return _Verdict("fail", "missed", told, evidence=evidence, decided_by=by, allowed=True)
    fix = "replay more requests, or allow it: `allow undecided`"
    return _Verdict("error", "too-few-samples" if evidence.is_few else "undecided", words, fix, evidence, by)


def _open_words(evidence: Evidence, samples: int) -> str:
    """Why nothing is proved."""
    needed = evidence.needed or 0
    if evidence.is_few:
        return f"{samples:,} requests are too few: it takes {needed:,}"
    if evidence.method == "counts":
        return f"{samples:,} requests with so many misses prove neither; with these misses it takes {needed:,}"
    if evidence.method == "draws":
        return "the draws lie on both sides of the threshold"
    return "so near the threshold that chance decides: resampled, it lies on both sides"


def _result(
    gate: NamedGate,
    verdict: _Verdict,
    *,
    expected: float | None = None,
    actual: float | int | None = None,
    baseline: float | int | None = None,
    samples: float | int | None = None,
    unserved: float | int | None = None,
) -> GateResult:
    spec = gate.spec
    expected = spec.value if expected is None and spec.baseline is None else expected
    off = None if actual is None or expected is None else actual - expected
    evidence = verdict.evidence
    return GateResult(
        name=gate.name,
        gate=gate_text(spec),
        outcome=verdict.outcome,
        reason=verdict.reason,
        message=verdict.message,
        fix=verdict.fix,
        metric=spec.metric,
        scope=scope_of(spec),
        op=spec.op,
        expected=expected,
        expected_text=threshold_text(spec),
        actual=actual,
        baseline=baseline,
        off_by=off,
        off_by_share=None if off is None or not expected else off / abs(expected),
        samples=None if samples is None else int(samples),
        unserved=None if unserved is None else int(unserved),
        decided_by=verdict.decided_by,
        low=evidence.low if evidence else None,
        high=evidence.high if evidence else None,
        needed=evidence.needed if evidence else None,
        draws=verdict.draws,
        draws_held=verdict.draws_held,
        allowed_undecided=verdict.allowed,
        file=gate.file,
        line=gate.line,
    )
