"""The parts of a report that are drawn: map, time to first token, load and cost over time, money, flows.

Decides what stands beside each picture for those who read rather than look, and the caps: what is left out is counted,
and the command that prints it is named. Must not compute.
"""

from __future__ import annotations

import msgspec

from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.rows import Column
from gridctl.render.tokenomics import SUMMARY
from gridctl.report.axis import duration_text
from gridctl.report.content import Report
from gridctl.report.flow_chart import flow_chart
from gridctl.report.map_chart import map_chart, spots_of
from gridctl.report.markup import Markup, element, joined
from gridctl.report.stack_chart import stack_chart
from gridctl.report.tables import folded, table
from gridctl.report.time_charts import good_shares, per_second, time_charts, usd_per_hour
from gridctl.report.ttft_charts import MOST_WORKLOADS, ttft_charts, ttft_legend

MOST_PLACES = 100
MOST_SPILLS = 40


def places(report: Report) -> Markup | None:
    """The map of sites and places of origin, and the places with most bad requests."""
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


def ttft(report: Report) -> Markup | None:
    """Distributions of the time to first token, by workload."""
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


def over_time(report: Report) -> Markup | None:
    """Load, good shares, refusals and dollars over the run's time, with its faults."""
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
    return folded("Numbers of these charts", table("time-table", "Load and cost over time", columns, items))


def cost(report: Report) -> Markup | None:
    """Dollars by tier and kind, of each run."""
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
        stack_chart(stacks), folded("Numbers of this chart", table("cost-table", "Cost by tier", columns, items))
    )


def flow(report: Report) -> Markup | None:
    """From the nearest site to the one that served: what stayed and what spilled over."""
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
