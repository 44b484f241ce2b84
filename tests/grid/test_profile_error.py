"""Profile errors: every time of a profile off by one factor, log-normal by its sigma, shared by all that is equal."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from smallgrids import cluster, gpu, model, site, workload

from gridctl.grid.centralized import centralize
from gridctl.grid.image import GridImage, build_image
from gridctl.grid.profile_error import scale_profile, with_profile_errors


@pytest.fixture
def image() -> GridImage:
    return build_image(grid())


def grid() -> list:
    return [
        gpu(),
        model(),
        site("paris", population=3),
        site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
        cluster("edge", "paris", usd_per_gpu_hour=3.0),
        cluster("core", "frankfurt"),
        workload(),
    ]


def factors(image: GridImage, seed: int) -> list[float]:
    """How much longer a step over 64 tokens takes on each engine that has steps."""
    drawn = with_profile_errors(image, seed)
    return [
        after.spec.profile.dense_ps[64] / before.spec.profile.dense_ps[64]
        for before, after in zip(image.engines, drawn.engines, strict=True)
        if before.spec.profile is not None and after.spec.profile is not None
    ]


def test_every_time_is_multiplied_and_no_count_is(image: GridImage) -> None:
    profile = image.engines[0].spec.profile
    assert profile is not None
    doubled = scale_profile(profile, 2.0)
    for name in ("sample_ps", "chunk_ps", "chunk_kv_ps"):
        assert np.array_equal(getattr(doubled, name), 2 * getattr(profile, name))
    assert np.array_equal(doubled.dense_ps[1:], 2 * profile.dense_ps[1:])
    assert doubled.cross_ps == 2 * profile.cross_ps
    for rows, twice in ((profile.decode, doubled.decode), (profile.mixed, doubled.mixed)):
        assert twice == tuple(tuple((knot, 2 * base, 2 * slope) for knot, base, slope in row) for row in rows)
    assert (doubled.source, doubled.sigma) == (profile.source, profile.sigma)
    assert scale_profile(profile, 1e-15).dense_ps.min() == 1


def test_equal_engines_share_a_factor_and_a_table(image: GridImage) -> None:
    drawn = with_profile_errors(image, 5)
    found = factors(image, 5)
    assert len(found) == 2
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] != pytest.approx(1.0, rel=1e-6)
    profiles = {id(engine.spec.profile) for engine in image.engines if engine.spec.profile is not None}
    again = {id(engine.spec.profile) for engine in drawn.engines if engine.spec.profile is not None}
    assert len(again) == len(profiles)


def test_the_centralised_alternative_is_off_by_the_same(image: GridImage) -> None:
    assert factors(build_image(centralize(grid())), 5) == pytest.approx(factors(image, 5), rel=1e-6)


def test_factors_are_log_normal_with_the_profile_s_sigma(image: GridImage) -> None:
    engine = image.engines[0]
    assert engine.spec.profile is not None
    wide = replace(engine, spec=replace(engine.spec, profile=replace(engine.spec.profile, sigma=0.3)))
    drawn = np.log([factors(replace(image, engines=(wide,)), seed)[0] for seed in range(1_000)])
    # Of 1,000 draws the mean is within 0.3/√1000 · 4 and the deviation within 0.3/√2000 · 4 of the truth.
    assert abs(drawn.mean()) < 0.038
    assert drawn.std(ddof=1) == pytest.approx(0.3, abs=0.027)


def test_no_error_changes_nothing(image: GridImage) -> None:
    sure = replace(
        image,
        engines=tuple(
            replace(engine, spec=replace(engine.spec, profile=replace(engine.spec.profile, sigma=0.0)))
            for engine in image.engines
            if engine.spec.profile is not None
        ),
    )
    assert factors(sure, 9) == [1.0] * len(sure.engines)
