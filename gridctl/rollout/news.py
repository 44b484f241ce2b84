"""News: what of a site's report is new, which event it is to a rollout, and why something changed, in a word.

Decides whom to listen to: of a site's boots the newest, of its reports those that are newer than the last.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.rollout.machine import step
from gridctl.rollout.protocol import Report
from gridctl.rollout.records import Heard
from gridctl.rollout.state import Event, Operated, Rollout, SiteReported

KEPT_BOOTS = 16


def heard_after(heard: Heard | None, report: Report, now_s: float) -> Heard | None:
    """What is known of a site once it has said this; None when that is old, or of a boot that another came after."""
    if heard is None:
        return Heard(report.boot_id, report.seq, (), now_s, report)
    is_old = report.boot_id == heard.boot_id and report.seq <= heard.seq
    if is_old or report.boot_id in heard.retired:
        return None
    retired = heard.retired
    if report.boot_id != heard.boot_id:
        retired = (*retired, heard.boot_id)[-KEPT_BOOTS:]
    return Heard(report.boot_id, report.seq, retired, now_s, report)


def reported(rollout: Rollout, site: str, report: Report) -> SiteReported:
    """The report as what happens to a rollout."""
    return SiteReported(site, report.of(rollout.model), report.generation, report.engine_ok)


def changes(rollout: Rollout, site: str, report: Report, now_s: float) -> bool:
    """Whether the report leads to anything in a rollout."""
    event = reported(rollout, site, report)
    return step(rollout, event, now_s, rollout.generation + 1).rollout is not rollout


def is_news(before: Heard, after: Heard) -> bool:
    """Whether a report says more than that the site lives and how far a transfer is."""
    if before.boot_id != after.boot_id or before.report.engine_ok != after.report.engine_ok:
        return True
    return _still(before.report) != _still(after.report)


def _still(report: Report) -> Sequence[object]:
    return [(one.model, one.committed, one.previous, one.trial, one.staged, one.failed) for one in report.actual]


def cause_of(event: Event) -> str:
    """What an event is called in the history."""
    if isinstance(event, Operated):
        return f"{event.verb} by {event.who}"
    return {"SiteReported": "report", "AnalysisResult": "analysis", "WindowChanged": "window"}.get(
        type(event).__name__, type(event).__name__.lower()
    )
