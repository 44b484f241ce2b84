"""Plans as text: break-even points with their curves, and placements beside their alternatives.

Decides which columns a person sees first and how a curve is drawn: a bar for each side at each point, in letters, so
that it reads without colour. Every number is in `-o wide`, CSV and JSON. Must not compute.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gridctl.accounts.plans import (
    Arrangement,
    BreakEven,
    BreakEvenRow,
    BreakEvens,
    CurvePoint,
    Placement,
    Side,
)
from gridctl.render.account import count_text, share_text, usd_text
from gridctl.render.cell import ABSENT
from gridctl.render.rows import Column, Item, render_rows

AXES = ("rtt", "load", "budget", "skew")
TITLES = {"rtt": "round trip to the core", "load": "load", "budget": "latency budget", "skew": "largest place's share"}
BAR = 24
NO_FLEET = "no fleet meets the SLA"

BREAKEVEN_COLUMNS = (
    Column("workload", "workload"),
    Column("region", "region"),
    Column("edge_text", "edge $/M", align="right"),
    Column("core_text", "core $/M", align="right"),
    Column("verdict_text", "here"),
    Column("rtt", "by RTT"),
    Column("load", "by load"),
    Column("budget", "by budget"),
    Column("skew", "by skew"),
)
_WIDE = (
    Column("places", "places"),
    Column("edge_engine", "edge engine"),
    Column("core_engine", "core engine"),
    Column("edge_engines", "edge engines", align="right"),
    Column("core_engines", "core engines", align="right"),
    Column("edge_usd_per_gpu_hour", "edge $/GPU-hour", align="right", text=usd_text),
    Column("core_usd_per_gpu_hour", "core $/GPU-hour", align="right", text=usd_text),
    Column("rtt_ms", "core RTT ms", align="right"),
    Column("core_site", "core site"),
    Column("load_rps", "req/s", align="right", text=count_text),
    Column("budget_ms", "budget ms", align="right"),
    Column("edge_busy_text", "edge busy $/M", align="right"),
    Column("core_busy_text", "core busy $/M", align="right"),
)
_CSV_SIDE = (
    "engines",
    "gpus",
    "usd_per_mtok_goodput",
    "usd_low",
    "usd_high",
    "busy_usd_per_mtok_goodput",
    "attainment",
    "meets",
)
ARRANGEMENT_COLUMNS = (
    Column("name", "placement"),
    Column("sites", "sites", align="right"),
    Column("gpus", "GPUs", align="right"),
    Column("usd_per_hour", "planned $/h", align="right", text=usd_text),
    Column("replayed_usd_per_hour", "replayed $/h", align="right", text=usd_text),
    Column("usd_per_mtok_goodput", "$/M goodput", align="right", text=usd_text),
    Column("attainment", "good", align="right", text=share_text),
    Column("gpu_utilization", "busy", align="right", text=share_text),
    Column("rounds_text", "rounds", align="right"),
    Column("gap_text", "gap", align="right"),
    Column("sla", "promises"),
)
PLACED_COLUMNS = (
    Column("site", "site"),
    Column("tier", "tier"),
    Column("country", "country"),
    Column("gpu", "GPU"),
    Column("variant", "variant"),
    Column("tensor_parallel", "TP", align="right"),
    Column("engines", "engines", align="right"),
    Column("gpus", "GPUs", align="right"),
    Column("usd_per_hour", "$/h", align="right", text=usd_text),
)
PROMISE_COLUMNS = (
    Column("workload", "workload"),
    Column("objective", "worst promise"),
    Column("target", "target", align="right", text=share_text),
    Column("attained", "attained", align="right", text=share_text),
    Column("late_share", "planned late", align="right", text=share_text),
    Column("status", "status"),
    Column("main_cause", "cause"),
)
MOST_PLACED = 40


def breakeven_items(found: BreakEvens) -> list[Item]:
    """A row per workload and region, named `workload/region`."""
    return [_breakeven_item(row) for row in found.items]


def breakeven_columns() -> list[Column]:
    """Every column, for CSV."""
    sides = [Column(f"{side}_{key}", f"{side}_{key}") for side in ("edge", "core") for key in _CSV_SIDE]
    ends = [
        Column(f"{axis}_{key}", f"{axis}_{key}")
        for axis in AXES
        for key in ("verdict", "value", "low", "high", "paying")
    ]
    named = [Column(key, key) for key in ("workload", "region", "verdict")]
    hidden = ("edge_text", "core_text", "edge_engines", "core_engines", "edge_busy_text", "core_busy_text")
    facts = [Column(column.key, column.key) for column in _WIDE if column.key not in hidden]
    return [*named, *facts, Column("skew_share", "skew_share"), *sides, *ends]


def breakeven_text(found: BreakEvens, output: str) -> str:
    """The table; below it, for a single cell or in `wide`, the curves as pictures."""
    columns = [*BREAKEVEN_COLUMNS, *(_WIDE if output == "wide" else ())]
    shown = [column for column in columns if column.key not in AXES or _has_axis(found, column.key)]
    table = render_rows(
        breakeven_items(found), shown, "markdown" if output == "markdown" else "table", kind="BreakEven"
    )
    parts = [table]
    if len(found.items) == 1 or output == "wide":
        fence = "```" if output == "markdown" else ""
        for row in found.items:
            pictures = "\n".join(_curves(row, found.curves))
            parts.append(f"{fence}\n{pictures}\n{fence}\n" if fence else f"\n{pictures}\n")
    return "".join(parts)


def placement_text(found: Placement, output: str) -> str:
    """The alternatives, the promises of the chosen placement, its engines, and the finding."""
    style = "markdown" if output == "markdown" else "table"
    chosen = next(one for one in found.arrangements if one.name == found.chosen)
    placed = [msgspec.structs.asdict(one) for one in chosen.placed]
    most = len(placed) if output == "wide" else MOST_PLACED
    parts = [
        render_rows(
            [_arrangement_item(one) for one in found.arrangements], ARRANGEMENT_COLUMNS, style, kind="Placement"
        ),
        render_rows(_promise_items(chosen), PROMISE_COLUMNS, style, kind="Placement"),
        render_rows(placed[:most], PLACED_COLUMNS, style, kind="Placement"),
    ]
    if most < len(placed):
        parts[-1] += f"… and {len(placed) - most} more; -o wide prints all\n"
    return "\n".join([*parts, f"{found.finding}\n"])


def placed_items(found: Placement) -> list[Item]:
    """The chosen placement's engines, for CSV and names."""
    chosen = next(one for one in found.arrangements if one.name == found.chosen)
    return [{"name": f"{one.site}/{one.gpu}/{one.variant}", **msgspec.structs.asdict(one)} for one in chosen.placed]


def _breakeven_item(row: BreakEvenRow) -> Item:
    ends = {one.axis: one for one in row.breakevens}
    item: dict[str, object] = {
        "name": f"{row.workload}/{row.region}",
        **{key: value for key, value in msgspec.structs.asdict(row).items() if key not in ("edge", "core", "skew")},
        "skew_share": row.skew,
        "edge_text": _side_text(row.edge),
        "core_text": _side_text(row.core),
        "edge_busy_text": usd_text(row.edge.busy_usd_per_mtok_goodput),
        "core_busy_text": usd_text(row.core.busy_usd_per_mtok_goodput),
        "verdict_text": _verdict_text(row),
    }
    for name, side in (("edge", row.edge), ("core", row.core)):
        item |= {f"{name}_{key}": getattr(side, key) for key in _CSV_SIDE}
    for axis in AXES:
        if axis in ends:
            one = ends[axis]
            item[axis] = breakeven_words(one)
            item |= {f"{axis}_{key}": getattr(one, key) for key in ("verdict", "value", "low", "high", "paying")}
    return item


def breakeven_words(one: BreakEven) -> str:
    """`from 62 ms (58…66)`, `never up to 320 ms`, and so on."""
    least, most = (_value_text(value, one.unit) for value in (one.least, one.most))
    if one.verdict in ("from", "until"):
        low, high = _value_text(one.low, one.unit, bare=True), _value_text(one.high, one.unit, bare=True)
        spread = f" ({low}…{high})" if low != high else ""
        return f"{one.verdict} {_value_text(one.value, one.unit)}{spread}"
    if one.verdict == "undecided":
        return f"undecided: in {one.paying} of {one.replays} replays"
    if one.verdict == "neither":
        return "neither meets the SLA"
    return f"{one.verdict}, {least} to {most}"


def _has_axis(found: BreakEvens, axis: str) -> bool:
    return any(one.axis == axis for row in found.items for one in row.breakevens)


def _side_text(side: Side) -> str:
    if side.usd_per_mtok_goodput is None:
        return f"misses ({share_text(side.attainment)})"
    low, high = usd_text(side.usd_low), usd_text(side.usd_high)
    return usd_text(side.usd_per_mtok_goodput) + (f" ({low}…{high})" if low != high else "")


def _verdict_text(row: BreakEvenRow) -> str:
    words = {
        "edge": "the edge pays",
        "core": "the core is cheaper",
        "same": "the same",
        "undecided": "undecided",
        "neither": "neither meets the SLA",
    }
    return words[row.verdict]


def _value_text(value: float | None, unit: str, *, bare: bool = False) -> str:
    if value is None:
        return ABSENT
    if unit == "share":
        return f"{value:.0%}"
    number = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return number if bare else f"{number} {unit}"


def _curves(row: BreakEvenRow, curves: Sequence[CurvePoint]) -> list[str]:
    """Lines that draw every curve of a cell."""
    lines = [f"{row.workload} in {row.region}: $ per million output tokens of good requests, idle GPUs included"]
    for axis in AXES:
        points = [one for one in curves if (one.workload, one.region, one.axis) == (row.workload, row.region, axis)]
        if not points:
            continue
        costs = [side.usd_per_mtok_goodput for one in points for side in (one.edge, one.core)]
        longest = max((cost for cost in costs if cost is not None), default=0.0)
        end = next(one for one in row.breakevens if one.axis == axis)
        lines += ["", f"{TITLES[axis]}; edge pays: {breakeven_words(end)}"]
        for point in points:
            value = _value_text(point.value, point.unit)
            lines.append(f"{value:>12}  edge {_bar(point.edge, longest)}  {point.verdict}")
            lines.append(f"{'':>12}  core {_bar(point.core, longest)}")
    return [line.rstrip() for line in lines]


def _bar(side: Side, longest: float) -> str:
    cost = side.usd_per_mtok_goodput
    if cost is None:
        return f"{NO_FLEET:<{BAR + 22}}"
    length = max(1, round(cost / longest * BAR)) if longest else 0
    engines = f"{side.engines} engine{'' if side.engines == 1 else 's'}"
    return f"{'█' * length:<{BAR}} {usd_text(cost):>8} {engines:>12}"


def _arrangement_item(one: Arrangement) -> Item:
    missed = [promise.workload for promise in one.promises if not promise.is_met]
    return {
        **msgspec.structs.asdict(one),
        "rounds_text": str(len(one.rounds)) if one.rounds else ABSENT,
        "gap_text": f"{one.rounds[0].gap:.1%}" if one.rounds else ABSENT,
        "sla": "all kept" if not missed else f"broken: {', '.join(missed)}",
    }


def _promise_items(one: Arrangement) -> list[Item]:
    return [
        {**msgspec.structs.asdict(promise), "status": "kept" if promise.is_met else "broken"}
        for promise in one.promises
    ]
