"""Wording: a run in sentences, before any table: what was replayed, what it cost, what held, what missed and why.

Decides what is worth a sentence. Every number is one of the tables'; nothing is concluded that a status does not say.
"""

from __future__ import annotations

from gridctl.accounts.tables import SlaRow
from gridctl.render.account import ms_text, share_text, usd_text
from gridctl.render.ranges import number_text, range_title
from gridctl.report.axis import duration_text
from gridctl.report.content import Beside, Report
from gridctl.units import NS_PER_S

MOST_MISSES = 6
_EVERYTHING = "all objectives"


def sentences(report: Report) -> list[str]:
    """The summary, a paragraph each."""
    return [_replayed(report), *_costs(report), _held(report), *_missed(report), *_spilled(report), *_idle(report)]


def promise_counts(report: Report) -> dict[str, int]:
    """How many promises of the pooled workloads have which status."""
    counts: dict[str, int] = {}
    for row in report.sla.workloads:
        counts[row.status] = counts.get(row.status, 0) + 1
    return counts


def _replayed(report: Report) -> str:
    info = report.info
    return (
        f"Run {info.name} is trace {info.trace} under policy {info.policy} ({info.algorithm}): "
        f"{info.requests:,} requests of {len(info.workload_names)} workloads from {len(report.origins):,} places over "
        f"{duration_text(info.window_ns / NS_PER_S)}, seed {info.seed}."
    )


def _costs(report: Report) -> list[str]:
    total = report.tokenomics.total
    told = f"It cost ${usd_text(total.usd)}"
    if total.usd_per_mtok is not None:
        told += f", ${usd_text(total.usd_per_mtok)} per million tokens"
    if total.usd_per_mtok_goodput is not None:
        told += f" and ${usd_text(total.usd_per_mtok_goodput)} per million output tokens of good requests"
        if report.drawn is not None:
            between = number_text("usd_per_mtok_goodput", report.drawn.tokenomics.total)
            told += f" ({range_title(report.drawn.ensemble)} {between})"
    return [f"{told}.", *(_against(report, other, other is report.centralized) for other in report.beside)]


def _against(report: Report, other: Beside, is_central: bool) -> str:
    """What another run cost and kept, beside this one."""
    ours, theirs = report.tokenomics.total, other.tokenomics.total
    name = "The same GPUs, all in the core," if is_central else f"Run {other.name} (policy {other.policy})"
    told = f"{name} cost ${usd_text(theirs.usd)}"
    if theirs.usd_per_mtok_goodput is not None:
        told += f", ${usd_text(theirs.usd_per_mtok_goodput)} per million good output tokens"
    if ours.usd_per_mtok_goodput and theirs.usd_per_mtok_goodput:
        saving = 1 - ours.usd_per_mtok_goodput / theirs.usd_per_mtok_goodput
        told += f": by that measure this run was {share_text(abs(saving))} {'cheaper' if saving > 0 else 'dearer'}"
    told += f". {share_text(theirs.attainment)} of its requests were good, {share_text(ours.attainment)} of these."
    return f"{told} They are not the same requests: {other.unpaired}." if other.unpaired else told


def _held(report: Report) -> str:
    total, counts = report.sla.total, promise_counts(report)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("met", "missed", "undecided", "no-data") if status in counts
    )
    ranges = (
        f" ({range_title(report.drawn.ensemble)} {number_text('attained', report.drawn.total)})" if report.drawn else ""
    )
    return (
        f"{share_text(total.attained)}{ranges} of all requests were good, {share_text(total.available)} were answered. "
        f"Of {sum(counts.values())} promises: {told}."
    )


def _missed(report: Report) -> list[str]:
    """The promises that were missed, then the workloads that lost most requests, and to what."""
    missed = [row for row in report.sla.workloads if row.status == "missed"]
    named = {row.workload for row in missed if row.objective != _EVERYTHING}
    missed = [row for row in missed if row.objective != _EVERYTHING or row.workload not in named]
    told = []
    if missed:
        words = "; ".join(_promise(row) for row in missed[:MOST_MISSES])
        rest = f"; and {len(missed) - MOST_MISSES} more" if len(missed) > MOST_MISSES else ""
        told.append(f"Missed: {words}{rest}.")
    losers = sorted(
        (row for row in report.sla.workloads if row.objective == _EVERYTHING and row.bad), key=lambda row: -row.bad
    )
    if losers:
        words = "; ".join(
            f"{row.workload} {row.bad:,} of {row.applicable:,}, mostly {row.main_cause}" for row in losers[:MOST_MISSES]
        )
        told.append(f"Bad requests: {words}.")
    return told


def _promise(row: SlaRow) -> str:
    observed = "" if row.observed_ms is None else f", observed {ms_text(row.observed_ms)} ms"
    return (
        f"{row.workload} {row.objective} ({share_text(row.attained)} against {share_text(row.target)}{observed}, "
        f"mostly {row.main_cause})"
    )


def _spilled(report: Report) -> list[str]:
    found = report.flows
    if not found.served:
        return []
    if not found.spilled:
        return ["Every answered request was served at its nearest site."]
    share = share_text(found.spilled / found.served)
    told = f"{found.spilled:,} of {found.served:,} requests ({share}) spilled over from the nearest site"
    top = found.spills[0]
    return [f"{told}, most from {top.home} to {top.site} ({top.requests:,})."]


def _idle(report: Report) -> list[str]:
    total = report.tokenomics.total
    if total.gpu_utilization is None:
        return []
    return [
        f"Its {total.gpus:,} GPUs were {share_text(total.gpu_utilization)} busy; idle ones cost "
        f"${usd_text(total.gpu_idle_usd)} of the ${usd_text(total.usd)}."
    ]
