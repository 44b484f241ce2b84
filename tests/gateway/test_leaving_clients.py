"""Clients that leave, in every window, and clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from gateway_parts import (
    CHAT,
    STREAM_EVENTS,
    STREAM_HEAD,
    STREAMED,
    USAGE_EVENT,
    Script,
    Served,
    event,
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

ABORT_WITHIN_S = 0.02
SLACK_S = 0.1
"""For a machine that has other things to do; the figure of the bench is the strict one."""
TRIES = 3
"""One of so many is not disturbed."""


async def silent(served: Served) -> None:
    await served.gone()
    raise ConnectionError


async def streams_forever(served: Served) -> None:
    served.send(STREAM_HEAD)
    while True:
        served.send(framed(event({"content": "x"})))
        await served.writer.drain()
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """A listener whose queue is full, so that a connection to it stays half open."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for filler in fillers:
            filler.close()


def leave(connection: socket.socket, *, abruptly: bool) -> float:
    """Close the client's connection, by a reset or in the usual way; when."""
    if abruptly:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    now = time.monotonic()
    connection.close()
    return now


@pytest.mark.parametrize("abruptly", [True, False], ids=["reset", "close"])
@pytest.mark.parametrize("body", [CHAT, STREAMED], ids=["whole", "stream"])
def test_a_client_that_leaves_before_the_first_byte_frees_the_engine_at_once(
    body: dict[str, object], abruptly: bool
) -> None:
    with scripted_engine(silent) as engine, running_gateway([engine.url]) as gateway:
        took = []
        for number in range(TRIES):
            engine.cancelled_at.clear()
            connection = gateway.connect()
            connection.sendall(request(body))
            wait_for(lambda number=number: len(engine.requests) == number + 1)
            left = leave(connection, abruptly=abruptly)
            wait_for(lambda: engine.cancelled_at)
            took.append(engine.cancelled_at[0] - left)
        assert min(took) < ABORT_WITHIN_S + SLACK_S
        gateway.settled()
        assert {(row.outcome, row.status, row.phase) for row in gateway.meter.rows} == {
            ("cancelled", 499, "before-first-byte")
        }
        assert gateway.broker.failures == []


@pytest.mark.parametrize("abruptly", [True, False], ids=["reset", "close"])
def test_a_client_that_leaves_a_stream_frees_the_engine_at_once(abruptly: bool) -> None:
    with scripted_engine(streams_forever) as engine, running_gateway([engine.url]) as gateway:
        took = []
        for _ in range(TRIES):
            engine.cancelled_at.clear()
            connection = gateway.connect()
            connection.sendall(request(STREAMED))
            connection.recv(10_000)
            left = leave(connection, abruptly=abruptly)
            wait_for(lambda: engine.cancelled_at)
            took.append(engine.cancelled_at[0] - left)
        assert min(took) < ABORT_WITHIN_S + SLACK_S
        gateway.settled()
        assert len(gateway.meter.rows) == TRIES
        for row in gateway.meter.rows:
            assert (row.outcome, row.reason, row.phase) == ("cancelled", "client-gone", "streaming")
            assert row.output_tokens > 0
            assert row.is_estimated


def test_a_client_that_leaves_while_its_request_waits_for_a_connection_leaves_nothing_behind() -> None:
    settings = Settings(anonymous=True, connect_timeout_ms=60_000)
    with unreachable() as url, running_gateway([url], settings) as gateway:
        connection = gateway.connect()
        connection.sendall(request(CHAT))
        wait_for(lambda: gateway.serving.in_flight == 1)
        connection.close()
        gateway.settled()
        (row,) = gateway.meter.rows
        assert (row.outcome, row.phase, row.sent_ns) == ("cancelled", "queued", -1)
        assert gateway.serving.upstreams[0].pool.waiting == 0


def test_requests_wait_in_order_for_an_engine_that_takes_one_connection() -> None:
    async def slow(served: Served) -> None:
        await asyncio.sleep(0.02)
        await serves(served)

    settings = Settings(anonymous=True, max_upstream_connections=1)
    with scripted_engine(slow) as engine, running_gateway([engine.url], settings) as gateway:
        connections = [gateway.connect() for _ in range(5)]
        for number, connection in enumerate(connections):
            connection.sendall(request(CHAT, more=b"x-request-id: r%d\r\n" % number))
            wait_for(lambda number=number: gateway.serving.in_flight == number + 1 or gateway.meter.rows)
        connections[3].close()
        for number, connection in enumerate(connections):
            if number != 3:
                assert read_answer(connection).status == 200
                connection.close()
        gateway.settled()
        assert engine.connections == 1
        served = [one.head.split(b"x-request-id: ")[1][:2] for one in engine.requests]
        assert served == [b"r0", b"r1", b"r2", b"r4"]


def test_a_client_that_leaves_in_the_middle_of_its_request_leaves_nothing_behind() -> None:
    with running_gateway([]) as gateway:
        for size in (10, 100, 150):
            connection = gateway.connect()
            connection.sendall(request(CHAT)[:size])
            wait_for(lambda: gateway.serving.limits.connections == 1)
            connection.close()
            wait_for(lambda: gateway.serving.limits.connections == 0)
        assert gateway.serving.limits.held_body_bytes == 0
        assert gateway.serving.in_flight == 0


def pouring(megabytes: int, poured: list[int]) -> Script:
    async def script(served: Served) -> None:
        served.send(STREAM_HEAD)
        block = framed(event({"content": "x" * 65_000}))
        for _ in range(megabytes * 16):
            served.send(block)
            await served.writer.drain()
            poured[0] += len(block)
        served.send(framed(event({}, "stop")) + b"0\r\n\r\n")

    return script


def test_a_client_that_does_not_read_stops_the_engine_and_holds_kilobytes() -> None:
    poured = [0]
    with scripted_engine(pouring(400, poured)) as engine, running_gateway([engine.url]) as gateway:
        connection = gateway.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.sendall(request(STREAMED))
        last = -1
        while last != poured[0]:  # until nothing flows any more
            last = poured[0]
            time.sleep(0.1)
        # What the kernel's own buffers on both hops hold, and no more.
        assert poured[0] < 30_000_000
        held = sum(client.transport.get_write_buffer_size() for client in gateway.server.connections)  # type: ignore[union-attr]
        assert held < 400_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000
        received = 0
        while received < 100_000_000:  # it reads again: everything flows again
            received += len(connection.recv(1 << 20))
        connection.close()
        gateway.settled()


def test_a_client_that_reads_slowly_is_served_and_one_that_stops_is_cut_off() -> None:
    settings = Settings(anonymous=True, write_stall_ms=300)
    poured = [0]
    with scripted_engine(pouring(20, poured)) as engine, running_gateway([engine.url], settings) as gateway:
        connection = gateway.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        connection.sendall(request(STREAMED))
        until = time.monotonic() + 1.0
        while time.monotonic() < until:  # slower than the engine, but it goes on
            assert connection.recv(8192)
            time.sleep(0.005)
        assert gateway.serving.in_flight == 1
        wait_for(lambda: gateway.serving.in_flight == 0)
        gateway.settled()
        (row,) = gateway.meter.rows
        assert (row.outcome, row.reason) == ("cancelled", "slow-client")
        wait_for(lambda: engine.open == 0)
        connection.close()


def test_thousands_of_requests_leave_as_many_objects_as_there_were() -> None:
    async def script(served: Served) -> None:
        served.send(whole(b"x" * 100))

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway, gateway.connect() as connection:

        def burst(count: int) -> int:
            held = bytearray()
            for _ in range(count // 50):
                connection.sendall(request(CHAT) * 50)
                for _ in range(50):
                    assert read_answer(connection, held).status == 200
            gateway.meter.rows.clear()
            gateway.broker.ended_with.clear()
            engine.requests.clear()
            gc.collect()
            return len(gc.get_objects())

        first = burst(500)
        assert abs(burst(2500) - first) < 200
        assert gateway.serving.limits.held_body_bytes == 0


def test_a_client_that_pipelines_and_does_not_read_is_not_served_on_until_it_reads() -> None:
    body = b"x" * 200_000

    async def script(served: Served) -> None:
        served.send(whole(body))

    with scripted_engine(script) as engine, running_gateway([engine.url]) as gateway, gateway.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.sendall(request(CHAT) * 200)
        last = -1
        while last != len(engine.requests):  # until nothing happens any more
            last = len(engine.requests)
            time.sleep(0.1)
        assert last < 60
        held = bytearray()
        for _ in range(200):
            assert read_answer(connection, held).body == body
        gateway.settled()


def test_an_idle_client_that_never_read_its_answer_is_cut_off() -> None:
    async def script(served: Served) -> None:
        served.send(whole(b"x" * 200_000))

    settings = Settings(anonymous=True, write_stall_ms=200)
    with scripted_engine(script) as engine, running_gateway([engine.url], settings) as gateway:
        with gateway.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request(CHAT) * 40)
            wait_for(lambda: gateway.serving.limits.connections == 0 and engine.requests)
            assert gateway.serving.limits.connections == 0
        gateway.settled()


@pytest.mark.parametrize("then", ["stream", "error", "nothing"])
def test_a_client_that_waits_for_a_stream_may_be_sent_signs_of_life(then: str) -> None:
    seen = threading.Event()

    async def late(served: Served) -> None:
        while not seen.is_set():
            await asyncio.sleep(0.005)
        if then == "stream":
            await serves(served)
        elif then == "error":
            served.send(whole(b'{"error":{"message":"no"}}', 500))
        else:
            served.reset()

    settings = Settings(anonymous=True, sse_keep_alive_ms=50)
    with scripted_engine(late) as engine, running_gateway([engine.url, engine.url], settings) as gateway:
        with gateway.connect() as connection:
            began = time.monotonic()
            connection.sendall(request(STREAMED))
            held = bytearray()
            while held.count(b": keep-alive\n\n") < 2:
                held += connection.recv(65536)
            seen.set()
            answer = read_answer(connection, held)
            took_s = time.monotonic() - began
        gateway.settled()
        assert (answer.status, answer.is_complete) == (200, True)
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-gridctl-site"] == "site-0"
        comments = answer.body.count(b": keep-alive\n\n")
        assert 2 <= comments <= took_s / 0.05
        rest = answer.body[comments * len(b": keep-alive\n\n") :]
        assert len(engine.requests) == 1  # a head that names an engine has gone: nobody else may serve it
        if then == "stream":
            assert rest == b"".join(one for one in STREAM_EVENTS if one != USAGE_EVENT)
        else:
            assert rest.startswith(b'data: {"error":{')
            assert b"[DONE]" not in rest


def test_the_last_answer_of_a_connection_is_read_to_its_end_by_a_slow_reader() -> None:
    async def script(served: Served) -> None:
        served.send(whole(b"x" * 250_000))

    settings = Settings(anonymous=True, write_stall_ms=400)
    with scripted_engine(script) as engine, running_gateway([engine.url], settings) as gateway:
        with gateway.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            connection.sendall(request(CHAT) * 7 + request(CHAT, more=b"connection: close\r\n"))
            received = 0
            while data := connection.recv(16_384):  # a second and more, five times what a stall may take
                received += len(data)
                time.sleep(0.008)
        assert received > 8 * 250_000
        assert len(engine.requests) == 8
