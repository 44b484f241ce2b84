"""Two orchestrators that share exact answers on a real Redis or Valkey, as their operator sees it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from intentengine import IntentEngine, intent_engine
from livegrid import write_grid
from liveprograms import Orchestrator, apply_grid, gridctl, wait_for

ANSWERS = {"refund": "Refunds take five days.", "invoice": "Invoices are under billing."}


@dataclass
class Gateway:
    """An orchestrator and the engine behind it."""

    orchestrator: Orchestrator
    engine: IntentEngine

    def ask(self, text: str, workload: str = "exact") -> tuple[str, str]:
        """What the cache did, and the answer."""
        body = {"model": "tiny", "temperature": 0, "messages": [{"role": "user", "content": text}]}
        url = f"{self.orchestrator.url}/v1/chat/completions"
        sent = {"content-type": "application/json", "x-gridctl-workload": workload, "x-gridctl-cache-tags": "doc:1"}
        asked = urllib.request.Request(url, json.dumps(body).encode(), sent)
        with urllib.request.urlopen(asked, timeout=20.0) as answer:
            told = json.loads(answer.read())
            return answer.headers["x-gridctl-cache"], told["choices"][0]["message"]["content"]

    def is_hit(self, text: str) -> bool:
        return self.ask(text)[0].startswith("hit; level=exact")

    @property
    def shared(self) -> dict[str, object]:
        return dict(self.orchestrator.ask("cache", "status")["shared"] or {})

    @property
    def stored(self) -> int:
        """Answers that it has given to the server."""
        return int(self.orchestrator.ask("cache", "status")["shared"]["counts"].get("stored", 0))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return gridctl(*arguments, store=self.orchestrator.store)


class Server:
    """The server, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shared.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            pytest.skip("neither Valkey nor Redis is installed (apt-get install redis-server)")
        words = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--dir", str(self.path.parent)]
        self.process = subprocess.Popen(
            [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def answers() -> bool:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.path))
                return True
            return False

        wait_for("the server", answers, 10)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None


def grid_at(folder: Path, engine: IntentEngine) -> Path:
    manifests = folder / "grid"
    manifests.mkdir()
    path = manifests / "grid.yaml"
    write_grid(path, {"paris": [engine.url]})
    documents = [json.loads(one) for one in path.read_text().split("---\n")]
    (chat,) = (one for one in documents if one["kind"] == "Workload")
    documents.remove(chat)
    for name, cache in (("exact", {"mode": "exact"}), ("own", {"mode": "exact", "shared": "never"})):
        documents.append({**chat, "metadata": {"name": name}, "spec": {**chat["spec"], "cache": cache}})
    path.write_text("---\n".join(json.dumps(one) + "\n" for one in documents))
    store = folder / "store"
    apply_grid(store, manifests)
    return store


@dataclass
class Pair:
    one: Gateway
    other: Gateway
    server: Server

    def agree(self) -> None:
        """Wait until both follow one life of the server."""

        def is_so() -> bool:
            told = [self.one.shared, self.other.shared]
            return all(one.get("state") == "up" for one in told) and told[0]["epoch"] == told[1]["epoch"]

        wait_for("the gateways' agreeing", is_so, 60)

    def give(self, text: str) -> None:
        """Have the first gateway's engine answer, and the other gateway find it without its own."""
        before = self.one.stored
        assert self.one.ask(text)[0].startswith("miss")
        wait_for(f"{text!r} on the server", lambda: self.one.stored > before, 30, every_s=0.1)
        assert self.other.is_hit(text)
        assert text not in self.other.engine.prompts()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        server = Server(tmp_path)
        server.start()
        stack.callback(server.kill)
        key = tmp_path / "shared.key"
        key.write_text("9f" + "0123456789abcdef" * 4)
        key.chmod(0o600)
        made = []
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            engine = stack.enter_context(intent_engine(ANSWERS))
            options = ["--cache-shared", f"unix://{server.path}?budget_ms=1000", "--cache-shared-key-file", str(key)]
            orchestrator = Orchestrator.start(folder, grid_at(folder, engine), "--default-origin", "paris", *options)
            stack.callback(orchestrator.end)
            made.append(Gateway(orchestrator, engine))
        for gateway in made:
            gateway.orchestrator.wait_until_ready()
        found = Pair(made[0], made[1], server)
        found.agree()
        yield found


def test_two_gateways_share_answers_and_what_is_taken_back(pair: Pair) -> None:
    one, other = pair.one, pair.other
    pair.give("how does a refund work")
    assert other.ask("How does a REFUND  work")[1] == ANSWERS["refund"]
    assert other.engine.prompts() == []

    # A purge at one holds at both, and says so.
    purged = one.run("cache", "purge", "--tag", "doc:1", "-o", "json")
    assert (purged.returncode, json.loads(purged.stdout)["shared"]) == (0, "told")
    wait_for("the purge elsewhere", lambda: not other.is_hit("how does a refund work"), 20)

    # What may not leave its gateway does not.
    one.ask("my own refund", "own")
    wait_for("its being kept", lambda: one.ask("my own refund", "own")[0].startswith("hit"), 20)
    assert other.ask("my own refund", "own")[0] == "miss; reason=absent"

    status = one.run("cache", "status")
    assert "shared at unix://" in status.stderr
    assert ": up, " in status.stderr
    doctor = one.orchestrator.ask("doctor", "--no-engines")
    (found,) = [item for item in doctor["items"] if item["check"] == "shared cache"]
    assert found["verdict"] == "OK"

    # Without the server each serves alone; what is ordered now is owed, and the command says so.
    pair.give("where is the invoice")
    pair.server.kill()
    wait_for("its being missed", lambda: one.shared["state"] == "down", 20)
    assert one.ask("where is the invoice")[1] == ANSWERS["invoice"]
    began = time.monotonic()
    assert one.ask("a refund for my brother") == ("miss; reason=nothing-stored", ANSWERS["refund"])
    assert time.monotonic() - began < 5.0
    owed = one.run("cache", "purge", "--workload", "exact", "--yes", "-o", "json")
    assert owed.returncode == 5
    assert json.loads(owed.stdout)["shared"] == "owed"
    assert "were not told of workload exact" in owed.stderr
    assert one.shared["owed"] == 1
    assert other.is_hit("where is the invoice"), "it cannot know yet"
    pair.server.start()
    pair.agree()
    wait_for("the telling", lambda: one.shared["owed"] == 0, 20)
    wait_for("the purge elsewhere", lambda: not other.is_hit("where is the invoice"), 20)
    pair.give("a refund after all that")
