"""Rollouts as rows and as a screen. Must not compute more than ages and shares of what it is handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.render.cell import counted
from gridctl.render.rows import Column, render_rows
from gridctl.render.time import utc_text
from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.control.rollout_messages import HistoryEntry, RolloutReport, RolloutSummary
    from gridctl.rollout.sites import PlannedSite

Item = dict[str, object]
Paint = Callable[[str, Any], str]


def _percent(value: Any) -> str:
    return f"{value:.0f}%"


def _rate(value: Any) -> str:
    return f"{value / 1e6:.1f}"


ROLLOUT_COLUMNS = (
    Column("name", "name"),
    Column("model", "model"),
    Column("variant", "variant"),
    Column("phase", "phase"),
    Column("wave", "wave", align="right"),
    Column("waves", "of", align="right"),
    Column("committed", "committed", align="right", text=counted),
    Column("sites", "sites", align="right", text=counted),
    Column("failed", "failed", align="right"),
    Column("reverted", "reverted", align="right"),
    Column("unreachable", "away", align="right"),
    Column("because", "because"),
    Column("digest", "digest", wide=True),
    Column("reference", "reference", wide=True),
    Column("created", "created", wide=True),
    Column("created_by", "created by", wide=True),
    Column("since", "since", wide=True),
)
SITE_COLUMNS = (
    Column("site", "site"),
    Column("wave", "wave", align="right"),
    Column("phase", "phase"),
    Column("percent", "fetched", align="right", text=_percent),
    Column("bytes_per_s", "MB/s", align="right", text=_rate),
    Column("bytes_received", "received", align="right", text=counted),
    Column("ways", "ways"),
    Column("serves", "serves"),
    Column("heard_s_ago", "heard s ago", align="right", text=lambda value: f"{value:.0f}"),
    Column("failure", "failure"),
    Column("group", "jurisdiction", wide=True),
    Column("before", "before", wide=True),
    Column("is_reachable", "reachable", wide=True),
)
HISTORY_COLUMNS = (
    Column("time", "time"),
    Column("cause", "cause"),
    Column("site", "site"),
    Column("phase", "phase"),
    Column("detail", "detail"),
    Column("rollout", "rollout", wide=True),
    Column("generation", "generation", align="right", wide=True),
)
PLAN_COLUMNS = (
    Column("site", "site"),
    Column("wave", "wave", align="right"),
    Column("tier", "tier"),
    Column("country", "country"),
    Column("jurisdiction", "jurisdiction", wide=True),
    Column("method", "method"),
    Column("bytes", "bytes", align="right", text=counted),
    Column("seconds", "seconds", align="right", text=lambda value: f"{value:,.1f}"),
    Column("usd", "egress $", align="right", text=lambda value: f"{value:,.4f}"),
    Column("disk_bytes", "disk bytes", align="right", text=counted),
)


def rollout_item(rollout: RolloutSummary) -> Item:
    """The item behind a row."""
    return {
        "name": rollout.name,
        "model": rollout.model,
        "variant": rollout.variant,
        "phase": rollout.phase,
        "wave": rollout.wave,
        "waves": rollout.waves,
        "sites": rollout.sites,
        "committed": rollout.committed,
        "failed": rollout.failed,
        "reverted": rollout.reverted,
        "unreachable": rollout.unreachable,
        "because": rollout.because,
        "digest": rollout.digest,
        "reference": rollout.reference,
        "created": _time(rollout.created_unix_s),
        "created_by": rollout.created_by,
        "since": _time(rollout.since_unix_s),
    }


def report_item(report: RolloutReport) -> Item:
    """A rollout whole: its row, its last analysis, and its sites."""
    verdict = msgspec.to_builtins(report.verdict) if report.verdict is not None else None
    return {
        **rollout_item(report),
        "soak_s": report.soak_s,
        "max_ttft_ratio": report.max_ttft_ratio,
        "verdict": verdict,
        "progress": [msgspec.to_builtins(site) for site in report.progress],
    }


def history_items(entries: Sequence[HistoryEntry]) -> list[Item]:
    """What happened, an item each."""
    return [
        {
            "time": _time(entry.at_s),
            "rollout": entry.rollout,
            "generation": entry.generation,
            "cause": entry.cause,
            "site": entry.site or None,
            "phase": entry.phase,
            "detail": entry.detail,
        }
        for entry in entries
    ]


def plan_items(sites: Sequence[PlannedSite]) -> list[Item]:
    """What each site would get, an item each."""
    return [site._asdict() for site in sites]


def status_text(report: RolloutReport, output: str, paint: Paint, width: int | None, lines: int | None = None) -> str:
    """A rollout on one screen: its phase and why, its last analysis, its sites; the first `lines` lines of it."""
    colour = {"completed": "green", "rolled_back": "red", "stuck": "red", "aborted": "red", "paused": "yellow"}
    phase = report.phase.replace("_", " ")
    shown = paint(phase, colour[report.phase]) if report.phase in colour else phase
    head = [
        f"{report.name}: {report.model}/{report.variant} ({report.digest[7:19]}) {shown}, wave {report.wave} of "
        f"{report.waves}, {report.committed:,} of {report.sites:,} sites serve it",
        f"because: {report.because}" if report.because else "",
    ]
    if report.verdict is not None:
        head.append(f"analysis: {report.verdict.word}, {report.verdict.because}")
        head.extend(f"beside: {figure.text}" for figure in report.verdict.figures)
    items = [msgspec.to_builtins(site) for site in report.progress]
    rows = render_rows(items, SITE_COLUMNS, output, kind="RolloutSiteList", name_key="site", width=width)
    text = "\n".join(line for line in head if line) + f"\n\n{rows}"
    return text if lines is None else "\n".join(text.splitlines()[:lines])


def _time(unix_s: float) -> str:
    return utc_text(round(unix_s * NS_PER_S))
