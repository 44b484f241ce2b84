"""A dry-run decision as text: what was asked, what would be chosen, and every candidate. Must not compute."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.render.explanation_of_request import LINE, decision_text

if TYPE_CHECKING:
    from gridctl.routing.decision import Decision

_SOURCES = {
    "registry": "the grid as declared, every engine idle",
    "orchestrator": "the running orchestrator, as loaded as it is now",
}


def name_of(decision: Decision) -> str:
    """What the question was, short."""
    return f"{decision.workload} from {decision.origin or 'anywhere'}"


def document(decision: Decision, source: str) -> dict[str, Any]:
    """Everything, with plain values."""
    return {"name": name_of(decision), "source": source, "decision": msgspec.to_builtins(decision)}


def text(decision: Decision, source: str, output: str) -> str:
    """The decision for people: `table`, `wide` or `markdown`."""
    line = (
        f"{name_of(decision)}, tenant {decision.tenant}, {decision.prompt_tokens:,} tokens in, "
        f"{decision.expected_output_tokens:,} out expected; policy {decision.policy}; {_SOURCES[source]}"
    )
    headline = f"{line}\n" if output == "markdown" else textwrap.fill(line, LINE, subsequent_indent="  ") + "\n"
    return "\n".join((headline, decision_text(decision, output, is_loaded=source != "registry")))
