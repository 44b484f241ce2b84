"""Failures of engines: what is tried again, where, how often, and what the client is told in the end."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    STREAM_HEAD,
    STREAMED,
    Gateway,
    Script,
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
    wait_for,
    whole,
)

from gridctl.broker.plan import Settings
from gridctl.gateway.engine import EngineConnection
from gridctl.gateway.pool import Pool


def nobody_there() -> str:
    """The URL of a port that refuses connections: taken, so that nobody else gets it, and not listened on."""
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    holder.detach()  # it stays taken until this process ends
    return f"http://127.0.0.1:{port}"


async def resets(served: Served) -> None:
    served.reset()


async def garbage(served: Served) -> None:
    served.send(b"220 mail.example ESMTP\r\n\r\n")


async def declines(served: Served) -> None:
    served.send(whole(b'{"error":{"message":"busy"}}', 503))


async def bad_gateway(served: Served) -> None:
    served.send(whole(b"", 502))


async def too_many(served: Served) -> None:
    served.send(whole(b"{}", 429, b"retry-after: 1\r\n"))


async def half(served: Served) -> None:
    served.send(whole(json.dumps(ANSWER).encode())[:-20])
    await served.writer.drain()
    served.writer.close()


async def stream_without_token(served: Served) -> None:
    served.send(STREAM_HEAD + framed(b'data: {"choices"'))
    await served.writer.drain()
    served.reset()


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (resets, "reset"),
        (garbage, "garbage"),
        (declines, "status-5xx"),
        (bad_gateway, "status-5xx"),
        (too_many, None),
        (half, "truncated"),
        (stream_without_token, "truncated"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("body", [CHAT, STREAMED], ids=["whole", "stream"])
def test_an_engine_that_fails_before_the_first_byte_is_replaced_by_another(
    broken: Script, failure: str | None, body: dict[str, object]
) -> None:
    with (
        scripted_engine(broken) as first,
        scripted_engine(serves) as second,
        running_gateway([first.url, second.url]) as gateway,
    ):
        answer = ask(gateway, body)
        gateway.settled()
        assert answer.status == 200
        assert answer.headers["x-gridctl-site"] == "site-1"
        assert answer.headers["x-gridctl-attempts"] == "2"
        assert len(second.requests) == 1
        assert gateway.broker.failures == ([(0, failure)] if failure else [])
        assert [(row, outcome) for row, outcome, _ in gateway.broker.ended_with] == [
            (0, "failed"),
            (1, "completed"),
        ]
        (row,) = gateway.meter.rows
        assert (row.outcome, row.attempts, row.backend) == ("completed", 2, 1)


def test_many_engines_may_be_unreachable_before_one_answers() -> None:
    with (
        scripted_engine(answers) as engine,
        running_gateway([nobody_there() for _ in range(6)] + [engine.url]) as gateway,
    ):
        answer = ask(gateway)
        gateway.settled()
        assert answer.status == 200
        assert answer.headers["x-gridctl-attempts"] == "7"
        assert [kind for _, kind in gateway.broker.failures] == ["connect-failed"] * 6


def test_when_nobody_can_be_reached_the_client_is_told_and_told_not_to_try_again() -> None:
    with running_gateway([nobody_there(), nobody_there()]) as gateway:
        answer = ask(gateway)
        gateway.settled()
        assert answer.status == 502
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json["error"]["code"] == "upstream_error"
        assert (gateway.meter.rows[0].outcome, gateway.meter.rows[0].reason) == ("failed", "connect-failed")


def test_when_there_is_no_engine_at_all_the_brokers_words_are_passed_on() -> None:
    with running_gateway([]) as gateway:
        answer = ask(gateway)
        assert (answer.status, answer.headers["retry-after-ms"], answer.headers["x-should-retry"]) == (
            503,
            "500",
            "true",
        )
        assert gateway.meter.rows[0].outcome == "rejected"


def test_the_last_engines_refusal_is_the_answer_when_there_is_no_other() -> None:
    with scripted_engine(declines) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway)
        gateway.settled()
        assert (answer.status, answer.json) == (503, {"error": {"message": "busy"}})
        assert gateway.meter.rows[0].outcome == "completed"


def test_what_broke_two_engines_is_not_tried_on_a_third_and_told_to_come_again() -> None:
    with (
        scripted_engine(resets) as first,
        scripted_engine(resets) as second,
        scripted_engine(answers) as third,
        running_gateway([first.url, second.url, third.url]) as gateway,
    ):
        answer = ask(gateway)
        assert answer.status == 502
        assert answer.headers["x-should-retry"] == "false"
        again = ask(gateway)
        assert (again.status, again.json["error"]["code"]) == (503, "service_unavailable")
        assert 500 <= int(again.headers["retry-after-ms"]) <= 5000
        gateway.settled()
        assert [len(engine.requests) for engine in (first, second, third)] == [1, 1, 0]
        assert ask(gateway, {**CHAT, "seed": 1}).status == 502  # another request is another matter


def test_a_kept_connection_that_the_engine_closed_meanwhile_is_no_failure() -> None:
    async def once(served: Served) -> None:
        if len(served.engine.requests) % 2:
            await answers(served)
        else:
            # Closed without a byte, as if the request had crossed the closing on its way.
            served.engine.requests.pop()
            served.writer.close()
            served.engine.script = answers

    with scripted_engine(once) as engine, running_gateway([engine.url]) as gateway, gateway.connect() as connection:
        for _ in range(2):
            connection.sendall(request(CHAT))
            assert read_answer(connection).status == 200
        gateway.settled()
        assert gateway.broker.failures == []
        assert [row.attempts for row in gateway.meter.rows] == [1, 1]
        assert engine.connections == 2


def test_an_idle_connection_is_closed_before_the_engine_would_close_it() -> None:
    async def brief(served: Served) -> None:
        served.send(whole(json.dumps(ANSWER).encode(), more=b"keep-alive: timeout=1\r\n"))

    with scripted_engine(brief) as engine, running_gateway([engine.url]) as gateway:
        assert ask(gateway).status == 200
        wait_for(lambda: not engine.open)
        assert ask(gateway).status == 200
        assert engine.connections == 2


def test_retries_of_refused_requests_keep_within_the_budget() -> None:
    settings = Settings(anonymous=True, retry_floor=2, retry_budget=0.0)
    together = asyncio.Event()

    async def declines_together(served: Served) -> None:
        if len(served.engine.requests) == 10:
            together.set()
        await together.wait()
        await declines(served)

    async def slow(served: Served) -> None:
        await asyncio.sleep(0.3)
        await answers(served)

    with (
        scripted_engine(declines_together) as first,
        scripted_engine(slow) as second,
        running_gateway([first.url, second.url], settings) as gateway,
        ThreadPoolExecutor(10) as clients,
    ):
        statuses = [one.result().status for one in [clients.submit(ask, gateway) for _ in range(10)]]
        gateway.settled()
        assert sorted(statuses) == [200, 200] + [503] * 8
        assert len(second.requests) == 2


def test_an_engine_that_does_not_begin_is_left_after_its_time() -> None:
    async def silent(served: Served) -> None:
        await served.gone()

    settings = Settings(anonymous=True, first_byte_timeout_ms=500)
    with (
        scripted_engine(silent) as first,
        scripted_engine(answers) as second,
        running_gateway([first.url, second.url], settings) as gateway,
    ):
        answer = ask(gateway)
        gateway.settled()
        assert answer.headers["x-gridctl-site"] == "site-1"
        assert gateway.broker.failures == [(0, "timeout")]


def test_a_stream_that_stands_still_ends_with_an_error_event() -> None:
    async def stands_still(served: Served) -> None:
        served.send(STREAM_HEAD + framed(event({"content": "x"})))
        await served.gone()

    settings = Settings(anonymous=True, stream_stall_ms=100)
    with scripted_engine(stands_still) as engine, running_gateway([engine.url]) as gateway:

        async def reload() -> None:
            gateway.serving.reload(plan_of([engine.url], settings, 2))

        gateway.call(reload())
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert b'"error"' in answer.body
        assert gateway.broker.failures == [(0, "stall")]
        assert gateway.meter.rows[0].reason == "upstream-stalled"


def test_a_deadline_ends_a_request_that_waits_and_the_engine_is_told_at_once() -> None:
    async def silent(served: Served) -> None:
        await served.gone()

    with scripted_engine(silent) as engine, running_gateway([engine.url]) as gateway:
        started = time.monotonic()
        answer = ask(gateway, {**CHAT, "deadline_s": 0.2})
        assert 0.2 <= time.monotonic() - started < 5.0
        assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_exceeded")
        gateway.settled()
        assert gateway.meter.rows[0].outcome == "expired"
        assert gateway.broker.failures == []  # the client was impatient: that says nothing about the engine
        wait_for(lambda: not engine.open)


def test_a_deadline_in_a_stream_is_an_error_event() -> None:
    async def slowly(served: Served) -> None:
        served.send(STREAM_HEAD)
        while not served.writer.is_closing():
            served.send(framed(event({"content": "x"})))
            await served.writer.drain()
            await asyncio.sleep(0.01)

    with scripted_engine(slowly) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway, {**STREAMED, "deadline_s": 0.2})
        gateway.settled()
        last = answer.body.rstrip().rsplit(b"\n\n", 1)[1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "deadline_exceeded"
        assert gateway.meter.rows[0].outcome == "expired"


def hedged(
    first: Script, second: Script, body: dict[str, object] = STREAMED, *, predicted_ttft_us: float = 1500.0
) -> tuple[Gateway, str, list[int]]:
    settings = Settings(anonymous=True, hedge=True, hedge_budget=1.0)
    with (
        scripted_engine(first) as one,
        scripted_engine(second) as two,
        running_gateway([one.url, two.url], settings) as gateway,
    ):
        gateway.broker.predicted_ttft_us = predicted_ttft_us
        answer = ask(gateway, body)
        gateway.settled()
        assert answer.body.endswith(b"data: [DONE]\n\n")
        if first is silent_script:
            wait_for(lambda: one.cancelled_at)
        return gateway, answer.headers["x-gridctl-site"], [len(one.requests), len(two.requests)]


async def silent_script(served: Served) -> None:
    await served.gone()


def test_a_hedge_serves_when_the_first_engine_does_not_begin_and_the_loser_is_cancelled() -> None:
    gateway, site, requests = hedged(silent_script, serves)
    assert (site, requests) == ("site-1", [1, 1])
    assert [(row, outcome) for row, outcome, _ in gateway.broker.ended_with] == [(0, "cancelled"), (1, "completed")]


def test_no_hedge_is_sent_when_the_first_engine_begins_in_time() -> None:
    _, site, requests = hedged(serves, serves, predicted_ttft_us=1e6)  # one that is a busy machine's, too
    assert (site, requests) == ("site-0", [1, 0])


def test_no_hedge_is_sent_where_no_engine_is_idle() -> None:
    async def late(served: Served) -> None:
        await asyncio.sleep(0.3)
        await serves(served)

    settings = Settings(anonymous=True, hedge=True, hedge_budget=1.0)
    with (
        scripted_engine(late) as one,
        scripted_engine(serves) as two,
        running_gateway([one.url, two.url], settings) as gateway,
    ):
        gateway.broker.busy = {1}
        answer = ask(gateway, STREAMED)
        gateway.settled()
        assert answer.headers["x-gridctl-site"] == "site-0"
        assert [len(one.requests), len(two.requests)] == [1, 0]
        assert gateway.serving.hedges.hedged == 0


@pytest.mark.parametrize(("second", "failure"), [(resets, "reset"), (declines, "status-5xx")], ids=["reset", "503"])
def test_a_hedge_that_fails_leaves_the_first_engine_to_serve(second: Script, failure: str) -> None:
    async def late(served: Served) -> None:
        await asyncio.sleep(1.0)  # a hedge goes out after 0.05
        await serves(served)

    gateway, site, requests = hedged(late, second)
    assert (site, requests) == ("site-0", [1, 1])
    assert gateway.broker.failures == [(1, failure)]


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://0.0.0.0:80", "http://user@127.0.0.1:1", "ftp://x"])
def test_an_engine_at_a_forbidden_address_gets_no_connection(url: str) -> None:
    with scripted_engine(answers) as engine, running_gateway([url, engine.url]) as gateway:
        assert ask(gateway).headers["x-gridctl-site"] == "site-1"
        gateway.settled()
        assert gateway.broker.failures == [(0, "connect-failed")]


def test_an_engine_whose_url_is_the_gateways_own_address_gets_no_connection() -> None:
    with running_gateway([]) as gateway:
        plan = plan_of([gateway.url], generation=2)

        async def reload() -> None:
            gateway.serving.reload(plan)

        gateway.call(reload())
        assert ask(gateway).status == 502
        gateway.settled()
        assert len(gateway.meter.rows) == 1


def test_a_worker_out_of_descriptors_blames_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(pool: Pool, addresses: object) -> EngineConnection:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Pool, "_connect", full)
    with scripted_engine(answers) as engine, running_gateway([engine.url]) as gateway:
        answer = ask(gateway)
        gateway.settled()
        assert (answer.status, answer.headers["x-should-retry"]) == (503, "true")
        assert "retry-after-ms" in answer.headers
        assert gateway.broker.failures == []
        assert (gateway.meter.rows[0].outcome, gateway.meter.rows[0].reason) == ("rejected", "no-descriptors")
