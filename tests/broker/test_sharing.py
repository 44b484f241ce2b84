"""Two equal engines of unknown speed: whatever their profile declares, queues that are seen to form are shared.

The engines here are simulated, apart from the broker: each serves one request after another in a fixed time, or all it
has at a common speed. The broker sees nothing of them but when first tokens and ends come.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest
from livegrids import Request, broker_of, chat, cluster, grid, workload

from gridctl.broker.broker import Broker
from gridctl.units import NS_PER_S

START = 50 * NS_PER_S
OUTPUT = 32


def _two_engines() -> Broker:
    """Two replicas at one site, and no others."""
    others = [cluster(name, gpu, 2, running=0) for name, gpu in (("lyon", "l40s"), ("berlin", "l40s"))]
    others += [cluster("zurich", "l4", 1, running=0), cluster("ashburn", "h100-sxm", 2, running=0)]
    broker, _ = broker_of(grid(*others, workload()))
    return broker


def _declared_s(broker: Broker) -> float:
    """Seconds that the profile expects of a request on an idle engine."""
    ask = broker.ask(Request(), chat(), START)
    choice = broker.decide(ask, START)
    broker.ended(choice, ask, "cancelled", 0, START)
    return (choice.engine_ttft_us + (OUTPUT - 1) * choice.engine_tpot_us) / 1e6


def _shares(
    speed: float, load: float, *, stream: bool, seed: int, slower: dict[int, float] | None = None
) -> tuple[Counter[int], float]:
    """Requests of each engine in the second half of a run, and the mean in flight; the true service takes `speed` times
    what is declared, and `load` engines' worth of requests come."""
    broker = _two_engines()
    service_ns = round(_declared_s(broker) * speed * NS_PER_S)
    draw = random.Random(seed)
    free_at: dict[int, int] = {}
    ends: list[tuple[int, int, object, object]] = []
    counts: Counter[int] = Counter()
    end = START + max(150 * NS_PER_S, 700 * service_ns)
    now, number, in_flight, looks = START, 0, 0, 0
    while now < end:
        now += round(draw.expovariate(load / service_ns))
        while ends and ends[0][0] <= now:
            at, _, ask, choice = heapq.heappop(ends)
            if stream:
                broker.first_token(choice, ask, max(choice.decided_ns, at - service_ns * 9 // 10))  # type: ignore[attr-defined, arg-type]
            broker.ended(choice, ask, "completed", OUTPUT, at)  # type: ignore[arg-type]
        number += 1
        ask = broker.ask(Request(), chat(f"question {number}", stream=stream), now)
        choice = broker.decide(ask, now)
        own_ns = round(service_ns * (slower or {}).get(choice.row, 1.0))
        free_at[choice.row] = max(now, free_at.get(choice.row, 0)) + own_ns
        heapq.heappush(ends, (free_at[choice.row], number, ask, choice))
        if now > (START + end) // 2:
            counts[choice.row] += 1
            in_flight += len(ends)
            looks += 1
    return counts, in_flight / looks


@pytest.mark.parametrize("load", [0.5, 1.5])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("speed", [0.1, 0.3, 1.0, 3.0, 10.0])
def test_equal_engines_share_the_work_whatever_their_profile_declares(speed: float, stream: bool, load: float) -> None:
    counts, in_flight = _shares(speed, load, stream=stream, seed=5)
    assert len(counts) == 2, counts
    # Where one alone could do it all, what is learned of one may be more certain for a while; neither is left out.
    assert max(counts.values()) <= (0.6 if load > 1.0 else 0.75) * counts.total(), counts
    # Engines drawn at random are M/D/1 queues with rho = load / 2 each: rho + rho² / (2 (1 - rho)) requests in each
    # (Pollaczek, Khinchine), and the one that arrives. Who sees the queues is not worse, but for the noise of a run.
    rho = load / 2
    assert in_flight <= 1 + 2 * (rho + rho**2 / (2 * (1 - rho))) * 1.25, in_flight


def test_a_twice_slower_engine_gets_half_as_much_where_both_are_needed() -> None:
    """Declared alike, one serves in one time unit and one in two: together 1.5 engines' worth, offered 1.2."""
    counts, _ = _shares(1.0, 1.2, stream=True, seed=11, slower={1: 2.0})
    share = counts[1] / counts.total()
    assert 0.2 < share < 0.45, counts
