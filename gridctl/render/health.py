"""Health as text: what is wrong, one site, the load. The command that helps stands under what it helps against.

Decides wording and order on the screen only. Every screen reads the same without colour; `paint` may add it. Must not
compute or ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from gridctl.health.burn import Budget, span_text
from gridctl.health.reports import Affected, EngineHealth, HealthReport, Problem, SiteReport, TopFrame, TopRow
from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.cell import ABSENT, visible
from gridctl.render.recent_requests import recent_text
from gridctl.render.rows import Column, Item, render_rows
from gridctl.render.time import utc_text
from gridctl.units import NS_PER_S

Style = Literal["red", "green", "yellow", "bold"]
Paint = Callable[[str, Style], str]
Sort = Literal["requests", "name", "ttft", "good", "failed", "usd"]

_VERDICTS: dict[str, Style] = {"ok": "green", "attention": "yellow", "failing": "red", "unknown": "yellow"}
_SEVERITIES: dict[str, Style] = {"page": "red", "ticket": "red", "warning": "yellow", "info": "bold"}


def plain(text: str, _style: Style) -> str:
    """No colour."""
    return text


def _share(value: float | None) -> str:
    return share_text(value)


def _left(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0%}"


def _burn(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _span(value: float | None) -> str:
    return ABSENT if value is None else span_text(value)


PROBLEMS = (
    Column("severity", "severity"),
    Column("since", "since"),
    Column("about", "about"),
    Column("what", "what"),
    Column("cause", "why"),
    Column("affects", "affects"),
    Column("do", "do"),
    Column("next", "next"),
)
BUDGETS = (
    Column("name", "workload"),
    Column("target", "target", align="right", text=_share),
    Column("valid", "requests", align="right", text=count_text),
    Column("attained", "attained", align="right", text=_share),
    Column("left_share", "left", align="right", text=_left),
    Column("burn", "burn 1 h", align="right", text=_burn),
    Column("empty_in_s", "empty in", align="right", text=_span),
    Column("verdict", "verdict"),
    Column("why", "why", wide=True),
)
ENGINES = (
    Column("engine", "engine"),
    Column("variant", "serves"),
    Column("state", "state"),
    Column("for", "for", align="right"),
    Column("admit_share", "traffic", align="right", text=_left),
    Column("in_flight", "in flight", align="right"),
    Column("running", "running", align="right"),
    Column("waiting", "waiting", align="right"),
    Column("kv_share", "KV", align="right", text=_left),
    Column("prefix_hit_share", "prefix hits", align="right", text=_left),
    Column("telemetry", "telemetry"),
    Column("probe", "last probe"),
    Column("url", "url", wide=True),
    Column("requests", "requests", align="right", wide=True),
    Column("failures", "failures", align="right", wide=True),
    Column("ejections", "ejections", align="right", wide=True),
)
ROUTED = (
    Column("workload", "workload"),
    Column("requests", "last hour", align="right", text=count_text),
    Column("share", "of it", align="right", text=_share),
    Column("target", "target", align="right", text=_share),
    Column("recent", "5 min", align="right"),
    Column("hour", "1 h", align="right"),
    Column("month", "30 d", align="right"),
    Column("goes_to", "from here to"),
    Column("why", "why", wide=True),
)
EVENTS = (
    Column("time", "time"),
    Column("actor", "actor"),
    Column("action", "action"),
    Column("about", "about"),
    Column("cause", "cause"),
    Column("fields", "fields", wide=True),
)
WORKLOAD_TOP = (
    Column("name", "workload"),
    Column("requests_per_s", "req/s", align="right", text=count_text, kept=True),
    Column("ttft_p50_ms", "TTFT p50", align="right", text=ms_text, kept=True),
    Column("ttft_p99_ms", "p99 ms", align="right", text=ms_text, kept=True),
    Column("good_share", "good", align="right", text=_share, kept=True),
    Column("target", "target", align="right", text=_share, kept=True),
    Column("failed_per_s", "failed/s", align="right", text=count_text, kept=True),
    Column("output_tokens_per_s", "tokens/s", align="right", text=count_text, kept=True),
    Column("usd_per_hour", "$/h", align="right", text=usd_text, kept=True),
)
PLACE_TOP = (
    Column("name", "name"),
    Column("state", "state", kept=True),
    Column("requests_per_s", "req/s", align="right", text=count_text, kept=True),
    Column("in_flight", "in flight", align="right", kept=True),
    Column("ttft_p50_ms", "TTFT", align="right", text=ms_text, kept=True),
    Column("ttft_p99_ms", "p99", align="right", text=ms_text, kept=True),
    Column("tpot_p50_ms", "TPOT", align="right", text=ms_text, kept=True),
    Column("good_share", "good", align="right", text=_share, kept=True),
    Column("failed_per_s", "failed/s", align="right", text=count_text, kept=True),
    Column("gpu_usd_per_hour", "GPU $/h", align="right", text=usd_text, kept=True),
)
TOP = (
    Column("name", "name"),
    Column("state", "state"),
    Column("requests_per_s", "requests/s"),
    Column("in_flight", "in flight"),
    Column("ttft_p50_ms", "TTFT p50 ms"),
    Column("ttft_p99_ms", "TTFT p99 ms"),
    Column("tpot_p50_ms", "TPOT p50 ms"),
    Column("tpot_p99_ms", "TPOT p99 ms"),
    Column("good_share", "good"),
    Column("target", "target"),
    Column("failed_per_s", "failed/s"),
    Column("output_tokens_per_s", "output tokens/s"),
    Column("usd_per_hour", "$/h"),
    Column("gpu_usd_per_hour", "GPU $/h"),
)
"""Every key of a row, for CSV."""


def health_text(report: HealthReport, output: str, paint: Paint = plain, width: int | None = None) -> str:
    """The screen of `gridctl health`, for `table`, `wide` and `markdown`."""
    head = f"grid {visible(report.grid)}: {paint(report.verdict.upper(), _VERDICTS[report.verdict])}  "
    parts = [f"{head}{visible(report.headline)}\n{utc_text(report.at_unix_ns)}{_counts(report)}\n"]
    if report.problems and output == "markdown":
        parts.append(render_rows(problem_items(report), PROBLEMS, output, kind="ProblemList"))
    else:
        parts += [_problem(one, report.at_unix_ns, paint) for one in report.problems]
    if report.budgets:
        rows = [_budget_item(one) for one in report.budgets]
        parts.append(render_rows(rows, BUDGETS, output, kind="BudgetList", width=width))
    return "\n".join(parts)


def problem_items(report: HealthReport) -> list[Item]:
    """Problems as rows."""
    return [
        {
            "name": one.about,
            **msgspec.structs.asdict(one),
            "since": None if one.since_unix_ns is None else utc_text(one.since_unix_ns),
            "affects": affects_text(one.affects),
        }
        for one in report.problems
    ]


def affects_text(affects: Affected) -> str:
    """What a problem touches, in one line."""
    parts = []
    if affects.workloads:
        parts.append(f"workloads {_listed(affects.workloads)}")
    if affects.sites:
        parts.append(f"sites {_listed(affects.sites)}")
    if affects.engines:
        parts.append(f"{affects.engines} engine{'s' * (affects.engines != 1)}")
    if affects.traffic_share is not None:
        parts.append(f"{share_text(affects.traffic_share)} of the last hour's traffic")
    return "; ".join(parts)


def site_text(report: SiteReport, output: str, paint: Paint = plain, width: int | None = None) -> str:
    """The screen of `gridctl site inspect`, for `table`, `wide` and `markdown`."""
    where = ", ".join(visible(part) for part in (report.city, report.country, report.jurisdiction or "") if part)
    style: Style = "green" if report.state == "healthy" else "red" if report.state in ("ejected", "down") else "yellow"
    since = f" for {_ago(report.since_unix_ns, report.at_unix_ns)}" if report.since_unix_ns is not None else ""
    lines = [f"site {report.name}  {report.tier}  {where}  {paint(report.state.upper(), style)}{since}"]
    lines.append(f"  why      {visible(report.cause)}")
    if report.next:
        lines.append(f"  next     {visible(report.next)}")
    if report.requests is not None:
        lines.append(
            f"  traffic  {report.requests:,} requests in the last hour, {share_text(report.traffic_share)} of all"
        )
    for cluster in report.clusters:
        live = f"{cluster.engines} live" if cluster.engines else "no endpoint"
        state = "" if cluster.state == "active" else f", {cluster.state}"
        variants = ", ".join(cluster.variants) or "nothing deployed"
        lines.append(f"  cluster  {cluster.name}: {cluster.gpus} × {cluster.gpu}, {variants} ({live}{state})")
    parts = ["\n".join(lines) + "\n"]
    parts += [_problem(one, report.at_unix_ns, paint) for one in report.problems if one.severity != "info"]
    if report.engines:
        parts.append(render_rows(engine_items(report), ENGINES, output, kind="EngineList", width=width))
        parts.append(_probes(report.engines, report.at_unix_ns))
    if report.routed:
        parts.append(render_rows(routed_items(report), ROUTED, output, kind="RoutedList", width=width))
    parts.append(recent_text(report, output, width))
    if report.events:
        rows = [{**msgspec.structs.asdict(one), "time": utc_text(one.at_unix_ns)} for one in report.events]
        parts.append(render_rows(rows, EVENTS, output, kind="HappenedList", width=width))
    return "\n".join(part for part in parts if part)


def engine_items(report: SiteReport) -> list[Item]:
    """Engines of a site as rows."""
    return [_engine_item(one, report.at_unix_ns) for one in report.engines]


def routed_items(report: SiteReport) -> list[Item]:
    """What is routed to a site, a row per workload."""
    return [
        {
            "name": one.workload,
            **msgspec.structs.asdict(one),
            **{
                key: ABSENT if span.attained is None else f"{share_text(span.attained)} of {span.valid:,}"
                for key, span in zip(("recent", "hour", "month"), one.attainments, strict=False)
            },
        }
        for one in report.routed
    ]


def top_text(
    frame: TopFrame,
    output: str,
    sort: Sort = "requests",
    paint: Paint = plain,
    width: int | None = None,
    height: int | None = None,
) -> str:
    """The screen of `gridctl top`: at most `height` lines of at most `width` cells, where given."""
    rows = sorted_rows(frame, sort)
    shown = rows if height is None else rows[: max(1, height - 3)]
    style: Style = "green" if frame.engines_available == frame.engines else "red"
    engines = paint(f"{frame.engines_available} of {frame.engines} engines", style)
    more = f"{len(shown)} of {len(rows)} rows" if len(shown) < len(rows) else ""
    if frame.cache is not None:
        saved = f"${frame.cache.saved_usd_per_hour:.4g}/h saved"
        told = f"cache {share_text(frame.cache.hit_share)} of {count_text(frame.cache.requests_per_s)} req/s, {saved}"
        more = f"{told}  {more}".rstrip()
    total = frame.total
    load = f"{count_text(total.requests_per_s)} req/s  {total.in_flight} in flight  p99 {ms_text(total.ttft_p99_ms)} ms"
    head = f"{utc_text(frame.at_unix_ns)[11:]} {frame.window_s:.0f} s  {engines}  {load}"
    columns = WORKLOAD_TOP if frame.by == "workload" else PLACE_TOP
    items = [msgspec.structs.asdict(row) for row in shown]
    return f"{head}\n{more}\n" + render_rows(items, columns, output, kind="TopRowList", width=width)


def sorted_rows(frame: TopFrame, sort: Sort) -> list[TopRow]:
    """Rows in the order asked for: the worst or most first, names from a to z; what is not known comes last."""
    if sort == "name":
        return sorted(frame.rows, key=lambda row: row.name)
    key: Callable[[TopRow], float | None] = {
        "requests": lambda row: -row.requests_per_s,
        "ttft": lambda row: None if row.ttft_p99_ms is None else -row.ttft_p99_ms,
        "good": lambda row: row.good_share,
        "failed": lambda row: -row.failed_per_s,
        "usd": _minus_usd,
    }[sort]

    def order(row: TopRow) -> tuple[bool, float, str]:
        value = key(row)
        return value is None, value or 0.0, row.name

    return sorted(frame.rows, key=order)


def _minus_usd(row: TopRow) -> float | None:
    usd = row.gpu_usd_per_hour if row.usd_per_hour is None else row.usd_per_hour
    return None if usd is None else -usd


def _counts(report: HealthReport) -> str:
    told = ""
    for noun, counts in (("engines", report.counts.engines), ("sites", report.counts.sites)):
        if counts:
            told += f"   {noun}: " + ", ".join(f"{count:,} {state}" for state, count in counts.items())
    return told


def _problem(one: Problem, at_unix_ns: int, paint: Paint) -> str:
    since = f"  (for {_ago(one.since_unix_ns, at_unix_ns)})" if one.since_unix_ns is not None else ""
    lines = [f"{paint(one.severity.upper(), _SEVERITIES[one.severity])}  {visible(one.what)}{since}"]
    told = (
        ("why", one.cause if one.cause != one.what else ""),
        ("affects", affects_text(one.affects)),
        ("do", one.do),
        ("next", one.next),
    )
    lines += [f"  {title:<8} {visible(text)}" for title, text in told if text]
    return "\n".join(lines) + "\n"


def _budget_item(one: Budget) -> dict[str, Any]:
    why = next((alarm.why for alarm in one.alarms if alarm.verdict == one.verdict), "")
    return {**msgspec.structs.asdict(one), "why": why}


def _engine_item(one: EngineHealth, at_unix_ns: int) -> dict[str, Any]:
    age = "" if one.telemetry_age_s is None else f" {one.telemetry_age_s:.0f} s"
    probe = one.probes[-1] if one.probes else None
    return {
        **msgspec.structs.asdict(one),
        "name": f"{one.cluster}/{one.replica}",
        "engine": f"{one.cluster}/{one.replica}",
        "variant": f"{one.model}/{one.variant}",
        "state": f"{one.state}, flapping" if one.is_flapping else one.state,
        "for": _ago(one.since_unix_ns, at_unix_ns),
        "telemetry": f"{one.telemetry_state}{age}",
        "probe": None if probe is None else f"{probe.cause} {probe.latency_ms:.0f} ms",
    }


def _probes(engines: Sequence[EngineHealth], at_unix_ns: int) -> str:
    """The probes of each engine in one line, oldest first: a dot for one that passed, an x for one that failed."""
    lines = []
    for one in engines:
        if one.probes:
            marks = "".join("." if probe.cause in ("ok", "slow") else "x" for probe in one.probes)
            last_bad = next((probe for probe in reversed(one.probes) if probe.cause not in ("ok", "slow")), None)
            failed = ""
            if last_bad is not None:
                failed = f"  last failure {_ago(last_bad.at_unix_ns, at_unix_ns)} ago: {visible(last_bad.detail)}"
            lines.append(f"probes of {one.cluster}/{one.replica}  {marks}{failed}")
    return "".join(f"{line}\n" for line in lines)


def _ago(since_unix_ns: int, at_unix_ns: int) -> str:
    return span_text(max(0.0, (at_unix_ns - since_unix_ns) / NS_PER_S))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(visible(name) for name in names[:3]) + more
