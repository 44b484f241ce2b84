"""Page: a report as one HTML file that needs nothing else and loads nothing.

Decides the frame: landmarks, the table of contents, and the content security policy, which allows this very style sheet
and this very script by their hashes and no other resource whatsoever. Invariant: the same report makes the same bytes.
"""

from __future__ import annotations

import base64
import hashlib

from gridctl.render.time import utc_text
from gridctl.report.content import Report
from gridctl.report.markup import Markup, element, joined
from gridctl.report.script import SCRIPT
from gridctl.report.sections import sections
from gridctl.report.style import style_sheet


def page(report: Report) -> str:
    """The report as HTML, ended by a newline."""
    parts = sections(report)
    contents = element(
        "nav",
        {"aria-label": "Contents"},
        element("ul", None, *(element("li", None, _link(part.name, part.title)) for part in parts)),
    )
    body = [
        element(
            "section",
            {"aria-labelledby": f"{part.name}-h"},
            element("h2", {"id": f"{part.name}-h"}, part.title),
            part.body,
        )
        for part in parts
    ]
    whole = element(
        "html",
        {"lang": "en"},
        _head(report),
        element(
            "body",
            None,
            element("a", {"class": "skip", "href": "#main"}, "Skip to the report"),
            _header(report),
            contents,
            element("main", {"id": "main", "tabindex": "-1"}, *body),
            _footer(report),
            element("script", None, Markup(SCRIPT)),
        ),
    )
    return f"<!doctype html>\n{whole}\n"


def content_policy(style: str, script: str) -> str:
    """What the page may load: nothing but what is in it. Source: W3C, Content Security Policy Level 3, hash sources."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _head(report: Report) -> Markup:
    style = style_sheet()
    return element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": Markup(content_policy(style, SCRIPT))}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("title", None, f"Run {report.info.name}: gridctl report"),
        element("style", None, Markup(style)),
    )


def _header(report: Report) -> Markup:
    info = report.info
    against = f", beside {report.compared.name}" if report.compared else ""
    told = f"Trace {info.trace}, policy {info.policy}{against}. Replayed {utc_text(report.made_ns)}."
    return element("header", None, element("h1", None, f"Run {info.name}"), element("p", {"class": "by"}, told))


def _footer(report: Report) -> Markup:
    told = f"Made by gridctl {report.info.gridctl_version}. This page loads nothing and sends nothing."
    return element("footer", None, element("p", None, told))


def _link(name: str, title: str) -> Markup:
    return joined(element("a", {"href": f"#{name}-h"}, title))
