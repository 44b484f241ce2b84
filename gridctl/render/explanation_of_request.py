"""An explained request as text: who could have served it, why it went where it went, and what came of it.

Decides what fits one screen of 80 columns: the chosen engine, the runner-up and the nearest others in price; `wide` has
every candidate and column, JSON everything. Must not compute. Readable without colour: every fate is a word.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.render.account import ms_text, usd_text
from gridctl.render.cell import ABSENT
from gridctl.render.rows import Column, Item, render_rows

if TYPE_CHECKING:
    from gridctl.replay.explanation import Explanation
    from gridctl.routing.decision import Candidate, Decision, Telemetry

CANDIDATES_SHOWN = 8
LINE = 79
LONGEST_NAME = 20
ORDER = ("chosen", "runner-up", "weighed", "refused")


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def _percent(value: float) -> str:
    return f"{value:.1%}"


COLUMNS = (
    Column("status", "status"),
    Column("site", "site"),
    Column("cluster", "cluster"),
    Column("tier", "tier"),
    Column("variant", "variant"),
    Column("rtt_ms", "rtt ms", align="right", text=ms_text),
    Column("queue_ms", "queue ms", align="right", text=ms_text),
    Column("prefill_ms", "prefill ms", align="right", text=ms_text),
    Column("ttft_ms", "ttft ms", align="right", text=ms_text),
    Column("tpot_ms", "tpot ms", align="right", text=ms_text),
    Column("e2e_ms", "e2e ms", align="right", text=ms_text),
    Column("cached_prefix_tokens", "cached", align="right"),
    Column("in_flight", "in flight", align="right"),
    Column("cash_usd", "cash usd", align="right", text=usd_text),
    Column("gpu_usd", "gpu usd", align="right", text=usd_text),
    Column("miss_usd", "miss usd", align="right", text=usd_text),
    Column("usd", "usd", align="right", text=usd_text),
    Column("usd_more", "usd more", align="right", text=usd_text),
    Column("miss_probability", "p(miss)", align="right", text=_percent),
    Column("worst_ratio", "of limit", align="right", text=_ratio),
    Column("reason", "reason"),
    Column("because", "because"),
)
_BRIEF = (
    Column("brief", "site"),
    Column("rtt_ms", "rtt", align="right", text=ms_text),
    Column("queue_ms", "queue", align="right", text=ms_text),
    Column("prefill_ms", "prefill", align="right", text=ms_text),
    Column("ttft_ms", "ttft", align="right", text=ms_text),
    Column("usd", "usd", align="right", text=usd_text),
    Column("miss_probability", "p(miss)", align="right", text=_percent),
    Column("fate", "why"),
)
_STEPS = (
    Column("step", "step"),
    Column("begin_ms", "at ms", align="right", text=ms_text),
    Column("took_ms", "took ms", align="right", text=ms_text),
)
_METRICS = (
    Column("metric", "objective"),
    Column("predicted_ms", "predicted", align="right", text=ms_text),
    Column("actual_ms", "actual", align="right", text=ms_text),
    Column("limit_ms", "limit", align="right", text=ms_text),
    Column("verdict", "verdict"),
)


def document(explanation: Explanation) -> dict[str, Any]:
    """Everything, with plain values."""
    found: dict[str, Any] = msgspec.to_builtins(explanation)
    return found


def candidate_items(decision: Decision) -> list[Item]:
    """A flat row per candidate: the chosen one, the runner-up, the others by price, then those refused."""
    return [_item(candidate) for candidate in _ordered(decision.candidates)]


def decision_text(decision: Decision, output: str, *, site: str | None = None, is_loaded: bool = True) -> str:
    """What was chosen and why, and the candidates, for people; `site` is one that was asked about, `is_loaded` whether
    there was a load to be seen."""
    seen = _seen(decision, output) if is_loaded else ""
    parts = (_decided(decision, site, output), _candidates(decision, output), seen)
    return "\n".join(part for part in parts if part)


def text(explanation: Explanation, output: str) -> str:
    """The request for people: `table`, `wide` or `markdown`."""
    parts = [_headline(explanation, output), decision_text(explanation.decision, output, site=explanation.site)]
    parts.append(render_rows(_metric_items(explanation), _METRICS, output, kind="ObjectiveList"))
    if explanation.timeline.steps:
        items = [msgspec.structs.asdict(step) for step in explanation.timeline.steps]
        parts.append(render_rows(items, _STEPS, output, kind="StepList"))
    return "\n".join(part for part in parts if part)


def _ordered(candidates: Sequence[Candidate]) -> list[Candidate]:
    def key(candidate: Candidate) -> tuple[int, float]:
        return ORDER.index(candidate.status), candidate.forecast.usd if candidate.forecast else float("inf")

    return sorted(candidates, key=key)


def _item(candidate: Candidate) -> dict[str, object]:
    fields = msgspec.structs.asdict(candidate)
    forecast, bound, telemetry = (fields.pop(name) for name in ("forecast", "bound", "telemetry"))
    known = msgspec.structs.asdict(forecast) if forecast else {}
    known.pop("objectives", None)
    return {
        **fields,
        **known,
        "bound_usd": bound.usd if bound else None,
        "in_flight": telemetry.seen_in_flight if telemetry else None,
        "variant": f"{candidate.model}/{candidate.variant}",
        "brief": _clipped(candidate.site or "the API"),
        "fate": candidate.status if candidate.status in ("chosen", "runner-up") else candidate.reason,
    }


def _clipped(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _headline(explanation: Explanation, output: str) -> str:
    decision, line = explanation.decision, explanation.timeline
    served = f"{line.outcome}, {'every objective met' if line.good else f'missed: {line.cause}'}"
    return _wrapped(
        f"request {explanation.request:,} of run {explanation.run}: {decision.workload} from {decision.origin}, "
        f"sent at {ms_text(decision.at_ms)} ms; {decision.prompt_tokens:,} tokens in, "
        f"{line.output_tokens:,} out ({decision.expected_output_tokens:,} expected); {served}"
        f"{f' ({line.reason})' if line.reason else ''}",
        output,
    )


def _decided(decision: Decision, site: str | None, output: str) -> str:
    """What was chosen and why, what would have been next, and the site that was asked about."""
    candidates = decision.candidates
    lines = [f"chosen: {_place(one)}: {one.because}" for one in candidates if one.status == "chosen"]
    lines += [
        f"next: {_place(one)}, {_difference(one.usd_more)}: {one.because}"
        for one in candidates
        if one.status == "runner-up"
    ]
    if decision.chosen is None:
        lines.append(f"chosen: nobody: {decision.reason}")
    told = {candidate.because: candidate for candidate in candidates if candidate.site == site}
    lines += [f"{site}: {one.status}, {one.reason}: {one.because}" for one in told.values()]
    return "".join(_wrapped(line, output) for line in lines)


def _place(candidate: Candidate) -> str:
    place = " ".join(part for part in (candidate.site, candidate.cluster) if part) or "the API"
    return f"{place} ({candidate.model}/{candidate.variant})"


def _difference(usd: float | None) -> str:
    if usd is None:
        return "no prediction"
    return f"${usd_text(abs(usd))} {'more' if usd >= 0 else 'less'}"


def _candidates(decision: Decision, output: str) -> str:
    items = candidate_items(decision)
    shown = items if output == "wide" else items[:CANDIDATES_SHOWN]
    table = render_rows(shown, COLUMNS if output == "wide" else _BRIEF, output, kind="CandidateList") if shown else ""
    further = []
    if shown and output != "wide":
        further.append("times in ms")
    if len(shown) < len(items):
        further.append(f"{len(items) - len(shown):,} more candidates (-o wide)")
    passed = decision.passed_over
    if passed:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in passed.items())
        further.append(f"no candidates: {counts}")
    return table + (_wrapped("; ".join(further), output) if further else "")


def _seen(decision: Decision, output: str) -> str:
    """What the router saw of the chosen engine, and what was so."""
    chosen = next((one for one in decision.candidates if one.status == "chosen"), None)
    if chosen is None or chosen.telemetry is None or chosen.kind == "api":
        return ""
    return _wrapped(_telemetry_text(chosen.telemetry), output)


def _telemetry_text(seen: Telemetry) -> str:
    age = f"{ms_text(seen.scrape_age_ms)} ms old, {seen.state}" if seen.scrape_age_ms is not None else "missing"
    counts = "own count" if seen.counts == "own" else f"scrape {age}"
    true = true_kv = ""
    if seen.true_in_flight is not None and seen.true_pending_tokens is not None:
        true = f"; true {seen.true_in_flight:,} and {seen.true_pending_tokens:,}"
    parts = [
        f"the router saw {seen.seen_in_flight:,} in flight and {seen.seen_pending_tokens:,} prompt tokens pending "
        f"({counts}{true})"
    ]
    if seen.kv_capacity_tokens:
        if seen.true_kv_tokens is not None:
            true_kv = f"; true {seen.true_kv_tokens / seen.kv_capacity_tokens:.1%}"
        parts.append(f"KV {seen.seen_kv_tokens / seen.kv_capacity_tokens:.1%} full (scrape {age}{true_kv})")
    return ", ".join(parts)


def _metric_items(explanation: Explanation) -> list[Item]:
    """Predicted against actual: TTFT, TPOT and E2E always, and every objective with its verdict."""
    line = explanation.timeline
    chosen = next((one for one in explanation.decision.candidates if one.status == "chosen"), None)
    forecast = chosen.forecast if chosen else None
    predicted = {
        "network_ms": chosen.rtt_ms if chosen else None,
        "ttft_ms": forecast.ttft_ms if forecast else None,
        "tpot_ms": forecast.tpot_ms if forecast else None,
        "e2e_ms": forecast.e2e_ms if forecast else None,
    }
    actual = {"ttft_ms": line.ttft_ms, "tpot_ms": line.tpot_ms, "e2e_ms": line.e2e_ms}
    items: list[Item] = [
        {
            "metric": one.metric,
            "predicted_ms": predicted[one.metric],
            "actual_ms": one.actual_ms,
            "limit_ms": one.limit_ms,
            "verdict": ABSENT if one.met is None else "met" if one.met else f"missed: {one.cause}",
        }
        for one in line.objectives
    ]
    promised = {one.metric for one in line.objectives}
    for metric, value in actual.items():
        if metric not in promised:
            items.append({"metric": metric, "predicted_ms": predicted[metric], "actual_ms": value, "verdict": ABSENT})
    return items


def _wrapped(line: str, output: str) -> str:
    if output == "markdown":
        return f"{line}\n\n"
    return textwrap.fill(line, LINE, subsequent_indent="  ", break_on_hyphens=False) + "\n"
