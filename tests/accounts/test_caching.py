"""What caches saved: the same requests replayed twice, with caches and without, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gridctl.accounts.caching import savings
from gridctl.accounts.rows import Run

HOUR_MS = 3_600_000.0
CHAT, HELP = 0, 1


@pytest.fixture
def pair(make_run: Callable[..., Run], make_engine: Any, make_workload: Any) -> Callable[..., tuple[Run, Run]]:
    """Runs with and without caches on a GPU of a dollar an hour (engine 0) and a cache (engine 1). A request is its
    workload, GPU milliseconds and end-to-end milliseconds with caches and without; no GPU time with is a hit."""

    def build(*requests: tuple[int, float, float, float, float]) -> tuple[Run, Run]:
        engines = [make_engine(usd_per_gpu_hour=1.0), make_engine(kind="cache", model="cache", variant="exact")]
        specs = {name: make_workload(("ttft_ms", 500.0)) for name in ("chat", "help")}

        def run(rows: Sequence[dict[str, object]]) -> Run:
            return make_run([{**row, "outcome": "completed"} for row in rows], engines=engines, workloads=specs)

        with_caches = run(
            [
                {"workload": workload, "engine": int(gpu_ms == 0), "gpu_ms": gpu_ms, "compute_ms": took_ms}
                for workload, gpu_ms, took_ms, _, _ in requests
            ]
        )
        without = run(
            [
                {"workload": workload, "engine": 0, "gpu_ms": gpu_ms, "compute_ms": took_ms}
                for workload, _, _, gpu_ms, took_ms in requests
            ]
        )
        return with_caches, without

    return build


def test_spent_and_saved_add_up_to_the_run_without_caches_though_batches_became_smaller(pair: Any) -> None:
    """Without: 4 hours of GPU time. With: 3, since the one that is left in a batch carries more of its steps. The two
    hits would have cost 1 and 2 hours, so the hour saved is a third chat's and two thirds help's."""
    run, without = pair(
        (CHAT, 3 * HOUR_MS, 900.0, HOUR_MS, 800.0),
        (CHAT, 0, 10.0, HOUR_MS, 510.0),
        (HELP, 0, 10.0, 2 * HOUR_MS, 1010.0),
    )
    found = savings(run, without.rows)
    assert found["chat"] == (pytest.approx(1 / 3), pytest.approx(500.0))
    assert found["help"] == (pytest.approx(2 / 3), pytest.approx(1000.0))


def test_without_hits_nothing_is_saved_and_no_time_is_named(pair: Any) -> None:
    run, without = pair((CHAT, HOUR_MS, 10.0, HOUR_MS, 10.0))
    assert savings(run, without.rows) == {"chat": (0.0, None), "help": (0.0, None)}


def test_hits_that_would_have_cost_nothing_share_by_their_number(pair: Any) -> None:
    """Two hits of chat and two of help of requests that cost nothing; another request came half an hour cheaper."""
    run, without = pair(
        (CHAT, HOUR_MS, 9.0, 1.5 * HOUR_MS, 9.0),
        *[(CHAT, 0, 1.0, 0, 2.0)] * 2,
        *[(HELP, 0, 1.0, 0, 5.0)] * 2,
    )
    found = savings(run, without.rows)
    assert found["chat"] == (pytest.approx(0.25), pytest.approx(1.0))
    assert found["help"] == (pytest.approx(0.25), pytest.approx(4.0))
