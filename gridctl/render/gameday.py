"""A game day as text: each fault's phases, what it cost, when it was over, and who served instead.

Decides which numbers a person sees; JSON carries every one. Must not compute.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.accounts.facts import FOREVER_NS
from gridctl.accounts.herding import Herd
from gridctl.accounts.losses import Loss
from gridctl.accounts.phases import FaultReport, GameDayReport
from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.cell import visible
from gridctl.render.rows import Column, Item, render_rows

_LEAST_USD = 5e-7
"""Of a difference of two replays' bills, less than half a millionth of a dollar is rounding of their sums."""
_PHASES = (
    Column("phase", "phase"),
    Column("from_s", "from", align="right", text=lambda value: f"{value:,.0f} s"),
    Column("until_s", "until", align="right", text=lambda value: f"{value:,.0f} s"),
    Column("requests", "requests", align="right", text=count_text),
    Column("attainment", "good", align="right", text=share_text),
    Column("calm_attainment", "calm", align="right", text=share_text),
    Column("rejected", "rejected", align="right", text=count_text),
    Column("failed", "failed", align="right", text=count_text),
    Column("ttft_ms_p50", "ttft p50", align="right", text=ms_text),
    Column("ttft_ms_p99", "ttft p99", align="right", text=ms_text),
    Column("e2e_ms_p99", "e2e p99", align="right", text=ms_text),
    Column("usd_per_mtok_goodput", "$/M goodput", align="right", text=usd_text),
)
_FLOWS = (
    Column("before", "calm"),
    Column("after", "with the fault"),
    Column("requests", "requests", align="right", text=count_text),
    Column("ttft_ms_change", "ttft", align="right", text=lambda value: "-" if value is None else f"{value:+,.1f}"),
    Column("reason", "what came of it"),
)
LOSS_COLUMNS = (
    Column("site", "lost site"),
    Column("requests", "served", align="right", text=count_text),
    Column("good_lost", "good lost", align="right", text=count_text),
    Column("restarted", "restarted", align="right", text=count_text),
    Column("failed", "failed", align="right", text=count_text),
    Column("rejected", "rejected", align="right", text=count_text),
    Column("attainment", "good during", align="right", text=share_text),
    Column("calm_attainment", "calm", align="right", text=share_text),
    Column("usd_more", "usd more", align="right", text=lambda usd: usd_text(usd if abs(usd) >= _LEAST_USD else 0)),
    Column("recovery", "recovered"),
)

REGION_COLUMNS = (Column("region", "lost region"), *LOSS_COLUMNS[1:])
HERD_COLUMNS = (
    Column("telemetry", "telemetry"),
    Column("counters", "own counters"),
    Column("requests", "requests", align="right", text=count_text),
    Column("attainment", "good", align="right", text=share_text),
    Column("refused", "refused", align="right", text=count_text),
    Column("ttft_ms_p50", "ttft p50", align="right", text=ms_text),
    Column("ttft_ms_p99", "ttft p99", align="right", text=ms_text),
    Column("e2e_ms_p99", "e2e p99", align="right", text=ms_text),
    Column("spread", "spread", align="right", text=lambda value: f"{value:.2f}"),
    Column("busiest", "busiest", align="right", text=count_text),
    Column("usd", "usd", align="right", text=usd_text),
)


def text(report: GameDayReport, output: str) -> str:
    """The whole report for `table`, `wide` and `markdown`."""
    beside = f", beside {report.calm}" if report.calm else ", alone: the run without the faults is not there"
    calm_good = f" ({report.calm_good:,} in calm)" if report.calm_good is not None else ""
    calm_usd = f" ({usd_text(report.calm_usd)} in calm)" if report.calm_usd is not None else ""
    added = f", {report.added:,} of them brought by crowds" if report.added else ""
    if report.added:
        calm_good += f", {report.added_good:,} of them of crowds"
    lines = [
        f"{visible(report.run)}: {visible(report.trace)} under {visible(report.policy)}{beside}\n"
        f"{report.requests:,} requests{added}: {report.completed:,} completed, {report.rejected:,} rejected, "
        f"{report.failed:,} failed; {report.good:,} good{calm_good}; {usd_text(report.usd)} USD{calm_usd}\n"
    ]
    return "\n".join([*lines, *(_fault(fault, output) for fault in report.faults)])


def _fault(report: FaultReport, output: str) -> str:
    fault = report.fault
    is_noticed = fault.kind in ("lose", "link")
    noticed = f", noticed after {_seconds(fault.noticed_ns - fault.at_ns)}" if is_noticed else ""
    until = f"from {_seconds(fault.at_ns)} on"
    if fault.until_ns < FOREVER_NS:
        until = f"{_seconds(fault.at_ns)} to {_seconds(fault.until_ns)}"
    what = f"engines: {fault.engines}, sites: {len(fault.sites)}"
    if fault.kind in ("link", "crowd"):
        what = f"origins: {fault.origins}" + (f", {what}" if fault.kind == "link" else f", requests: {fault.added:,}")
    lines = [f"{visible(fault.text)}: {until}{noticed}; {what}\n"]
    items: list[Item] = [{name: getattr(one, name) for name in one.__struct_fields__} for one in report.phases]
    lines.append(render_rows(items, _PHASES, output, kind="PhaseList"))
    if fault.kind == "lose" or fault.lost:
        gone = f"; {fault.tokens:,} tokens of KV and {_seconds(fault.gpu_ns)} of GPU time gone"
        lines.append(
            f"lost: {fault.lost:,} requests in flight or sent in vain, {fault.begun:,} of them amid their answer; "
            f"{fault.restarted:,} restarted elsewhere, {fault.refused:,} refused, {fault.failed:,} failed"
            f"{gone if fault.kind == 'lose' else ''}\n"
        )
    if report.good_lost is not None:
        lines.append(f"good requests lost against calm, during and after: {report.good_lost:,}\n")
    lines.append(f"recovery: {recovery_text(felt=report.felt, recovered_s=report.recovered_s)}\n")
    if report.flows:
        flows: list[Item] = [{name: getattr(one, name) for name in one.__struct_fields__} for one in report.flows]
        lines.append(render_rows(flows, _FLOWS, output, kind="FlowList"))
    return "".join(lines)


def loss_items(losses: tuple[Loss, ...]) -> list[Item]:
    """Losses as rows."""
    return [
        {
            "name": loss.site or loss.region,
            **{name: getattr(loss, name) for name in loss.__struct_fields__},
            "recovery": recovery_text(felt=loss.felt, recovered_s=loss.recovered_s),
        }
        for loss in losses
    ]


def herd_items(herds: Sequence[Herd]) -> list[Item]:
    """Herds as rows."""
    return [
        {"name": f"{one.telemetry}-{one.counters}", **{name: getattr(one, name) for name in one.__struct_fields__}}
        for one in herds
    ]


def recovery_text(*, felt: bool, recovered_s: float | None) -> str:
    """How long a fault was felt.

    >>> recovery_text(felt=True, recovered_s=12.5)
    '12.5 s after it began'
    """
    if not felt:
        return "not felt"
    return "not within the run" if recovered_s is None else f"{recovered_s:,.1f} s after it began"


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e9:,.3g} s" if nanoseconds < 1e12 else f"{nanoseconds / 1e9:,.0f} s"
