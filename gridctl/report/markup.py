"""Markup: HTML and SVG as text in which nothing from outside can be anything but text.

Decides escaping and nothing else. Invariant: only what this module or a literal of ours made is `Markup`; every other
string is escaped on its way in, in content and in attributes alike, and control and direction characters are shown as
escapes, so that a site's name can neither run nor disguise anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from gridctl.render.cell import visible

_VOID = frozenset(("meta", "br", "input", "link"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Markup | None
Attributes = Mapping[str, object]


def escape(text: object) -> Markup:
    """Any value as harmless text, in content and in quoted attributes.

    >>> escape('<b title="a&b">')
    '&lt;b title=&quot;a&amp;b&quot;&gt;'
    """
    if isinstance(text, Markup):
        return text
    shown = visible(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(shown.replace('"', "&quot;").replace("'", "&#39;"))


def element(name: str, attributes: Attributes | None = None, *children: Content) -> Markup:
    """An element; an attribute that is None or False is left out, True stands without a value.

    >>> element("p", {"class": "a", "hidden": True, "id": None}, "1 < 2")
    '<p class="a" hidden>1 &lt; 2</p>'
    """
    said = "".join(
        f" {key}" if value is True else f' {key}="{escape(value)}"'
        for key, value in (attributes or {}).items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*parts: Content) -> Markup:
    """Parts one after another; None is nothing."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def number(value: float) -> str:
    """A coordinate, to a tenth, in as few characters as it takes.

    >>> number(12.04), number(-0.01), number(7.5)
    ('12', '0', '7.5')
    """
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text in ("-0", "0") else text
