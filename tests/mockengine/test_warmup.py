"""Warming up leaves every kernel of a mock engine compiled, and nothing running."""

from __future__ import annotations

import pytest

from gridctl.kernels.cache import is_interpreted
from gridctl.mockengine import steps
from gridctl.mockengine.warmup import warm_up_engine


def test_every_kernel_of_a_mock_engine_is_compiled_by_the_warm_up() -> None:
    if is_interpreted():
        pytest.skip("nothing is compiled here")
    warm_up_engine()
    for kernel in (steps.serve, steps.admit, steps.abort):
        assert kernel.signatures, kernel
