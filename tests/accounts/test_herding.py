"""How unevenly engines were in use, by counting by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.herding import herd, in_flight
from gridctl.accounts.rows import Run

NS = 1_000_000_000


def engine(kind: str = "gpu") -> EngineFacts:
    return EngineFacts(kind=kind, cluster="c", site="s", tier="edge", region="EU", model="m", variant="v", gpus=1)


@pytest.fixture
def herded(make_run: Callable[..., Run]) -> Run:
    """Two GPU engines and functions. For the first second 3 answers on the one and 1 on the other, then 2 and 2."""
    stays = [(0, 0, 1000), (0, 0, 2000), (0, 0, 2000), (1, 0, 2000), (1, 1000, 1000), (2, 0, 2000)]
    requests = [
        {"engine": number, "arrival_ms": at, "decode_ms": lasts, "output_tokens": 2} for number, at, lasts in stays
    ]
    ordered = sorted(requests, key=lambda one: one["arrival_ms"])
    return make_run(ordered, engines=[engine(), engine(), engine("serverless")])


def test_requests_are_in_flight_from_arrival_to_last_token(herded: Run) -> None:
    counts = in_flight(herded, (0, 2 * NS), moments=4)
    # At 0 an arrival of that very moment is there; at 0.5 s, at 1 s (one ends, one begins) and at 1.5 s.
    assert counts.tolist() == [[3, 3, 2, 2], [1, 1, 2, 2]]


def test_the_spread_is_the_deviation_over_the_mean(herded: Run) -> None:
    """3 and 1 deviate by 1 from a mean of 2, one half, for half of the time; 2 and 2 not at all: a quarter."""
    found = herd(herded, (0, 2 * NS), "stale", "none")
    assert found.spread == pytest.approx(0.25)
    assert (found.busiest, found.requests, found.telemetry, found.counters) == (3, 6, "stale", "none")


def test_an_idle_time_has_no_spread(herded: Run) -> None:
    found = herd(herded, (5 * NS, 6 * NS), "fresh", "own")
    assert (found.requests, found.attainment, found.spread, found.busiest) == (0, None, 0.0, 0)
    assert not np.any(in_flight(herded, (5 * NS, 6 * NS)))
