"""Client: asks one engine over HTTP and times every arrival.

The clock of a request starts when its headers are written, so that opening a connection does not count. Every wait is
bounded, by the time one request may take. Decides how an answer is read, not what is asked nor what it means.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gridctl.profiling.endpoint import BrokenError, Dialect, Endpoint, RefusedError
from gridctl.profiling.events import Event, EventReader, StreamError, Usage, error_message, printable, usage_of
from gridctl.profiling.observation import RequestTiming

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")

CONNECT_S = 10.0
MAX_ERROR_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 8 << 20
MAX_RETRY_AFTER_S = 30.0
MAX_ATTEMPTS = 6
FIRST_BACKOFF_S = 0.5
DRAIN_S = 0.5
"""Seconds an engine may take to end a response after `[DONE]`."""


class EngineClient:
    """Asks one endpoint. Use as an asynchronous context manager; connections stay open between requests."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        import httpx

        self.endpoint = endpoint
        self.base = endpoint.base
        self.throttled = 0
        headers = {"accept": "text/event-stream", "accept-encoding": "identity"}
        if endpoint.authorization is not None:
            headers["authorization"] = endpoint.authorization
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(endpoint.timeout_s, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=connections + 4, max_keepalive_connections=connections + 4,
                                keepalive_expiry=300.0),
            trust_env=self.base.startswith("https"),
        )  # fmt: skip

    async def __aenter__(self) -> EngineClient:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> tuple[int, Any, float]:
        """Status, JSON body if it is one, and seconds of a small GET of a path under `/v1`."""
        return await self._bounded(lambda: self._get(path))

    async def complete(self, dialect: Dialect, prompt: str, output_tokens: int, guess: int) -> RequestTiming:
        """Ask for a streamed completion and time it; `guess` stands in for prompt tokens that no usage states.

        A 429 is waited out and asked again, a bounded number of times; the timing is the last attempt's.
        Raises RefusedError for an error status, BrokenError for no usable answer."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                return await self._bounded(lambda: self._stream(dialect, prompt, output_tokens, guess))
            except RefusedError as error:
                if error.status != 429 or attempt == MAX_ATTEMPTS - 1:
                    raise
                self.throttled += 1
                wait = error.retry_after_s if error.retry_after_s is not None else FIRST_BACKOFF_S * 2**attempt
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def count_tokens(self, dialect: Dialect, prompt: str) -> Usage | None:
        """The usage of an answer in one piece, which engines give that state none in a stream."""
        body = {**Dialect(dialect.path, ()).body(self.endpoint.model, prompt, 1), "stream": False}
        return await self._bounded(lambda: self._count_tokens(dialect, body))

    async def _bounded(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `ask` gives, within the time of one request; failures of the wire become BrokenError.

        A connection that breaks is tried once more: servers close idle ones, and some after an error, as we write."""
        import httpx

        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                try:
                    return await ask()
                except httpx.ConnectError:
                    raise
                except (httpx.NetworkError, httpx.RemoteProtocolError):
                    return await ask()
        except TimeoutError:
            raise BrokenError(f"no complete answer within {self.endpoint.timeout_s:g} s") from None
        except httpx.TimeoutException:
            raise BrokenError("no connection, or silence on it, for too long") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokenError(self._clean(str(error) or type(error).__name__)) from None
        except StreamError as error:
            raise BrokenError(self._clean(str(error))) from None

    async def _get(self, path: str) -> tuple[int, Any, float]:
        begin = time.perf_counter()
        async with self._http.stream("GET", self.base + path, headers={"accept": "application/json"}) as response:
            data = await _limited(response, MAX_ANSWER_BYTES)
        seconds = time.perf_counter() - begin
        return response.status_code, _json(data), seconds

    async def _count_tokens(self, dialect: Dialect, body: dict[str, Any]) -> Usage | None:
        async with self._http.stream("POST", self.base + dialect.path, json=body) as response:
            data = await _limited(response, MAX_ANSWER_BYTES)
        answer = _json(data)
        return usage_of(answer) if response.status_code == 200 and isinstance(answer, dict) else None

    async def _stream(self, dialect: Dialect, prompt: str, output_tokens: int, guess: int) -> RequestTiming:
        sent = time.perf_counter()

        async def trace(name: str, _info: object) -> None:
            nonlocal sent
            if name.endswith("send_request_headers.started"):
                sent = time.perf_counter()

        body = dialect.body(self.endpoint.model, prompt, output_tokens)
        url = self.base + dialect.path
        async with self._http.stream("POST", url, json=body, extensions={"trace": trace}) as response:
            await self._check(response)
            answer = await _read_events(response, output_tokens)
        arrivals, usage = answer.arrivals, answer.usage
        if not arrivals:
            raise BrokenError("the answer ended without a token")
        exact = usage is not None and usage.completion_tokens > 0
        return RequestTiming(
            sent_s=sent,
            arrivals_s=np.array(arrivals),
            prompt_tokens=usage.prompt_tokens if usage is not None and usage.prompt_tokens > 0 else guess,
            cached_tokens=usage.cached_tokens if usage is not None else 0,
            output_tokens=usage.completion_tokens if usage is not None and exact else len(arrivals),
            is_estimated=not exact,
        )

    async def _check(self, response: httpx.Response) -> None:
        """Raise for a status or a kind of answer that is no stream."""
        if response.status_code != 200:
            data = await _limited(response, MAX_ERROR_BYTES)
            message = error_message(_json(data)) or printable(data) or response.reason_phrase
            raise RefusedError(response.status_code, self._clean(message), _retry_after(response))
        kind = response.headers.get("content-type", "")
        if "json" in kind or "html" in kind:
            data = await _limited(response, MAX_ERROR_BYTES)
            shown = kind.split(";")[0] or "no content type"
            raise StreamError(f"not an event stream but {printable(shown.encode())}: {printable(data)}")

    def _clean(self, text: str) -> str:
        """`text` without the API key, which a peer may echo."""
        return text.replace(self.endpoint.api_key, "***") if self.endpoint.api_key else text


@dataclass
class _Answer:
    """What a stream has said so far; at most `most` tokens are listened to."""

    most: int
    arrivals: list[float] = field(default_factory=list)
    usage: Usage | None = None
    is_over: bool = False
    has_finished: bool = False

    @property
    def is_endless(self) -> bool:
        return len(self.arrivals) >= self.most

    def take(self, events: Iterable[Event]) -> None:
        """Note the events of bytes that arrived now."""
        now = time.perf_counter()
        for event in events:
            if event.token:
                self.arrivals.append(now)
            self.usage = event.usage or self.usage
            self.has_finished = self.has_finished or event.finished
            self.is_over = self.is_over or event.done
            if self.is_endless:
                return


async def _read_events(response: httpx.Response, output_tokens: int) -> _Answer:
    """Read a stream to its end. Stops listening to an engine that will not stop."""
    reader, answer = EventReader(), _Answer(most=3 * output_tokens + 64)
    stream = response.aiter_raw()
    async for data in stream:
        answer.take(reader.feed(data))
        if answer.is_endless:
            return answer
        if answer.is_over:
            await _drain(stream)
            return answer
    answer.take(reader.close())
    if not (answer.is_over or answer.has_finished):
        raise StreamError("the stream ended in the middle of an answer")
    return answer


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Read the end of a response that is over, so that its connection can be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in stream:
                pass


async def _limited(response: httpx.Response, most: int) -> bytes:
    """At most `most` bytes of a body."""
    data = bytearray()
    async for part in response.aiter_raw():
        data += part
        if len(data) > most:
            break
    return bytes(data[:most])


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds a `retry-after` asks for, within reason; a date is not worth parsing here."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else None
