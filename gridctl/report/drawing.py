"""Drawing: the SVG that all charts share: a named picture, its grid lines and the words at its axes.

Decides sizes and the accessible name. Every picture has a title and a description that say in words what it shows, so
that nobody needs to see it. Must not know runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridctl.report.axis import Scale
from gridctl.report.markup import Content, Markup, element, joined, number

WIDTH, HEIGHT = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 10.0, 30.0


def picture(name: str, title: str, description: str, width: float, height: float, *parts: Content) -> Markup:
    """An SVG with a name and a description. `name` is its id; it must be unique on the page."""
    attributes = {
        "id": name,
        "role": "img",
        "aria-labelledby": f"{name}-t {name}-d",
        "viewBox": f"0 0 {number(width)} {number(height)}",
    }
    named = (element("title", {"id": f"{name}-t"}, title), element("desc", {"id": f"{name}-d"}, description))
    return element("svg", attributes, *named, *parts)


def figure(title: str, note: str, *parts: Content) -> Markup:
    """A picture under its caption."""
    return element("figure", None, element("figcaption", None, title, element("span", None, note)), *parts)


def legend(entries: Sequence[tuple[Markup, str]]) -> Markup:
    """What the marks mean, a mark and its words each. Marks are drawn in 16 × 16 units."""
    return element(
        "ul",
        {"class": "legend"},
        *(
            element("li", None, element("svg", {"viewBox": "0 0 16 16", "aria-hidden": "true"}, mark), words)
            for mark, words in entries
        ),
    )


def swatch(css_class: str) -> Markup:
    """A filled square for a legend."""
    return element("rect", {"class": css_class, "x": 2, "y": 2, "width": 12, "height": 12})


def stroke(css_class: str) -> Markup:
    """A line for a legend."""
    return element("path", {"class": css_class, "d": "M1 8h14"})


def words(x: float, y: float, text: str, css_class: str | None = None) -> Markup:
    """Text at a point."""
    return element("text", {"x": number(x), "y": number(y), "class": css_class}, text)


def level_lines(scale: Scale, labels: Sequence[tuple[float, str]], left: float, right: float) -> Markup:
    """Horizontal grid lines with their numbers at the left."""
    lines = "".join(f"M{number(left)} {number(scale.at(value))}H{number(right)}" for value, _ in labels)
    texts = (words(left - 5, scale.at(value) + 4, text, "end") for value, text in labels)
    return joined(element("path", {"class": "rule", "d": lines}), *texts)


def moment_labels(scale: Scale, labels: Sequence[tuple[float, str]], y: float) -> Markup:
    """Words along the bottom, with a tick each."""
    marks = "".join(f"M{number(scale.at(value))} {number(y)}v4" for value, _ in labels)
    texts = (words(scale.at(value), y + 16, text, "mid") for value, text in labels)
    return joined(element("path", {"class": "axis", "d": marks}), *texts)


def stairs(edges: Sequence[float], heights: Sequence[float]) -> str:
    """Path data of steps: `heights[i]` from `edges[i]` to `edges[i + 1]`."""
    steps = [f"M{number(edges[0])} {number(heights[0])}"]
    for index, height in enumerate(heights):
        if index and height != heights[index - 1]:
            steps.append(f"V{number(height)}")
        steps.append(f"H{number(edges[index + 1])}")
    return "".join(steps)


def area(edges: Sequence[float], heights: Sequence[float], ground: float) -> str:
    """Path data of what lies between steps and the ground."""
    return f"{stairs(edges, heights)}V{number(ground)}H{number(edges[0])}z" if heights else ""
