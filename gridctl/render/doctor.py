"""The doctor's findings as text, readable at 80 columns: the verdict first, the fix under what it fixes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping

from gridctl.render.cell import visible
from gridctl.render.health import Style, plain

USUAL_WIDTH = 80
NARROWEST = 40
_VERDICT = 5
_STYLES: dict[str, Style] = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


def findings_text(
    findings: Iterable[Mapping[str, object]], width: int | None = None, paint: Callable[[str, Style], str] = plain
) -> str:
    """The findings, each on as many lines as it needs; `width` is the terminal's, None: 80."""
    rows = [{name: visible(str(value or "")) for name, value in finding.items()} for finding in findings]
    names = max((len(row["check"]) for row in rows), default=0)
    indent = " " * (_VERDICT + 1 + names + 2)
    columns = max(NARROWEST, width or USUAL_WIDTH)
    lines = []
    for row in rows:
        head = f"{row['verdict']:<{_VERDICT}} {row['check']:<{names}}  "
        told = textwrap.wrap(row["found"], columns - len(indent), break_on_hyphens=False) or [""]
        lines.append(paint(head[:_VERDICT], _STYLES[row["verdict"]]) + head[_VERDICT:] + told[0])
        lines += [indent + line for line in told[1:]]
        if row["fix"]:
            fix = textwrap.wrap(f"fix: {row['fix']}", columns - len(indent), subsequent_indent="     ",
                                break_on_hyphens=False)  # fmt: skip
            lines += [indent + line for line in fix]
    return "".join(f"{line.rstrip()}\n" for line in lines)
