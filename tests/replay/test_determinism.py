"""The same inputs and seed give the same run: in another process, interpreted, and whatever hashes strings."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from digests import CASES, digests, replayed
from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.grid.image import build_image
from gridctl.replay.digest import digest_rows
from gridctl.replay.noise import DRAW_BITS, from_quantiles, small_draws
from gridctl.replay.replay import Replayed, replay
from gridctl.resources import PolicySpec

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "variables",
    [{"NUMBA_DISABLE_JIT": "1", "PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "12345"}],
    ids=["interpreted", "another process"],
)
def test_every_digest_is_the_same_elsewhere(variables: dict[str, str]) -> None:
    here, seen = digests()
    assert min(seen[what] for what in ("reused", "preempted", "gpu", "serverless", "api")) > 0, seen
    done = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("digests.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == here
    assert len(set(here)) == len(CASES)


def test_another_seed_is_another_run() -> None:
    ran = {digest_rows(replayed(*CASES[3], seed=seed)) for seed in (1, 1, 2, 3, 2**62)}
    assert len(ran) == 4


@pytest.fixture
def small() -> Replayed:
    parts = [gpu(), model(), site("paris"), cluster("c", "paris"), workload()]
    return replay(build_image(parts), trace([{}, {"at_ms": 5}]), PolicySpec())


def test_a_digest_is_sha256_and_covers_every_column_and_declaration(small: Replayed) -> None:
    digest = digest_rows(small)
    assert len(digest) == len("sha256:") + 64
    seen = {digest}
    for field in dataclasses.fields(small.rows):
        column = getattr(small.rows, field.name).copy()
        column[1] += 1
        seen.add(digest_rows(dataclasses.replace(small, rows=dataclasses.replace(small.rows, **{field.name: column}))))
    assert len(seen) == 1 + len(dataclasses.fields(small.rows))
    cheaper = (msgspec.structs.replace(small.engines[0], usd_per_gpu_hour=0.5),)
    assert digest_rows(dataclasses.replace(small, engines=cheaper)) not in seen
    moved = (msgspec.structs.replace(small.origins[0], jurisdiction="X"),)
    assert digest_rows(dataclasses.replace(small, origins=moved)) not in seen


def test_the_width_and_byte_order_of_a_column_do_not_change_the_digest(small: Replayed) -> None:
    wide = {field.name: getattr(small.rows, field.name).astype(">i8") for field in dataclasses.fields(small.rows)}
    assert digest_rows(dataclasses.replace(small, rows=dataclasses.replace(small.rows, **wide))) == digest_rows(small)


def test_draws_are_uniform_over_31_bits_and_hang_on_their_index_alone() -> None:
    numbers = np.arange(20_000)
    draws = small_draws(7, "ties", numbers)
    assert draws.min() >= 0
    assert draws.max() < 1 << DRAW_BITS
    assert np.array_equal(draws[5_000:], small_draws(7, "ties", numbers[5_000:]))
    # mean of 20,000 uniforms: standard deviation 0.29 / √20,000 = 0.002
    assert abs(draws.mean() / (1 << DRAW_BITS) - 0.5) < 0.01
    assert not np.array_equal(draws, small_draws(8, "ties", numbers))
    assert not np.array_equal(draws, small_draws(7, "sessions", numbers))


def test_draws_from_quantiles_follow_them() -> None:
    """Quartiles at 0, 10, 100, 1000, 10,000: a quarter of the draws in each span, evenly within it."""
    knots = np.array([0, 10, 100, 1000, 10_000], np.int64)
    drawn = from_quantiles(3, "jitter", np.arange(40_000), knots)
    assert drawn.min() >= 0
    assert drawn.max() < 10_000
    for low, high in itertools.pairwise(knots):
        inside = drawn[(drawn >= low) & (drawn < high)]
        assert abs(len(inside) / 40_000 - 0.25) < 0.015
        assert abs(inside.mean() / ((low + high - 1) / 2) - 1) < 0.03
