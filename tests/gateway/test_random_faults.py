"""A thousand requests through engines and clients that fail at random: each ends once, in one of the ways there are.

The engines reset at any byte, stall, stop half-way, talk nonsense, answer 5xx, begin late and lie about lengths; the
clients leave, do not read, or send half. Draws come from a seed that the test names, so a failure can be run again.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    STREAM_EVENTS,
    STREAM_HEAD,
    Gateway,
    Script,
    Served,
    framed,
    read_answer,
    request,
    running_gateway,
    scripted_engine,
    serves,
    wait_for,
    whole,
)

from gridctl.broker.plan import Settings

BODY = json.dumps(ANSWER).encode()
STREAM = STREAM_HEAD + b"".join(map(framed, STREAM_EVENTS)) + b"0\r\n\r\n"


def faulty(seed: int, of: int = 20) -> Script:
    """A script that fails 11 times `of` so many, each time in another way."""
    draw = random.Random(seed)

    async def script(served: Served) -> None:
        kind = draw.randrange(of)
        raw = STREAM if served.said.get("stream") else whole(BODY)
        if kind == 0:
            served.reset()
        elif kind in (1, 2):  # reset at byte k
            served.send(raw[: draw.randrange(1, len(raw))])
            await served.writer.drain()
            await asyncio.sleep(0.002)
            served.reset()
        elif kind == 3:  # closed at byte k
            served.send(raw[: draw.randrange(1, len(raw))])
            served.writer.close()
        elif kind == 4:  # stalls at byte k, until the gateway has had enough
            served.send(raw[: draw.randrange(len(raw))])
            await served.gone()
        elif kind == 5:
            served.send(bytes(draw.randrange(256) for _ in range(200)))
        elif kind == 6:
            served.send(whole(b'{"error":{"message":"x"}}', draw.choice([500, 502, 503, 504, 429])))
        elif kind == 7:
            await asyncio.sleep(0.05)
            served.send(raw)
        elif kind == 8:  # a length that is too long
            served.send(whole(BODY).replace(b"content-length: ", b"content-length: 9"))
            served.writer.close()
        elif kind == 9:  # and one that is too short
            served.send(whole(BODY).replace(b"content-length: 2", b"content-length: 1"))
        elif kind == 10:
            served.send(raw.replace(b"HTTP/1.1 200", b"HTTP/1.1 2x0"))
        else:
            for at in range(0, len(raw), 97):
                served.send(raw[at : at + 97])
                await asyncio.sleep(0)

    return script


def one_client(gateway: Gateway, seed: int, requests: int) -> Counter[str]:
    """What one client sees of its requests; every answer must be whole and well-formed or plainly broken off."""
    draw, seen = random.Random(seed), Counter[str]()
    connection, held = gateway.connect(), bytearray()
    for _ in range(requests):
        is_stream = draw.random() < 0.5
        raw = request({**CHAT, "stream": is_stream, "seed": draw.randrange(1 << 30)})
        behaviour = draw.randrange(12)
        try:
            if behaviour == 0:  # leaves in the middle of its request
                connection.sendall(raw[: draw.randrange(1, len(raw))])
                raise ConnectionAbortedError
            connection.sendall(raw)
            if behaviour == 1:  # leaves at once
                raise ConnectionAbortedError
            if behaviour == 2:  # leaves after the first bytes
                connection.recv(64)
                raise ConnectionAbortedError
            answer = read_answer(connection, held)
        except ConnectionAbortedError:
            seen["left"] += 1
            connection.close()
            connection, held = gateway.connect(), bytearray()
            continue
        except ConnectionError:
            seen["broken"] += 1
            connection.close()
            connection, held = gateway.connect(), bytearray()
            continue
        seen[judged(answer.status, answer.headers, answer.body, answer.is_complete, is_stream)] += 1
        if not answer.is_complete or answer.headers.get("connection") == "close":
            connection.close()
            connection, held = gateway.connect(), bytearray()
    connection.close()
    return seen


def judged(status: int, headers: dict[str, str], body: bytes, is_complete: bool, is_stream: bool) -> str:
    """`success`, `error` or `broken`; fails for anything in between."""
    if not is_complete:
        return "broken"
    if status != 200:
        assert json.loads(body)["error"]["message"]
        return "error"
    if headers["content-type"] != "text/event-stream":
        # A length that lied by being short is the one thing that nobody can see.
        assert body in (BODY, BODY[: len(BODY) - 100])
        return "success"
    assert is_stream
    events = body.removesuffix(b"\n\n").split(b"\n\n")
    decoded = [json.loads(one.removeprefix(b"data: ")) for one in events if one != b"data: [DONE]"]
    if any("error" in one for one in decoded):
        assert b"[DONE]" not in body
        return "error"
    assert any(one["choices"][0]["finish_reason"] for one in decoded if one["choices"])
    return "success"


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_ends_in_exactly_one_way_and_the_counters_add_up(seed: int) -> None:
    settings = Settings(anonymous=True, stream_stall_ms=100, first_byte_timeout_ms=100, connect_timeout_ms=500)
    clients, each = 16, 50
    with (
        scripted_engine(faulty(seed)) as one,
        scripted_engine(faulty(seed + 100)) as two,
        scripted_engine(serves) as good,
        running_gateway([one.url, two.url, good.url], settings) as gateway,
    ):
        gateway.broker.rotates = True
        with ThreadPoolExecutor(clients) as pool:
            results = [pool.submit(one_client, gateway, seed * 1000 + number, each) for number in range(clients)]
            seen = sum((result.result(60) for result in results), Counter[str]())
        gateway.settled()
        wait_for(lambda: gateway.serving.limits.connections == 0)
        rows = Counter(row.outcome for row in gateway.meter.rows)
        assert sum(seen.values()) == clients * each
        # Every choice of the broker was ended once; every request has one row; nothing is left behind.
        assert len(gateway.broker.ended_with) == sum(row.attempts for row in gateway.meter.rows)
        assert seen["success"] <= rows["completed"]
        assert seen["error"] + seen["broken"] <= rows["failed"] + rows["completed"] + rows["rejected"] + rows["expired"]
        assert rows["refused"] == 0
        assert rows["cancelled"] <= seen["left"]
        assert rows["completed"] + rows["failed"] + rows["cancelled"] + rows["rejected"] == len(gateway.meter.rows)
        assert len(gateway.meter.rows) <= clients * each
        assert seen["success"] > 0.6 * clients * each
        assert gateway.serving.limits.held_body_bytes == 0
        assert gateway.server.errors == 0
        pools = [upstream.pool for upstream in gateway.serving.upstreams.values()]
        wait_for(lambda: all(pool.open_now == pool.idle for pool in pools))


def payload_of(raw: bytes) -> bytes:
    """What of a chunked body has come, read without any checks."""
    payload, rest = b"", raw.partition(b"\r\n\r\n")[2]
    while b"\r\n" in rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        payload, rest = payload + rest[:size], rest[size + 2 :]
    return payload


def test_a_stream_cut_at_any_byte_is_whole_or_an_error_and_never_cut_in_silence() -> None:
    cuts = list(range(0, len(STREAM), 3))
    at = iter(cuts)

    async def script(served: Served) -> None:
        served.send(STREAM[: next(at)])
        await served.writer.drain()
        served.writer.close()

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway:
        for cut in cuts:
            with gateway.connect() as connection:
                connection.sendall(request({**CHAT, "stream": True, "seed": cut}))
                answer = read_answer(connection)
            verdict = judged(answer.status, answer.headers, answer.body, answer.is_complete, True)
            payload = payload_of(STREAM[:cut])
            is_whole = b'"stop"' in payload and payload.endswith(b"\n\n")
            assert verdict == ("success" if is_whole else "error"), cut
        gateway.settled()
