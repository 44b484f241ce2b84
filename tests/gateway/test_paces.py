"""A hit that nobody may notice takes as long as an engine would have taken for its like."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import Any

import pytest
from cache_parts import CachingGateway, caching_gateway, gated, kept_answer
from gateway_parts import CHAT, Served, answers, read_answer, scripted_engine, serves, streams, wait_for, whole

from gridctl.gateway.paces import MOST, NEAREST, Pace, Paces

ASKED: dict[str, Any] = {**CHAT, "temperature": 0}
OTHER = b"x-tenant: other\r\n"
SLOW_S = 0.3
TIMER_S = 0.002
"""What the loop's timers may be early: they count milliseconds of a clock that is read once a turn."""


def auc(hits: list[float], misses: list[float]) -> float:
    """How often a hit is quicker than a miss: the area under the curve of a classifier that goes by time alone."""
    wins = sum((hit < miss) + 0.5 * (hit == miss) for hit in hits for miss in misses)
    return wins / (len(hits) * len(misses))


def took_s(generator: random.Random, prompt_tokens: int, output_tokens: int) -> float:
    """An engine: prefill and decoding, each request a little lucky or not."""
    return (0.02 + prompt_tokens * 1e-4 + output_tokens * 0.01) * generator.lognormvariate(0.0, 0.25)


@pytest.mark.parametrize("seed", range(5))
def test_by_its_time_a_hit_is_not_told_from_a_miss(seed: int) -> None:
    """Also not by who knows how long the prompt and the answer are, for both are compared at the same lengths."""
    generator, paces = random.Random(seed), Paces(random.Random(seed + 100))
    lengths = [(generator.randint(10, 2_000), generator.randint(5, 400)) for _ in range(600)]
    hits, misses = list[float](), list[float]()
    for at, (prompt, output) in enumerate(lengths):
        miss_s = took_s(generator, prompt, output)
        if at >= MOST:
            drawn = paces.draw(("chat",), prompt, output)
            assert drawn is not None
            expected = took_s(random.Random(1), prompt, output)
            hits.append(drawn.first_s / expected)
            misses.append(miss_s / expected)
        paces.learn(("chat",), prompt, output, Pace(miss_s, 0.01))
    assert 0.45 <= auc(hits, misses) <= 0.55
    assert auc([0.001] * len(misses), misses) == 1.0, "what it would be without"


def test_only_like_requests_of_the_class_are_drawn() -> None:
    paces = Paces(random.Random(1))
    assert paces.draw(("chat",), 10, 10) is None
    for number in range(NEAREST):
        paces.learn(("chat",), 10, 10, Pace(1.0 + number, 0.1))
        paces.learn(("chat",), 1_000, 10, Pace(100.0, 0.1))
        paces.learn(("other",), 10, 10, Pace(1_000.0, 0.1))
    drawn = {paces.draw(("chat",), 11, 9) for _ in range(200)}
    assert drawn == {Pace(1.0 + number, 0.1) for number in range(NEAREST)}
    assert paces.knows(("other",))
    paces.clear()
    assert not paces.knows(("other",))


def slowly(script: Any) -> Any:
    async def answer(served: Served) -> None:
        await asyncio.sleep(SLOW_S)
        await script(served)

    return answer


def elapsed(cached: CachingGateway) -> list[float]:
    """From arrival to the end of each request, as the meter was told."""
    return [(row.end_ns - row.arrival_ns) / 1e9 for row in cached.gateway.meter.rows]


def test_a_public_hit_is_as_late_and_looks_like_a_miss() -> None:
    with (
        scripted_engine(slowly(serves)) as engine,
        caching_gateway([engine.url], sharing="public") as cached,
    ):
        miss = cached.ask(ASKED, b"x-request-id: one\r\n")
        hit = cached.ask(ASKED, b"x-request-id: two\r\n" + OTHER)
        cached.settled()
        rows = cached.gateway.meter.rows
    assert len(engine.requests) == 1
    assert [row.cache for row in rows] == ["miss", "hit"]
    assert elapsed(cached)[1] >= SLOW_S - TIMER_S
    assert [name for name in miss.headers if name != "content-length"] == [
        name for name in hit.headers if name != "content-length"
    ]
    assert miss.headers["content-type"] == hit.headers["content-type"]
    one, two = dict(miss.json), dict(hit.json)
    assert (one.pop("id"), two.pop("id")) == ("chatcmpl-one", "chatcmpl-two")
    assert abs(one.pop("created") - two.pop("created")) <= 2
    assert list(one) == list(two)
    assert one == two
    assert rows[0].usd > 0.0, "what it cost is known here, and said to nobody"


def test_an_answer_that_nobody_here_can_read_keeps_its_own_head() -> None:
    async def script(served: Served) -> None:
        served.send(whole(b"\x1f\x8b", more=b"content-encoding: gzip\r\n"))

    with scripted_engine(script) as engine, caching_gateway([engine.url], sharing="public") as cached:
        answer = cached.ask(ASKED)
        cached.settled()
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.body == b"\x1f\x8b"
    assert not cached.answers.handed_in


def test_where_the_workload_says_so_a_public_hit_comes_at_once() -> None:
    with (
        scripted_engine(slowly(serves)) as engine,
        caching_gateway([engine.url], sharing="public", hit_timing="as-is") as cached,
    ):
        cached.ask(ASKED)
        cached.ask(ASKED, OTHER)
        cached.settled()
        miss_s, hit_s = elapsed(cached)
    assert hit_s < SLOW_S <= miss_s


def test_a_hit_that_has_nothing_to_look_like_is_none() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], sharing="public") as cached:
        cached.ask(ASKED)
        cached.caching.keeping.paces.clear()
        cached.ask(ASKED, OTHER)
        cached.settled()
    assert [row.cache for row in cached.gateway.meter.rows] == ["miss", "miss"]
    assert len(engine.requests) == 2


def test_a_streamed_public_hit_begins_late_and_comes_at_an_engines_pace() -> None:
    body = {**ASKED, "stream": True}
    with (
        scripted_engine(slowly(streams)) as engine,
        caching_gateway([engine.url], sharing="public") as cached,
    ):
        cached.ask(body)
        key = next(iter(cached.answers.kept))
        words = " ".join("word" for _ in range(20))
        content = json.dumps({"role": "assistant", "content": words}).encode()
        cached.answers.kept[key] = kept_answer(content, output_tokens=20)
        paces = cached.caching.keeping.paces
        kind = next(iter(paces._seen))
        for _ in range(NEAREST):
            paces.learn(kind, 12, 20, Pace(SLOW_S, 0.01))
        cached.ask(body, OTHER)
        cached.settled()
        row = cached.gateway.meter.rows[-1]
    assert row.cache == "hit"
    assert (row.first_token_ns - row.arrival_ns) / 1e9 >= SLOW_S - TIMER_S
    assert (row.last_token_ns - row.first_token_ns) / 1e9 >= 20 * 0.01 - TIMER_S


def test_a_client_that_leaves_while_its_hit_waits_is_told_nothing_more() -> None:
    gate = threading.Event()
    with (
        scripted_engine(gated(gate, answers)) as engine,
        caching_gateway([engine.url], sharing="public") as cached,
    ):
        first = cached.send(ASKED)
        wait_for(lambda: len(engine.requests) == 1)
        gate.set()
        with first:
            read_answer(first)
        paces = cached.caching.keeping.paces
        kind = next(iter(paces._seen))
        paces.clear()
        paces.learn(kind, 12, 7, Pace(60.0, 0.0))
        second = cached.send(ASKED)
        wait_for(lambda: cached.gateway.serving.in_flight == 1)
        began = time.monotonic()
        second.close()
        wait_for(lambda: cached.gateway.serving.in_flight == 0)
        cached.settled()
    assert time.monotonic() - began < 30.0
    assert [row.outcome for row in cached.gateway.meter.rows] == ["completed", "cancelled"]
