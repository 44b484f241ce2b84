"""Recent requests of a site as text: which went worst, and why requests came there. Must not compute."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import msgspec

from gridctl.health.burn import span_text
from gridctl.health.reports import RecentRequest, Routed, SiteReport
from gridctl.render.account import ms_text, share_text
from gridctl.render.cell import visible
from gridctl.render.rows import Column, Item, render_rows

LINE = 100
SHOWN_ORIGINS = 3
WORST = (
    Column("request_id", "worst requests"),
    Column("workload", "workload"),
    Column("outcome", "outcome"),
    Column("ttft_ms", "TTFT ms", align="right", text=ms_text),
    Column("predicted_ttft_ms", "expected", align="right", text=ms_text),
    Column("e2e_ms", "in all ms", align="right", text=ms_text),
    Column("wrong", "wrong"),
    Column("cluster", "cluster", wide=True),
    Column("origin", "origin", wide=True),
    Column("attempts", "attempts", align="right", wide=True),
    Column("status", "status", align="right", wide=True),
)
_BECAUSE = {
    "cheapest": "it was the cheapest that keeps the promise",
    "least-late": "no engine could keep the promise and this one would be the least late",
}


def recent_text(report: SiteReport, output: str, width: int | None = None) -> str:
    """Why requests came here, a line for each workload, and the worst of them; "" when nothing is remembered."""
    if report.recent_s is None:
        return ""
    lines = [_because(one) for one in report.routed if one.recent]
    parts = ["".join(f"{line}\n" for line in lines)]
    if report.worst:
        parts.append(render_rows(worst_items(report.worst), WORST, output, kind="RecentRequestList", width=width))
        span, first = span_text(report.recent_s), report.worst[0].request_id
        parts.append(f"of the last {span}; more of one: gridctl explain request {first}\n")
    return "\n".join(part for part in parts if part)


def worst_items(worst: tuple[RecentRequest, ...]) -> list[Item]:
    """Requests as rows."""
    return [{"name": one.request_id, **msgspec.structs.asdict(one), "wrong": _wrong(one)} for one in worst]


def _wrong(one: RecentRequest) -> str | None:
    """What was wrong with it; None: nothing, others were only faster."""
    missed = "missed " + ", ".join(name.removesuffix("_ms").upper() for name in one.misses) if one.misses else ""
    return "; ".join(part for part in (one.reason, missed) if part) or None


def _because(one: Routed) -> str:
    """One workload's reasons and origins in a line."""
    said = ", ".join(
        f"{share_text(count / one.recent)} because {_BECAUSE.get(reason, f'the policy is {reason}')}"
        for reason, count in one.because.items()
        if reason
    )
    line = f"{visible(one.workload)}: {one.recent:,} came here lately, {said}{_from(one.origins)}"
    return textwrap.fill(line, LINE, subsequent_indent="  ", break_on_hyphens=False)


def _from(origins: Mapping[str, int]) -> str:
    named = [f"{visible(name) or 'nowhere known'} ({count:,})" for name, count in list(origins.items())[:SHOWN_ORIGINS]]
    return f"; from {', '.join(named)}" if named else ""
