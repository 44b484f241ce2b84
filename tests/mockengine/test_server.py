"""The wire: what clients of an OpenAI-compatible engine get, and what is left when they go."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable

import pytest
from mockbench import Bench, chat, linear_engine, until

Run = Callable[..., None]
TRIES = 5
"""One of so many is not disturbed by whatever else a machine has to do."""


def test_a_chat_is_answered_in_one_piece_with_its_usage(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        answered = await bench.ask("/v1/chat/completions", chat("one two three", max_tokens=5))
        body = answered.json()
        assert (answered.status, answered.headers["content-type"]) == (200, "application/json")
        assert (body["object"], body["model"]) == ("chat.completion", "mock")
        (choice,) = body["choices"]
        assert choice["message"]["role"] == "assistant"
        assert len(choice["message"]["content"].split()) == 5
        assert choice["finish_reason"] == "length"
        assert body["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    plain(play)


def test_a_stream_has_a_role_a_chunk_a_token_the_usage_and_an_end(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        asked = chat(max_tokens=4, stream=True, stream_options={"include_usage": True})
        answered = await bench.ask("/v1/chat/completions", asked)
        assert answered.headers["content-type"].startswith("text/event-stream")
        role, *tokens, usage, done = answered.events()
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [event["choices"][0]["finish_reason"] for event in tokens] == [None, None, None, "length"]
        assert all(event["usage"] is None for event in (role, *tokens))
        assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 4)
        assert done == "[DONE]"
        whole = (await bench.ask("/v1/chat/completions", chat(max_tokens=4))).json()
        said = "".join(event["choices"][0]["delta"]["content"] for event in tokens)
        assert said == whole["choices"][0]["message"]["content"], "the same prompt is answered alike"

    plain(play, tpot_ms=2.0)


def test_usage_is_streamed_only_to_who_asks(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        answered = await bench.ask("/v1/completions", {"prompt": "a b", "max_tokens": 2, "stream": True})
        *tokens, done = answered.events()
        assert done == "[DONE]"
        assert [event["object"] for event in tokens] == ["text_completion"] * 2
        assert not any("usage" in event for event in tokens)
        assert "".join(event["choices"][0]["text"] for event in tokens).count(" ") == 1

    plain(play)


def test_a_token_is_a_chunk_that_leaves_when_it_is_made(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        spans = []
        while not spans or (min(spans) >= 3 * 30 + 60 and len(spans) < TRIES):
            begin = asyncio.get_running_loop().time()
            answered = await bench.ask("/v1/chat/completions", chat(max_tokens=4, stream=True))
            times = [
                (at - begin) * 1e3 for at, piece in answered.pieces if b'"content":"' in piece and b"role" not in piece
            ]
            assert len(times) == 4
            for number, at in enumerate(times):
                assert at >= 60 + 30 * number, "no token comes early"
            spans.append(times[-1] - times[0])
        assert min(spans) < 3 * 30 + 60

    plain(play, ttft_ms=60.0, tpot_ms=30.0)


def test_the_twin_s_tokens_come_in_real_time_as_its_steps_end(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        # A prompt of 100 tokens, new each time: one step of 20 + 100 · 0.2 = 40 ms, then decodes of 20.2 ms.
        expected = [40 + 20.2 * number for number in range(5)]
        lateness = []
        for number in range(TRIES):
            begin = loop.time()
            words = f"word{number} " * 100
            answered = await bench.ask("/v1/chat/completions", chat(words, max_tokens=5, stream=True))
            times = [(at - begin) * 1e3 for at, piece in answered.pieces if b"role" not in piece]
            assert times[-1] >= expected[-1]
            if len(times) < len(expected):
                continue  # what is late because a busy machine held the engine up comes together
            assert all(at >= due for at, due in zip(times, expected, strict=True))
            lateness.append(min(at - due for at, due in zip(times, expected, strict=True)))
            if lateness[-1] < 15:
                return
        pytest.fail(f"late by {lateness} ms at each try")

    twin(play, linear_engine(step_ms=20.0, token_ms=0.2))


def test_an_engine_may_run_faster_than_time(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        begin = asyncio.get_running_loop().time()
        await bench.ask("/v1/chat/completions", chat(max_tokens=101))
        took = asyncio.get_running_loop().time() - begin
        assert 0.1 <= took < 3.0, "101 steps of 100 ms at a hundred times the speed"

    twin(play, linear_engine(step_ms=100.0), speed=100.0)


def test_a_prompt_met_before_is_found_in_the_cache(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        system = " ".join(f"rule{number}" for number in range(64))
        first = (await bench.ask("/v1/chat/completions", chat(f"{system} who are you", max_tokens=1))).json()
        second = (await bench.ask("/v1/chat/completions", chat(f"{system} what is this", max_tokens=1))).json()
        other = (await bench.ask("/v1/chat/completions", chat(f"new {system}", max_tokens=1))).json()
        cached = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in (first, second, other)]
        assert cached == [0, 64, 0], "four blocks of sixteen words, and none once a word stands before them"

    twin(play, linear_engine(step_ms=1.0))


def test_a_client_that_leaves_mid_stream_frees_seat_and_memory(twin: Run) -> None:
    async def play(bench: Bench) -> None:
        leaver = await bench.client()
        leaver.send("POST", "/v1/chat/completions", chat("word " * 40, max_tokens=4000, stream=True))
        await leaver.reader.readuntil(b"delta")
        gauges = bench.engine.pace.gauges()
        assert gauges.running == 1
        assert gauges.kv_used_tokens >= 48, (
            "three blocks of sixteen for forty tokens of prompt, and what was made since"
        )
        waiting = await bench.client()
        waiting.send("POST", "/v1/chat/completions", chat(max_tokens=1))
        await until(lambda: bench.engine.pace.gauges().waiting == 1)
        leaver.leave()
        assert (await waiting.read()).status == 200
        gauges = bench.engine.pace.gauges()
        assert (gauges.running, gauges.waiting, gauges.kv_used_tokens) == (0, 0, 0)
        assert bench.engine.counters.aborted == 1
        page = (await bench.ask("/metrics")).body.decode()
        assert 'finished_reason="abort"} 1.0' in page

    twin(play, linear_engine(step_ms=2.0, max_num_seqs=1))


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_before_its_first_token_frees_its_seat(twin: Run, is_stream: bool) -> None:
    async def play(bench: Bench) -> None:
        leaver = await bench.client()
        leaver.send("POST", "/v1/chat/completions", chat(max_tokens=500, stream=is_stream))
        await until(lambda: bench.engine.pace.gauges().running == 1)
        leaver.leave()
        await until(lambda: bench.engine.pace.gauges().running == 0)
        assert bench.engine.counters.first_tokens == 0
        await until(lambda: not bench.engine.connections)

    twin(play, linear_engine(step_ms=300.0))


def test_a_client_that_leaves_a_plain_engine_frees_its_seat(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        leaver, waiting = await bench.client(), await bench.client()
        leaver.send("POST", "/v1/chat/completions", chat(max_tokens=100_000))
        await until(lambda: bench.engine.pace.gauges().running == 1)
        waiting.send("POST", "/v1/chat/completions", chat(max_tokens=1))
        await until(lambda: bench.engine.pace.gauges().waiting == 1)
        leaver.leave()
        assert (await waiting.read()).status == 200

    plain(play, ttft_ms=5.0, tpot_ms=50.0, seats=1)


def test_a_reader_that_stops_reading_costs_no_memory_and_gets_every_token(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": 60_000, "stream": True})
        await until(lambda: any(connection.is_paused for connection in bench.engine.connections))
        (connection,) = bench.engine.connections
        transport = connection._transport
        assert transport is not None
        assert bench.engine.counters.output_tokens <= 60_000
        answered = await client.read()
        assert len(answered.events()) == 60_001
        assert answered.events()[-1] == "[DONE]"

    plain(play, ttft_ms=1.0, tpot_ms=0.02)


def test_requests_on_one_connection_are_answered_in_order(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        for number in range(1, 21):
            client.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": number})
        client.send("GET", "/health")
        got = [(await client.read()).json()["usage"]["completion_tokens"] for _ in range(20)]
        assert got == list(range(1, 21))
        assert (await client.read()).status == 200

    plain(play)
    plain(play, ttft_ms=1.0)


def test_old_clients_and_those_that_say_so_are_hung_up_on(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        for headers, version in (("connection: close\r\n", "1.1"), ("", "1.0")):
            client = await bench.client()
            client.send("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2}, headers=headers, version=version)
            answered = await client.read()
            assert answered.headers["connection"] == "close"
            assert await client.reader.read() == b""

    plain(play)


def test_a_client_that_asks_first_is_told_to_go_on(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(b"POST /v1/completions HTTP/1.1\r\ncontent-length: 15\r\nexpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(b'{"prompt": "a"}')
        assert (await client.read()).status == 200

    plain(play)


def test_embeddings_are_floats_or_base64_of_the_same(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        asked = {"model": "mock", "input": ["one two", "three"], "dimensions": 8}
        floats = (await bench.ask("/v1/embeddings", asked)).json()
        packed = (await bench.ask("/v1/embeddings", {**asked, "encoding_format": "base64"})).json()
        assert [len(one["embedding"]) for one in floats["data"]] == [8, 8]
        assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
        for plainly, shortly in zip(floats["data"], packed["data"], strict=True):
            values = struct.unpack("<8f", base64.b64decode(shortly["embedding"]))
            assert values == pytest.approx(plainly["embedding"], abs=1e-6)

    plain(play)


def test_models_health_and_unknown_paths(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        listed = (await bench.ask("/v1/models")).json()
        assert [one["id"] for one in listed["data"]] == ["mock"]
        assert (await bench.ask("/v1/models/mock")).json()["object"] == "model"
        assert (await bench.ask("/v1/models/other")).status == 404
        assert (await bench.ask("/health")).status == 200
        assert (await bench.ask("/nothing")).json()["error"]["code"] == 404
        assert (await bench.ask("/v1/completions")).status == 405

    plain(play)


def test_a_key_that_is_asked_for_must_be_given(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        asked = {"prompt": "a", "max_tokens": 1}
        for headers in ("", "authorization: Bearer wrong\r\n", "authorization: secret\r\n"):
            assert (await bench.ask("/v1/completions", asked, headers=headers)).status == 401
        assert (await bench.ask("/v1/models")).status == 401
        assert (await bench.ask("/health")).status == 200
        answered = await bench.ask("/v1/completions", asked, headers="authorization: Bearer secret\r\n")
        assert answered.status == 200

    plain(play, api_key="secret")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"no http at all\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 12_000 + b"\r\n", 431),
        (b"GET /" + b"y" * 70_000, 431),
    ],
    ids=["no http", "two lengths", "a long header", "many headers", "an endless target"],
)
def test_what_is_no_request_is_refused_and_hung_up_on(plain: Run, data: bytes, status: int) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(data)
        answered = await client.read()
        assert (answered.status, answered.headers["connection"]) == (status, "close")
        assert await client.reader.read() == b""
        assert (await bench.ask("/health")).status == 200

    plain(play)


def test_a_client_that_wants_another_protocol_is_answered_in_this_one_and_hung_up_on(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send("GET", "/health", headers="connection: upgrade\r\nupgrade: websocket\r\n")
        assert (await client.read()).status == 200
        assert await client.reader.read() == b""

    plain(play)


def test_the_state_and_the_faults_are_told_to_this_machine(plain: Run) -> None:
    async def play(bench: Bench) -> None:
        assert (await bench.ask("/mock/state")).json()["gauges"]["running"] == 0
        assert (await bench.ask("/mock/faults", {"faults": "status=503"})).json() == {"faults": ["status=503"]}
        refused = await bench.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})
        assert (refused.status, refused.json()["error"]["type"]) == (503, "InternalServerError")
        assert (await bench.ask("/mock/faults", {"faults": "nonsense"})).status == 400
        assert (await bench.ask("/mock/faults", method="DELETE")).json() == {"faults": []}
        assert (await bench.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})).status == 200

    plain(play)
