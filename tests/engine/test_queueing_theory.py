"""The twin against queueing theory: Pollaczek–Khinchine, M/M/1 and Erlang C mean waits within 2 %.

Arrivals are Poisson, rounded to the picosecond; every step of the hand-made profiles takes one fixed time. Each test
makes independent runs of 100,000 requests with fixed seeds, takes the standard error of its mean from them, and
asserts that it is at most 0.7 %, so that 2 % is about three of them. Two errors are known and small beside it: a run
starts empty, which at a relaxation time of some 100 requests (M/M/1 at 0.8) costs the mean under 0.1 %; exponential
service is a geometric number of steps, mean 1000, whose second moment, hence the wait, is 1/2000 too small.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import factorial, sqrt

import numpy as np
import pytest
from handmade import step_profile
from numpy.typing import NDArray

from gridctl.engine.clock import advance, drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import GPU, SERVERLESS, Fleet
from gridctl.kernels import compiled, is_interpreted

MEAN_STEPS = 1000
STEP_PS = 100_000_000
SERVICE_PS = MEAN_STEPS * STEP_PS
"""A tenth of a second, ten thousand times the tick to which function instances round."""
REQUESTS_PER_RUN = 100_000
Column = NDArray[np.int64]

pytestmark = pytest.mark.skipif(is_interpreted(), reason="millions of requests: compiled kernels only")


@compiled
def feed(fleet: Fleet, arrivals: Column, outputs: Column) -> None:
    """Send every request to the one engine as it arrives."""
    for request in range(len(arrivals)):
        advance(fleet, 0, arrivals[request])
        dispatch(fleet, 0, request, 0, 0, arrivals[request], 1, outputs[request], 0, 0, 1, 0)


def constant_steps(sequences: int, step_ps: int) -> StepProfile:
    """A step takes `step_ps` with whatever batch, a sampled token nothing, KV nothing."""
    dense = np.full(sequences + 1, step_ps, np.int64)
    return step_profile(dense, np.zeros(sequences + 1, np.int64))


def waits_ps(kind: int, servers: int, step_ps: int, arrivals: Column, outputs: Column) -> Column:
    """Time between arrival and start, per request. Function instances never go cold."""
    spec = EngineSpec(
        kind=kind,
        profile=constant_steps(servers, step_ps),
        max_num_seqs=servers,
        max_num_batched_tokens=servers,
        kv_blocks=1 << 30,
        keep_warm_s=1e6,
        prefix_caching=False,
    )
    fleet = build_fleet([spec], requests=len(arrivals), in_flight=5_000)
    feed(fleet, arrivals, outputs)
    drain(fleet)
    assert int(fleet.results.last_token.min()) > 0
    waits: Column = fleet.results.scheduled - arrivals
    return waits


def poisson_arrivals(generator: np.random.Generator, per_service: float, count: int = REQUESTS_PER_RUN) -> Column:
    return np.rint(np.cumsum(generator.exponential(1.0 / per_service, count)) * SERVICE_PS).astype(np.int64)


def mean_waits_with_fixed_service(kind: int, utilisation: float, runs: int) -> Iterator[float]:
    """Mean wait of each run, in service times: one output token, of one step."""
    for seed in range(runs):
        arrivals = poisson_arrivals(np.random.default_rng([1, seed]), utilisation)
        waits = waits_ps(kind, 1, SERVICE_PS, arrivals, np.ones(len(arrivals), np.int64))
        yield float(waits.mean() / SERVICE_PS)


def mean_waits_with_geometric_service(kind: int, servers: int, offered: float, runs: int) -> Iterator[float]:
    """Mean wait of each run, in mean service times."""
    for seed in range(runs):
        generator = np.random.default_rng([2, seed])
        arrivals = poisson_arrivals(generator, offered)
        outputs = generator.geometric(1 / MEAN_STEPS, len(arrivals)).astype(np.int64)
        yield float(waits_ps(kind, servers, STEP_PS, arrivals, outputs).mean() / SERVICE_PS)


def assert_mean(means: Iterator[float], expected: float) -> None:
    """The mean of the runs is within 2 %, and they are enough for that to mean something."""
    runs = np.array(list(means))
    standard_error = runs.std(ddof=1) / sqrt(len(runs))
    assert standard_error / expected < 0.007
    assert runs.mean() == pytest.approx(expected, rel=0.02)


def lindley(arrivals: list[int], service: int) -> list[int]:
    """Waits of a single first-come-first-served server: W' = max(0, W + S − A)."""
    waits = [0]
    for before, arrival in pairwise(arrivals):
        waits.append(max(0, waits[-1] + service - (arrival - before)))
    return waits


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival of M/M/c waits. Source: Erlang 1917, as in every text on queues."""
    full = offered**servers / factorial(servers) * servers / (servers - offered)
    return full / (sum(offered**busy / factorial(busy) for busy in range(servers)) + full)


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
@pytest.mark.parametrize(("utilisation", "runs"), [(0.5, 10), (0.8, 30)])
def test_one_sequence_with_fixed_service_waits_like_m_d_1(kind: int, utilisation: float, runs: int) -> None:
    """Pollaczek–Khinchine with fixed service: W = ρ / (2(1 − ρ)) service times."""
    assert_mean(mean_waits_with_fixed_service(kind, utilisation, runs), utilisation / (2 * (1 - utilisation)))


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
@pytest.mark.parametrize(("utilisation", "runs"), [(0.5, 20), (0.8, 60)])
def test_one_sequence_with_geometric_outputs_waits_like_m_m_1(kind: int, utilisation: float, runs: int) -> None:
    """W = ρ / (μ − λ), in mean service times with μ = 1."""
    assert_mean(mean_waits_with_geometric_service(kind, 1, utilisation, runs), utilisation / (1 - utilisation))


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
def test_four_sequences_wait_like_erlang_c(kind: int) -> None:
    """Batched sequences whose step time does not depend on the batch are four servers; an arrival also waits for the
    step in progress, half a thousandth of a service where the mean wait is 0.75 of one. W = C(c, a) / (cμ − λ)."""
    assert_mean(mean_waits_with_geometric_service(kind, 4, 3.2, 60), erlang_c(4, 3.2) / (4 - 3.2))


def test_every_single_wait_follows_the_lindley_recursion() -> None:
    arrivals = poisson_arrivals(np.random.default_rng(5), 0.9, 20_000)
    waits = waits_ps(GPU, 1, SERVICE_PS, arrivals, np.ones(len(arrivals), np.int64))
    assert waits.tolist() == lindley(arrivals.tolist(), SERVICE_PS)
