"""Gates as text: expected beside actual, how far off, of how many requests, and why.

Decides wording only. The outcome is always a word; the mark beside it is for the eye and has an ASCII form. Must not
decide an outcome.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gridctl.accounts.gate_report import GateReport, GateResult
from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.cell import ABSENT, short_float
from gridctl.render.rows import Column, Item, render_rows
from gridctl.render.time import stamped_ns
from gridctl.resources.gate import unit_of
from gridctl.resources.gate_expression import gate_name

MARKS = {"pass": "✓", "fail": "✗", "error": "!"}
ASCII_MARKS = {"pass": "+", "fail": "x", "error": "!"}
COLUMNS = (
    Column("verdict", "gate"),
    Column("asked", "expected"),
    Column("shown", "actual", align="right"),
    Column("off", "off by", align="right"),
    Column("counted", "of", align="right"),
    Column("told", "why"),
)
_FIRST = (Column("name", "name"), Column("outcome", "outcome"), Column("reason", "reason"))


def value_text(metric: str, value: float | None) -> str:
    """A number as its metric reads.

    >>> value_text("ttft_ms.p95", 184.25), value_text("attainment", 0.9915), value_text("usd", 0.29)
    ('184 ms', '99.15%', '$0.29')
    """
    if value is None:
        return ABSENT
    unit = unit_of(metric)
    if unit == "ms":
        return f"{ms_text(value)} ms"
    if unit == "share":
        return share_text(value)
    if unit == "usd":
        return f"{'-' if value < 0 else ''}${usd_text(abs(value))}"
    return count_text(value) if unit in ("rate", "count") else short_float(value)


def off_text(result: GateResult) -> str:
    """How far the number is from its threshold: in points for shares, else as a share of the threshold."""
    if result.off_by is None:
        return ABSENT
    if unit_of(result.metric) == "share":
        return f"{result.off_by * 100:+.2f} pp"
    if result.off_by_share is None:
        return value_text(result.metric, result.off_by)
    return f"{result.off_by_share:+.1%}"


def expected_text(result: GateResult) -> str:
    """The comparison, with the number behind a baseline where there is one."""
    text = f"{result.metric} {result.op} {result.expected_text}"
    if result.scope:
        text += f" ({', '.join(f'{key}={value}' for key, value in result.scope.items())})"
    return f"{text} = {value_text(result.metric, result.expected)}" if result.baseline is not None else text


def told_text(result: GateResult) -> str:
    """The outcome in words, and what no time in it counts."""
    text = result.message
    if result.unserved and unit_of(result.metric) == "ms":
        text += f"; {result.unserved:,} never answered are not in it"
    return text


def result_text(result: GateResult) -> str:
    """One gate in one line: name, expected, actual, why."""
    actual = value_text(result.metric, result.actual)
    name = "" if result.name == gate_name(result.gate) else f"{result.name}: "
    return f"{name}{expected_text(result)}, actual {actual}: {told_text(result)}"


def items(report: GateReport, marks: Mapping[str, str] = MARKS) -> list[Item]:
    """A row for each gate: every field of it, and the texts a table shows."""
    return [
        {
            **msgspec.structs.asdict(result),
            "verdict": _verdict(result, marks),
            "asked": expected_text(result),
            "shown": value_text(result.metric, result.actual),
            "off": off_text(result),
            "counted": ABSENT if result.samples is None else f"{result.samples:,}",
            "told": told_text(result),
        }
        for result in report.items
    ]


def _verdict(result: GateResult, marks: Mapping[str, str]) -> str:
    """Mark, word and name; no name where it only repeats the expression."""
    name = "" if result.name == gate_name(result.gate) else f"  {result.name}"
    return f"{marks[result.outcome]} {result.outcome:<5}{name}".rstrip()


def columns(output: str) -> tuple[Column, ...]:
    """What a format shows: words for people, every field for `wide` and CSV."""
    if output not in ("wide", "csv"):
        return COLUMNS
    fields = [Column(name, name) for name in GateResult.__struct_fields__ if name not in ("name", "outcome", "reason")]
    return (*_FIRST, *fields)


def headline(report: GateReport) -> str:
    """All gates in one line."""
    parts = [f"{report.passed} passed", f"{report.failed} failed", f"{report.errors} undecided or broken"]
    against = ""
    if report.baseline is not None:
        against = f", against {report.baseline} " + ("(the same requests)" if report.paired else "(as fixed numbers)")
    return f"run {report.run}: {', '.join(parts)} of {len(report.items)} gates{against}"


def text(report: GateReport, output: str, marks: Mapping[str, str] = MARKS, width: int | None = None) -> str:
    """The headline and a row per gate, for `table`, `wide` and `markdown`."""
    rows = render_rows(items(report, marks), columns(output), output, kind="GateReport", width=width)
    return f"{headline(report)}\n\n{rows}"


def document(report: GateReport) -> dict[str, object]:
    """The report as JSON has it."""
    return {**msgspec.structs.asdict(report), "created_ns": stamped_ns(report.created_ns)}


def summary(report: GateReport) -> str:
    """The Markdown page of a pipeline: verdict, gates, and the commands that look closer."""
    verdict = {"pass": "all gates hold", "fail": "a gate failed", "error": "a gate could not be decided"}[
        report.outcome
    ]
    lines = [
        f"## {MARKS[report.outcome]} {verdict}",
        "",
        text(report, "markdown").rstrip("\n"),
        "",
        f"Trace `{_plain(report.trace)}`, policy `{_plain(report.policy)}`, digest `{report.digest}`. Look closer: "
        f"`gridctl sla {report.run}`, `gridctl tokenomics {report.run}`"
        + (f", `gridctl replay compare {report.baseline} {report.run}`" if report.paired else "")
        + ".",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that cannot end a code span."""
    return "".join(character if character.isprintable() and character != "`" else "?" for character in text)
