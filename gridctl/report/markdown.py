"""Markdown: a run's report as plain text for a pull request, a wiki or a mail.

Decides the order; tables are those of `tokenomics` and `sla -o markdown`. Invariant: no name becomes markup.
"""

from __future__ import annotations

import re

from gridctl.render import gates, sla, tokenomics
from gridctl.render.account import count_text, share_text
from gridctl.render.cell import visible
from gridctl.render.rows import Column, Item, render_rows
from gridctl.render.time import utc_text
from gridctl.report.content import Report
from gridctl.report.wording import sentences

MOST_PLACES = 10
_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown(report: Report) -> str:
    """The report as Markdown, ended by a newline."""
    parts = [f"# Run {escaped(report.info.name)}\n", f"Replayed {utc_text(report.made_ns)}.\n"]
    parts += [f"{escaped(text)}\n" for text in sentences(report)]
    if report.info.notes:
        parts.append("".join(f"- {escaped(note)}\n" for note in report.info.notes))
    if report.gates is not None:
        parts += ["## Gates\n", gates.text(report.gates, "markdown", gates.MARKS)]
    parts += ["## Tokenomics\n", _tokenomics(report), "## SLA\n", _sla(report)]
    parts += ["## Places of origin with most bad requests\n", _places(report)] if _lost(report) else []
    lines = "".join(f"    {visible(line)}\n" for line in (*report.commands, f"# {report.info.digest}"))
    parts += ["## How to make it again\n", lines]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Text that cannot start markup.

    >>> escaped("a_b <script>*")
    'a\\\\_b &lt;script&gt;\\\\*'
    """
    return _SPECIAL.sub(r"\\\1", visible(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _tokenomics(report: Report) -> str:
    other = report.beside[0].comparisons if report.beside else ()
    drawn = None if report.drawn is None else tokenomics.Drawn(report.drawn.ensemble, report.drawn.tokenomics)
    return tokenomics.text(report.tokenomics, other, "markdown", drawn)


def _sla(report: Report) -> str:
    found = report.drawn
    drawn = None if found is None else sla.Drawn(found.ensemble, found.total, found.promises, ())
    return sla.text(report.sla, report.sla.workloads, (), report.worst[:MOST_PLACES], "markdown", drawn)


def _lost(report: Report) -> list[Item]:
    """Places whose users had bad requests, most first."""
    lost = [share for share in report.origins if share.good < share.requests]
    lost.sort(key=lambda share: (share.good - share.requests, share.name))
    return [
        {
            "name": share.name,
            "requests": share.requests,
            "bad": share.requests - share.good,
            "attainment": share.attainment,
            "main_cause": share.main_cause,
        }
        for share in lost[:MOST_PLACES]
    ]


def _places(report: Report) -> str:
    columns = (
        Column("name", "place"),
        Column("requests", "requests", align="right", text=count_text),
        Column("bad", "bad", align="right", text=count_text),
        Column("attainment", "good", align="right", text=share_text),
        Column("main_cause", "cause"),
    )
    return render_rows(_lost(report), columns, "markdown", kind="PlaceList")
