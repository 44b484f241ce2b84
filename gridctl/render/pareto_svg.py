"""The front as an SVG file: static, self-contained, for light and dark, readable without seeing it.

Decides the drawing. Dominated scenarios are circles, those on the front are diamonds with their letters, joined by the
steps below which nothing lies: shape and letter say it, colour only repeats it. Every point has a title for a pointer,
and the description lists the front in words. Text from outside is escaped. The same rows make the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gridctl.accounts.pareto import SweepRow
from gridctl.render.cell import visible
from gridctl.render.pareto import X_TITLE, Y_TITLE, description, letters, spans
from gridctl.render.scatter import Span

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 78, 22, 46, 62
MOST_DESCRIBED = 40
STYLE = """\
:root { color-scheme: light dark }
.paper { fill: #ffffff }
.ink { fill: #1a1f24 }
.quiet { fill: #56606b }
.grid { stroke: #d9dee3; stroke-width: 1 }
.axis { stroke: #56606b; stroke-width: 1 }
.beaten { fill: none; stroke: #56606b; stroke-width: 1.4 }
.front { fill: #0b5cad; stroke: #ffffff; stroke-width: 1 }
.steps { fill: none; stroke: #0b5cad; stroke-width: 1.6; stroke-dasharray: 5 4 }
text { font: 13px system-ui, sans-serif }
.name { font-weight: 600; font-size: 15px }
@media (prefers-color-scheme: dark) {
  .paper { fill: #14181c }
  .ink { fill: #eef1f4 }
  .quiet { fill: #a7b1bb }
  .grid { stroke: #2c343c }
  .axis, .beaten { stroke: #a7b1bb }
  .front { fill: #6db3ff; stroke: #14181c }
  .steps { stroke: #6db3ff }
}
"""


def pareto_svg(name: str, rows: Sequence[SweepRow]) -> str:
    """The picture as the text of an SVG file; without a scenario that has a cost, a frame that says so."""
    drawn = [row for row in rows if row.numbers is not None and row.numbers.usd_per_mtok_goodput is not None]
    front = sorted((row for row in drawn if row.on_front), key=lambda row: (_at(row), row.scenario))
    title = _text(f"Sweep {name}: cost against SLA attainment")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title desc">',
        f'<title id="title">{title}</title>',
        f'<desc id="desc">{_text(_told(rows, drawn, front))}</desc>',
        f"<style>\n{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="ink name" x="{LEFT}" y="24">{title}</text>',
    ]
    if drawn:
        x, y = spans(rows)
        parts += [*_axes(x, y), *_points(rows, drawn, front, x, y)]
    else:
        parts.append(f'<text class="ink" x="{LEFT}" y="{HEIGHT // 2}">No scenario answered anybody in time.</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(text: str) -> str:
    return escape(visible(text))


def _at(row: SweepRow) -> tuple[float, float]:
    assert row.numbers is not None, "only scenarios with numbers are drawn"
    return row.numbers.usd_per_mtok_goodput or 0.0, row.numbers.attainment or 0.0


def _told(rows: Sequence[SweepRow], drawn: Sequence[SweepRow], front: Sequence[SweepRow]) -> str:
    marks = letters(rows)
    listed = "; ".join(f"{marks[row.scenario]}: {description(row)}" for row in front[:MOST_DESCRIBED])
    more = f"; and {len(front) - MOST_DESCRIBED} more" if len(front) > MOST_DESCRIBED else ""
    return f"{X_TITLE} across, {Y_TITLE} upward, {len(drawn)} scenarios. Beaten by no other: {listed}{more}."


def _x(span: Span, value: float) -> float:
    return round(LEFT + span.share(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(span: Span, value: float) -> float:
    return round(HEIGHT - BOTTOM - span.share(value) * (HEIGHT - TOP - BOTTOM), 1)


def _axes(x: Span, y: Span) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in y.steps(6):
        at = _y(y, value)
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{right}"/>')
        parts.append(
            f'<text class="quiet" x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{_text(y.reads(value))}</text>'
        )
    for value in x.steps(8):
        at = _x(x, value)
        parts.append(f'<path class="grid" d="M{at} {TOP}V{bottom}"/>')
        parts.append(
            f'<text class="quiet" x="{at}" y="{bottom + 18}" text-anchor="middle">{_text(x.reads(value))}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}" fill="none"/>')
    middle = (LEFT + right) / 2
    scale = " (logarithmic)" if x.is_log else ""
    parts.append(f'<text class="ink" x="{middle}" y="{HEIGHT - 18}" text-anchor="middle">{X_TITLE}{scale}</text>')
    upward = (TOP + bottom) / 2
    parts.append(
        f'<text class="ink" transform="translate(18 {upward}) rotate(-90)" text-anchor="middle">{Y_TITLE}</text>'
    )
    return parts


def _points(
    rows: Sequence[SweepRow], drawn: Sequence[SweepRow], front: Sequence[SweepRow], x: Span, y: Span
) -> list[str]:
    marks = letters(rows)
    parts = []
    for row in drawn:
        if not row.on_front:
            cost, attained = _at(row)
            told = _text(description(row))
            parts.append(
                f'<circle class="beaten" cx="{_x(x, cost)}" cy="{_y(y, attained)}" r="4"><title>{told}</title></circle>'
            )
    steps = ""
    for row in front:
        cost, attained = _at(row)
        steps += f"M{_x(x, cost)} {_y(y, attained)}" if not steps else f"H{_x(x, cost)}V{_y(y, attained)}"
    if len(front) > 1:
        parts.append(f'<path class="steps" d="{steps}"/>')
    for row in front:
        cost, attained = _at(row)
        across, down = _x(x, cost), _y(y, attained)
        told = _text(f"{marks[row.scenario]}: {description(row)}")
        diamond = f"M{across} {round(down - 7, 1)}l7 7l-7 7l-7 -7z"
        parts.append(f'<path class="front" d="{diamond}"><title>{told}</title></path>')
        parts.append(
            f'<text class="ink" x="{round(across + 9, 1)}" y="{round(down - 7, 1)}">{marks[row.scenario]}</text>'
        )
    return parts
