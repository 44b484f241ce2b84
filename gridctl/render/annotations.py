"""Annotations: gates that did not pass, as lines that GitHub shows beside the line of the gate's file.

    ::error file=gates.yaml,line=3,title=gate voice-p99::expected …, actual …

Source: GitHub Actions, workflow commands; escaping as its runner undoes it.
"""

from __future__ import annotations

from gridctl.accounts.gate_report import GateReport
from gridctl.render.cell import visible
from gridctl.render.gates import expected_text, told_text, value_text


def annotation_lines(report: GateReport) -> str:
    """A line for each gate that failed or could not be decided."""
    lines = []
    for result in report.items:
        if result.outcome == "pass":
            continue
        place = {"file": result.file, "line": None if result.line is None else str(result.line)}
        shown = {name: value for name, value in place.items() if value} | {"title": f"gate {result.name}"}
        properties = ",".join(f"{name}={_property(value)}" for name, value in shown.items())
        actual = value_text(result.metric, result.actual)
        message = f"{result.outcome}: expected {expected_text(result)}, actual {actual}: {told_text(result)}"
        lines.append(f"::error {properties}::{_data(message)}\n")
    return "".join(lines)


def _data(text: str) -> str:
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
