"""Fits the round-trip model and its jitter to measured city pairs, and says how wrong it is on cities it never saw.

    python tests/bench/fit_rtt.py MEASURED CITIES      # cross-validated error to stderr, the constants to stdout

Four levels of least absolute deviations, each by iteratively reweighted least squares: one line over all pairs; for
each pair of regions a line (within a region, four segments) shrunk towards it; for each pair of areas a deviation
from that, and for each country what it adds at its end, both shrunk towards none. Slopes stay at least `MIN_SLOPE`,
so time grows with distance.

Cross-validation is by city: cities are dealt into `FOLDS` groups; every two groups in turn are left out of the fit
with each measurement that touches them, and the pairs between them predicted from the rest. So each measured pair is
predicted once, by a fit that has seen neither of its cities.
"""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.geography.place import distance_km
from gridctl.network.areas import area_of, pair_key, region_of_area
from gridctl.network.measured import MeasuredPair, read_cities, read_pairs

Floats = NDArray[np.float64]
Line = tuple[float, ...]

FOLDS = 7
MIN_SLOPE = 5.0  # ms per 1,000 km
KNOTS_KM = (0.0, 100.0, 500.0, 2000.0)
FIBRE_MS_PER_KM = 0.01
SHRINK_REGION, SHRINK_INTERCEPT, SHRINK_SLOPE, SHRINK_COUNTRY = 0.1, 0.03, 1.0, 10.0
QUANTILES = (0.005, 0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.975, 0.995)


@dataclass(frozen=True)
class Pairs:
    """Measured pairs, both directions of a pair averaged. Arrays of shape (n,)."""

    source: NDArray[Any]
    target: NDArray[Any]
    areas: NDArray[Any]
    regions: NDArray[Any]
    country_a: NDArray[Any]
    country_b: NDArray[Any]
    km: Floats
    rtt_ms: Floats

    def take(self, chosen: NDArray[Any]) -> Pairs:
        return Pairs(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


@dataclass(frozen=True)
class Model:
    """The fitted lines: `base` over everything, (intercept, slope) or (intercept, four slopes) by region pair,
    (intercept, slope) deviations by area pair, and milliseconds by country, once for each end."""

    base: Line
    regions: dict[str, Line]
    areas: dict[str, Line]
    countries: dict[str, float]

    def predict(self, pairs: Pairs) -> Floats:
        ends = np.array([self.countries.get(a, 0.0) + self.countries.get(b, 0.0) for a, b in countries_of(pairs)])
        return np.maximum(self.lines(pairs) + ends, FIBRE_MS_PER_KM * pairs.km)

    def lines(self, pairs: Pairs) -> Floats:
        """The estimate without the countries' shares and the floor."""
        out = np.empty(len(pairs.km))
        for key in np.unique(pairs.areas):
            chosen = pairs.areas == key
            region = region_pair(key)
            line = np.array(self.regions.get(region, self.base))
            deviation = np.array(self.areas.get(key, (0.0, 0.0)))
            km = pairs.km[chosen]
            out[chosen] = features(km, len(line)) @ line + features(km, 2) @ deviation
        return out


def countries_of(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.country_a.tolist(), pairs.country_b.tolist(), strict=True))


def region_pair(areas: str) -> str:
    a, b = (region_of_area(area) for area in areas.split("|"))
    return pair_key(a, b)


def load(measured: Path, cities: Path) -> tuple[Pairs, list[MeasuredPair]]:
    """Pairs whose coordinates are not suspect, both directions averaged, and the measurements themselves."""
    places = {name: city.place for name, city in read_cities(cities).items() if not city.is_suspect}
    measurements = read_pairs(measured)
    both: dict[tuple[str, str], list[float]] = {}
    for m in measurements:
        if m.source in places and m.target in places:
            both.setdefault((min(m.source, m.target), max(m.source, m.target)), []).append(m.rtt_ms)
    names = sorted(both)
    area = {name: area_of(place.country, place.lon) for name, place in places.items()}
    areas = [pair_key(area[a], area[b]) for a, b in names]
    return Pairs(
        source=np.array([a for a, _ in names]),
        target=np.array([b for _, b in names]),
        areas=np.array(areas),
        regions=np.array([region_pair(key) for key in areas]),
        country_a=np.array([places[a].country for a, _ in names]),
        country_b=np.array([places[b].country for _, b in names]),
        km=np.array([distance_km(places[a], places[b]) for a, b in names]),
        rtt_ms=np.array([sum(both[pair]) / len(both[pair]) for pair in names]),
    ), measurements


def features(km: Floats, width: int) -> Floats:
    """Columns of a line (width 2) or of four segments (width 5), distances in 1,000 km."""
    if width == 2:
        return np.stack([np.ones_like(km), km / 1000], axis=1)
    ends = (*KNOTS_KM[1:], np.inf)
    segments = [np.clip(km - low, 0, high - low) / 1000 for low, high in zip(KNOTS_KM, ends, strict=True)]
    return np.stack([np.ones_like(km), *segments], axis=1)


def least_absolute(x: Floats, y: Floats, shrink: Floats, toward: Floats, floor: Floats) -> Floats:
    """argmin Σ|y − xβ| + Σ shrink·(β − toward)², with β ≥ floor: coefficients that would fall below stay on it."""
    fixed = np.zeros(x.shape[1], dtype=bool)
    beta = toward.copy()
    for _ in range(x.shape[1] + 1):
        free = ~fixed
        for _ in range(60):
            weight = 1 / np.maximum(np.abs(y - x @ beta), 0.5)
            rest = y - x[:, fixed] @ beta[fixed]
            gram = x[:, free].T @ (x[:, free] * weight[:, None]) + np.diag(shrink[free])
            solved = np.linalg.solve(gram, x[:, free].T @ (weight * rest) + shrink[free] * toward[free])
            step = np.abs(solved - beta[free]).max()
            beta[free] = solved
            if step < 1e-3:
                break
        low = free & (beta < floor)
        if not low.any():
            break
        beta[low] = floor[low]
        fixed |= low
    return beta


def fit(pairs: Pairs) -> Model:
    """The three levels."""
    anywhere = np.array([-np.inf, MIN_SLOPE])
    base = least_absolute(features(pairs.km, 2), pairs.rtt_ms, np.zeros(2), np.array([20.0, 17.0]), anywhere)
    regions, areas = {}, {}
    for region in np.unique(pairs.regions):
        inside = pairs.take(pairs.regions == region)
        a, b = region.split("|")
        width = 5 if a == b else 2
        toward = np.array([base[0], *[base[1]] * (width - 1)])
        floor = np.array([-np.inf, *[MIN_SLOPE] * (width - 1)])
        line = least_absolute(
            features(inside.km, width), inside.rtt_ms, np.full(width, SHRINK_REGION), toward, floor
        )
        regions[str(region)] = tuple(float(v) for v in line)
        for area in np.unique(inside.areas):
            part = inside.take(inside.areas == area)
            rest = part.rtt_ms - features(part.km, width) @ line
            deviation = least_absolute(
                features(part.km, 2),
                rest,
                np.array([SHRINK_INTERCEPT, SHRINK_SLOPE]),
                np.zeros(2),
                np.array([-np.inf, MIN_SLOPE - line[1:].min()]),
            )
            areas[str(area)] = tuple(float(v) for v in deviation)
    lines = Model(tuple(float(v) for v in base), regions, areas, {})
    return dataclasses.replace(lines, countries=fit_countries(pairs, pairs.rtt_ms - lines.lines(pairs)))


def fit_countries(pairs: Pairs, rest_ms: Floats) -> dict[str, float]:
    """What each country adds at its end to what the lines leave over, shrunk towards nothing."""
    names, ends = np.unique(np.concatenate([pairs.country_a, pairs.country_b]), return_inverse=True)
    a, b = ends[: len(rest_ms)], ends[len(rest_ms) :]
    size = len(names)
    share = np.zeros(size)
    for _ in range(15):
        weight = 1 / np.maximum(np.abs(rest_ms - share[a] - share[b]), 0.5)
        gram = np.bincount(np.concatenate([a * size + b, b * size + a]), np.tile(weight, 2), size * size)
        gram = gram.reshape(size, size) + np.diag(
            np.bincount(np.concatenate([a, b]), np.tile(weight, 2), size) + SHRINK_COUNTRY
        )
        right = np.bincount(np.concatenate([a, b]), np.tile(weight * rest_ms, 2), size)
        share = np.linalg.solve(gram, right)
    return {str(name): float(value) for name, value in zip(names, share, strict=True)}


def cross_validated(pairs: Pairs, folds: int = FOLDS, seed: int = 1) -> Floats:
    """A prediction for every pair by a fit that has seen neither of its cities."""
    cities = sorted({*pairs.source.tolist(), *pairs.target.tolist()})
    random.Random(seed).shuffle(cities)
    fold = {city: index % folds for index, city in enumerate(cities)}
    source, target = (np.array([fold[city] for city in side.tolist()]) for side in (pairs.source, pairs.target))
    predicted = np.full(len(pairs.km), np.nan)
    for a in range(folds):
        for b in range(a, folds):
            unseen = ((source == a) & (target == b)) | ((source == b) & (target == a))
            seen = ~np.isin(source, (a, b)) & ~np.isin(target, (a, b))
            predicted[unseen] = fit(pairs.take(seen)).predict(pairs.take(unseen))
    return predicted


def classes(pairs: Pairs) -> NDArray[Any]:
    """same-country, same-region or inter-region, for each pair."""
    same_region = np.array([a == b for a, b in (key.split("|") for key in pairs.regions.tolist())])
    return np.where(pairs.country_a == pairs.country_b, "same-country", np.where(same_region, "same-region", "inter-region"))


def jitter_ppm(measurements: list[MeasuredPair]) -> list[int]:
    """65 knots of the quantile function of ping/average − 1, in parts per million.

    Each measurement's pings are taken as three atoms, at its minimum, its average and its maximum, with the weights
    that reproduce the reported average and deviation; the atoms of all measurements are pooled. Knots between are
    means of the quantile function around them, and the outer two make their segments keep the tails' means, so the
    jitter's own mean is zero.
    """
    values, weights = [], []
    for m in measurements:
        if m.spread_ms is None:
            continue
        low, high = m.spread_ms[0] / m.rtt_ms - 1, m.spread_ms[1] / m.rtt_ms - 1
        variance = (m.spread_ms[2] / m.rtt_ms) ** 2
        if not (low < 0 < high):
            low, high, variance = 0.0, 0.0, 0.0
        variance = min(variance, -low * high)
        at_high = variance / (high * (high - low)) if high else 0.0
        at_low = variance / (-low * (high - low)) if low else 0.0
        values += [low, 0.0, high]
        weights += [at_low, 1 - at_low - at_high, at_high]
    order = np.argsort(values, kind="stable")
    value, weight = np.array(values)[order], np.array(weights)[order]
    reach = np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])
    area = np.concatenate([[0.0], np.cumsum(value * weight) / weight.sum()])
    mean_of = np.diff(np.interp(np.arange(65) / 64, reach, area)) * 64  # mean of each 1/64 of the distribution
    knots = np.empty(65)
    knots[1:64] = (mean_of[:-1] + mean_of[1:]) / 2
    knots[0], knots[64] = 2 * mean_of[0] - knots[1], 2 * mean_of[-1] - knots[63]
    knots -= ((knots[:-1] + knots[1:]) / 2).mean()
    return [round(float(k) * 1e6) for k in knots]


def main(measured: str, cities: str) -> None:
    pairs, measurements = load(Path(measured), Path(cities))
    predicted = cross_validated(pairs)
    kind = classes(pairs)
    error = predicted - pairs.rtt_ms
    for name in ("all", "same-country", "same-region", "inter-region"):
        e = error[kind == name] if name != "all" else error
        print(
            f"{name:13} n {len(e):6} MAE {np.abs(e).mean():.1f} median {np.median(np.abs(e)):.1f} bias {e.mean():.1f} ms",
            file=sys.stderr,
        )
    model = fit(pairs)
    residuals = {
        name: [round(float(v), 3) for v in np.quantile(np.log(pairs.rtt_ms / predicted)[kind == name], QUANTILES)]
        for name in ("same-country", "same-region", "inter-region")
    }
    fitted = {
        "base": model.base,
        "regions": model.regions,
        "areas": {key: deviation for key, deviation in model.areas.items() if max(map(abs, deviation)) >= 0.005},
        "countries": model.countries,
    }
    rounded = json.loads(json.dumps(fitted), parse_float=lambda text: round(float(text), 2))
    print(json.dumps({**rounded, "log_residuals": residuals, "jitter_ppm": jitter_ppm(measurements)}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
