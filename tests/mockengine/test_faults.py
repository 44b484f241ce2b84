"""Faults do what their words say, when and as often as they say, and to nobody else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest
from mockbench import Bench, chat, linear_engine, until

from gridctl.errors import UsageError
from gridctl.mockengine.faults import Faults, parse_faults

Run = Callable[..., None]
SHORT = {"prompt": "a", "max_tokens": 1}


def test_a_fault_says_what_when_how_long_and_how_often() -> None:
    one, other = parse_faults("status=503*0.25@10s+1.5m, die@250ms")
    assert (one.kind, one.number, one.share, one.start_s, one.end_s) == ("status", 503, 0.25, 10.0, 100.0)
    assert (other.kind, other.start_s, other.end_s) == ("die", 0.25, math.inf)
    assert parse_faults("") == []


@pytest.mark.parametrize(
    "spec",
    ["explode", "status", "status=200", "status=abc", "slow=1", "slow=0.5", "stall=3", "lie", "lie=true", "die*0.5",
     "status=503*0", "status=503*1.5", "status=503@x", "status=503@1.2.3", "@3s", "status=503 reset"],
)  # fmt: skip
def test_a_fault_that_cannot_be_is_refused(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults(spec)
    assert caught.value.fix


def test_a_share_is_spread_evenly() -> None:
    (fault,) = parse_faults("reset*0.25")
    assert [fault.strikes() for _ in range(8)] == [False, False, False, True] * 2
    (third,) = parse_faults("reset*0.3")
    assert sum(third.strikes() for _ in range(1000)) == 300


def test_faults_come_and_go() -> None:
    faults = Faults(parse_faults("slow=2@10+5,stall@12+1"))
    acting = [(at, bool(faults.acting("slow", at)), bool(faults.acting("stall", at))) for at in (9.9, 10, 12.5, 13, 15)]
    assert acting == [(9.9, False, False), (10, True, False), (12.5, True, True), (13, True, False), (15, False, False)]
    moments, now = [], 0.0
    while (now := faults.changes_after(now)) < math.inf:
        moments.append(now)
    assert moments == [10, 12, 13, 15]


def test_a_reset_comes_half_way_through_the_answer(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        answered = await bench.ask("/v1/completions", {"prompt": "a", "max_tokens": 10, "stream": True})
        assert not answered.is_complete
        assert 0 < answered.body.count(b"data: ") <= 5
        await until(lambda: bench.engine.pace.gauges().running == 0)
        client = await bench.client()
        client.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": 10})
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.read()

    plain(play, tpot_ms=5.0, faults="reset")


def test_a_truncated_answer_is_whole_to_http_and_to_nobody_else(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        answered = await client.ask("/v1/completions", {"prompt": "a", "max_tokens": 10, "stream": True})
        assert answered.is_complete
        assert len(answered.events()) == 5
        assert not any(event["choices"][0]["finish_reason"] for event in answered.events())
        cut = await client.ask("/v1/completions", {"prompt": "a", "max_tokens": 10})
        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            cut.json()
        assert bench.engine.pace.gauges().running == 0

    plain(play, tpot_ms=1.0, faults="truncate")
    plain(play, faults="truncate")


def test_garbage_is_no_http(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/completions", SHORT)
        assert not (await client.reader.read()).startswith(b"HTTP")

    plain(play, faults="garbage")


def test_a_silent_engine_takes_everything_and_says_nothing(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("GET", "/health")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.1)
        assert (await bench.ask("/mock/state")).status == 200

    plain(play, faults="silent")


def test_a_stalled_engine_goes_on_where_it_stood(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/chat/completions", chat(max_tokens=40, stream=True))
        await client.reader.readuntil(b"delta")
        await bench.ask("/mock/faults", {"faults": "stall"})
        made = bench.engine.counters.output_tokens
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(until(lambda: bench.engine.counters.output_tokens > made), 0.2)
        await bench.ask("/mock/faults", {"faults": ""})
        await until(lambda: bench.engine.counters.output_tokens == 40)

    twin(play, linear_engine(step_ms=20.0))


def test_a_slow_engine_takes_as_many_times_as_long(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        begin = asyncio.get_running_loop().time()
        await bench.ask("/v1/chat/completions", chat(max_tokens=5))
        assert asyncio.get_running_loop().time() - begin >= 5 * 0.04

    twin(play, linear_engine(step_ms=4.0), faults="slow=10")


def test_an_engine_that_refuses_connections_keeps_those_it_has_and_takes_new_ones_again(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        assert (await client.ask("/mock/faults", {"faults": "refuse+0.2@0"}, method="POST")).status == 400
        assert (await client.ask("/mock/faults", {"faults": "refuse@0+0.3"})).status == 200
        with pytest.raises(ConnectionRefusedError):
            await bench.client()
        assert (await client.ask("/v1/completions", SHORT)).status == 200

        async def is_back() -> bool:
            try:
                return (await bench.ask("/health")).status == 200
            except ConnectionRefusedError:
                return False

        while not await is_back():
            await asyncio.sleep(0.01)

    plain(play)


def test_a_dead_engine_is_gone_connections_and_all(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/chat/completions", chat(max_tokens=1000, stream=True))
        await client.reader.readuntil(b"delta")
        other = await bench.client()
        other.send("POST", "/mock/faults", {"faults": "die"})
        await bench.server.died.wait()
        assert not (await client.read_rest()).endswith(b"0\r\n\r\n")
        with pytest.raises(ConnectionRefusedError):
            await bench.client()

    plain(play, tpot_ms=5.0)


@pytest.mark.parametrize(("lie", "running", "usage"), [("idle", 0.0, 0.0), ("full", 256.0, 1.0)])
def test_metrics_may_lie(twin: Run, lie: str, running: float, usage: float) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/chat/completions", chat(max_tokens=400))
        await until(lambda: bench.engine.pace.gauges().running == 1)
        page = (await bench.ask("/metrics")).body.decode()
        assert f'vllm:num_requests_running{{engine="0",model_name="mock"}} {running}' in page
        assert f'vllm:kv_cache_usage_perc{{engine="0",model_name="mock"}} {usage}' in page

    twin(play, linear_engine(step_ms=50.0), faults=f"lie={lie}")
