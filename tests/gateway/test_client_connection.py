"""A client's connection: order, keep-alive, limits, deadlines and leaving."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    STREAMED,
    Gateway,
    Served,
    answers,
    ask,
    plan_of,
    read_answer,
    request,
    running_gateway,
    scripted_engine,
    serves,
    wait_for,
)

from gridctl.broker.plan import Settings
from gridctl.signals.directory import Directory, Objective, WorkloadRow


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with scripted_engine(serves) as engine, running_gateway([engine.url]) as running:
        yield running


def quick(**times: int) -> Settings:
    return Settings(anonymous=True, **times)


def closed_by_peer(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"".join(request(CHAT, more=b"x-request-id: r%d\r\n" % number) for number in range(20)))
        held = bytearray()
        answered = [read_answer(connection, held).headers["x-request-id"] for _ in range(20)]
    assert answered == [f"r{number}" for number in range(20)]
    gateway.settled()


def test_local_answers_and_errors_keep_their_place_among_pipelined_requests(gateway: Gateway) -> None:
    health = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"
    with gateway.connect() as connection:
        wrong = request(CHAT, path="/v1/nothing")
        connection.sendall(health + request(CHAT) + request(b"{") + wrong + health + request(STREAMED) + health)
        held = bytearray()
        statuses = [read_answer(connection, held).status for _ in range(7)]
    assert statuses == [200, 200, 400, 404, 200, 200, 200]
    gateway.settled()


@pytest.mark.parametrize("step", [1, 7])
def test_a_request_may_come_in_any_pieces(gateway: Gateway, step: int) -> None:
    raw = request(CHAT)
    with gateway.connect() as connection:
        for at in range(0, len(raw), step):
            connection.sendall(raw[at : at + step])
        assert read_answer(connection).json == ANSWER


def test_a_chunked_body_is_as_good_as_one_with_a_length(gateway: Gateway) -> None:
    body = json.dumps(CHAT).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    with gateway.connect() as connection:
        connection.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert read_answer(connection).json == ANSWER


def test_a_client_that_expects_100_is_told_to_go_on_before_it_sends_its_body(gateway: Gateway) -> None:
    body = json.dumps(CHAT).encode()
    with gateway.connect() as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_answer(connection).status == 200


def test_http_1_0_gets_an_answer_and_a_closed_connection(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(request(CHAT, version=b"1.0"))
        assert read_answer(connection).headers["connection"] == "close"
        assert closed_by_peer(connection)


def test_an_http_1_0_stream_ends_with_the_connection_and_is_not_chunked(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(request(STREAMED, version=b"1.0"))
        answer = read_answer(connection)
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.startswith(b"data: {")


def test_connection_close_is_honoured(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(request(CHAT, more=b"connection: close\r\n"))
        assert read_answer(connection).headers["connection"] == "close"
        assert closed_by_peer(connection)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /v1/chat/completions HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"POST /v1/unknown HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 404),
        (b"POST /v1/chat%2Fcompletions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 404),
        (b"POST /v1/../v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 404),
        (b"POST /health HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        (b"GET /v1/models/none HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        (b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer wrong\r\n\r\n", 401),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", 400),
    ],
)
def test_what_is_not_served_is_a_well_formed_error_and_the_connection_stays(
    gateway: Gateway, raw: bytes, status: int
) -> None:
    with gateway.connect() as connection:
        connection.sendall(raw)
        answer = read_answer(connection)
        assert answer.status == status
        assert answer.json["error"]["message"]
        connection.sendall(request(CHAT))
        assert read_answer(connection).status == 200


def test_models_and_health_are_answered_here(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        for path, expected in (("/health", {"status": "ok"}), ("/v1/models/tiny", None), ("/v1/models", None)):
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
            answer = read_answer(connection)
            assert answer.status == 200
            assert expected is None or answer.json == expected
        assert [model["id"] for model in answer.json["data"]] == ["tiny"]


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n",
    ],
    ids=["nonsense", "length and coding", "bad chunk", "huge head", "huge body"],
)
def test_what_cannot_be_read_is_answered_and_closed_and_nothing_behind_it_is_served(
    gateway: Gateway, raw: bytes
) -> None:
    requests = len(gateway.meter.rows)
    with gateway.connect() as connection:
        connection.sendall(raw + request(CHAT) * 3)
        answer = read_answer(connection)
        assert 400 <= answer.status < 500
        assert answer.headers["connection"] == "close"
        assert closed_by_peer(connection)
    wait_for(lambda: len(gateway.meter.rows) == requests + 1)
    assert gateway.meter.rows[-1].outcome == "refused"
    assert gateway.serving.limits.held_body_bytes == 0


def test_a_head_that_does_not_come_is_given_up() -> None:
    with (
        running_gateway([], quick(head_timeout_ms=100)) as gateway,
        gateway.connect() as silent,
        gateway.connect() as slow,
    ):
        slow.sendall(b"POST /v1/chat/comple")
        assert read_answer(slow).status == 408
        assert closed_by_peer(silent)
        wait_for(lambda: gateway.serving.limits.connections == 0)


def test_a_body_that_does_not_go_on_is_given_up() -> None:
    with running_gateway([], quick(body_timeout_ms=100)) as gateway, gateway.connect() as slow:
        slow.sendall(request(CHAT)[:-5])
        assert read_answer(slow).status == 408
        assert closed_by_peer(slow)
        assert gateway.serving.limits.held_body_bytes == 0


def test_hundreds_of_slow_clients_hold_little_and_harm_nobody() -> None:
    with scripted_engine(answers) as engine, running_gateway([engine.url], quick(head_timeout_ms=1000)) as gateway:
        slow = [gateway.connect() for _ in range(300)]
        for connection in slow:
            connection.sendall(b"POST /v1/ch")
        assert ask(gateway).status == 200
        statuses = {read_answer(connection).status for connection in slow}
        for connection in slow:
            connection.close()
        assert statuses == {408}
        wait_for(lambda: gateway.serving.limits.connections == 0)


def test_an_idle_connection_is_closed_after_its_time() -> None:
    with (
        scripted_engine(answers) as engine,
        running_gateway([engine.url], quick(keep_alive_ms=100)) as gateway,
        gateway.connect() as connection,
    ):
        connection.sendall(request(CHAT))
        assert read_answer(connection).status == 200
        started = time.monotonic()
        assert closed_by_peer(connection)
        assert time.monotonic() - started < 3


def test_an_address_with_too_many_connections_is_told_so_and_others_wait_their_turn() -> None:
    settings = quick(max_connections_per_address=2)
    with scripted_engine(answers) as engine, running_gateway([engine.url], settings) as gateway:
        first, second = gateway.connect(), gateway.connect()
        wait_for(lambda: gateway.serving.limits.connections == 2)
        with gateway.connect() as third:
            assert read_answer(third).status == 429
        wait_for(lambda: gateway.serving.limits.connections == 2)
        first.close()
        wait_for(lambda: gateway.serving.limits.connections == 1)
        assert ask(gateway).status == 200
        second.close()


def test_at_the_cap_accepting_pauses_and_nobody_is_dropped() -> None:
    with scripted_engine(answers) as engine, running_gateway([engine.url], quick(max_connections=2)) as gateway:
        held = [gateway.connect(), gateway.connect()]
        wait_for(lambda: gateway.serving.limits.connections == 2)
        with gateway.connect() as waiting:
            waiting.sendall(request(CHAT))
            wait_for(lambda: gateway.server.pauses)
            assert gateway.serving.limits.connections == 2
            held[0].close()
            assert read_answer(waiting).status == 200
        held[1].close()


def test_a_client_that_half_closes_is_gone_unless_it_is_given_grace() -> None:
    answering: list[bool] = []

    async def later(served: Served) -> None:
        if not answering:
            await served.gone()
            raise ConnectionError
        await asyncio.sleep(0.05)
        await answers(served)

    with scripted_engine(later) as engine, running_gateway([engine.url]) as gateway, gateway.connect() as connection:
        connection.sendall(request(CHAT))
        connection.shutdown(socket.SHUT_WR)
        assert closed_by_peer(connection)
        gateway.settled()
        assert gateway.meter.rows[-1].outcome == "cancelled"
        answering.append(True)
        gateway.serving.half_close_grace_ns = 5_000_000_000
        with gateway.connect() as connection:
            connection.sendall(request(CHAT))
            connection.shutdown(socket.SHUT_WR)
            assert read_answer(connection).json == ANSWER
            assert closed_by_peer(connection)
        gateway.settled()
        assert gateway.meter.rows[-1].outcome == "completed"


def test_a_bug_of_ours_is_an_error_with_nothing_in_it_and_others_are_served(
    gateway: Gateway, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = ask(gateway, {**CHAT, "model": "explode"})
    assert answer.status == 500
    assert answer.json["error"]["code"] == "internal_error"
    assert ask(gateway).status == 200
    gateway.settled()
    said = capfd.readouterr().err
    assert "RuntimeError" in said
    assert "hi" not in said.split()


def test_a_request_that_missed_its_objective_is_counted_so() -> None:
    async def late(served: Served) -> None:
        await asyncio.sleep(0.03)
        await serves(served)

    directory = Directory(workloads=(WorkloadRow("other"), WorkloadRow("chat", (Objective("e2e_ms", 10_000_000),))))
    with scripted_engine(late) as engine, running_gateway([engine.url], directory=directory) as gateway:
        ask(gateway)
        gateway.settled()
        assert gateway.meter.rows[-1].objective_misses == ("e2e_ms",)


def test_a_new_plan_is_served_without_losing_what_is_under_way() -> None:
    async def slow(served: Served) -> None:
        await asyncio.sleep(0.1)
        await answers(served)

    with (
        scripted_engine(slow) as old,
        scripted_engine(answers) as new,
        running_gateway([old.url]) as gateway,
        gateway.connect() as connection,
    ):
        connection.sendall(request(CHAT))
        wait_for(lambda: old.requests)

        async def reload() -> None:
            gateway.serving.reload(plan_of([new.url], generation=2))

        gateway.call(reload())
        assert ask(gateway).status == 200
        assert len(new.requests) == 1
        assert read_answer(connection).json == ANSWER
        gateway.settled()
        wait_for(lambda: old.open == 0)
