"""The keeper of kept answers, seen from the control process: started where a workload caches, and anew when it dies.

Decides when it runs and how long one that keeps dying is left alone, as the supervisor does for workers. It is a helper
and never in the way: workers serve on without it, and an orchestrator starts without waiting for it. Invariant: at most
one process writes the folder, and it ends with the control process, whose end of the channel it listens to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gridctl.answers import wire
from gridctl.answers.shared_place import keys_of
from gridctl.broker.plan import Plan
from gridctl.control.order import Shared
from gridctl.control.worker import Heard, Say
from gridctl.errors import InputError, UnreachableError
from gridctl.registry.faults import disk_fault
from gridctl.resources import Model, Workload
from gridctl.signals.cache_counts import SharedTier

PROGRAM = ("-P", "-m", "gridctl.answers.process")
FOLDER = "cache"
SECRET_FILE = "secret"
SECRET_BYTES = 32
FIRST_BACKOFF_S, LONGEST_BACKOFF_S, SETTLED_S = 0.1, 10.0, 60.0
ORDER_TIMEOUT_S = 10.0
LOOK_EVERY_S = 2.0
END_S = 3.0
"""How long it may take to end by itself."""


class Keeper:
    """The keeper's process and its folder. `told` is its last status, `pid` 0 while there is none."""

    def __init__(
        self, live_folder: Path, board_name: str, say: Callable[[str], None], shared: Shared | None = None
    ) -> None:
        self.folder = live_folder / FOLDER
        self.presence = f"{board_name}-answers"
        self.told: dict[str, Any] | None = None
        self.restarts = 0
        self._say = say
        self._shared = shared
        self._listener: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._watching: asyncio.Task[None] | None = None
        self._plan = Path()
        self._generation = -1
        self._is_wanted = False
        self._is_ending = False
        self._owed: dict[str, None] = {}
        """Tags whose purge the keeper has not taken yet."""

    # ── what it tells ──

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    @property
    def is_wanted(self) -> bool:
        """Whether any workload caches."""
        return self._is_wanted

    @property
    def in_a_word(self) -> str:
        """off, down, or how many answers are kept."""
        if not self._is_wanted:
            return "off"
        if not self.pid:
            return "down"
        return "up" if self.told is None else f"{int(self.told.get('entries', 0)):,} answers"

    def bounds(self) -> dict[str, float]:
        """The credible most of wrong answers over requests, by workload, as last told."""
        workloads = (self.told or {}).get("workloads", {})
        found = {name: known.get("bound") for name, known in workloads.items() if isinstance(known, Mapping)}
        return {name: float(bound) for name, bound in found.items() if bound is not None}

    def shared(self) -> SharedTier | None:
        """The server that it shares with other gateways, as last told; None where there is none."""
        if self._shared is None:
            return None
        told = (self.told or {}).get("shared") or {}
        return SharedTier(told.get("state") == "up", int(told.get("owed", 0)), told.get("counts", {}))

    def worker_flags(self) -> tuple[str, ...]:
        """What workers are told of the cache on their command line."""
        return "--cache", str(self.folder), "--presence", self.presence

    # ── what it does ──

    def prepare(self) -> None:
        """Make the folder, its secret and the socket, before any worker starts. Raises StoreError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.chmod(0o700)
            self._keep_secret()
            self._listener = wire.listen(self.folder)
        except OSError as error:
            raise disk_fault(error, self.folder) from error

    def _keep_secret(self) -> None:
        """Answers outlive the orchestrator, so what their keys are made under must, too. Gateways that share answers
        make the same keys: what was kept under another secret is found no more."""
        place = self.folder / SECRET_FILE
        wanted = None if self._shared is None else keys_of(self._shared.key_file).questions
        with contextlib.suppress(FileNotFoundError):
            found = place.read_bytes()
            if found == wanted or (wanted is None and len(found) == SECRET_BYTES):
                return
        aside = place.with_name(f".{SECRET_FILE}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(wanted or secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(place)

    async def follow(self, path: Path, plan: Plan, before: Plan | None = None) -> None:
        """Have it follow a plan: started if a workload caches now; what a changed model said is purged."""
        self._plan, self._generation = path, plan.generation
        self._is_wanted = any(isinstance(one, Workload) and one.spec.cache.mode != "off" for one in plan.resources)
        if before is not None:
            self._owed |= dict.fromkeys(f"model:{name}" for name in sorted(changed_models(before, plan)))
        if self._writer is not None:
            self._tell(Say(do="plan", path=str(path), generation=plan.generation))
        elif self._is_wanted and self._watching is None and not self._is_ending:
            self._watching = asyncio.create_task(self._attend())
        await self._pay()

    async def order(self, order: str, words: Mapping[str, Any], timeout_s: float = ORDER_TIMEOUT_S) -> dict[str, Any]:
        """Have it carry an order out; what it tells. Raises InputError for one it refuses, UnreachableError for none
        there."""
        if not self._is_wanted:
            raise InputError(
                "no workload of this grid caches answers",
                where="workload spec.cache.mode",
                fix="set it to exact or semantic and apply: gridctl explain workload.cache",
            )
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchange(wire.Order(1, order, dict(words)))
        except (OSError, TimeoutError, EOFError, msgspec.MsgspecError) as error:
            reason = str(error) or type(error).__name__
            raise UnreachableError(
                f"the keeper of the cache does not answer ({reason}); nothing was ordered",
                where=str(self.folder),
                fix="it is started anew by itself: try again in a few seconds; gridctl cache status",
            ) from None
        if answer.problem is not None:
            what, where, fix = answer.problem
            raise InputError(what, where=where or None, fix=fix or None)
        return answer.told

    async def run(self) -> None:
        """Ask how it is, now and then, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.pid:
                with contextlib.suppress(UnreachableError, InputError):
                    self.told = await self.order("status", {})
                await self._pay()

    async def stop(self) -> None:
        """End it; what it was told to keep is written."""
        self._is_ending = True
        if self._watching is not None:
            self._tell(Say(do="stop"))
            if self._writer is not None:
                self._writer.close()
            process = self._process
            if process is not None and process.returncode is None:
                try:
                    async with asyncio.timeout(END_S):
                        await process.wait()
                except TimeoutError:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self._listener is not None:
            self._listener.close()
            (self.folder / wire.SOCKET).unlink(missing_ok=True)
        from gridctl.signals import segment

        segment.unlink(self.presence)

    # ── inside ──

    async def _pay(self) -> None:
        """Purge what is owed, if it can be told now; what cannot is tried again."""
        for tag in tuple(self._owed):
            if not self.pid:
                return
            try:
                await self.order("purge", {"by": "tag", "value": tag})
            except (UnreachableError, InputError):
                return
            del self._owed[tag]
            self._say(f"cache: answers of {tag} were purged, because it changed")

    async def _exchange(self, order: wire.Order) -> wire.Obeyed:
        reader, writer = await asyncio.open_unix_connection(sock=wire.connect(self.folder))
        try:
            writer.write(wire.frame(wire.Hello()) + wire.frame(order))
            await writer.drain()
            frames = wire.Frames()
            while data := await reader.read(1 << 16):
                for body in frames.cut(data):
                    message = wire.decode_from_keeper(body)
                    if isinstance(message, wire.Obeyed):
                        return message
            raise EOFError("it hung up")
        finally:
            writer.close()

    async def _attend(self) -> None:
        """Start it, and start it again when it ends, until cancelled."""
        deaths = 0
        while True:
            started = time.monotonic()
            try:
                status = await self._live()
            except OSError as error:
                self._say(f"the keeper of the cache cannot be started: {error.strerror or error}")
                status = None
            if self._is_ending:
                return
            self.told = None
            deaths = 1 if time.monotonic() - started >= SETTLED_S else deaths + 1
            wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (deaths - 1))
            if status is not None:
                ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
                self._say(f"the keeper of the cache {ended}; requests go on without it, it is back in {wait_s:g} s")
            await asyncio.sleep(wait_s)
            self.restarts += 1

    async def _live(self) -> int:
        """One life of the process; its exit status."""
        assert self._listener is not None
        ours, theirs = socket.socketpair()
        listen_fd = self._listener.fileno()
        words = ["--folder", str(self.folder), "--plan", str(self._plan), "--presence", self.presence]
        words += ["--listen-fd", str(listen_fd), "--channel-fd", str(theirs.fileno())]
        if self._shared is not None:
            words += ["--shared", self._shared.url, "--shared-key-file", str(self._shared.key_file.absolute())]
        generation = self._generation
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *PROGRAM,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(listen_fd, theirs.fileno()),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        if self._generation != generation:
            self._tell(Say(do="plan", path=str(self._plan), generation=self._generation))
        hearing = asyncio.create_task(self._hear(reader))
        try:
            return await self._process.wait()
        finally:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGKILL)
            hearing.cancel()
            self._writer.close()
            self._writer = None

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        """What it says by itself: that it is ready, or why it will not follow a plan."""
        decoder = msgspec.json.Decoder(Heard)
        while line := await reader.readline():
            with contextlib.suppress(msgspec.MsgspecError):
                heard = decoder.decode(line)
                if heard.event == "refused":
                    self._say(f"the keeper of the cache does not follow plan {heard.generation}: {heard.message}")

    def _tell(self, message: Say) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")


def changed_models(before: Plan, after: Plan) -> set[str]:
    """Models whose answers may be others now: declared anew, or served under another name."""
    found = set()
    old, new = _models(before), _models(after)
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name):
            found.add(name)
    served = _served(before), _served(after)
    found |= {model for model, _, _ in served[0] ^ served[1] if _names(served[0], model) and _names(served[1], model)}
    return found


def _models(plan: Plan) -> dict[str, object]:
    return {one.name: one.spec for one in plan.resources if isinstance(one, Model)}


def _served(plan: Plan) -> set[tuple[str, str, str]]:
    return {(backend.model, backend.variant, backend.served_model) for backend in plan.backends}


def _names(served: set[tuple[str, str, str]], model: str) -> bool:
    """Whether the model is served at all: engines that come and go change nothing of what they say."""
    return any(known == model for known, _, _ in served)
