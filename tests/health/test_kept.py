"""What stays of a TLS endpoint between its probes, against real TLS listeners: who is asked how, and found out."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gridctl.health.kept import FRESH_EVERY, WHOLE_EVERY, Kept, Room
from gridctl.health.outcome import Outcome
from gridctl.health.probe import Prober, Settings, Target

Run = Callable[[Coroutine[Any, Any, Any]], Any]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Listener:
    """A TLS listener: `resumed` has an entry for each connection, whether it took a session up; `asked` one for each
    request, the number of its connection. `closes`: it ends every connection after an answer."""

    def __init__(self, certificate: tuple[Path, Path], *, closes: bool = False, tickets: bool = True) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        if not tickets:
            self.context.num_tickets = 0
        self.resumed: list[bool] = []
        self.asked: list[int] = []
        self.closes = closes
        self.answer = OK
        self.open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def target(self) -> Target:
        return Target(key="e", url=f"https://localhost:{self.port}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open.add(writer)
        number = len(self.resumed)
        self.resumed.append(bool(writer.get_extra_info("ssl_object").session_reused))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.append(number)
                writer.write(self.answer)
                await writer.drain()
                if self.closes or b"connection: close" in head:
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self.open.discard(writer)
            self._tasks.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


class Probing:
    """A prober with one target, probed by hand as often as a test likes."""

    def __init__(self, listener: Listener, authority: Path, **settings: Any) -> None:
        self.outcomes: list[Outcome] = []
        self.listener = listener
        self.prober = Prober(self.outcomes.append, Settings(ca_file=str(authority), timeout_s=5, **settings))
        self.prober.retarget([listener.target])

    async def probe(self, times: int = 1) -> list[Outcome]:
        """Each after the listener has seen the end of every connection that was closed."""
        found = []
        for _ in range(times):
            found.append(await self.prober.probe(self.listener.target))
            while self.listener.closes and self.listener.open:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        return found


def test_a_connection_serves_some_probes_and_then_a_fresh_one_resumes_its_session(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            outcomes = await probing.probe(3 * FRESH_EVERY)
            assert {one.cause for one in outcomes} == {"ok"}
            assert listener.asked == [0] * FRESH_EVERY + [1] * FRESH_EVERY + [2] * FRESH_EVERY
            assert listener.resumed == [False, True, True]
            probing.prober.retarget([])
            while listener.open:
                await asyncio.sleep(0.001)

    run(work())


def test_now_and_then_a_whole_handshake_sees_the_certificate_again(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            await probing.probe(2 * WHOLE_EVERY)
            whole = [listener.asked.index(number) for number, resumed in enumerate(listener.resumed) if not resumed]
            assert len(whole) == 3
            assert max(later - earlier for earlier, later in itertools.pairwise(whole)) <= WHOLE_EVERY
            probing.prober.retarget([])

    run(work())


def test_an_endpoint_that_leaves_no_connection_open_is_asked_over_resumed_ones(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def work() -> None:
        async with Listener(certificate, closes=True) as listener:
            outcomes = await Probing(listener, certificate[0]).probe(6)
            assert {one.cause for one in outcomes} == {"ok"}
            assert listener.asked == [0, 1, 2, 3, 4, 5]
            assert listener.resumed == [False, True, True, True, True, True]

    run(work())


def test_an_endpoint_without_sessions_is_asked_all_the_same(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate, closes=True, tickets=False) as listener:
            outcomes = await Probing(listener, certificate[0]).probe(4)
            assert {one.cause for one in outcomes} == {"ok"}
            assert listener.resumed == [False] * 4

    run(work())


def test_a_connection_that_was_forgotten_says_nothing_of_the_endpoint(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            assert [one.cause for one in await probing.probe()] == ["ok"]
            for writer in list(listener.open):
                writer.transport.abort()
            assert [one.cause for one in await probing.probe()] == ["ok"]
            assert listener.asked == [0, 1]
            probing.prober.retarget([])

    run(work())


def test_a_listener_that_is_gone_is_found_out_at_the_next_fresh_connection(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            await probing.probe()
            assert listener._server is not None
            listener._server.close()  # who is connected is served, nobody else
            causes = [one.cause for one in await probing.probe(FRESH_EVERY)]
            assert causes == ["ok"] * (FRESH_EVERY - 1) + ["refused"]

    run(work())


def test_after_a_failure_nothing_is_kept(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            await probing.probe()
            listener.answer = b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"
            assert [one.cause for one in await probing.probe()] == ["status"]
            listener.answer = OK
            assert [one.cause for one in await probing.probe()] == ["ok"]
            assert (listener.asked, listener.resumed) == ([0, 0, 1], [False, False])
            probing.prober.retarget([])

    run(work())


def test_what_comes_unasked_over_a_kept_connection_is_no_answer(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            probing = Probing(listener, certificate[0])
            listener.answer = OK + b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"
            first = await probing.probe()
            listener.answer = OK
            later = await probing.probe(2)
            assert [one.cause for one in (*first, *later)] == ["ok"] * 3
            assert 0 not in listener.asked[1:]
            probing.prober.retarget([])

    run(work())


def test_a_certificate_that_is_not_valid_for_the_host_gets_no_question(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: None)  # the refused handshake
        async with Listener(certificate) as listener:
            target = Target(key="e", url=f"https://127.0.0.1:{listener.port}", token="s3cret")
            prober = Prober(lambda outcome: None, Settings(ca_file=str(certificate[0]), timeout_s=5))
            outcome = await prober.probe(target)
            assert (outcome.cause, "certificate is not valid" in outcome.detail) == ("tls", True)
            assert listener.asked == []

    run(work())


def test_no_more_connections_are_kept_than_there_is_room_for(run: Run, certificate: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with Listener(certificate) as listener:
            prober = Prober(lambda outcome: None, Settings(ca_file=str(certificate[0]), timeout_s=5))
            prober._room = room = Room(2)
            targets = [Target(key=str(number), url=f"https://localhost:{listener.port}") for number in range(5)]
            prober.retarget(targets)
            for _ in range(2):
                for target in targets:
                    assert (await prober.probe(target)).cause == "ok"
            while len(listener.open) > 2:
                await asyncio.sleep(0.001)
            assert room.taken == 2
            assert listener.asked.count(0) == listener.asked.count(1) == 2
            prober.retarget([])
            assert room.taken == 0

    run(work())


def test_nothing_is_kept_without_a_connection() -> None:
    kept = Kept(Room(0))
    assert kept.take("127.0.0.1") is None
    assert not kept.may_stay_open
    kept.drop()


@pytest.mark.parametrize(
    ("garbage", "cause"),
    [(b"SSH-2.0-OpenSSH_9.9\r\n", "tls"), (b"\x16\x03\x01\x00\x02\x01", "reset"), (b"", "reset")],
    ids=["ssh", "half", "nothing"],
)
def test_who_speaks_no_tls_is_tls_trouble_or_hangs_up(run: Run, garbage: bytes, cause: str) -> None:
    async def work() -> Outcome:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1 << 16)
            writer.write(garbage)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
            return await Prober(lambda outcome: None, Settings(timeout_s=5)).probe(Target(key="e", url=url))

    assert run(work()).cause == cause
