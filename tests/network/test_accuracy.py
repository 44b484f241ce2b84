"""How wrong the model is, on cities it has not seen, and that what ships is what was fitted."""

import numpy as np
import pytest

from gridctl.geography.place import distance_km
from gridctl.network.coefficients import AREA_DEVIATIONS, COUNTRY_MS, REGION_LINES
from gridctl.network.measured import read_cities, read_pairs
from gridctl.network.model import MODEL_ERROR_MS
from gridctl.network.validation import validate


def test_the_error_on_cities_unseen_is_as_stated_and_at_most_29_ms(measured, fitting):
    pairs, _ = fitting.load(*measured)
    assert len(pairs.km) == 12_234
    predicted, error = fitting.stated_error(pairs)
    assert not np.isnan(predicted).any()
    mae = float(np.abs(error).mean())
    assert mae <= 29
    assert mae == pytest.approx(MODEL_ERROR_MS, abs=0.1)


def test_the_shipped_coefficients_are_the_fitted_ones(measured, fitting):
    pairs, _ = fitting.load(*measured)
    model = fitting.fit(pairs)
    assert set(model.regions) == set(REGION_LINES)
    assert set(model.areas) == set(AREA_DEVIATIONS)
    for key, line in REGION_LINES.items():
        assert model.regions[key] == pytest.approx(line, abs=0.05)
    for key, deviation in AREA_DEVIATIONS.items():
        assert model.areas[key] == pytest.approx(deviation, abs=0.05)
    assert model.countries == pytest.approx(COUNTRY_MS, abs=0.05)


def test_the_model_beats_one_line_over_everything(measured):
    pairs, cities = read_pairs(measured[0]), read_cities(measured[1])
    found = validate(pairs, cities)
    line = []
    for pair in pairs:
        a, b = cities[pair.source], cities[pair.target]
        if not a.is_suspect and not b.is_suspect:
            line.append(abs(15.7 + 17.4 * distance_km(a.place, b.place) / 1000 - pair.rtt_ms))
    assert len(line) == found.rows[0].pairs == 24_239
    assert found.skipped_suspect == 28_125 - 24_239
    assert found.rows[0].mae_ms < 0.7 * sum(line) / len(line)


def test_distances_agree_with_the_published_ones(measured):
    import csv
    import gzip

    cities = read_cities(measured[1])
    with gzip.open(measured[0], "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[::25]
    apart = [
        abs(distance_km(cities[r["src"]].place, cities[r["dst"]].place) - float(r["distance_km"]))
        for r in rows
        if not cities[r["src"]].is_suspect and not cities[r["dst"]].is_suspect
    ]
    assert float(np.median(apart)) < 5


def test_least_absolute_deviations_find_the_median_line(fitting):
    """y = 3 + 2x with one value in seven far off: least squares would follow it, least absolute deviations do not."""
    x = np.arange(70, dtype=float)
    y = 3 + 2 * x
    y[::7] += 1000
    free = np.full(2, np.inf)
    design = np.stack([np.ones_like(x), x], axis=1)
    original = fitting.ROUNDS
    fitting.ROUNDS = 200
    try:
        found = fitting.least_absolute(design, y, np.zeros(2), np.zeros(2), -free, free)
    finally:
        fitting.ROUNDS = original
    assert found.tolist() == pytest.approx([3, 2], abs=0.2)
