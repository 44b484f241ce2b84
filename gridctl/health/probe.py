"""Probes: asks thousands of endpoints whether they answer, each in its turn, and says what it found.

Decides when which endpoint is asked and what its answer means; must not decide states (`condition` does). Endpoints
are spread over the period so that there is no burst, with jitter so that several orchestrators do not fall in step;
one that failed is asked more often, so that three failures are known soon and a recovery is seen soon. Timeouts and
thresholds are Kubernetes': one deadline for the whole probe, the next one a period after the last.

GET /health, and /v1/models where that is not known (404); /v1/models besides on the first probe and now and then, to
see that the engine serves the model it is declared with. A deadline that was missed because this process was busy
says nothing about the endpoint. Cost: see `exchange`; over TLS most probes do without a handshake (`kept`), but never
the one after trouble (tests/bench/probe_cost.py --tls).
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import random
import resource
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable
from zlib import crc32

import msgspec

from gridctl import __version__
from gridctl.errors import GridctlError
from gridctl.health.asking import get
from gridctl.health.exchange import Answer, Origin
from gridctl.health.kept import Kept, Room
from gridctl.health.outcome import PASSED, Cause, Outcome, cause_of

HEALTH, MODELS = "/health", "/v1/models"
MODEL_EVERY = 20
"""Probes between two looks at the list of models."""
FIRST_ROUND_PER_S = 200
RESOLVED_FOR_S = 60.0
BEAT_S = 0.25
"""Turns that fall between two beats begin together: a process that wakes 4 times a second to probe 37 endpoints spends
a third of the CPU of one that wakes for each of 147."""
HURRY_S = 1.0
LATE_S = 0.25
"""A deadline that is noticed so much too late was missed by this process, not by the endpoint."""
KEPT_PART = 4
"""Of the files that this process may have open, one in so many may be a connection kept between two probes."""
_STARTING = (b"loading", b"starting", b"warming", b"not ready", b"initializ", b"initialis")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to probe. Times in seconds."""

    period_s: float = 30.0
    failing_period_s: float = 5.0
    timeout_s: float = 2.0
    slow_ms: float = 500.0
    jitter: float = 0.1
    concurrency: int = 256
    allow_link_local: bool = False
    ca_file: str | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint: `url` as declared, `model` the name it must serve, `token` what it wants as a bearer token."""

    key: str
    url: str
    model: str | None = None
    token: str | None = None


DEFAULTS = Settings()


class _Turn:
    """What is remembered of one target between its probes."""

    __slots__ = ("count", "is_failing", "kept", "last_s", "origin", "path", "problem", "target", "timer")

    def __init__(self, target: Target, room: Room | None = None) -> None:
        self.target = target
        self.path = HEALTH
        self.count = 0
        self.is_failing = False
        self.last_s = -math.inf
        self.timer: asyncio.TimerHandle | None = None
        self.origin: Origin | None = None
        self.problem = ""
        try:
            self.origin = Origin.of(target.url)
        except GridctlError as error:
            self.problem = error.what
        self.kept = Kept(room) if room is not None and self.origin is not None and self.origin.is_tls else None

    def forget(self) -> None:
        """Keep nothing of the probes before: something is wrong, or the turns are over."""
        if self.kept is not None:
            self.kept.drop()


class Prober:
    """Probes targets while `run` runs; `take` gets every outcome, on the event loop. `seed` is the jitter's."""

    def __init__(self, take: Callable[[Outcome], None], settings: Settings = DEFAULTS, seed: int = 0) -> None:
        self._take = take
        self._settings = settings
        self._random = random.Random(seed)
        self._turns: dict[str, _Turn] = {}
        self._waiting: deque[str] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._addresses: dict[str, tuple[str, float]] = {}
        self._context: ssl.SSLContext | None = None
        self._room = Room(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // KEPT_PART)
        self._loop: asyncio.AbstractEventLoop | None = None

    def retarget(self, targets: Iterable[Target]) -> None:
        """Probe these from now on. One that stays as it was keeps its turn; one that changed is asked anew at once."""
        wanted = {target.key: target for target in targets}
        for key in [key for key, turn in self._turns.items() if wanted.get(key) != turn.target]:
            self._drop(key)
        fresh = [target for key, target in wanted.items() if key not in self._turns]
        spread_s = min(self._settings.period_s, len(fresh) / FIRST_ROUND_PER_S)
        for target in fresh:
            self._turns[target.key] = _Turn(target, self._room)
            self._schedule(target.key, spread_s * _phase(target.key))

    def hurry(self, key: str) -> None:
        """Probe this one now: something else says that it is in trouble. No more than once a second."""
        turn = self._turns.get(key)
        if turn is None or self._loop is None or key in self._running or key in self._waiting:
            return
        if self._loop.time() - turn.last_s >= HURRY_S:
            if turn.timer is not None:
                turn.timer.cancel()
            turn.forget()
            self._begin(key)

    async def run(self) -> None:
        """Probe until cancelled; then nothing is left open."""
        self._loop = asyncio.get_running_loop()
        spread_s = min(self._settings.period_s, len(self._turns) / FIRST_ROUND_PER_S)
        for key in self._turns:
            self._schedule(key, spread_s * _phase(key))
        try:
            await self._loop.create_future()
        finally:
            self._loop = None
            for turn in self._turns.values():
                if turn.timer is not None:
                    turn.timer.cancel()
                turn.forget()
            self._waiting.clear()
            running = list(self._running.values())
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def probe(self, target: Target) -> Outcome:
        """One probe of one target now, its turn left alone."""
        turn = self._turns.get(target.key)
        return await self._probed(turn if turn is not None and turn.target == target else _Turn(target))

    # ── turns ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _schedule(self, key: str, delay_s: float) -> None:
        if self._loop is not None:
            beat_s = min(BEAT_S, self._settings.failing_period_s / 4)
            due_s = math.ceil((self._loop.time() + delay_s) / beat_s) * beat_s
            self._turns[key].timer = self._loop.call_at(due_s, self._begin, key)

    def _drop(self, key: str) -> None:
        turn = self._turns.pop(key)
        turn.forget()
        if turn.timer is not None:
            turn.timer.cancel()
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()

    def _begin(self, key: str) -> None:
        """A target's turn has come: probe it, or have it wait while as many as may are under way."""
        turn = self._turns.get(key)
        if turn is None or self._loop is None or key in self._running:
            return
        if len(self._running) >= self._settings.concurrency:
            self._waiting.append(key)
            return
        turn.last_s = self._loop.time()
        task = self._loop.create_task(self._take_turn(turn))
        self._running[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled() and task.exception() is not None and self._loop is not None:
            self._loop.call_exception_handler({"message": f"probing {key} failed", "exception": task.exception()})
        while self._waiting and self._loop is not None:
            waiting = self._waiting.popleft()
            if waiting in self._turns:
                self._begin(waiting)
                return

    async def _take_turn(self, turn: _Turn) -> None:
        key, settings = turn.target.key, self._settings
        is_first = turn.count == 0
        try:
            outcome = await self._probed(turn)
            turn.is_failing = not outcome.has_passed and outcome.cause != "local"
            self._take(outcome)
        finally:
            if self._turns.get(key) is turn:
                period_s = settings.failing_period_s if turn.is_failing else settings.period_s
                # The second probe puts it in its place in the period, whenever it was first asked.
                part = 0.5 + _phase(key) if is_first and not turn.is_failing else 1.0
                jitter = settings.jitter * (2 * self._random.random() - 1)
                self._schedule(key, period_s * max(0.0, part + jitter))

    # ── one probe ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _probed(self, turn: _Turn) -> Outcome:
        key = turn.target.key
        began_ns = time.monotonic_ns()
        status: int | None = None
        if turn.origin is None:
            return Outcome(key=key, cause="forbidden", detail=turn.problem, at_ns=began_ns, latency_ms=0.0)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                cause, detail, status = await self._asked(turn, turn.origin)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            cause, detail = cause_of(error)
            self._addresses.pop(turn.origin.host, None)
        at_ns = time.monotonic_ns()
        took_s = (at_ns - began_ns) / 1e9
        if cause == "timeout":
            detail = f"no answer in {self._settings.timeout_s:g} s"
            if took_s > self._settings.timeout_s + LATE_S:
                cause, detail = "local", f"this process was busy for {took_s - self._settings.timeout_s:.1f} s"
        elif cause == "ok" and took_s * 1000 > self._settings.slow_ms:
            cause, detail = "slow", f"it answers, after {took_s * 1000:.0f} ms"
        turn.count += 1
        if cause not in PASSED:
            turn.forget()
        return Outcome(key=key, cause=cause, detail=detail, at_ns=at_ns, latency_ms=took_s * 1000, status=status)

    async def _asked(self, turn: _Turn, origin: Origin) -> tuple[Cause, str, int | None]:
        """The word, the sentence and the status of one probe. Raises what the connection raised."""
        address = await self._resolved(origin)
        if address is None:
            return "forbidden", "its address is link-local, where clouds keep credentials", None
        answer = await self._get(turn, origin, address, turn.path, needs_body=turn.path == MODELS)
        if answer.status == 404 and turn.path == HEALTH:
            turn.path = MODELS
            answer = await self._get(turn, origin, address, MODELS, needs_body=True)
        cause, detail = judged(answer)
        if cause == "ok" and turn.target.model is not None and turn.count % MODEL_EVERY == 0:
            listed = answer if turn.path == MODELS else await self._get(turn, origin, address, MODELS, needs_body=True)
            served = models_of(listed)
            if served and not any(is_same_model(turn.target.model, name) for name in served):
                names = ", ".join(served[:3])
                return "wrong-model", f"it serves {names[:120]}, not {turn.target.model}", answer.status
        return cause, detail, answer.status

    async def _get(self, turn: _Turn, origin: Origin, address: str, path: str, *, needs_body: bool) -> Answer:
        return await get(
            origin,
            address,
            path,
            context=self._tls() if origin.is_tls else None,
            token=turn.target.token,
            agent=f"gridctl/{__version__} (probe)",
            needs_body=needs_body,
            kept=turn.kept,
        )

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._settings.ca_file)
        return self._context

    async def _resolved(self, origin: Origin) -> str | None:
        """The address of a host, remembered for a minute; None when it is one that must not be asked."""
        loop = asyncio.get_running_loop()
        known = self._addresses.get(origin.host)
        if known is not None and known[1] > loop.time():
            return known[0]
        address, kept_s = origin.host, math.inf
        if not origin.is_literal:
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            address, kept_s = str(found[0][4][0]), loop.time() + RESOLVED_FOR_S
        if not self._settings.allow_link_local and ipaddress.ip_address(address.partition("%")[0]).is_link_local:
            return None
        self._addresses[origin.host] = (address, kept_s)
        return address


def judged(answer: Answer) -> tuple[Cause, str]:
    """What the status of an answer means.

    >>> judged(Answer(503, body=bytearray(b'{"error": "Loading model"}')))
    ('starting', 'it is loading its model')
    """
    status = answer.status
    if 200 <= status < 300:
        return "ok", "it answers"
    if status == 503 and any(word in answer.body[:2048].lower() for word in _STARTING):
        return "starting", "it is loading its model"
    if status in (401, 403):
        return "status", f"it answers {status}: it wants a credential (credential_env of the deployment)"
    if 300 <= status < 400:
        return "status", f"it answers {status}: it sends elsewhere ({answer.location or 'nowhere'})"
    return "status", f"it answers {status}"


def models_of(answer: Answer) -> list[str]:
    """The names in a list of models; none when the answer is no such list."""
    if answer.status != 200:
        return []
    try:
        listed = msgspec.json.decode(bytes(answer.body), type=_Models)
    except msgspec.DecodeError:
        return []
    return [model.id for model in listed.data]


def is_same_model(declared: str, served: str) -> bool:
    """Whether an engine's name for a model is the declared one, but for folder, revision, file ending and case.

    >>> is_same_model("tiny", "./tiny@main"), is_same_model("tiny", "/models/tiny.gguf"), is_same_model("tiny", "big")
    (True, True, False)
    """
    return _bare(declared) == _bare(served)


def _bare(name: str) -> str:
    return name.casefold().partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(".gguf")


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _phase(key: str) -> float:
    """Where in the period a target has its turn, 0 to 1, the same in every process."""
    return crc32(key.encode()) / (1 << 32)
