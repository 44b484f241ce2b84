"""Sections: the parts of a report's page, each a heading and what is under it; a part a run does not have is nothing.

Decides the order, the columns and the caps that keep a page below its size: what is left out is counted, and the
command that prints it is named. Must not compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gridctl.accounts.tables import EVERYTHING
from gridctl.render import gates as gate_text
from gridctl.render.account import count_text, ms_text, share_text, text_of, usd_text
from gridctl.render.ranges import RANGE, ensemble_line, number_text, range_title, verdict_text
from gridctl.render.rows import Column, Item
from gridctl.render.runs import cache_lines
from gridctl.render.sla import FINER, POOLED, SITES
from gridctl.render.sla import RANGED as SLA_RANGED
from gridctl.render.sla import row_items as sla_items
from gridctl.render.tokenomics import NARROW, SUMMARY, ZERO_UNSAID
from gridctl.render.tokenomics import RANGED as TOKENOMICS_RANGED
from gridctl.render.tokenomics import row_items as tokenomics_items
from gridctl.report.axis import duration_text
from gridctl.report.content import Report
from gridctl.report.flow_chart import flow_chart
from gridctl.report.map_chart import map_chart, spots_of
from gridctl.report.markup import Content, Markup, element, escape, joined
from gridctl.report.stack_chart import stack_chart
from gridctl.report.tables import table
from gridctl.report.time_charts import good_shares, per_second, time_charts, usd_per_hour
from gridctl.report.ttft_charts import MOST_WORKLOADS, ttft_charts, ttft_legend
from gridctl.report.wording import promise_counts, sentences

MOST_ROWS = 300
MOST_PLACES = 100
MOST_SPILLS = 40


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
        ("places", "Map", _places),
        ("ttft", "Time to first token", _ttft),
        ("time", "Load and cost over time", _time),
        ("faults", "Faults", _faults),
        ("cache", "Answered from caches", _cache),
        ("cost", "Where the money went", _cost),
        ("flow", "Where requests were served", _flow),
        ("tokenomics", "Tokenomics", _tokenomics),
        ("sla", "SLA", _sla),
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


def _places(report: Report) -> Markup | None:
    spots, unplaced = spots_of(report.origins, report.sites, report.places)
    if not spots:
        return None
    worst = sorted(
        (share for share in report.origins if share.good < share.requests),
        key=lambda share: (share.good - share.requests, share.name),
    )
    columns = (
        Column("name", "place"),
        Column("region", "region"),
        Column("requests", "requests", align="right", text=count_text),
        Column("attainment", "good", align="right", text=share_text),
        Column("bad", "bad", align="right", text=count_text),
        Column("main_cause", "cause"),
    )
    items = [{**msgspec.structs.asdict(share), "bad": share.requests - share.good} for share in worst[:MOST_PLACES]]
    left = len(worst) - len(items)
    note = f"{left:,} more places had bad requests: gridctl report {report.info.name} -o json" if left else ""
    listed = table("worst-places", "Places of origin with most bad requests", columns, items, note=note)
    return joined(map_chart(spots, unplaced), listed if items else None)


def _ttft(report: Report) -> Markup | None:
    if not report.distributions.items:
        return None
    other = report.beside[0] if report.beside else None
    charts = ttft_charts(report.distributions, other.distributions if other else None)
    left = len(report.distributions.items) - MOST_WORKLOADS
    note = element("p", {"class": "by"}, f"{left} workloads with fewer requests are not shown.") if left > 0 else None
    return joined(
        element("p", None, "As the client sees it: round trip, overhead, queue, prefill. The axis is logarithmic."),
        ttft_legend(other.name if other else ""),
        element("div", {"class": "grid"}, *charts),
        note,
    )


def _time(report: Report) -> Markup | None:
    charts = time_charts(report.series, report.faults)
    return joined(element("div", {"class": "grid"}, *charts), _time_table(report)) if charts else None


def _time_table(report: Report) -> Markup:
    """The charts' numbers, for those who read rather than look."""
    found, starts = report.series, [index * report.series.bin_s for index in range(len(report.series.requests))]
    rows = zip(starts, per_second(found), good_shares(found), found.refused, usd_per_hour(found), strict=True)
    keys = ("start_s", "rps", "good", "refused", "usd_per_hour")
    items = [dict(zip(keys, row, strict=True)) for row in rows]
    columns = (
        Column("start_s", "from", text=duration_text),
        Column("rps", "requests/s", align="right", text=count_text),
        Column("good", "good", align="right", text=share_text),
        Column("refused", "refused", align="right", text=count_text),
        Column("usd_per_hour", "$ per hour", align="right", text=usd_text),
    )
    return _folded("Numbers of these charts", table("time-table", "Load and cost over time", columns, items))


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


def _cost(report: Report) -> Markup | None:
    stacks = [report.stack, *(other.stack for other in report.beside)]
    if not any(stack.usd for stack in stacks):
        return None
    items = [
        {"run": stack.run, **msgspec.structs.asdict(tier), **tier.parts_usd} for stack in stacks for tier in stack.tiers
    ]
    columns = (
        Column("run", "run"),
        Column("tier", "tier"),
        Column("requests", "requests", align="right", text=count_text),
        *(
            Column(key, title.strip(), align="right", text=usd_text)
            for key, title in SUMMARY
            if key in report.stack.tiers[0].parts_usd
        ),
        Column("usd", "$ in all", align="right", text=usd_text),
        Column("usd_per_mtok_goodput", "$ per M good output tokens", align="right", text=usd_text),
    )
    return joined(
        stack_chart(stacks), _folded("Numbers of this chart", table("cost-table", "Cost by tier", columns, items))
    )


def _flow(report: Report) -> Markup | None:
    found = report.flows
    if not found.items:
        return None
    columns = (
        Column("home", "nearest site"),
        Column("site", "served at"),
        Column("requests", "requests", align="right", text=count_text),
        Column("share", "good", align="right", text=share_text),
        Column("extra_rtt_ms", "extra round trip, ms", align="right", text=ms_text),
    )
    items = [{**msgspec.structs.asdict(s), "share": s.good / s.requests} for s in found.spills[:MOST_SPILLS]]
    left = len(found.spills) - len(items)
    note = (
        "The nearest site: of those that served the same origin and workload, the one with the least mean round trip."
        + (f" {left:,} smaller flows are not shown." if left > 0 else "")
    )
    spilled = table("spill-table", "Spill-over", columns, items, note=note) if items else None
    return joined(flow_chart(found), spilled)


def _tokenomics(report: Report) -> Markup:
    return joined(_totals(report), _costs_by_row(report))


def _totals(report: Report) -> Markup:
    """The total beside the other runs'."""
    total, drawn = report.tokenomics.total, report.drawn
    columns = [Column("metric", "in total"), Column("value", report.info.name, align="right")]
    columns += [Column("range", range_title(drawn.ensemble), align="right")] if drawn else []
    for at, other in enumerate(report.beside):
        columns += [Column(f"other{at}", other.name, align="right"), Column(f"saving{at}", "saving", align="right")]
    items: list[Item] = []
    for metric, title in SUMMARY:
        reads: Callable[[Any], str] = text_of(metric) or count_text
        values = [getattr(total, metric), *(getattr(other.tokenomics.total, metric) for other in report.beside)]
        if metric in ZERO_UNSAID and not any(values):
            continue
        item: dict[str, object] = {"metric": title.strip(), "value": reads(values[0])}
        if drawn is not None:
            item["range"] = number_text(metric, drawn.tokenomics.total)
        for at, other in enumerate(report.beside):
            part = next(d for d in other.comparisons[0].differences if d.metric == metric)
            item |= {f"other{at}": reads(part.other), f"saving{at}": share_text(part.saving_share)}
        items.append(item)
    return table("totals", "In total", columns, items)


def _costs_by_row(report: Report) -> Markup:
    found, drawn = report.tokenomics, report.drawn
    rows = [*found.rows[:MOST_ROWS], found.total]
    ranges = [*drawn.tokenomics.items[:MOST_ROWS], drawn.tokenomics.total] if drawn else None
    columns = _with_ranges(NARROW, {key: key for key in TOKENOMICS_RANGED}, report)
    left = len(found.rows) - MOST_ROWS
    note = f"{left:,} more rows: gridctl tokenomics {report.info.name} -o csv" if left > 0 else ""
    return table(
        "costs",
        "By workload, tier and variant",
        columns,
        tokenomics_items(rows, ranges),
        note=note,
        is_sum=lambda item: item["workload"] == EVERYTHING,
    )


def _sla(report: Report) -> Markup:
    drawn, beside = report.drawn, report.compared
    columns = _with_ranges(POOLED, SLA_RANGED, report)
    items = sla_items(report.sla.workloads, drawn.promises if drawn else None)
    if drawn is not None and drawn.promises:
        verdicts = [verdict_text(promise) for promise in drawn.promises]
        items = [{**item, "verdicts": text} for item, text in zip(items, verdicts, strict=True)]
        columns.append(Column("verdicts", f"in {drawn.ensemble.replays} replays"))
    if beside is not None:
        theirs = {(row.workload, row.objective): row.status for row in beside.sla.workloads}
        items = [{**item, "beside": theirs.get((str(item["workload"]), str(item["objective"])))} for item in items]
        columns.append(Column("beside", f"in {beside.name}"))
    pooled = table("promises", "Promises by workload", columns, items)
    finer = None
    if report.finer:
        left = len(report.finer) - MOST_ROWS
        note = f"{left:,} more rows: gridctl sla {report.info.name} -o csv" if left > 0 else ""
        rows = sla_items(report.finer[:MOST_ROWS])
        finer = _folded(
            "By tenant and region", table("promises-finer", "Promises by tenant and region", FINER, rows, note=note)
        )
    worst = [msgspec.structs.asdict(site) for site in report.worst]
    listed = table("worst-sites", "Serving sites with most bad requests", SITES, worst) if worst else None
    told = element("p", {"class": "by"}, ensemble_line(drawn.ensemble).strip()) if drawn else None
    return joined(told, pooled, finer, listed)


def _with_ranges(columns: Sequence[Column], ranged: dict[str, str], report: Report) -> list[Column]:
    """Columns with the range of some beside them, where the run has draws."""
    if report.drawn is None:
        return list(columns)
    found = []
    for column in columns:
        found.append(column)
        if column.key in ranged:
            key = f"{ranged[column.key]}{RANGE}"
            found.append(Column(key, range_title(report.drawn.ensemble), align="right"))
    return found


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


def _folded(title: str, *parts: Content) -> Markup:
    return element("details", None, element("summary", None, title), *parts)
