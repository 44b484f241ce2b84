"""Parts of the answers' tests: questions under real keys, keepers in this process, and keeper processes."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gridctl.answers.keeper import Keeper
from gridctl.answers.ledger import Ledger
from gridctl.answers.presence import Presence
from gridctl.answers.question import Fresh, Question
from gridctl.answers.settings import KeeperSettings, Rules
from gridctl.answers.store import Store
from gridctl.answers.vectors import Vectors
from gridctl.answers.wire import listen
from gridctl.broker.plan import Plan, write_plan
from gridctl.cache.embedders import HashedEmbedder, embed, identity
from gridctl.cache.exact import exact_key
from gridctl.cache.partition import Partition
from gridctl.resources import KINDS

SECRET = bytes(range(32))
NOW = 1_790_000_000_000_000_000
EMBEDDER = HashedEmbedder()


def question_of(
    text: str,
    *,
    tenant: str = "acme",
    workload: str = "chat",
    jurisdiction: str = "eu",
    variant: str = "fp8",
    user: str = "",
    **more: object,
) -> Question:
    partition = Partition(
        tenant=tenant, jurisdiction=jurisdiction, workload=workload, policy="1", model="llama-8b", variant=variant,
        quality_tier="standard", embedder="hashed", embedder_version="1", user=user,
    )  # fmt: skip
    fields: dict[str, object] = {"ttl_s": 3600.0, "mode": "semantic", **more}
    return Question(
        workload=workload,
        tenant=tenant,
        partition=partition.key(SECRET),
        exact=bytes.fromhex(exact_key(SECRET, partition, text))[:16],
        text=text,
        jurisdiction=jurisdiction,
        user=user,
        **fields,  # type: ignore[arg-type]
    )


def fresh_of(words: str, **more: object) -> Fresh:
    content = msgspec.json.encode({"role": "assistant", "content": words})
    fields: dict[str, object] = {
        "finish_reason": "stop", "model": "llama-8b", "variant": "fp8", "usd": 0.001, "output_tokens": 5, **more
    }  # fmt: skip
    return Fresh(content=content, **fields)  # type: ignore[arg-type]


def words_of(content: bytes) -> str:
    return str(msgspec.json.decode(content)["content"])


class Bench:
    """A keeper without sockets: its clock is `now_ns`, its texts are embedded on the spot."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.now_ns = NOW
        self.folder = folder
        self.presence_name = str(folder / "presence")
        fields: dict[str, object] = {"rules": {"chat": Rules()}, "slots": 256, **settings}
        self.settings = KeeperSettings(**fields)  # type: ignore[arg-type]
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder)
        self.ledger = Ledger(self.folder)
        self.presence = Presence.create(self.presence_name, self.store.identity, self.settings.slots)
        self.keeper = Keeper(self.store, self.presence, self.ledger, self.settings, 7)
        self.keeper.embedders["hashed"] = "/".join(identity(EMBEDDER))
        self.keeper.vectors["hashed"] = Vectors()
        while not self.keeper.load(self.now_ns):
            pass

    def close(self) -> None:
        self.presence.close()
        self.ledger.close()
        self.store.close()

    def learn(self, *texts: str) -> None:
        missing = self.keeper.vectors["hashed"].missing(texts)
        self.keeper.vectors["hashed"].learn(missing, embed(EMBEDDER, missing))

    def look(self, question: Question):
        self.learn(question.text)
        return self.keeper.look(question, self.now_ns)

    def keep(self, question: Question, fresh: Fresh) -> str:
        self.learn(question.text)
        self.learn(*self.keeper.texts_to_judge(question, fresh))
        if not fresh.stamp:
            fresh.stamp = self.store.last_purge
        return self.keeper.keep(question, fresh, self.now_ns)

    def commit(self) -> None:
        batch = self.store.take()
        if batch is not None:
            self.store.commit(batch)
            self.keeper.committed(batch, None)


def plan_at(path: Path, **cache: object) -> Path:
    """A plan with the workload `chat` whose cache is as said."""
    document = {
        "kind": "Workload", "apiVersion": "gridctl/v1", "metadata": {"name": "chat"},
        "spec": {"objectives": [{"metric": "ttft_ms", "threshold_ms": 500}], "models": ["llama-8b"],
                 "cache": {"mode": "semantic", **cache}},
    }  # fmt: skip
    workload = msgspec.convert(document, KINDS["Workload"])
    write_plan(path, Plan(generation=1, resources=(workload,)))
    return path


class KeeperProcess:
    """A keeper as the control process starts it."""

    def __init__(self, folder: Path, plan: Path) -> None:
        self.folder = folder
        self.presence = str(folder / "presence")
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.listener = listen(folder)
        self.more: tuple[str, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None
        self.channel: socket.socket | None = None

    def start(self, limit_bytes: int | None = None) -> None:
        ours, theirs = socket.socketpair()
        words = ["--folder", str(self.folder), "--plan", str(self.plan), "--presence", self.presence]
        words += ["--listen-fd", str(self.listener.fileno()), "--channel-fd", str(theirs.fileno())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gridctl.answers.process", *words, *self.more],
            pass_fds=(self.listener.fileno(), theirs.fileno()),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        if self.channel is not None:
            self.channel.close()
        self.channel = ours

    def wait_ready(self) -> None:
        assert self.channel is not None
        self.channel.settimeout(20.0)
        assert b'"ready"' in self.channel.recv(4096)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Hang up, as a control process that ends does; the exit status."""
        assert self.process is not None
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        return self.process.wait(10)

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.listener.close()


async def until(is_so: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends, f"{what} did not happen"
        await asyncio.sleep(0.005)
