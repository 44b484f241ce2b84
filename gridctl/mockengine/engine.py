"""MockEngine: what answers a request. Routes paths, applies faults, keeps counts; the pace decides when tokens come.

Under `/mock/` it is told faults and asked for its state, over loopback only.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gridctl.errors import UsageError
from gridctl.mockengine import messages_wording, wording
from gridctl.mockengine.connection import Connection, Request
from gridctl.mockengine.exchange import Exchange
from gridctl.mockengine.faults import Fault, Faults, parse_faults
from gridctl.mockengine.pace import EngineFullError, Gauges, Pace
from gridctl.mockengine.question import MESSAGES, PATHS, Limits, RefusedError, read_question
from gridctl.mockengine.telemetry import Counters, Dialect, metrics

PLAIN_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
LONG_S = 3600.0
"""A fault's timer is set no further ahead, so that no loop is asked for what its clock cannot hold."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How an engine presents itself: its model's name, whose metrics it has, the key it asks for."""

    model: str
    telemetry: Dialect = "vllm"
    api_key: str | None = None
    mean_output_tokens: int = 128
    speed: float = 1.0


class MockEngine:
    """One engine. `died` is called when a fault ends it, `refusing` when it is to take no connections, or to again."""

    def __init__(self, pace: Pace, manner: Manner, faults: list[Fault], loop: asyncio.AbstractEventLoop) -> None:
        self.pace = pace
        self.manner = manner
        self.counters = Counters()
        self.died: Callable[[], None] = lambda: None
        self.refusing: Callable[[bool], None] = lambda is_refusing: None
        self.connections: set[Connection] = set()
        self._limits = Limits(manner.model, pace.block_size, pace.longest_context, manner.mean_output_tokens)
        self._key = None if manner.api_key is None else f"Bearer {manner.api_key}".encode()
        self._loop = loop
        self._began_s = time.monotonic()
        self._created = int(time.time())
        self._number = 0
        self._faults = Faults(faults)
        self._timer: asyncio.TimerHandle | None = None
        self._is_refusing = False
        self._speed = manner.speed

    def start(self) -> None:
        """Let faults come and go from now on."""
        self._began_s = time.monotonic()
        self._change()

    def close(self) -> None:
        """Stop: every connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self.pace.close()
        for connection in list(self.connections):
            connection.reset()

    # ---- faults ----

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def set_faults(self, faults: list[Fault]) -> None:
        """Replace the faults; their times count from now."""
        self._faults = Faults(faults)
        self._began_s = time.monotonic()
        self._change()

    def _change(self) -> None:
        """Apply what acts on the whole engine, and wait for the next change."""
        now = self._now_s()
        if self._faults.acting("die", now):
            self._loop.call_soon(self.died)
            return
        slow = self._faults.acting("slow", now)
        speed = 0.0 if self._faults.acting("stall", now) else self.manner.speed / (slow.number if slow else 1.0)
        if speed != self._speed:
            self._speed = speed
            self.pace.set_speed(speed)
        is_refusing = self._faults.acting("refuse", now) is not None
        if is_refusing != self._is_refusing:
            self._is_refusing = is_refusing
            self.refusing(is_refusing)
        if self._timer is not None:
            self._timer.cancel()
        following = self._faults.changes_after(now)
        if following < math.inf:
            # A little late, so that the moment has come by the clock that is asked.
            self._timer = self._loop.call_later(min(following - now, LONG_S) + 0.001, self._change)

    # ---- requests ----

    def opened(self, connection: Connection) -> None:
        """A client connected."""
        self.connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A client's connection is gone."""
        self.connections.discard(connection)

    def leave(self, exchange: Exchange) -> None:
        """A client left before its answer was complete."""
        self.counters.aborted += 1
        self.pace.leave(exchange)

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer a request, or begin to."""
        if request.path.startswith("/mock/"):
            self._control(request, connection)
            return
        fault = self._faults.strike(self._now_s()) if self._faults else None
        if fault is not None and self._struck(fault, connection):
            return
        endpoint = PATHS.get(request.path)
        try:
            if endpoint is None:
                self._look_up(request, connection)
                return
            self._check_key(request)
            if request.method != "POST":
                raise RefusedError(405, "Method Not Allowed")
            question = read_question(endpoint, request.body, self._limits)
        except RefusedError as error:
            self._refuse(error, connection, endpoint)
            return
        self._number += 1
        self.counters.requests += 1
        exchange = Exchange(
            question,
            connection,
            model=self.manner.model,
            number=f"{self._number:024x}",
            counters=self.counters,
            fault=fault,
        )
        connection.begin(exchange)
        try:
            self.pace.submit(exchange)
        except EngineFullError:
            full = RefusedError(503, "the engine's queue is full", kind="ServiceUnavailableError")
            self._refuse(full, connection, endpoint)

    def _check_key(self, request: Request) -> None:
        if self._key is not None and not hmac.compare_digest(request.authorization, self._key):
            raise RefusedError(401, "Unauthorized", kind="Unauthorized")

    def _refuse(self, error: RefusedError, connection: Connection, endpoint: str | None) -> None:
        self.counters.refused += 1
        if endpoint == MESSAGES:
            connection.answer(error.status, messages_wording.error(error.status, error.message))
        else:
            connection.answer(error.status, wording.error(error.status, error.message, error.kind, error.param))

    def _look_up(self, request: Request, connection: Connection) -> None:
        """Everything but the questions. Raises RefusedError."""
        path, name = request.path, self.manner.model
        if path in ("/health", "/ping"):
            connection.answer(200, b"")
        elif path == "/metrics" and self.manner.telemetry != "none":
            page = metrics(self.manner.telemetry, name, self._told_gauges(), self.counters)
            connection.answer(200, page, PLAIN_TEXT)
        elif path == "/version":
            connection.answer(200, b'{"version":"mock"}')
        elif path == "/v1/models":
            self._check_key(request)
            connection.answer(200, wording.models(name, self.pace.longest_context, self._created))
        elif path == f"/v1/models/{name}":
            self._check_key(request)
            entry = wording.model(name, self.pace.longest_context, self._created)
            connection.answer(200, msgspec.json.encode(entry))
        else:
            raise RefusedError(404, "Not Found", kind="NotFoundError")

    def _told_gauges(self) -> Gauges:
        """What the metrics say, which may be a lie."""
        gauges = self.pace.gauges()
        lie = self._faults.acting("lie", self._now_s())
        if lie is None:
            return gauges
        capacity = gauges.kv_capacity_tokens
        if lie.is_full:
            return Gauges(running=256, waiting=1000, kv_used_tokens=capacity, kv_capacity_tokens=capacity)
        return Gauges(kv_capacity_tokens=capacity)

    def _struck(self, fault: Fault, connection: Connection) -> bool:
        """Answer as the fault wants; False when it strikes later, half-way through the answer."""
        if fault.kind == "status":
            status = int(fault.number)
            kind = "InternalServerError" if status >= 500 else "BadRequestError"
            connection.answer(status, wording.error(status, "told to fail", kind))
        elif fault.kind == "garbage":
            connection.write(b"\x00\xff these are no answer \xfe\r\n\r\n")
            connection.hang_up()
        elif fault.kind != "silent":
            return False
        return True

    # ---- control ----

    def _control(self, request: Request, connection: Connection) -> None:
        """`POST /mock/faults` with `{"faults": SPEC}`, `DELETE /mock/faults`, `GET /mock/state`."""
        if not request.is_local:
            connection.answer(403, wording.error(403, "only over loopback", "PermissionError"))
        elif request.path == "/mock/state":
            state = {
                "gauges": self.pace.gauges(),
                "counters": self.counters,
                "connections": len(self.connections),
                "speed": self._speed,
            }
            connection.answer(200, msgspec.json.encode(state))
        elif request.path == "/mock/faults" and request.method in ("POST", "DELETE"):
            self._take_faults(request, connection)
        else:
            connection.answer(404, wording.error(404, "Not Found", "NotFoundError"))

    def _take_faults(self, request: Request, connection: Connection) -> None:
        try:
            asked = msgspec.json.decode(request.body, type=dict[str, str]) if request.method == "POST" else {}
            faults = parse_faults(asked.get("faults", ""))
        except (msgspec.MsgspecError, UsageError) as error:
            said = f"{error.what}: {error.fix}" if isinstance(error, UsageError) else str(error)
            connection.answer(400, wording.error(400, said, "BadRequestError"))
            return
        connection.answer(200, msgspec.json.encode({"faults": [fault.text for fault in faults]}))
        self.set_faults(faults)
