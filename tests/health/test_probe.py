"""Probes of real listeners on loopback: what each trouble is called, and when which target has its turn."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import InputError
from gridctl.health.exchange import MOST_BYTES, Origin
from gridctl.health.outcome import Outcome, cause_of
from gridctl.health.probe import Prober, Settings, Target, is_same_model


class Listener:
    """Listens on loopback; `answers` maps a path to the bytes that are sent back, None sends nothing and stays."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | None] = {}
        self.heads: list[str] = []
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext | None = None) -> Listener:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            answer = self.answers.get(head.split(" ")[1], reply(404))
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def reply(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer with its length."""
    head = "".join(f"{one}\r\n" for one in (f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers))
    return f"{head}\r\n".encode() + body


Run = Callable[[Coroutine[Any, Any, Any]], Any]
QUICK = Settings(timeout_s=0.4)
PATIENT = Settings(timeout_s=10.0)
"""For what answers: a busy machine must not make a timeout of it."""
MODELS = b'{"object": "list", "data": [{"id": "org/Tiny@main", "object": "model"}]}'


def probed(
    run: Run, answers: dict[str, bytes | None], settings: Settings = PATIENT, **target: Any
) -> tuple[Outcome, Listener]:
    """One probe of a listener with these answers."""

    async def work() -> tuple[Outcome, Listener]:
        listener = await Listener().start()
        listener.answers = answers
        prober = Prober(lambda outcome: None, settings)
        try:
            return await prober.probe(Target(key="e", url=listener.url, **target)), listener
        finally:
            await listener.stop()

    found: tuple[Outcome, Listener] = run(work())
    return found


def test_an_endpoint_that_answers_has_passed(run: Run) -> None:
    outcome, listener = probed(run, {"/health": reply(200)})
    assert (outcome.cause, outcome.event, outcome.status) == ("ok", "probe-ok", 200)
    assert 0 < outcome.latency_ms < 400
    (head,) = listener.heads
    lines = head.lower().splitlines()
    assert lines[0] == "get /health http/1.1"
    assert f"host: 127.0.0.1:{listener.port}" in lines
    assert "connection: close" in lines
    assert not any(line.startswith("authorization") for line in lines)


def test_where_health_is_not_known_the_list_of_models_is_asked_from_then_on(run: Run) -> None:
    async def work() -> list[str]:
        listener = await Listener().start()
        listener.answers = {"/v1/models": reply(200, MODELS)}
        prober = Prober(lambda outcome: None, PATIENT)
        target = Target(key="e", url=listener.url)
        prober.retarget([target])
        try:
            assert [(await prober.probe(target)).cause for _ in range(2)] == ["ok", "ok"]
            return listener.paths
        finally:
            await listener.stop()

    assert run(work()) == ["/health", "/v1/models", "/v1/models"]


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (reply(500), "status", "it answers 500"),
        (reply(503, b"overloaded"), "status", "it answers 503"),
        (reply(503, b'{"error": {"message": "Loading model"}}'), "starting", "it is loading its model"),
        (reply(401), "status", "credential_env"),
        (
            reply(302, b"", "location: http://169.254.169.254/"),
            "status",
            "it sends elsewhere (http://169.254.169.254/)",
        ),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "garbage", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n", "garbage", "no HTTP answer"),
        (b"", "reset", "without a whole answer"),
        (b"HTTP/1.1 200", "reset", "without a whole answer"),
    ],
    ids=["500", "503", "loading", "401", "redirect", "ssh", "two-lengths", "nothing", "half"],
)
def test_what_an_endpoint_answers_has_a_word_and_a_sentence(run: Run, answer: bytes, cause: str, words: str) -> None:
    outcome, listener = probed(run, {"/health": answer})
    assert outcome.cause == cause
    assert words in outcome.detail
    assert outcome.event == ("probe-starting" if cause == "starting" else "probe-failed")
    assert len(listener.heads) == 1  # and nobody was asked elsewhere


def test_interim_answers_and_bodies_without_a_length_are_http_too(run: Run) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(200)
    assert probed(run, {"/health": interim})[0].cause == "ok"
    unframed = b"HTTP/1.0 200 OK\r\n\r\n" + MODELS
    assert probed(run, {"/v1/models": unframed}, model="tiny")[0].cause == "ok"
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(MODELS), MODELS)
    assert probed(run, {"/v1/models": chunked}, model="big")[0].cause == "wrong-model"


def test_an_endpoint_that_says_nothing_is_given_up_at_the_deadline_and_its_connection_closed(run: Run) -> None:
    async def work() -> None:
        listener = await Listener().start()
        listener.answers = {"/health": None}
        outcome = None
        while outcome is None or outcome.cause == "local":  # which is what a busy machine makes of it
            before = time.monotonic()
            outcome = await Prober(lambda outcome: None, QUICK).probe(Target(key="e", url=listener.url))
        assert 0.4 <= time.monotonic() - before < 5
        assert (outcome.cause, outcome.detail, outcome.status) == ("timeout", "no answer in 0.4 s", None)
        while listener.open:
            await asyncio.sleep(0.005)
        await listener.stop()

    run(work())


def test_a_body_without_end_is_cut_at_a_mebibyte(run: Run) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (2 * MOST_BYTES)
    outcome, _ = probed(run, {"/v1/models": endless}, Settings(timeout_s=10))
    assert (outcome.cause, "more than 1048576 bytes" in outcome.detail) == ("garbage", True)


def test_an_endpoint_that_answers_late_but_in_time_is_slow_and_has_passed(run: Run) -> None:
    outcome, _ = probed(run, {"/health": reply(200)}, Settings(slow_ms=0.0))
    assert (outcome.cause, outcome.event) == ("slow", "probe-ok")


def test_nothing_listening_is_refused(run: Run) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        target = Target(key="e", url=f"http://127.0.0.1:{holder.getsockname()[1]}")
        outcome = run(Prober(lambda outcome: None, PATIENT).probe(target))
    assert (outcome.cause, outcome.detail) == ("refused", "nothing listens there")


def test_an_engine_that_serves_another_model_is_found_out(run: Run) -> None:
    answers: dict[str, bytes | None] = {"/health": reply(200), "/v1/models": reply(200, MODELS)}
    outcome, listener = probed(run, answers, model="big")
    assert (outcome.cause, outcome.detail) == ("wrong-model", "it serves org/Tiny@main, not big")
    assert listener.paths == ["/health", "/v1/models"]
    assert probed(run, answers, model="tiny")[0].cause == "ok"
    for unknown in (reply(500), reply(200, b"[]"), reply(200, b'{"data": []}'), reply(404)):
        assert probed(run, {"/health": reply(200), "/v1/models": unknown}, model="big")[0].cause == "ok"


@pytest.mark.parametrize(
    ("declared", "served", "is_same"),
    [
        ("tiny", "tiny", True),
        ("meta-llama/Llama-3.1-8B", "llama-3.1-8b", True),
        ("tiny", "./tiny@main", True),
        ("tiny", "/models/tiny.gguf", True),
        ("tiny", "tiny-2", False),
        ("llama-3.1-8b", "llama-3.1-70b", False),
    ],
)
def test_names_of_one_model_differ_by_folder_revision_ending_and_case(
    declared: str, served: str, is_same: bool
) -> None:
    assert is_same_model(declared, served) is is_same
    assert is_same_model(served, declared) is is_same


def test_a_credential_goes_into_its_header_and_nowhere_else(run: Run) -> None:
    outcome, listener = probed(run, {"/health": reply(500)}, token="s3cret")
    assert "authorization: Bearer s3cret" in listener.heads[0]
    assert "s3cret" not in repr(outcome)


def test_a_name_that_does_not_resolve_is_the_name_service_s_trouble(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> Outcome:
        async def unknown(*_: object, **__: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown, raising=False)
        return await Prober(lambda outcome: None, QUICK).probe(Target(key="e", url="http://engine.invalid:8000"))

    outcome = run(work())
    assert (outcome.cause, outcome.detail) == ("dns", "its name does not resolve")


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[fe80::1]:8000"])
def test_link_local_addresses_are_not_asked(run: Run, url: str) -> None:
    outcome = run(Prober(lambda outcome: None, QUICK).probe(Target(key="e", url=url)))
    assert (outcome.cause, outcome.event) == ("forbidden", "probe-failed")


@pytest.mark.parametrize(
    "url", ["ftp://h", "http://", "http://user@h", "http://h:99999", "http://h/?a=1", "http://h/a\r\nx: y", "h:80", ""]
)
def test_an_address_that_is_none_is_refused_with_an_example(run: Run, url: str) -> None:
    with pytest.raises(InputError) as caught:
        Origin.of(url)
    assert caught.value.fix == "write for example http://10.0.0.5:8000"
    assert run(Prober(lambda outcome: None).probe(Target(key="e", url=url))).cause == "forbidden"


def test_an_origin_keeps_its_prefix_and_names_its_port_only_where_it_must() -> None:
    assert (Origin.of("https://h/api/").authority, Origin.of("https://h/api/").prefix) == ("h", "/api")
    assert Origin.of("http://[::1]:8000").authority == "[::1]:8000"
    assert Origin.of("http://h").port == 80


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
def test_what_this_machine_lacks_says_nothing_about_the_endpoint(number: int) -> None:
    cause, _ = cause_of(OSError(number, os.strerror(number)))
    assert cause == "local"
    assert Outcome(key="e", cause=cause, detail="", at_ns=0, latency_ms=0.0).event is None


def test_a_deadline_missed_because_this_process_was_busy_says_nothing_about_the_endpoint(run: Run) -> None:
    async def work() -> Outcome:
        listener = await Listener().start()
        listener.answers = {"/health": None}
        loop = asyncio.get_running_loop()
        until = time.monotonic() + 0.8

        def hog() -> None:
            while time.monotonic() < until:
                pass

        loop.call_later(0.1, hog)
        try:
            return await Prober(lambda outcome: None, QUICK).probe(Target(key="e", url=listener.url))
        finally:
            await listener.stop()

    outcome = run(work())
    assert (outcome.cause, outcome.event) == ("local", None)


def test_a_certificate_nobody_vouches_for_is_tls_trouble_and_one_the_operator_trusts_is_none(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def work() -> list[Outcome]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        listener = await Listener().start(context)
        listener.answers = {"/health": reply(200)}
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: None)  # the refused handshake
        target = Target(key="e", url=f"https://localhost:{listener.port}")
        trusting = Settings(ca_file=str(certificate[0]), timeout_s=5)
        try:
            return [
                await Prober(lambda outcome: None, settings).probe(target)
                for settings in (Settings(timeout_s=5), trusting)
            ]
        finally:
            await listener.stop()

    distrusted, trusted = run(work())
    assert (distrusted.cause, "certificate is not valid" in distrusted.detail) == ("tls", True)
    assert trusted.cause == "ok"


def test_every_target_has_its_turn_in_every_period_and_those_that_fail_more_often(run: Run) -> None:
    async def work() -> Counter[str]:
        listener = await Listener().start()
        listener.answers = {"/health": reply(200), "/bad/health": reply(500)}
        outcomes: list[Outcome] = []
        prober = Prober(outcomes.append, Settings(period_s=0.4, failing_period_s=0.1))
        good = [Target(key=f"good-{number}", url=listener.url) for number in range(20)]
        prober.retarget([*good, Target(key="bad", url=f"{listener.url}/bad")])
        task = asyncio.create_task(prober.run())
        while Counter(one.key for one in outcomes)["bad"] < 12:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        counts = Counter(one.key for one in outcomes)
        after = len(outcomes)
        while listener.open:
            await asyncio.sleep(0.005)
        assert len(outcomes) == after
        await listener.stop()
        return counts

    counts = run(work())
    assert len(counts) == 21
    assert max(counts[key] for key in counts if key != "bad") < counts["bad"]


def test_a_target_that_stays_keeps_its_turn_and_one_that_goes_is_not_asked_any_more(run: Run) -> None:
    async def work() -> None:
        listener = await Listener().start()
        listener.answers = {"/health": reply(200), "/new/health": reply(200)}
        outcomes: list[Outcome] = []
        prober = Prober(outcomes.append, Settings(period_s=60))
        stays, goes = (Target(key=key, url=listener.url) for key in ("stays", "goes"))
        prober.retarget([stays, goes])
        task = asyncio.create_task(prober.run())
        while len(outcomes) < 2:
            await asyncio.sleep(0.005)
        prober.retarget([stays, Target(key="moved", url=f"{listener.url}/new")])
        while len(outcomes) < 3:
            await asyncio.sleep(0.005)
        assert [one.key for one in outcomes[2:]] == ["moved"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.stop()

    run(work())


def test_no_more_are_under_way_at_once_than_may_be(run: Run) -> None:
    async def work() -> int:
        listener = await Listener().start()
        listener.answers = {"/health": None}
        outcomes: list[Outcome] = []
        prober = Prober(outcomes.append, Settings(period_s=0.05, timeout_s=0.1, concurrency=4, failing_period_s=0.05))
        prober.retarget(Target(key=str(number), url=listener.url) for number in range(30))
        task = asyncio.create_task(prober.run())
        while len({one.key for one in outcomes}) < 30:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.stop()
        return listener.most_open

    assert run(work()) <= 8  # four, and four whose closing the listener has not seen yet


def test_a_target_in_trouble_is_asked_out_of_turn_but_once_a_second(run: Run) -> None:
    async def work() -> None:
        listener = await Listener().start()
        listener.answers = {"/health": reply(200)}
        outcomes: list[Outcome] = []
        prober = Prober(outcomes.append, Settings(period_s=60))
        prober.hurry("e")
        prober.retarget([Target(key="e", url=listener.url)])
        task = asyncio.create_task(prober.run())
        while not outcomes:
            await asyncio.sleep(0.005)
        began = time.monotonic()
        while len(outcomes) < 3:
            prober.hurry("e")
            prober.hurry("unknown")
            await asyncio.sleep(0.005)
        assert time.monotonic() - began > 1.5
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await listener.stop()

    run(work())
