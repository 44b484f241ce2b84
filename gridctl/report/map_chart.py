"""Map: the places of a run on the globe, by how good their requests were.

Decides symbols and the view. No coastline is drawn: the cities of the gazetteer, the populous ones, show where land is.
A symbol's shape tells its class as its colour does: a dot, a square, a target. Thousands of places cost one path per
class, a few bytes each. Source of the cities: GeoNames (CC BY 4.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gridctl.accounts.by_place import PlaceShare
from gridctl.geography.place import Place
from gridctl.render.account import share_text
from gridctl.render.cell import visible
from gridctl.report.drawing import figure, legend, picture, words
from gridctl.report.markup import Markup, element, joined, number
from gridctl.report.projection import View, fitted

GOOD_SHARE, FAIR_SHARE = 0.99, 0.95
CLASSES = ("good", "fair", "bad")
CLASS_NAMES = {"good": "at least 99 % good", "fair": "95 to 99 % good", "bad": "below 95 % good"}
MOST_PLACES = 5_000
"""Places drawn and findable; of more, those with most requests."""

MOST_CITIES = 4_000
MOST_LABELS = 12
SMALL_FROM = 300
"""Places from which on symbols are small."""
_WIDTH = 960.0
_LOWEST, _HIGHEST = 380.0, 620.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the map: what came from there, what was served there, either of which may be nothing."""

    name: str
    lat: float
    lon: float
    origin: PlaceShare | None
    site: PlaceShare | None

    @property
    def attainment(self) -> float:
        """What its users got; at a place without users, what it served."""
        share = self.origin or self.site
        assert share is not None, "a spot has a share"
        return share.attainment

    @property
    def requests(self) -> int:
        return sum(share.requests for share in (self.origin, self.site) if share)


def class_of(attainment: float) -> str:
    """The class of a share of good requests.

    >>> [class_of(share) for share in (1.0, 0.99, 0.98, 0.2)]
    ['good', 'good', 'fair', 'bad']
    """
    return "good" if attainment >= GOOD_SHARE else "fair" if attainment >= FAIR_SHARE else "bad"


def spots_of(
    origins: Sequence[PlaceShare], sites: Sequence[PlaceShare], places: Mapping[str, Place]
) -> tuple[list[Spot], int]:
    """Every place whose position is known, and how many are not; of too many, those with most requests."""
    by_name = {share.name: share for share in origins}
    served = {share.name: share for share in sites}
    names = sorted(by_name.keys() | served.keys())
    spots = [
        Spot(name, places[name].lat, places[name].lon, by_name.get(name), served.get(name))
        for name in names
        if name in places
    ]
    unplaced = len(names) - len(spots)
    if len(spots) > MOST_PLACES:
        spots = sorted(spots, key=lambda spot: (-spot.requests, spot.name))[:MOST_PLACES]
    return spots, unplaced


def map_chart(spots: Sequence[Spot], unplaced: int) -> Markup:
    """The map, what its symbols mean, and the tools that the script turns on."""
    view = fitted([(spot.lat, spot.lon) for spot in spots], _WIDTH, _LOWEST, _HIGHEST)
    at = {spot.name: view.at(spot.lat, spot.lon) for spot in spots}
    parts = [
        element("path", {"class": "rule", "d": _graticule(view)}),
        element("path", {"class": "dots land", "d": _dots(_cities(view), 0)}),
        _frames([at[spot.name] for spot in spots if spot.site]),
        *(
            _symbols(
                name, [at[s.name] for s in spots if class_of(s.attainment) == name], is_small=len(spots) > SMALL_FROM
            )
            for name in CLASSES
        ),
        *_labels(spots, at, view),
        element("circle", {"class": "ring", "id": "map-ring", "visibility": "hidden", "r": 11}),
    ]
    told = _told(spots, unplaced)
    drawn = picture("map", "Map of places by share of good requests", told, view.width, view.height, *parts)
    step = _graticule_step(view)
    notes = element("p", {"class": "by"}, f"Grey dots are cities (GeoNames, CC BY 4.0); lines are {step}° apart.")
    return figure("Places, by what their users got", told, _tools(), drawn, _key(), notes, _data(spots, at))


def _told(spots: Sequence[Spot], unplaced: int) -> str:
    counts = {name: sum(class_of(spot.attainment) == name for spot in spots) for name in CLASSES}
    text = "; ".join(f"{CLASS_NAMES[name]}: {count:,}" for name, count in counts.items() if count)
    missing = f" Not on the map, because the grid no longer knows where they are: {unplaced:,}." if unplaced else ""
    return f"{len(spots):,} places; {text}.{missing}"


def _key() -> Markup:
    marks = [(_symbols(name, [(8.0, 8.0)]), CLASS_NAMES[name]) for name in CLASSES]
    return legend([*marks, (_frames([(8.0, 8.0)]), "framed: serves requests")])


def _symbols(name: str, points: Sequence[tuple[float, float]], *, is_small: bool = False) -> Markup:
    """One class: layers of strokes of no length, round or square."""
    path = _dots(points)
    if not path:
        return Markup("")
    layers = {
        "good": (("dots", "s-good", "w5" if is_small else "w9"),),
        "fair": (("squares", "s-fair", "w5" if is_small else "w7"),),
        "bad": (
            ("dots", "s-bad", "w7" if is_small else "w11"),
            ("dots", "s-paper", "w4" if is_small else "w7"),
            ("dots", "s-bad", "w2" if is_small else "w3"),
        ),
    }[name]
    return joined(*(element("path", {"class": " ".join(layer), "d": path}) for layer in layers))


def _frames(points: Sequence[tuple[float, float]]) -> Markup:
    """A square frame around each place that serves."""
    path = _dots(points)
    if not path:
        return Markup("")
    return joined(
        element("path", {"class": "squares s-ink w13", "d": path}),
        element("path", {"class": "squares s-paper w11", "d": path}),
    )


def _labels(spots: Sequence[Spot], at: Mapping[str, tuple[float, float]], view: View) -> list[Markup]:
    """The names of the sites that serve, where they are few enough to be told apart."""
    serving = [spot for spot in spots if spot.site]
    if len(serving) > MOST_LABELS:
        return []
    found = []
    for spot in serving:
        x, y = at[spot.name]
        is_right = x > view.width * 0.8
        found.append(words(x - 12 if is_right else x + 12, y + 4, spot.name, "key end" if is_right else "key"))
    return found


def _dots(points: Iterable[tuple[float, float]], digits: int = 1) -> str:
    """Path data of a dot at each point, none of them twice."""
    rounded = dict.fromkeys((round(x, digits), round(y, digits)) for x, y in points)
    return "".join(f"M{number(x)} {number(y)}h0" for x, y in rounded)


def _cities(view: View) -> list[tuple[float, float]]:
    """The most populous cities in view, a couple of units apart."""
    from gridctl.geography.cities import all_cities

    seen: dict[tuple[int, int], tuple[float, float]] = {}
    for city in all_cities():
        x, y = view.at(city.lat, city.lon)
        if view.holds(x, y):
            seen.setdefault((int(x / 3), int(y / 3)), (x, y))
            if len(seen) == MOST_CITIES:
                break
    return list(seen.values())


def _graticule_step(view: View) -> int:
    """Degrees between two lines: closer on a map of less."""
    across = view.width / view.scale
    return 30 if across > 120 else 10 if across > 15 else 1


def _graticule(view: View) -> str:
    """Meridians and parallels."""
    step = _graticule_step(view)
    lines = []
    for lat in range(-90, 91, step):
        y = view.at(lat, view.center_lon)[1]
        if 0 < y < view.height:
            lines.append(f"M0 {number(y)}H{number(view.width)}")
    for lon in range(-180, 180, step):
        x = view.at(view.center_lat, lon)[0]
        if 0 < x < view.width:
            lines.append(f"M{number(x)} 0V{number(view.height)}")
    return "".join(lines)


def _tools() -> Markup:
    buttons = (
        ("in", "+", "Zoom in"),
        ("out", "−", "Zoom out"),
        ("all", "whole map", "Show the whole map"),
        ("west", "←", "Move west"),
        ("east", "→", "Move east"),
        ("north", "↑", "Move north"),
        ("south", "↓", "Move south"),
    )
    find = element("label", None, "Find a place", element("input", {"id": "map-find", "type": "search"}))
    return element(
        "div",
        {"class": "tools", "id": "map-tools", "hidden": True},
        find,
        *(
            element("button", {"type": "button", "data-step": step, "aria-label": label}, text)
            for step, text, label in buttons
        ),
        element("output", {"id": "map-said", "aria-live": "polite"}),
    )


def _data(spots: Sequence[Spot], at: Mapping[str, tuple[float, float]]) -> Markup:
    """What the script tells of each place: JSON that holds no character HTML could take for its own."""
    rows = [[visible(s.name), *(round(v, 1) for v in at[s.name]), spot_text(s)] for s in spots]
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", {"type": "application/json", "id": "map-data"}, Markup(text))


def spot_text(spot: Spot) -> str:
    """A place in words."""
    parts = []
    if spot.origin:
        parts.append(f"{spot.origin.requests:,} from here, {share_text(spot.origin.attainment)} good")
    if spot.site:
        parts.append(f"{spot.site.requests:,} served here, {share_text(spot.site.attainment)} good")
    return "; ".join(parts)
