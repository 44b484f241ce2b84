"""Answers of engines, however they come, as the client gets them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    DONE,
    STREAM_EVENTS,
    STREAM_HEAD,
    STREAMED,
    USAGE_EVENT,
    Served,
    answers,
    ask,
    event,
    framed,
    plan_of,
    read_answer,
    request,
    running_gateway,
    scripted_engine,
    serves,
    streams,
    wait_for,
    whole,
)

BODY = json.dumps(ANSWER).encode()


def test_an_answer_in_one_piece_is_relayed_byte_for_byte_with_what_we_promise() -> None:
    odd = b'{ "choices" : [ ],\n\t"usage":{"prompt_tokens":12,"completion_tokens":7}, "x":1e-7 }\n'

    async def script(served: Served) -> None:
        served.send(
            whole(odd, more=b"openai-processing-ms: 12\r\nset-cookie: a=b\r\nx-gridctl-site: lie\r\nserver: x\r\n")
        )

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, more=b"x-request-id: mine\r\n")
        gateway.settled()
    assert answer.body == odd
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-gridctl-site"] == "site-0"
    assert answer.headers["x-gridctl-cluster"] == "cluster-0"
    assert answer.headers["x-gridctl-model-variant"] == "tiny/bf16"
    assert answer.headers["x-gridctl-workload"] == "chat"
    assert answer.headers["x-gridctl-cache"] == "bypass"
    assert answer.headers["x-gridctl-predicted-ttft-ms"] == "1.500"
    assert float(answer.headers["x-gridctl-usd"]) == 0.000125
    assert answer.headers["x-gridctl-attempts"] == "1"
    assert answer.headers["openai-processing-ms"] == "12"
    assert not {"set-cookie", "server"} & set(answer.headers)
    (row,) = gateway.meter.rows
    assert (row.outcome, row.status, row.prompt_tokens, row.output_tokens, row.is_estimated) == (
        "completed", 200, 12, 7, False,
    )  # fmt: skip
    assert gateway.broker.ended_with == [(0, "completed", 7)]


def test_the_request_reaches_the_engine_in_our_framing_and_without_the_clients_credentials() -> None:
    with scripted_engine(answers) as engine, running_gateway([engine.url + "/deep/v1"]) as gateway:
        ask(
            gateway,
            more=b"authorization: Bearer secret\r\nx-api-key: secret\r\ncookie: a=b\r\nx-forwarded-for: 1.2.3.4\r\n"
            b"anthropic-version: 2023-06-01\r\naccept-encoding: gzip\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n"
            b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n",
        )
        (served,) = engine.requests
    head = served.head.decode().lower()
    assert head.startswith("post /deep/v1/chat/completions http/1.1\r\n")
    assert f"host: 127.0.0.1:{engine.port}\r\n" in head
    assert "anthropic-version: 2023-06-01\r\n" in head
    assert "tracestate: a=b\r\n" in head
    assert "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-" in head
    assert "00f067aa0ba902b7" not in head
    for name in ("secret", "cookie", "forwarded", "x-hop", "gzip", "transfer-encoding", "x-gridctl"):
        assert name not in head
    assert json.loads(served.body) == CHAT


def test_an_engines_own_key_is_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ENGINE_KEY", "engine-key")
    with scripted_engine(answers) as engine, running_gateway([engine.url]) as gateway:
        plan = plan_of([engine.url], generation=2)
        keyed = msgspec.structs.replace(plan.backends[0], credential_env="TEST_ENGINE_KEY")

        async def reload() -> None:
            gateway.serving.reload(msgspec.structs.replace(plan, backends=(keyed,)))

        gateway.call(reload())
        ask(gateway, more=b"authorization: Bearer client-key\r\n")
        assert b"authorization: Bearer engine-key\r\n" in engine.requests[0].head
        assert b"client-key" not in engine.requests[0].head


@pytest.mark.parametrize(
    ("name", "raw", "keeps"),
    [
        ("by length", whole(BODY), True),
        ("chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed(BODY) + b"0\r\n\r\n", True),
        ("in many chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
         + b"".join(framed(BODY[at : at + 7]) for at in range(0, len(BODY), 7)) + b"0\r\nx: y\r\n\r\n", True),
        ("interim answers", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + whole(BODY), True),
        ("closing", whole(BODY, more=b"connection: close\r\n"), False),
        ("HTTP/1.0", whole(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 100_000])
def test_every_framing_of_an_answer_is_understood(name: str, raw: bytes, keeps: bool, step: int) -> None:
    async def script(served: Served) -> None:
        for at in range(0, len(raw), step):
            served.send(raw[at : at + step])
            await asyncio.sleep(0)
        if not keeps:
            served.writer.close()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        for _ in range(3):
            answer = ask(gateway)
            assert (answer.status, answer.body) == (200, BODY)
            assert "transfer-encoding" not in answer.headers
        gateway.settled()
        assert engine.connections == (1 if keeps else 3)


def test_an_answer_that_ends_with_the_connection_is_relayed_whole() -> None:
    async def script(served: Served) -> None:
        served.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + BODY)
        served.writer.close()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        assert ask(gateway).body == BODY
        gateway.settled()


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_an_engines_own_error_is_the_answer(status: int) -> None:
    error = b'{"error":{"message":"no","type":"BadRequestError","param":null,"code":%d}}' % status

    async def script(served: Served) -> None:
        served.send(whole(error, status))

    with scripted_engine(script) as engine, running_gateway([engine.url, engine.url]) as gateway:
        answer = ask(gateway)
        gateway.settled()
        assert (answer.status, answer.body) == (status, error)
        assert len(engine.requests) == 1
        (row,) = gateway.meter.rows
        assert (row.outcome, row.status) == ("completed", status)
        assert gateway.broker.failures == ([(0, "status-5xx")] if status >= 500 else [])
        # The client got what the engine said; but that was no answer, and nobody learns from it how long answers are.
        assert gateway.broker.ended_with == [(0, "failed" if status >= 500 else "refused", 0)]


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_stream_is_relayed_byte_for_byte_but_for_the_usage_we_asked_for(wants_usage: bool) -> None:
    body: dict[str, Any] = {**STREAMED, **({"stream_options": {"include_usage": True}} if wants_usage else {})}
    with scripted_engine(streams) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, body)
        gateway.settled()
    events = [one for one in STREAM_EVENTS if wants_usage or one != USAGE_EVENT]
    assert answer.body == b"".join(events)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store"
    (row,) = gateway.meter.rows
    assert (row.prompt_tokens, row.output_tokens, row.is_estimated, row.stream) == (12, 3, False, True)
    assert row.arrival_ns < row.sent_ns < row.first_byte_ns <= row.first_token_ns <= row.last_token_ns <= row.end_ns
    assert gateway.broker.first_tokens == 1


def test_an_engine_that_never_reports_usage_is_counted_by_its_deltas() -> None:
    async def script(served: Served) -> None:
        served.send(STREAM_HEAD + framed(event({"role": "assistant"})))
        for _ in range(5):
            served.send(framed(event({"content": "x"})))
        served.send(framed(event({}, "stop")) + framed(DONE) + b"0\r\n\r\n")

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        ask(gateway, STREAMED)
        gateway.settled()
        (row,) = gateway.meter.rows
        assert (row.output_tokens, row.is_estimated) == (5, True)


def test_a_stream_without_done_is_whole_after_a_finish_reason() -> None:
    async def script(served: Served) -> None:
        served.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        served.send(event({"content": "x"}) + event({}, "stop"))
        served.writer.close()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert answer.is_complete
        assert answer.body == event({"content": "x"}) + event({}, "stop")
        assert gateway.meter.rows[0].outcome == "completed"


def test_a_stream_that_said_it_is_over_is_not_waited_for() -> None:
    async def script(served: Served) -> None:
        served.send(STREAM_HEAD + framed(event({"content": "x"})) + framed(event({}, "stop")) + framed(DONE))
        await served.gone()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert answer.is_complete
        assert answer.body.endswith(DONE)
        assert gateway.meter.rows[0].outcome == "completed"


def test_a_stream_that_breaks_off_ends_with_an_error_event_and_without_done() -> None:
    async def script(served: Served) -> None:
        served.send(STREAM_HEAD + framed(event({"content": "one"})) + framed(event({"content": "two"})[:-9]))
        await served.writer.drain()
        await asyncio.sleep(0.02)
        served.reset()

    with scripted_engine(script) as engine, running_gateway([engine.url, engine.url]) as gateway:
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert answer.is_complete
        kept, error = answer.body.split(b"\n\n")[:2]
        assert kept + b"\n\n" == event({"content": "one"})
        assert json.loads(error.removeprefix(b"data: "))["error"]["message"]
        assert b"[DONE]" not in answer.body
        (row,) = gateway.meter.rows
        assert (row.outcome, row.reason, row.phase, row.attempts) == ("failed", "truncated", "streaming", 1)
        assert gateway.broker.failures == [(0, "truncated")]


def test_an_error_event_of_the_engine_is_relayed_and_counted_as_a_failure() -> None:
    async def script(served: Served) -> None:
        served.send(STREAM_HEAD + framed(event({"content": "x"})) + framed(b'data: {"error":{"message":"oom"}}\n\n'))
        served.send(framed(DONE) + b"0\r\n\r\n")

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert b"oom" in answer.body
        assert gateway.meter.rows[0].outcome == "failed"


@pytest.mark.parametrize("size", [1000, 256 * 1024 + 1, 3_000_000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_answer_is_relayed_whole_and_its_usage_found(size: int, is_chunked: bool) -> None:
    body = json.dumps({"data": "x" * size, "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()

    async def script(served: Served) -> None:
        if not is_chunked:
            served.send(whole(body))
            return
        served.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 50_000):
            served.send(framed(body[at : at + 50_000]))
        served.send(b"0\r\n\r\n")

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        with gateway.connect() as connection:
            connection.sendall(request(CHAT, path="/v1/embeddings") * 2)
            held = bytearray()
            assert [read_answer(connection, held).body == body for _ in range(2)] == [True, True]
        gateway.settled()
        assert {(row.outcome, row.prompt_tokens) for row in gateway.meter.rows} == {("completed", 9)}


def test_half_of_a_large_answer_ends_with_a_broken_connection() -> None:
    async def script(served: Served) -> None:
        served.send(whole(b"x" * 2_000_000)[:1_000_000])
        await served.writer.drain()
        served.writer.close()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway)
        gateway.settled()
        assert not answer.is_complete
        assert gateway.meter.rows[0].outcome == "failed"


def test_bytes_that_nobody_asked_for_end_the_connection_and_reach_nobody() -> None:
    async def script(served: Served) -> None:
        served.send(whole(BODY))
        await asyncio.sleep(0.02)
        served.send(whole(b'{"stolen":1}'))

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        for _ in range(3):
            assert ask(gateway).body == BODY
            wait_for(lambda: engine.open == 0)
        gateway.settled()


def test_two_answers_at_once_are_one_answer() -> None:
    async def script(served: Served) -> None:
        served.send(whole(BODY) + whole(b'{"stolen":1}'))

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        for number in range(3):
            assert ask(gateway).body == BODY
            assert engine.connections == number + 1
        gateway.settled()


def test_an_engine_that_streams_through_every_endpoint_keeps_its_connection() -> None:
    with scripted_engine(serves) as engine, running_gateway([engine.url]) as gateway, gateway.connect() as connection:
        held = bytearray()
        for _ in range(10):
            connection.sendall(request(STREAMED) + request(CHAT))
            assert read_answer(connection, held).is_complete
            assert read_answer(connection, held).json == ANSWER
        gateway.settled()
        assert engine.connections == 1
