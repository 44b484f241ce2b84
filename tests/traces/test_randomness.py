"""The portable arithmetic against the standard library, and the draws against their distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.traces import randomness as r

N = 100_000


def test_splitmix64_gives_its_published_sequence() -> None:
    # the first outputs of SplitMix64 from state 1234567, as in the reference implementation's well-known test vector
    state, outputs = 1234567, []
    mask = (1 << 64) - 1
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        outputs.append(z ^ (z >> 31))
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]

    import hashlib

    start = int.from_bytes(hashlib.blake2b(b"7/stream/0", digest_size=8).digest(), "little")
    z = (start + 3 * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    assert int(r.words(7, "stream", np.array([2]))[0]) == z ^ (z >> 31)


@given(st.floats(1e-300, 1e300))
def test_log_is_the_logarithm(x: float) -> None:
    assert float(r.log(np.array([x]))[0]) == pytest.approx(math.log(x), rel=1e-15, abs=2e-16)


@given(st.floats(-690, 690))
def test_exp_is_the_exponential(x: float) -> None:
    assert float(r.exp(np.array([x]))[0]) == pytest.approx(math.exp(x), rel=1e-15)


@given(st.floats(-100, 100))
def test_cos_and_sin_of_a_turn(x: float) -> None:
    turn = x - round(x)
    assert float(r.cos_turn(np.array([x]))[0]) == pytest.approx(math.cos(2 * math.pi * turn), abs=4e-15)
    assert float(r.sin_turn(np.array([turn]))[0]) == pytest.approx(math.sin(2 * math.pi * turn), abs=4e-15)


def test_uniforms_are_uniform_and_inside() -> None:
    drawn = np.sort(r.uniforms(1, "u", np.arange(N)))
    assert drawn[0] > 0
    assert drawn[-1] < 1
    distance = np.max(np.abs(drawn - (np.arange(N) + 0.5) / N))
    assert distance < 1.95 / N**0.5  # Kolmogorov–Smirnov at 0.1 %


@pytest.mark.parametrize("shape", [0.0625, 1 / 3, 1.0, 5.0])
def test_gammas_have_mean_one_and_the_variance_of_their_shape(shape: float) -> None:
    drawn = r.gammas(3, "g", np.arange(N), shape)
    spread = (1 / shape) ** 0.5
    assert drawn.mean() == pytest.approx(1.0, abs=4 * spread / N**0.5)
    assert drawn.std() == pytest.approx(spread, rel=0.06)


def test_normals_and_exponentials_have_their_moments() -> None:
    normal, exponential = r.normals(5, "n", np.arange(N)), r.exponentials(5, "e", np.arange(N))
    assert (normal.mean(), normal.std()) == (pytest.approx(0, abs=4 / N**0.5), pytest.approx(1, abs=0.01))
    assert np.mean(normal**4) == pytest.approx(3, abs=0.15)
    assert (exponential.mean(), exponential.std()) == (pytest.approx(1, abs=0.013), pytest.approx(1, abs=0.02))


def test_choices_follow_weights_and_never_pick_a_zero() -> None:
    chosen = r.choices(np.array([0.0, 1.0, 3.0, 0.0]), np.array([1e-17, 0.2499, 0.2501, 1 - 1e-16]))
    assert chosen.tolist() == [1, 1, 2, 2]


def test_a_draw_depends_on_its_index_alone() -> None:
    whole = r.gammas(9, "g", np.arange(1000), 0.5)
    part = r.gammas(9, "g", np.arange(400, 600), 0.5)
    assert whole[400:600].tolist() == part.tolist()
    assert r.uniforms(9, "g", np.arange(3)).tolist() != r.uniforms(10, "g", np.arange(3)).tolist()
