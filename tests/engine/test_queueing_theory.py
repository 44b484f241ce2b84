"""The twin against queueing theory: Pollaczek–Khinchine, M/M/1 and Erlang C mean waits within 2 %.

Arrivals are Poisson, rounded to the picosecond; every step of the hand-made profiles takes one fixed time. Each test
states the standard error of its own estimate by batch means (20 batches, each thousands of relaxation times long) and
asserts that it is at most 0.7 %, so that 2 % is about three of them; seeds are fixed. Exponential service is a
geometric number of steps, mean 1000: its second moment, hence the wait, is 1/2000 too small.
"""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.engine.clock import advance, drain
from gridctl.engine.fleet import EngineSpec, build_fleet, dispatch
from gridctl.engine.profile import StepProfile
from gridctl.engine.state import GPU, SERVERLESS, Fleet
from gridctl.kernels import compiled

MEAN_STEPS = 1000
STEP_PS = 100_000_000
SERVICE_PS = MEAN_STEPS * STEP_PS
"""A tenth of a second, ten thousand times the tick to which function instances round."""
BATCHES = 20
Column = NDArray[np.int64]


@compiled
def feed(fleet: Fleet, arrivals: Column, outputs: Column) -> None:
    """Send every request to the one engine as it arrives."""
    for request in range(len(arrivals)):
        advance(fleet, 0, arrivals[request])
        dispatch(fleet, 0, request, 0, 0, arrivals[request], 1, outputs[request], 0, 0, 1)


def constant_steps(sequences: int, step_ps: int) -> StepProfile:
    """A step takes `step_ps` with whatever batch, a sampled token nothing, KV nothing."""
    dense = np.full(sequences + 1, step_ps, np.int64)
    return StepProfile(dense, np.zeros(sequences + 1, np.int64), ((0, 0, 0),), 0, "test")


def waits_in_services(kind: int, servers: int, step_ps: int, arrivals: Column, outputs: Column) -> NDArray[np.float64]:
    """Time between arrival and start, in mean service times, per request. Function instances never go cold."""
    spec = EngineSpec(
        kind=kind,
        profile=constant_steps(servers, step_ps),
        max_num_seqs=servers,
        max_num_batched_tokens=servers,
        kv_blocks=1 << 30,
        keep_warm_s=1e6,
        prefix_caching=False,
    )
    fleet = build_fleet([spec], requests=len(arrivals), in_flight=20_000)
    feed(fleet, arrivals, outputs)
    drain(fleet)
    assert int(fleet.results.last_token.min()) > 0
    waits: NDArray[np.float64] = (fleet.results.scheduled - arrivals) / SERVICE_PS
    return waits


def poisson_arrivals(generator: np.random.Generator, count: int, per_service: float) -> Column:
    return np.rint(np.cumsum(generator.exponential(1.0 / per_service, count)) * SERVICE_PS).astype(np.int64)


def assert_mean(waits: NDArray[np.float64], expected: float) -> None:
    """The mean is within 2 %, and the estimate is good enough for that to mean something."""
    means = waits.reshape(BATCHES, -1).mean(axis=1)
    standard_error = means.std(ddof=1) / np.sqrt(BATCHES)
    assert standard_error / expected < 0.007
    assert waits.mean() == pytest.approx(expected, rel=0.02)


def lindley(arrivals: Column, service_ps: int) -> Column:
    """Waits of a single first-come-first-served server: W' = max(0, W + S − A)."""
    waits = np.zeros(len(arrivals), np.int64)
    wait, before = 0, int(arrivals[0])
    for request, arrival in enumerate(arrivals.tolist()[1:], start=1):
        wait = max(0, wait + service_ps - (arrival - before))
        waits[request] = wait
        before = arrival
    return waits


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival of M/M/c waits. Source: Erlang 1917, as in every text on queues."""
    full = offered**servers / factorial(servers) * servers / (servers - offered)
    return full / (sum(offered**busy / factorial(busy) for busy in range(servers)) + full)


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
@pytest.mark.parametrize(("utilisation", "count"), [(0.5, 400_000), (0.8, 1_600_000)])
def test_one_sequence_with_fixed_service_waits_like_m_d_1(kind: int, utilisation: float, count: int) -> None:
    """One output token, of one step, the unit of time S; Pollaczek–Khinchine: W = ρS / (2(1 − ρ))."""
    generator = np.random.default_rng(20_260_101)
    arrivals = poisson_arrivals(generator, count, utilisation)
    waits = waits_in_services(kind, 1, SERVICE_PS, arrivals, np.ones(count, np.int64))
    assert_mean(waits, utilisation / (2 * (1 - utilisation)))


def test_every_single_wait_follows_the_lindley_recursion() -> None:
    generator = np.random.default_rng(5)
    arrivals = poisson_arrivals(generator, 20_000, 0.9)
    waits = waits_in_services(GPU, 1, SERVICE_PS, arrivals, np.ones(len(arrivals), np.int64))
    assert np.array_equal(np.rint(waits * SERVICE_PS).astype(np.int64), lindley(arrivals, SERVICE_PS))


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
@pytest.mark.parametrize(("utilisation", "count"), [(0.5, 1_000_000), (0.8, 4_000_000)])
def test_one_sequence_with_geometric_outputs_waits_like_m_m_1(kind: int, utilisation: float, count: int) -> None:
    """In mean service times μ is 1 and W = ρ / (μ − λ)."""
    generator = np.random.default_rng(20_260_102)
    arrivals = poisson_arrivals(generator, count, utilisation)
    outputs = generator.geometric(1 / MEAN_STEPS, count).astype(np.int64)
    assert_mean(waits_in_services(kind, 1, STEP_PS, arrivals, outputs), utilisation / (1 - utilisation))


@pytest.mark.parametrize("kind", [GPU, SERVERLESS])
def test_four_sequences_wait_like_erlang_c(kind: int) -> None:
    """Batched sequences whose step time does not depend on the batch are four servers; an arrival also waits for the
    step in progress, half a thousandth of a service where the mean wait is 0.75 of one. W = C(c, a) / (cμ − λ)."""
    generator = np.random.default_rng(20_260_103)
    count, offered = 3_000_000, 3.2
    arrivals = poisson_arrivals(generator, count, offered)
    outputs = generator.geometric(1 / MEAN_STEPS, count).astype(np.int64)
    assert_mean(waits_in_services(kind, 4, STEP_PS, arrivals, outputs), erlang_c(4, offered) / (4 - offered))
