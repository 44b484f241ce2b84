"""Fits the round-trip model and its jitter to measured city pairs, and says how wrong it is on cities it never saw.

    python tests/bench/fit_rtt.py MEASURED CITIES      # error to stderr, network/coefficients.py to stdout

`DEALS` deals of the cities give the error, their mean is what the model states.

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
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridctl.geography.place import distance_km
from gridctl.network.areas import area_of, pair_key, region_of_area
from gridctl.network.curve import REACH_KM, curve_of, evaluate
from gridctl.network.measured import MeasuredPair, read_cities, read_pairs

Floats = NDArray[np.float64]
Line = tuple[float, ...]

FOLDS, DEALS = 7, 3
ROUNDS = 6  # of reweighting; 15 fit the seen cities closer and the unseen ones worse (28.7 ms)
MIN_SLOPE = 5.0  # ms per 1,000 km
MAX_LOCAL_MS = 12.0  # of a line within a region at no distance: bounds what too few near pairs cannot tell
KNOTS_KM = (0.0, 100.0, 500.0, 2000.0)
SHRINK_REGION, SHRINK_REACH, SHRINK_SLOPE, SHRINK_COUNTRY = 0.1, 0.03, 1.0, 10.0
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
    (reach, slope) deviations by area pair, and milliseconds by country, once for each end."""

    base: Line
    regions: dict[str, Line]
    areas: dict[str, Line]
    countries: dict[str, float]

    def predict(self, pairs: Pairs) -> Floats:
        """The estimate, by the model's own curve."""
        ends = np.array([self.countries.get(a, 0.0) + self.countries.get(b, 0.0) for a, b in countries_of(pairs)])
        out = np.empty(len(pairs.km))
        for key in np.unique(pairs.areas):
            chosen = pairs.areas == key
            curve = curve_of(self.regions.get(region_pair(key), self.base), self.areas.get(key, (0.0, 0.0)))
            out[chosen] = evaluate(curve, pairs.km[chosen], ends[chosen])
        return out

    def lines(self, pairs: Pairs) -> Floats:
        """What the lines say before countries, floors and monotony."""
        out = np.empty(len(pairs.km))
        for key in np.unique(pairs.areas):
            chosen, line = pairs.areas == key, np.array(self.regions[region_pair(key)])
            km = pairs.km[chosen]
            out[chosen] = features(km, len(line)) @ line + reach_features(km) @ np.array(self.areas[key])
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


def reach_features(km: Floats) -> Floats:
    """Columns of a deviation: one that is nothing at no distance and whole from `REACH_KM` on, and the distance."""
    return np.stack([np.minimum(km, REACH_KM) / REACH_KM, km / 1000], axis=1)


def least_absolute(x: Floats, y: Floats, shrink: Floats, toward: Floats, low: Floats, high: Floats) -> Floats:
    """argmin Σ|y − xβ| + Σ shrink·(β − toward)², low ≤ β ≤ high: what would leave the bounds stays on them."""
    fixed = np.zeros(x.shape[1], dtype=bool)
    beta = toward.copy()
    for _ in range(x.shape[1] + 1):
        free = ~fixed
        for _ in range(ROUNDS):
            weight = 1 / np.maximum(np.abs(y - x @ beta), 0.5)
            rest = y - x[:, fixed] @ beta[fixed]
            gram = x[:, free].T @ (x[:, free] * weight[:, None]) + np.diag(shrink[free])
            solved = np.linalg.solve(gram, x[:, free].T @ (weight * rest) + shrink[free] * toward[free])
            step = np.abs(solved - beta[free]).max()
            beta[free] = solved
            if step < 0.01:
                break
        outside = free & ((beta < low) | (beta > high))
        if not outside.any():
            break
        beta[outside] = np.clip(beta, low, high)[outside]
        fixed |= outside
    return beta


def fit(pairs: Pairs) -> Model:
    """The four levels."""
    free = np.full(2, np.inf)
    x = features(pairs.km, 2)
    base = least_absolute(x, pairs.rtt_ms, np.zeros(2), np.array([20.0, 17.0]), -free, free)
    regions, areas = {}, {}
    for region in np.unique(pairs.regions):
        inside = pairs.take(pairs.regions == region)
        line = fit_region(inside, base)
        regions[str(region)] = tuple(float(v) for v in line)
        for area in np.unique(inside.areas):
            part = inside.take(inside.areas == area)
            rest = part.rtt_ms - features(part.km, len(line)) @ line
            shrink = np.array([SHRINK_REACH, SHRINK_SLOPE])
            deviation = least_absolute(reach_features(part.km), rest, shrink, np.zeros(2), -free, free)
            areas[str(area)] = tuple(float(v) for v in deviation)
    lines = Model(tuple(float(v) for v in base), regions, areas, {})
    return dataclasses.replace(lines, countries=fit_countries(pairs, pairs.rtt_ms - lines.lines(pairs)))


def fit_region(inside: Pairs, base: Floats) -> Floats:
    """A line for a pair of regions; within a region four segments, from at most `MAX_LOCAL_MS` at no distance."""
    a, b = str(inside.regions[0]).split("|")
    width = 5 if a == b else 2
    toward = np.array([base[0], *[base[1]] * (width - 1)])
    low = np.array([0.0 if a == b else -np.inf, *[MIN_SLOPE] * (width - 1)])
    high = np.array([MAX_LOCAL_MS if a == b else np.inf, *[np.inf] * (width - 1)])
    return least_absolute(features(inside.km, width), inside.rtt_ms, np.full(width, SHRINK_REGION), toward, low, high)


def fit_countries(pairs: Pairs, rest_ms: Floats) -> dict[str, float]:
    """What each country adds at its end to what the lines leave over, shrunk towards nothing."""
    names, ends = np.unique(np.concatenate([pairs.country_a, pairs.country_b]), return_inverse=True)
    a, b = ends[: len(rest_ms)], ends[len(rest_ms) :]
    both, size = np.concatenate([a, b]), len(names)
    reach = np.minimum(pairs.km, REACH_KM) / REACH_KM
    share = np.zeros(size)
    for _ in range(ROUNDS):
        weight = 1 / np.maximum(np.abs(rest_ms - reach * (share[a] + share[b])), 0.5)
        square = np.tile(weight * reach * reach, 2)
        gram = np.bincount(np.concatenate([a * size + b, b * size + a]), square, size * size).reshape(size, size)
        gram += np.diag(np.bincount(both, square, size) + SHRINK_COUNTRY)
        share = np.linalg.solve(gram, np.bincount(both, np.tile(weight * reach * rest_ms, 2), size))
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
    region_or_not = np.where(same_region, "same-region", "inter-region")
    return np.where(pairs.country_a == pairs.country_b, "same-country", region_or_not)


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


def stated_error(pairs: Pairs) -> tuple[Floats, Floats]:
    """Cross-validated predictions, and errors in ms, of shape (DEALS, n)."""
    predicted = np.stack([cross_validated(pairs, seed=seed) for seed in range(1, DEALS + 1)])
    return predicted, predicted - pairs.rtt_ms


def residual_quantiles(pairs: Pairs, predicted: Floats) -> dict[str, list[float]]:
    """Quantiles of log(measured / predicted) over cities unseen, for each class of pair."""
    residual, kind = np.log(pairs.rtt_ms / predicted), classes(pairs)
    return {
        name: [round(float(v), 3) for v in np.quantile(residual[:, kind == name], QUANTILES)]
        for name in ("same-country", "same-region", "inter-region")
    }


HEADER = '''"""Coefficients of the round-trip model, as fitted: facts, not decisions. `model.py` says what they mean.

Fitted by tests/bench/fit_rtt.py on WonderNetwork city-to-city ping averages of November 2018. Milliseconds, and
milliseconds per 1,000 km.
"""

# fmt: off
'''


def module_text(model: Model, residuals: dict[str, list[float]], jitter: list[int]) -> str:
    """The constants as the source of a module."""
    regions = {key: tuple(round(v, 2) for v in line) for key, line in model.regions.items()}
    areas = {key: tuple(round(v, 2) for v in line) for key, line in model.areas.items()}
    countries = {key: round(v, 2) for key, v in model.countries.items()}
    return HEADER + "\n\n".join(
        (
            f"BASE: tuple[float, float] = ({model.base[0]:.2f}, {model.base[1]:.2f})",
            _packed("REGION_LINES: dict[str, tuple[float, ...]]", regions),
            _packed("AREA_DEVIATIONS: dict[str, tuple[float, float]]", areas),
            _packed("COUNTRY_MS: dict[str, float]", countries),
            "QUANTILES: tuple[float, ...] = (\n" + _wrapped([f"{v}," for v in QUANTILES]) + ")",
            "LOG_RESIDUALS: dict[str, tuple[float, ...]] = {\n"
            + "".join(f'    "{k}": (\n{_wrapped([f"{x}," for x in v])}    ),\n' for k, v in sorted(residuals.items()))
            + "}",
            "JITTER_PPM: tuple[int, ...] = (\n" + _wrapped([f"{v}," for v in jitter]) + ")\n",
        )
    )


def _packed(name: str, entries: Mapping[str, object]) -> str:
    items = [f'"{key}": {value},' for key, value in sorted(entries.items())]
    return f"{name} = {{\n{_wrapped(items)}}}"


def _wrapped(items: list[str]) -> str:
    lines = [""]
    for item in items:
        if len(lines[-1]) + len(item) > 114:
            lines.append("")
        lines[-1] += f" {item}" if lines[-1] else f"    {item}"
    return "".join(f"{line}\n" for line in lines)


def main(measured: str, cities: str) -> None:
    pairs, measurements = load(Path(measured), Path(cities))
    predicted, error = stated_error(pairs)
    kind = classes(pairs)
    for name in ("all", "same-country", "same-region", "inter-region"):
        e = error[:, kind == name] if name != "all" else error
        middle, tail = np.quantile(np.abs(e), (0.5, 0.9))
        print(
            f"{name:13} n {e.shape[1]:6} MAE {np.abs(e).mean():.1f} median {middle:.1f} p90 {tail:.1f} "
            f"bias {e.mean():.1f} ms",
            file=sys.stderr,
        )
    sys.stdout.write(module_text(fit(pairs), residual_quantiles(pairs, predicted), jitter_ppm(measurements)))


if __name__ == "__main__":
    main(*sys.argv[1:])
