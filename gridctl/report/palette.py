"""Palette: every colour of the report, by light and dark.

Decides colours; each has a role, and tests hold the roles to WCAG 2.2: text on its ground at least 4.5:1 (1.4.3), marks
that carry meaning at least 3:1 (1.4.11). No meaning is in a colour alone: a shape, a pattern or a word goes with it.
"""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f5f7f9",
    "ink": "#1b1f24",
    "muted": "#57606a",
    "rule": "#d0d7de",
    "land": "#b3bfcb",
    "link": "#0b57a4",
    "good": "#1a7f37",
    "fair": "#8f5f00",
    "bad": "#b4232a",
    "busy": "#1f5fbf",
    "idle": "#7d8793",
    "serverless": "#0f7b6c",
    "egress": "#7a3e9d",
    "fallback": "#b4450e",
    "energy": "#8f5f00",
}
DARK = {
    "paper": "#0f1318",
    "panel": "#181e25",
    "ink": "#e6eaef",
    "muted": "#9ba7b4",
    "rule": "#333c46",
    "land": "#46535f",
    "link": "#79b8ff",
    "good": "#46b85a",
    "fair": "#dba22f",
    "bad": "#ff8179",
    "busy": "#6ea8fe",
    "idle": "#7f8b99",
    "serverless": "#3fb8a5",
    "egress": "#c297e8",
    "fallback": "#f0883e",
    "energy": "#dba22f",
}
TEXT_ROLES = ("ink", "muted", "link", "good", "fair", "bad")
"""Roles that colour words, on `paper` and on `panel`."""

MARK_ROLES = ("good", "fair", "bad", "busy", "idle", "serverless", "egress", "fallback", "energy", "muted")
"""Roles that colour marks with a meaning, on `paper`."""


def variables(palette: dict[str, str]) -> str:
    """The palette as CSS custom properties.

    >>> variables({"ink": "#000000"})
    '--ink:#000000'
    """
    return ";".join(f"--{role}:{color}" for role, color in palette.items())


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21. Source: WCAG 2.2, "contrast ratio" and "relative luminance".

    >>> round(contrast("#000000", "#ffffff"), 1)
    21.0
    """
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
