"""Parts of the shared tier's tests: a real server, tiers and keepers that share it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import redis
from answer_parts import fresh_of, question_of, until

from gridctl.answers.entries import Entry, entry_of
from gridctl.answers.question import Question
from gridctl.answers.shared_place import SharedKeys, derived, place_of
from gridctl.answers.shared_record import Notice, Record
from gridctl.answers.shared_tier import SharedTier

KEYS = derived(bytes(range(32)))
PROGRAMS = ("valkey-server", "redis-server")
FIRST_PLACE = 100


def program() -> str | None:
    """The server that is installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name)) is not None), None)


class Server:
    """A real server on a Unix socket in a folder; `more` are its options."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.path = folder / "server.sock"
        self.more = more
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, **options: object) -> str:
        said = {"budget_ms": 1_000, **options}
        return f"unix://{self.path}?" + "&".join(f"{name}={value}" for name, value in said.items())

    def start(self) -> Server:
        words = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(self.folder), *self.more]
        self.process = subprocess.Popen(
            [str(program()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        ends = time.monotonic() + 10.0
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.path))
                return self
            assert time.monotonic() < ends, "the server does not start"
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def hands(self):
        """A client of somebody who can do with the server as he likes."""
        client = redis.Redis(unix_socket_path=str(self.path))
        try:
            yield client
        finally:
            client.close()


@dataclass
class Gateway:
    """A tier whose keeper is only a clock of purges. `heard` is what it was to carry out."""

    tier: SharedTier
    heard: list[Notice] = field(default_factory=list)
    place: int = FIRST_PLACE

    def carry_out(self, notices: Sequence[Notice]) -> int:
        self.heard += notices
        self.place += 1
        return self.place

    async def fetch(self, question: Question) -> Record | None:
        found: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self.tier.fetch(question, found.set_result)
        return await found

    async def order(self, kind: str, value: str) -> bool:
        self.tier.owe([Notice(kind, value, unix_ns=time.time_ns())])  # type: ignore[arg-type]
        return await self.tier.told(5.0)

    async def give(self, question: Question, words: str, stamp: int | None = None) -> None:
        """Keep an answer whose engine was asked just now."""
        before = self.tier.counts["stored"]
        self.tier.offer(answer_to(question, words, self.place if stamp is None else stamp))
        await until(lambda: self.tier.counts["stored"] > before, "the writing")


def answer_to(question: Question, words: str, stamp: int, **more: object) -> Entry:
    fresh = fresh_of(words, stamp=stamp, digest="sha256:1", **more)
    return entry_of(question, fresh, 7, time.time_ns(), founder=0, embedder="", vector=None)


@contextlib.asynccontextmanager
async def gateways(
    server: Server, folder: Path, count: int = 2, keys: SharedKeys = KEYS, *, waits: bool = True, **options: object
) -> AsyncIterator[list[Gateway]]:
    """Gateways that share a server, in folders of their own."""

    async def commit() -> None:
        return None

    place = place_of(server.url(**options), {})
    disk = ThreadPoolExecutor(1)
    made: list[Gateway] = []
    for number in range(count):
        mine = folder / f"gateway-{number}"
        mine.mkdir(exist_ok=True)
        gateway = Gateway.__new__(Gateway)
        gateway.heard, gateway.place = [], FIRST_PLACE
        gateway.tier = SharedTier(place, keys, mine, gateway.carry_out, commit, disk)
        made.append(gateway)
    tasks = [asyncio.create_task(one.tier.run()) for one in made]
    try:
        if waits:
            await together(made)
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        disk.shutdown()


async def together(made: Sequence[Gateway]) -> None:
    """Wait until all follow one epoch."""

    def is_so() -> bool:
        return all(one.tier.is_up for one in made) and len({one.tier.numbers.epoch for one in made}) == 1

    await until(is_so, "the gateways' agreeing", 20.0)


def asked(text: str = "what is the capital of france", **more: object) -> Question:
    return question_of(text, mode="exact", **more)
