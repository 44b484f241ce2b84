"""A live request explained, as text. Must not compute."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.render.account import ms_text, usd_text
from gridctl.render.explanation_of_request import LINE, decision_text
from gridctl.render.rows import Column, render_rows

if TYPE_CHECKING:
    from gridctl.broker.explanation import LiveExplanation

_STEPS = (
    Column("step", "step"),
    Column("begin_ms", "at ms", align="right", text=ms_text),
    Column("took_ms", "took ms", align="right", text=ms_text),
)


def document(explanation: LiveExplanation) -> dict[str, Any]:
    """Everything, with plain values."""
    found: dict[str, Any] = msgspec.to_builtins(explanation)
    return found


def text(explanation: LiveExplanation, output: str) -> str:
    """The request for people: `table`, `wide` or `markdown`."""
    parts = [_headline(explanation, output)]
    if explanation.decision is not None:
        parts.append(decision_text(explanation.decision, output))
    if explanation.steps:
        items = [msgspec.structs.asdict(step) for step in explanation.steps]
        parts.append(render_rows(items, _STEPS, output, kind="StepList"))
    return "\n".join(part for part in parts if part)


def _headline(live: LiveExplanation, output: str) -> str:
    tokens = f"{live.output_tokens:,} out{' (estimated)' if live.is_estimated else ''}"
    said = [
        f"live request {live.request_id}: {live.workload or 'no workload'} from {live.origin or 'nowhere known'}, "
        f"tenant {live.tenant or '-'}; {live.input_tokens:,} tokens in, {tokens}; "
        f"{live.outcome}{f' ({live.reason})' if live.reason else ''}, HTTP {live.status}",
        f"first token {ms_text(live.ttft_ms)} ms, predicted {ms_text(live.predicted_ttft_ms)}; "
        f"{ms_text(live.e2e_ms)} ms in all; ${usd_text(live.usd)} predicted; {live.attempts} "
        f"{'engine' if live.attempts == 1 else 'engines'} tried"
        f"{'; missed ' + ', '.join(live.misses) if live.misses else ''}",
    ]
    if live.cache:
        saved = f", which saved ${usd_text(live.saved_usd)}" if live.saved_usd else ""
        said.append(f"cache: {live.cache}{f' ({live.cache_reason})' if live.cache_reason else ''}{saved}")
    if live.decision is None and live.cache != "hit":
        said.append("what the router saw was not kept, or the request never came to a decision")
    if output == "markdown":
        return "\n\n".join(said) + "\n\n"
    return "\n".join(textwrap.fill(line, LINE, subsequent_indent="  ", break_on_hyphens=False) for line in said) + "\n"
