"""JUnit: gates as a test report that CI systems read. One test case per gate; a miss is a failure, what could not be
decided is an error.

Keeps to what both common schemas allow: the attributes and the order of elements that Ant's JUnit task writes, none
that Jenkins' schema does not know. Text is made printable first: XML has no way to write most control characters.

Source: the Ant JUnit schema (junit.xsd) and the Jenkins xUnit plugin's junit-10.xsd, as documented by both projects.
"""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from gridctl.accounts.gate_report import GateReport, GateResult
from gridctl.render.cell import visible
from gridctl.render.gates import expected_text, off_text, told_text, value_text
from gridctl.render.time import stamped_ns, utc_text

PACKAGE = "gridctl.gates"


def junit(report: GateReport) -> str:
    """The report as an XML document."""
    suite = {
        "name": f"{PACKAGE}.{report.run}",
        "package": PACKAGE,
        "id": "0",
        "timestamp": utc_text(stamped_ns(report.created_ns)).removesuffix("Z"),
        "hostname": "localhost",
        "tests": str(len(report.items)),
        "failures": str(report.failed),
        "errors": str(report.errors),
        "time": "0.000",
    }
    properties = {"run": report.run, "trace": report.trace, "policy": report.policy, "digest": report.digest}
    if report.baseline is not None:
        properties["baseline"] = report.baseline
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<testsuites>",
        f"  <testsuite {_attributes(suite)}>",
        "    <properties>",
        *(f"      <property {_attributes({'name': name, 'value': value})}/>" for name, value in properties.items()),
        "    </properties>",
        *(line for result in report.items for line in _case(result, report.run)),
        "    <system-out/>",
        "    <system-err/>",
        "  </testsuite>",
        "</testsuites>",
        "",
    ]
    return "\n".join(lines)


def _case(result: GateResult, run: str) -> list[str]:
    """One test case; its child says what went wrong, in a line for lists and in lines for the page."""
    case = _attributes({"name": result.name, "classname": f"{PACKAGE}.{run}", "time": "0.000"})
    if result.outcome == "pass":
        return [f"    <testcase {case}/>"]
    kind = "failure" if result.outcome == "fail" else "error"
    actual = value_text(result.metric, result.actual)
    told = _attributes(
        {"message": f"expected {expected_text(result)}, actual {actual}: {told_text(result)}", "type": result.reason}
    )
    lines = [f"gate: {result.gate}", f"expected: {expected_text(result)}", f"actual: {actual}"]
    lines += [f"off by: {off_text(result)}", f"why: {told_text(result)}"]
    lines += [f"fix: {result.fix}"] if result.fix else []
    lines += [f"at: {result.file}:{result.line}"] if result.file else []
    body = "\n".join(escape(visible(line)) for line in lines)
    return [f"    <testcase {case}>", f"      <{kind} {told}>{body}</{kind}>", "    </testcase>"]


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f"{name}={quoteattr(visible(value))}" for name, value in values.items())
