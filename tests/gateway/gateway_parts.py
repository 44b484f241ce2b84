"""Small objects of the tests in place of the broker, the meter and the board, and a scripted engine on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Container, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec

from gridctl.broker.ask import Ask, Principal
from gridctl.broker.choice import Choice
from gridctl.broker.plan import Backend, Plan, Settings
from gridctl.broker.refusal import Refusal, bad_request, unavailable
from gridctl.gateway.deadlines import Deadlines
from gridctl.gateway.server import Server
from gridctl.gateway.serving import Serving
from gridctl.signals.directory import Directory
from gridctl.signals.finished import Finished
from gridctl.signals.rows import SLOT_WORDS

Value = TypeVar("Value")
PRINCIPAL = Principal("anonymous", "client", "default")


class StandInBroker:
    """Gives engines out in order of their rows, and keeps an account of everything it is told."""

    def __init__(self, plan: Plan, *, deadline_s: float = 30.0) -> None:
        self.plan = plan
        self.deadline_s = deadline_s
        self.predicted_ttft_us = 1500.0
        self.open = 0
        self.ended_with: list[tuple[int, str, int]] = []
        self.failures: list[tuple[int, str]] = []
        self.successes = 0
        self.first_tokens = 0
        self.cursor = 0
        self.rotates = False
        self.busy: set[int] = set()

    def ask(self, head: Any, body: bytes, now_ns: int) -> Ask:
        try:
            said = json.loads(body)
        except ValueError:
            raise bad_request("The body of your request is not valid JSON.") from None
        if not isinstance(said, dict) or "model" not in said:
            raise bad_request("you must provide a model parameter", param="model")
        if said["model"] == "explode":
            raise RuntimeError("a bug of the broker")
        stream = bool(said.get("stream"))
        wants = bool((said.get("stream_options") or {}).get("include_usage"))
        return Ask(
            request_id="",
            endpoint=head.path,
            principal=PRINCIPAL,
            workload="chat",
            tenant="default",
            origin="paris",
            model=said["model"],
            arrival_ns=now_ns,
            deadline_ns=now_ns + int(float(said.get("deadline_s", self.deadline_s)) * 1e9),
            stream=stream,
            wants_usage=wants,
            prompt_tokens=10,
            least_tokens=1,
            text_bytes=40,
            media_tokens=0,
            max_tokens=None,
            output_tokens=20,
            draw=0,
            adds_usage=stream and not wants,
        )

    def decide(self, ask: Ask, now_ns: int, tried: Container[int] = ()) -> Choice:
        left = [backend for backend in self.plan.backends if backend.row not in tried]
        if not left:
            raise unavailable("No engine can take the request now.", reason="no-candidate", retry_after_ms=500)
        self.cursor += self.rotates
        backend = left[self.cursor % len(left)]
        self.open += 1
        return Choice(
            backend=backend,
            row=backend.row,
            facts=SimpleNamespace(),  # type: ignore[arg-type]
            generation=self.plan.generation,
            decided_ns=now_ns,
            predicted_ttft_us=self.predicted_ttft_us,
            predicted_tpot_us=100.0,
            engine_ttft_us=1000.0,
            engine_tpot_us=100.0,
            usd=0.000125,
            rtt_us=500.0,
            cached_tokens=0,
            candidates=len(left),
            reason="cheapest",
            runner_up=-1,
            seen=None,
            pending_tokens=10,
            kv_tokens=30,
        )

    def spare(self, ask: Ask, now_ns: int, tried: tuple[int, ...]) -> Choice | None:
        try:
            return self.decide(ask, now_ns, (*tried, *self.busy))
        except Refusal:
            return None

    def first_token(self, choice: Choice, ask: Ask, now_ns: int) -> None:
        assert choice.first_token_ns < 0, "first_token twice"
        choice.first_token_ns = now_ns
        self.first_tokens += 1

    def ended(
        self, choice: Choice, ask: Ask, outcome: str, output_tokens: int, now_ns: int, *, prompt_tokens: int = 0
    ) -> None:
        assert not choice.is_ended, "a choice ended twice"
        choice.is_ended = True
        self.open -= 1
        self.ended_with.append((choice.row, outcome, output_tokens))

    def failed(self, row: int, kind: str, now_ns: int) -> None:
        self.failures.append((row, kind))

    def succeeded(self, row: int, now_ns: int) -> None:
        self.successes += 1

    def upstream_body(self, ask: Ask, choice: Choice, body: bytes) -> bytes:
        return body

    def reload(self, plan: Plan) -> None:
        self.plan = plan

    def principal(self, head: Any) -> Principal:
        if head.headers.get(b"authorization") == b"Bearer wrong":
            raise Refusal(401, "Incorrect API key provided.", reason="unauthorized", type="authentication_error")
        return PRINCIPAL

    def models(self, principal: Principal) -> list[dict[str, object]]:
        return [{"id": "tiny", "object": "model", "created": 0, "owned_by": "gridctl"}]


class StandInMeter:
    def __init__(self) -> None:
        self.rows: list[Finished] = []

    def finished(self, request: Finished) -> None:
        self.rows.append(request)

    def refresh(self) -> None:
        return


class StandInBoard:
    def __init__(self, directory: Directory | None = None) -> None:
        self.words = memoryview(bytearray(64 * SLOT_WORDS * 8)).cast("q")
        self._directory = directory or Directory()

    def slot_words(self, worker: int) -> memoryview:
        return self.words

    def directory(self) -> Directory:
        return self._directory


@dataclass
class Gateway:
    """A gateway on a loopback port, in a loop of its own thread."""

    url: str
    port: int
    server: Server
    serving: Serving
    broker: StandInBroker
    meter: StandInMeter
    loop: asyncio.AbstractEventLoop

    def call(self, work: Coroutine[Any, Any, Value], timeout_s: float = 10.0) -> Value:
        """Run something in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def settled(self, timeout_s: float = 5.0) -> None:
        """Wait until no request is under way, then check that every choice was ended."""
        wait_for(lambda: self.serving.in_flight == 0, timeout_s)
        assert self.broker.open == 0
        assert self.serving.retries.retrying == 0


def wait_for(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Poll until it holds; fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextmanager
def in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    """A running event loop in a thread."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def plan_of(urls: Sequence[str], settings: Settings | None = None, generation: int = 1) -> Plan:
    return Plan(
        generation=generation,
        resources=(),
        backends=tuple(
            Backend(
                row=row, site=f"site-{row}", cluster=f"cluster-{row}", model="tiny", variant="bf16", url=url,
                served_model="tiny",
            )
            for row, url in enumerate(urls)
        ),
        settings=settings or Settings(anonymous=True),
    )  # fmt: skip


@contextmanager
def running_gateway(
    urls: Sequence[str],
    settings: Settings | None = None,
    *,
    deadline_s: float = 30.0,
    directory: Directory | None = None,
) -> Iterator[Gateway]:
    plan = plan_of(urls, settings)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = listener.getsockname()[1]
    broker, meter = StandInBroker(plan, deadline_s=deadline_s), StandInMeter()
    with in_thread() as loop:

        async def start() -> Server:
            serving = Serving(
                plan, broker, meter, StandInBoard(directory), 0, Deadlines(time.monotonic_ns()),  # type: ignore[arg-type]
                own=[("127.0.0.1", port)],
            )  # fmt: skip
            server = Server(serving, [listener])
            server.start()
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield Gateway(f"http://127.0.0.1:{port}", port, server, server.serving, broker, meter, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.closed(), loop).result(10)


# ── engines ──


Script = Callable[["Served"], Coroutine[Any, Any, None]]


@dataclass
class Served:
    """One request at a scripted engine."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes
    body: bytes
    engine: ScriptedEngine

    @property
    def said(self) -> dict[str, Any]:
        value: dict[str, Any] = msgspec.json.decode(self.body)
        return value

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        self.writer.transport.abort()

    async def gone(self) -> bool:
        """Wait until the gateway has closed the connection."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@dataclass
class ScriptedEngine:
    """An engine whose answers are written by a script. `cancelled_at` are the moments of lost connections."""

    script: Script
    url: str = ""
    port: int = 0
    requests: list[Served] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    cancelled_at: list[float] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)


@contextmanager
def scripted_engine(script: Script, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine(script)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine.connections += 1
        engine.open += 1
        engine.writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                served = Served(reader, writer, head, await reader.readexactly(length), engine)
                engine.requests.append(served)
                await engine.script(served)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # uvloop: written to after it closed
            engine.cancelled_at.append(time.monotonic())
        finally:
            engine.open -= 1
            writer.close()

    with in_thread() as own:

        async def start() -> asyncio.Server:
            return await asyncio.start_server(serve, "127.0.0.1", 0)

        server = asyncio.run_coroutine_threadsafe(start(), own).result(10)
        engine.port = server.sockets[0].getsockname()[1]
        engine.url = f"http://127.0.0.1:{engine.port}"
        try:
            yield engine
        finally:

            async def stop() -> None:
                server.close()
                current = asyncio.current_task()
                others = [task for task in asyncio.all_tasks() if task is not current]
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                for writer in engine.writers:
                    writer.transport.abort()
                    with contextlib.suppress(ConnectionError):
                        await writer.wait_closed()

            asyncio.run_coroutine_threadsafe(stop(), own).result(10)


ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "tiny",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 7,
        "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def whole(body: bytes, status: int = 200, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status,
        more,
        len(body),
        body,
    )


async def answers(served: Served) -> None:
    """The usual answer in one piece."""
    served.send(whole(json.dumps(ANSWER).encode()))


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return (
        b"data: %b\n\n"
        % json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()
    )


USAGE_EVENT = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_EVENTS = [
    event({"role": "assistant", "content": ""}),
    event({"content": "one"}),
    event({"content": "two"}),
    event({"content": "three"}),
    event({}, "stop"),
    USAGE_EVENT,
    DONE,
]


async def streams(served: Served) -> None:
    """The usual stream, an event a chunk."""
    served.send(STREAM_HEAD)
    for one in STREAM_EVENTS:
        served.send(framed(one))
        await asyncio.sleep(0)
    served.send(b"0\r\n\r\n")


async def serves(served: Served) -> None:
    """As asked: a stream or an answer in one piece."""
    await (streams(served) if served.said.get("stream") else answers(served))


# ── clients ──


def request(
    body: dict[str, Any] | bytes, path: str = "/v1/chat/completions", more: bytes = b"", version: bytes = b"1.1"
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"POST %b HTTP/%b\r\nhost: gateway\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        version,
        more,
        len(content),
        content,
    )


CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**CHAT, "stream": True}


@dataclass
class Answer:
    """A response read by an independent, lenient reader."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_complete: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(connection: socket.socket, buffer: bytearray | None = None) -> Answer:
    """One response from a socket; what is left over stays in `buffer`."""
    held = buffer if buffer is not None else bytearray()

    def more() -> bool:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            return False
        held.extend(data)
        return bool(data)

    while b"\r\n\r\n" not in held:
        if not more():
            raise ConnectionError("closed before an answer")
    head, _, rest = bytes(held).partition(b"\r\n\r\n")
    held[:] = rest
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split(" ")[1])
    if status == 100:
        return read_answer(connection, held)
    if "content-length" in headers:
        length = int(headers["content-length"])
        while len(held) < length:
            if not more():
                return Answer(status, headers, bytes(held), is_complete=False)
        body = bytes(held[:length])
        del held[:length]
        return Answer(status, headers, body)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            while b"\r\n" not in held:
                if not more():
                    return Answer(status, headers, body, is_complete=False)
            line, _, _ = bytes(held).partition(b"\r\n")
            size = int(line, 16)
            need = len(line) + 2 + size + 2
            while len(held) < need:
                if not more():
                    return Answer(status, headers, body, is_complete=False)
            body += bytes(held[len(line) + 2 : need - 2])
            del held[:need]
            if size == 0:
                return Answer(status, headers, body)
    while more():
        pass
    body = bytes(held)
    held.clear()
    return Answer(status, headers, body)


def ask(gateway: Gateway, body: dict[str, Any] | bytes = CHAT, **more: Any) -> Answer:
    """One request on a connection of its own."""
    with gateway.connect() as connection:
        connection.sendall(request(body, **more))
        return read_answer(connection)
