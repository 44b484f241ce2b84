"""Screen: a run on one screen of a terminal: the numbers that matter, sparks of load and cost, workloads, a map.

Decides what fits: 80 columns and 24 lines show everything, taller terminals show more workloads and a larger map. Reads
the same without colour. Must not know streams: its caller says what they can show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gridctl.accounts.distribution import Distribution
from gridctl.accounts.tables import SlaRow
from gridctl.render.account import count_text, ms_text, share_text, usd_text
from gridctl.render.cell import visible
from gridctl.render.table import ELLIPSIS, table
from gridctl.report.axis import duration_text
from gridctl.report.content import Report
from gridctl.report.map_chart import spots_of
from gridctl.report.spark import spark, squeezed
from gridctl.report.terminal_map import Paint, Style, map_legend, terminal_map
from gridctl.report.time_charts import good_shares, per_second, usd_per_hour
from gridctl.report.wording import promise_counts
from gridctl.units import NS_PER_S

LEAST_WIDTH, LEAST_HEIGHT = 60, 24
MOST_WIDTH = 120
_LEAST_MAP, _MOST_MAP = 6, 20
_NAME, _TAIL = 8, 20
_NUMBERS = 8 + 3 * 6 + 9 + 6 * 2 + 2
"""What a workload's line takes besides its name and its spark."""

_LEAST_SPARK, _MOST_SPARK = 8, 30
_STATUS_PAINTS: dict[str, Style] = {"met": "green", "missed": "red", "undecided": "yellow"}


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a terminal can show."""

    width: int
    height: int
    is_ascii: bool
    paint: Paint


def screen(report: Report, canvas: Canvas) -> str:
    """The run in lines of at most the canvas's width."""
    width = min(max(canvas.width, LEAST_WIDTH), MOST_WIDTH)
    height = max(canvas.height, LEAST_HEIGHT)
    head = [*_headline(report, width), "", *_sparks(report, width, canvas)]
    spots, _ = spots_of(report.origins, report.sites, report.places)
    room = height - len(head) - 2 - (_LEAST_MAP + 2 if spots else 0)
    lines = [*head, "", *_workloads(report, width, max(room - 1, 4), canvas)]
    if spots:
        rows = min(max(height - len(lines) - 3, _LEAST_MAP), _MOST_MAP)
        drawn = terminal_map(spots, width - 1, rows, is_ascii=canvas.is_ascii, paint=canvas.paint)
        lines += ["", *drawn, map_legend(is_ascii=canvas.is_ascii, paint=canvas.paint)]
    return "".join(f"{line}\n" for line in lines)


def _headline(report: Report, width: int) -> list[str]:
    info, total, counts = report.info, report.tokenomics.total, promise_counts(report)
    asked = f"{info.requests:,} requests in {duration_text(info.window_ns / NS_PER_S)}"
    beside = "".join(
        f"; {other.name} {usd_text(other.tokenomics.total.usd_per_mtok_goodput)}" for other in report.beside
    )
    promises = ", ".join(f"{counts[status]} {status}" for status in ("met", "missed", "undecided") if status in counts)
    gates = report.gates
    lines = [
        f"run {info.name}: trace {info.trace}, policy {info.policy}, {asked}",
        f"cost ${usd_text(total.usd)}, ${usd_text(total.usd_per_mtok_goodput)} per M good output tokens{beside}",
        f"good {share_text(total.attainment)}, answered {share_text(report.sla.total.available)}; promises: {promises}",
    ]
    if gates is not None:
        lines.append(f"gates: {gates.passed} passed, {gates.failed} failed, {gates.errors} undecided")
    return [_clipped(line, width) for line in lines]


def _sparks(report: Report, width: int, canvas: Canvas) -> list[str]:
    found = report.series
    if not any(found.length_s):
        return []
    room = width - _NAME - _TAIL - 2
    offered, good, usd = per_second(found), good_shares(found), usd_per_hour(found)
    known = [share for share in good if share is not None]
    low = min(known, default=0.0)
    rows: list[tuple[str, Sequence[float | None], float, str]] = [
        ("load", offered, 0.0, f"most {count_text(max(offered))}/s"),
        ("good", good, min(low, 0.9) if low < 1 else 0.0, f"worst {share_text(low)}"),
        ("cost", usd, 0.0, f"most ${usd_text(max(usd))}/h"),
    ]
    return [
        f"{name:<{_NAME}}{spark(squeezed(values, room), is_ascii=canvas.is_ascii, low=start)}  {tail}"
        for name, values, start, tail in rows
    ]


def _workloads(report: Report, width: int, most: int, canvas: Canvas) -> list[str]:
    """A line per workload: those with most bad requests first where not all fit."""
    rows = {row.workload: row for row in report.sla.workloads if row.objective == "all objectives"}
    items = [item for item in report.distributions.items if item.workload in rows]
    ordered = sorted(items, key=lambda item: (-rows[item.workload].bad, item.workload))
    shown, left = ordered[:most], len(ordered) - most
    if left > 0:
        shown = ordered[: most - 1]
    if not shown:
        return []
    room = min(max(width - max(len(item.workload) for item in shown) - _NUMBERS, _LEAST_SPARK), _MOST_SPARK)
    texts = [_texts(item, rows[item.workload], room, canvas) for item in shown]
    titles = ("WORKLOAD", "REQUESTS", "GOOD", "P50 MS", "P99 MS", "TTFT", "STATUS")
    aligns = ("left", "right", "right", "right", "right", "left", "left")
    columns = [[row[at] for row in texts] for at in range(len(titles))]
    lines = table(titles, columns, aligns, width=width).splitlines()  # type: ignore[arg-type]
    lines = [line.replace(ELLIPSIS, "~") for line in lines] if canvas.is_ascii else lines
    painted = [lines[0], *(_painted(line, canvas) for line in lines[1:])]
    if left > 0:
        painted.append(f"and {left + 1} workloads with fewer bad requests: gridctl sla {report.info.name}")
    return painted


def _texts(item: Distribution, row: SlaRow, room: int, canvas: Canvas) -> tuple[str, ...]:
    return (
        item.workload,
        f"{item.requests:,}",
        share_text(row.attained),
        ms_text(item.p50_ms),
        ms_text(item.p99_ms),
        spark(squeezed([count or None for count in item.counts], room), is_ascii=canvas.is_ascii),
        row.status,
    )


def _painted(line: str, canvas: Canvas) -> str:
    """The status at the line's end in its colour; the word alone says as much."""
    for status, style in _STATUS_PAINTS.items():
        if line.endswith(f" {status}"):
            return line.removesuffix(status) + canvas.paint(status, style)
    return line


def _clipped(line: str, width: int) -> str:
    shown = visible(line)
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."
