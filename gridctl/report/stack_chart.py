"""Stack chart: what the dollars went to, tier by tier, beside the alternatives.

Decides what is drawn; numbers are those of `accounts.stack`. All bars share one scale, so lengths compare across runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.accounts.stack import PARTS, CostStack, TierCost
from gridctl.render.account import share_text, usd_text
from gridctl.report.axis import Scale, ticks
from gridctl.report.drawing import figure, legend, moment_labels, picture, swatch, words
from gridctl.report.markup import Markup, element, joined, number

PART_NAMES = {
    "gpu_busy_usd": "GPUs, busy",
    "gpu_idle_usd": "GPUs, idle",
    "serverless_usd": "serverless",
    "egress_usd": "egress",
    "fallback_usd": "API fallback",
    "energy_usd": "energy",
}
_CLASSES = dict(zip(PARTS, ("busy", "idle", "serverless", "egress", "fallback", "energy"), strict=True))
_WIDTH, _LEFT, _RIGHT, _BAR, _STEP = 720.0, 80.0, 70.0, 16.0, 24.0


def stack_chart(stacks: Sequence[CostStack]) -> Markup:
    """The runs one under another, a bar per tier."""
    longest = max((tier.usd for stack in stacks for tier in stack.tiers), default=0.0)
    marks = ticks(longest, 5)
    scale = Scale(0.0, marks[-1], _LEFT, _WIDTH - _RIGHT)
    y, parts, told = 16.0, [], []
    for stack in stacks:
        parts.append(words(0, y, f"{stack.run}: ${usd_text(stack.usd)}", "key"))
        y += 8
        for tier in stack.tiers:
            parts.append(_bar(tier, scale, y))
            y += _STEP
        y += 18
        told.append(f"{stack.run} cost ${usd_text(stack.usd)}: {_words(stack)}")
    parts.append(moment_labels(scale, [(value, f"${value:g}") for value in marks], y - 12))
    used = [part for part in PARTS if any(tier.parts_usd[part] for stack in stacks for tier in stack.tiers)]
    drawn = picture("stack", "Cost by tier", ". ".join(told) + ".", _WIDTH, y + 12, *parts)
    key = legend([(swatch(f"f-{_CLASSES[part]}"), PART_NAMES[part]) for part in used])
    framed = element(
        "div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": "Cost by tier, wide"},
        element("div", {"class": "wide"}, drawn),
    )  # fmt: skip
    return figure("Dollars by tier", "All bars share one scale.", framed, key)


def _bar(tier: TierCost, scale: Scale, y: float) -> Markup:
    parts, spent = [words(_LEFT - 6, y + 12, tier.tier, "end")], 0.0
    for part in PARTS:
        usd = tier.parts_usd[part]
        left, right = scale.at(spent), scale.at(spent + usd)
        spent += usd
        if right - left < 0.05:
            continue
        box = {"x": number(left), "y": number(y), "width": number(right - left), "height": number(_BAR)}
        title = element("title", None, f"{tier.tier}, {PART_NAMES[part]}: ${usd_text(usd)}")
        parts.append(element("rect", {"class": f"f-{_CLASSES[part]} seg", **box}, title))
    return joined(*parts, words(scale.at(spent) + 6, y + 12, f"${usd_text(tier.usd)}"))


def _words(stack: CostStack) -> str:
    return ", ".join(f"{tier.tier} {share_text(tier.usd / stack.usd if stack.usd else None)}" for tier in stack.tiers)
