"""Sections: the parts of a report's page, each a heading and what is under it; a part a run does not have is nothing.

Decides the order, and what the page says of the run itself: summary, gates, faults, caches, how to make it again.
What is drawn and what is accounted for have modules of their own. Must not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gridctl.render import gates as gate_text
from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.ranges import number_text, range_title
from gridctl.render.rows import Column
from gridctl.render.runs import cache_lines
from gridctl.report import account_sections, chart_sections
from gridctl.report.axis import duration_text
from gridctl.report.content import Report
from gridctl.report.markup import Markup, element, escape, joined
from gridctl.report.tables import table
from gridctl.report.wording import promise_counts, sentences


class Section(NamedTuple):
    """A part of the page. `name` is its anchor."""

    name: str
    title: str
    body: Markup


def sections(report: Report) -> list[Section]:
    """Every part that the run has, in order."""
    parts: list[tuple[str, str, Callable[[Report], Markup | None]]] = [
        ("summary", "Summary", _summary),
        ("gates", "Gates", _gates),
        ("places", "Map", chart_sections.places),
        ("ttft", "Time to first token", chart_sections.ttft),
        ("time", "Load and cost over time", chart_sections.over_time),
        ("faults", "Faults", _faults),
        ("cache", "Answered from caches", _cache),
        ("cost", "Where the money went", chart_sections.cost),
        ("flow", "Where requests were served", chart_sections.flow),
        ("tokenomics", "Tokenomics", account_sections.tokenomics),
        ("sla", "SLA", account_sections.sla),
        ("again", "How to make it again", _again),
    ]
    found = ((name, title, make(report)) for name, title, make in parts)
    return [Section(name, title, body) for name, title, body in found if body is not None]


def _summary(report: Report) -> Markup:
    notes = report.info.notes
    said = element("ul", None, *(element("li", None, text) for text in notes)) if notes else None
    paragraphs = [element("p", None, text) for text in sentences(report)]
    return joined(_tiles(report), *paragraphs, element("h3", None, "Notes of the replay") if said else None, said)


def _cache(report: Report) -> Markup | None:
    lines = cache_lines(report.info)
    return element("ul", None, *(element("li", None, text) for text in lines)) if lines else None


def _tiles(report: Report) -> Markup:
    """The numbers a reader looks for first."""
    total, counts = report.tokenomics.total, promise_counts(report)
    ranges = report.drawn.tokenomics.total if report.drawn else {}
    wanted = (
        ("Good requests", "attainment", share_text),
        ("$ per M good output tokens", "usd_per_mtok_goodput", usd_text),
        ("$ per M tokens", "usd_per_mtok", usd_text),
        ("TTFT p99, ms", "ttft_p99_ms", ms_text),
        ("Goodput, tok/s", "goodput_tok_s", count_text),
        ("GPU utilisation", "gpu_utilization", share_text),
    )
    tiles = []
    for title, metric, reads in wanted:
        more = (
            [f"{range_title(report.drawn.ensemble)} {number_text(metric, ranges)}"]
            if report.drawn and metric in ranges
            else []
        )
        more += [f"{other.name}: {reads(getattr(other.tokenomics.total, metric))}" for other in report.beside]
        tiles.append(_tile(title, reads(getattr(total, metric)), more))
    more = [f"{counts[status]} {status}" for status in ("missed", "undecided", "no-data") if status in counts]
    tiles.append(_tile("Promises met", f"{counts.get('met', 0)} of {sum(counts.values())}", more))
    return element("dl", {"class": "tiles"}, *tiles)


def _tile(title: str, value: str, more: Sequence[str]) -> Markup:
    return element(
        "div",
        None,
        element("dt", None, title),
        element("dd", None, value),
        *(element("dd", {"class": "more"}, text) for text in more),
    )


def _gates(report: Report) -> Markup | None:
    found = report.gates
    if found is None:
        return None
    items = [{**item, "verdict": item["outcome"]} for item in gate_text.items(found)]
    columns = [
        Column("gate", "gate"),
        Column("verdict", "outcome"),
        *(column for column in gate_text.COLUMNS if column.key != "verdict"),
    ]
    told = f"{found.passed} passed, {found.failed} failed, {found.errors} could not be decided."
    against = f" Baseline: {found.baseline}." if found.baseline else ""
    return joined(element("p", None, told + against), table("gates-table", "Gates", columns, items))


def _faults(report: Report) -> Markup | None:
    if not report.faults:
        return None
    columns = (
        Column("number", "number", align="right"),
        Column("label", "fault"),
        Column("what", "what"),
        Column("start_s", "from", text=duration_text),
        Column("end_s", "to", text=duration_text),
    )
    items = [
        {"number": index, "label": f.label, "what": f.what, "start_s": f.start_s, "end_s": f.end_s}
        for index, f in enumerate(report.faults, 1)
    ]
    note = "The charts over time show each fault as a band with its number."
    return table("faults-table", "What was broken on purpose", columns, items, note=note)


def _again(report: Report) -> Markup:
    info = report.info
    lines = "\n".join(report.commands)
    told = (
        f"The same grid, trace {info.trace}, policy, seed and gridctl {info.gridctl_version} give the same run, to the "
        "last bit; its digest says so. TRACE is the trace's file, and the options it was cut or sped up with."
    )
    code = element("pre", {"tabindex": 0}, element("code", None, Markup(_lines(lines)))) if lines else None
    return joined(element("p", None, told), element("pre", {"tabindex": 0}, element("code", None, info.digest)), code)


def _lines(text: str) -> str:
    """Lines kept apart: escaping shows a line break as an escape."""
    return "\n".join(escape(line) for line in text.split("\n"))
