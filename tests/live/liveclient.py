"""A client that keeps every byte: one connection a request, no retries of its own, so that what the gateway does shows.

`Answer.verdict` is one of: `ok`, `refused` (a well-formed error instead of an answer), `broken-off` (a stream that
ended with an error event), `truncated` (it ended without saying so), `closed` (no answer at all).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """One request and what came back; times are monotonic seconds."""

    sent_s: float = 0.0
    is_stream: bool = False
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    first_s: float | None = None
    end_s: float = 0.0

    @property
    def events(self) -> list[bytes]:
        """The payloads of the event stream."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error object, of a whole answer or at the end of a stream."""
        if self.is_stream and self.status == 200:
            objects = [json.loads(event) for event in self.events if event != b"[DONE]"]
            return next((one["error"] for one in objects if "error" in one), None)
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found.get("error") if isinstance(found, dict) else None

    @property
    def finish_reason(self) -> str | None:
        for event in self.events:
            if event != b"[DONE]":
                for choice in json.loads(event).get("choices", ()):
                    if choice.get("finish_reason"):
                        return str(choice["finish_reason"])
        return None

    @property
    def verdict(self) -> str:
        if self.status == 0:
            return "closed"
        if self.status != 200:
            return "refused" if self.error and self.error.get("message") else "closed"
        if not self.is_stream:
            return "ok" if "choices" in json.loads(self.body or b"{}") else "truncated"
        if self.error:
            return "broken-off"
        return "ok" if self.finish_reason or b"[DONE]" in self.events else "truncated"

    @property
    def site(self) -> str:
        return self.headers.get("x-gridctl-site", "")


def question(
    prompt: str, *, model: str = "tiny", tokens: int = 16, stream: bool = False, **more: Any
) -> dict[str, Any]:
    """The body of a chat completion."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
    if stream:
        body["stream"] = True
    return body | more


async def ask(
    port: int, body: dict[str, Any], *, seconds: float = 60.0, into: Answer | None = None, **headers: str
) -> Answer:
    """Send one request on a connection of its own and read the whole answer, which grows in `into` as it comes."""
    answer = Answer() if into is None else into
    answer.sent_s, answer.is_stream = time.monotonic(), bool(body.get("stream"))
    try:
        async with asyncio.timeout(seconds):
            await _exchange(port, body, headers, answer)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass
    answer.end_s = time.monotonic()
    return answer


async def _exchange(port: int, body: dict[str, Any], headers: dict[str, str], answer: Answer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        payload = json.dumps(body).encode()
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" + "".join(lines)
        writer.write(
            f"{head}content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n".encode() + payload
        )
        received = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer.status = int(received[0].split()[1])
        for line in received[1:-2]:
            name, _, value = line.partition(":")
            answer.headers[name.lower()] = value.strip()
        await _body(reader, answer)
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, answer: Answer) -> None:
    if answer.headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            _keep(answer, await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    elif "content-length" in answer.headers:
        _keep(answer, await reader.readexactly(int(answer.headers["content-length"])))
    else:
        while piece := await reader.read(65536):
            _keep(answer, piece)


def _keep(answer: Answer, piece: bytes) -> None:
    if answer.first_s is None and piece:
        answer.first_s = time.monotonic()
    answer.body += piece


async def until(what: str, look: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let the loop run until `look()` is true. Fails naming `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(0.01)


@dataclass
class Traffic:
    """What is sent while a test does things; see `Crowd` and `Arrivals`."""

    port: int
    tokens: int = 16
    stream_every: int = 3
    answers: list[Answer] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _is_over: bool = False
    _count: int = 0

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        for task in self._tasks:  # grows as it is walked through
            await task

    async def _send(self) -> None:
        self._count += 1
        stream = self._count % self.stream_every == 0
        body = question(f"request {self._count}", tokens=self.tokens, stream=stream)
        self.answers.append(await ask(self.port, body))

    async def more(self, count: int, seconds: float = 30.0) -> None:
        """Until so many more answers have come."""
        wanted = len(self.answers) + count
        await until(f"{count} more answers than {self.summary()}", lambda: len(self.answers) >= wanted, seconds)

    def since(self, start_s: float) -> list[Answer]:
        """Answers to requests sent from then on."""
        return [one for one in self.answers if one.sent_s >= start_s]

    def summary(self) -> dict[str, int]:
        """How many answers of each verdict and site."""
        counts: dict[str, int] = {}
        for one in self.answers:
            key = f"{one.verdict}@{one.site}"
            counts[key] = counts.get(key, 0) + 1
        return counts


@dataclass
class Crowd(Traffic):
    """Clients in a closed loop, every `stream_every`-th request a stream, until they are told to stop."""

    clients: int = 8

    async def __aenter__(self) -> Crowd:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        return self

    async def _client(self) -> None:
        while not self._is_over:
            await self._send()


@dataclass
class Arrivals(Traffic):
    """Requests that come whether the ones before have been answered or not, one every `every_s`."""

    every_s: float = 0.1

    async def __aenter__(self) -> Arrivals:
        self._tasks = [asyncio.create_task(self._arrive())]
        return self

    async def _arrive(self) -> None:
        while not self._is_over:
            self._tasks.append(asyncio.create_task(self._send()))
            await asyncio.sleep(self.every_s)
