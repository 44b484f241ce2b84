"""The doctor's findings fit a terminal of 80 columns and lose no word."""

from __future__ import annotations

import pytest

from gridctl.render.doctor import findings_text

FINDINGS = [
    {"check": "python", "verdict": "OK", "found": "gridctl 0.1.0", "fix": ""},
    {
        "check": "open files",
        "verdict": "WARN",
        "found": " ".join(["few"] * 40),
        "fix": "raise it: ulimit -Hn 65536 " * 5,
    },
    {"check": "engines", "verdict": "FAIL", "found": "x" * 200 + "\x1b[31m", "fix": "start it"},
]


@pytest.mark.parametrize("width", [None, 80, 60, 10])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int | None) -> None:
    text = findings_text(FINDINGS, width)
    most = max(40, width or 80)
    assert all(len(line) <= most for line in text.splitlines())
    assert text.count("few") == 40
    assert text.count("ulimit") == 5
    assert text.count("x") >= 200
    assert "\x1b" not in text
    firsts = [line[:5].strip() for line in text.splitlines() if not line.startswith(" ")]
    assert firsts == ["OK", "WARN", "FAIL"]


def test_colour_is_on_the_verdict_alone() -> None:
    text = findings_text(FINDINGS[:1], 80, lambda words, style: f"<{style}>{words}</>")
    assert text == "<green>OK   </> python  gridctl 0.1.0\n"
