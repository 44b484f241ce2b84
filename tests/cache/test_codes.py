"""Codes against the angle between the vectors, and the transform against its definition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gridctl.cache.codes import BITS, Coder, hadamard


@pytest.mark.parametrize("dimension", [24, 384, 512, 1500])
def test_the_share_of_bits_that_differ_is_the_angle_over_pi(dimension: int) -> None:
    """Charikar 2002. With 1,024 bits one share strays by √(p (1 − p) / 1,024) ≤ 0.016; a mean of 400 by 0.0008."""
    draw = np.random.default_rng(dimension)
    rows = draw.normal(size=(400, dimension))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    coder = Coder(dimension)
    for angle in (0.2, 0.8, np.pi / 2, 2.5):
        apart = draw.normal(size=rows.shape)
        apart -= (apart * rows).sum(1)[:, None] * rows
        apart /= np.linalg.norm(apart, axis=1)[:, None]
        turned = np.cos(angle) * rows + np.sin(angle) * apart
        differing = np.unpackbits(
            coder.codes(rows.astype(np.float32)) ^ coder.codes(turned.astype(np.float32)), axis=1
        ).mean(1)
        assert differing.mean() == pytest.approx(angle / np.pi, abs=0.005)
        assert abs(differing - angle / np.pi).max() < 5 * 0.016


def test_a_vector_alone_has_the_code_it_has_among_others_and_in_another_process() -> None:
    rows = np.random.default_rng(3).normal(size=(5_000, 64)).astype(np.float32)
    coder = Coder(64)
    codes = coder.codes(rows)
    assert codes.shape == (5_000, BITS // 8)
    for place in (0, 4_095, 4_096, 4_999):
        np.testing.assert_array_equal(coder.code(rows[place]), codes[place])
    program = (
        "import numpy as np; from gridctl.cache.codes import Coder;"
        "print(Coder(64).code(np.random.default_rng(3).normal(size=64).astype(np.float32)).tobytes().hex())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert elsewhere.stdout.strip() == codes[0].tobytes().hex()


def test_a_hadamard_matrix_has_rows_of_signs_at_right_angles() -> None:
    matrix = hadamard(32)
    assert set(np.unique(matrix)) == {-1.0, 1.0}
    np.testing.assert_array_equal(matrix @ matrix.T, 32 * np.eye(32))
