"""What an agent's tests need around it: a real registry, an orchestrator that speaks the protocol, models, and
processes in which agents may die."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ociregistry import Registry

from gridctl.agent.order import Order
from gridctl.agent.site_agent import run_agent
from gridctl.artifacts.delta import encode
from gridctl.artifacts.manifest import BASE, RECIPE
from gridctl.artifacts.package import Package, build
from gridctl.artifacts.push import push
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.rollout.protocol import Desired, Report, Version, Wanted
from gridctl.rollout.releasekey import ReleaseKey

TOKEN = "token-of-the-site"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)


def make_model(folder: Path, *, seed: int, rows: int = 64, model_type: str = "llama", moved: float = 0.0) -> Path:
    """A small model, written from the format's description: two files of bf16 matrices. `moved` is how far its numbers
    are from those of the same seed."""
    draw = np.random.default_rng(seed)
    for shard in (1, 2):
        header: dict[str, object] = {}
        data = b""
        for layer in range(2):
            numbers = (draw.standard_normal(rows * 256) * 0.02).astype(np.float32)
            if moved and shard == 1:
                numbers += np.float32(moved)
            block = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
            header[f"layers.{shard * 2 + layer}.weight"] = {
                "dtype": "BF16",
                "shape": [rows, 256],
                "data_offsets": [len(data), len(data) + len(block)],
            }
            data += block
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = folder / f"model-{shard:05}-of-00002.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "torch_dtype": "bfloat16"}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@dataclass(frozen=True)
class Pushed:
    """A model in the registry."""

    reference: str
    digest: str
    total_bytes: int
    files: dict[str, str]


def push_model(
    registry: Registry,
    repository: str,
    folder: Path,
    scratch: Path,
    *,
    base: Path | None = None,
    recipe: str | None = None,
    key: Path | None = None,
) -> Pushed:
    annotations = {}
    held: Package | None = None
    if base is not None:
        held = build(base)
        annotations[BASE] = held.digest
    if recipe is not None:
        annotations[RECIPE] = recipe
    package = build(folder, annotations)
    delta = None
    if held is not None:
        delta = scratch / f"delta-{package.digest[7:19]}"
        encode(held, package, delta)
    with RegistryClient(parse_reference(f"{registry.host}/{repository}:{package.digest[7:19]}")) as client:
        push(package, client, delta=delta, key=key)
    return Pushed(
        f"{registry.host}/{repository}@{package.digest}",
        package.digest,
        package.manifest.total_bytes,
        {file.name: file.digest for file in package.files},
    )


class Orchestrator:
    """Speaks the protocol on loopback: each site's wishes, signed; its reports, kept. `say` answers otherwise."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        self.key = ReleaseKey(key or Ed25519PrivateKey.generate())
        self.wishes: dict[str, tuple[Wanted, ...]] = {}
        self.reports: dict[str, list[Report]] = {}
        self.generation = 1
        self.counter = 1
        self.lease_s = 60.0
        self.next_sync_s = 0.1
        self.life_s = 3600.0
        self.tokens = {TOKEN}
        self.clock_ahead_s = 0.0
        self.refusals: list[tuple[Any, ...]] = []
        self.spoil: Callable[[Desired], Desired] | None = None
        self.lead: Callable[[str, Report], None] | None = None
        self.statuses: list[int] = []
        self.asked_at: list[float] = []
        self._lock = threading.Lock()
        outer = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, *_words: object) -> None: ...

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + outer.clock_ahead_s, usegmt=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wish(self, site: str, *wanted: Wanted) -> None:
        with self._lock:
            self.generation += 1
            self.counter += 1
            self.wishes[site] = wanted

    def last(self, site: str) -> Report | None:
        reports = self.reports.get(site)
        return reports[-1] if reports else None

    def desired(self, site: str) -> Desired:
        desired = Desired(
            site=site,
            generation=self.generation,
            counter=self.counter,
            expires_unix_s=time.time() + self.clock_ahead_s + self.life_s,
            lease_s=self.lease_s,
            next_sync_s=self.next_sync_s,
            wanted=self.wishes.get(site, ()),
        )
        return self.key.sign(desired)

    def answer(self, request: Any) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        self.asked_at.append(time.monotonic())
        words = request.path.split("/")
        site = words[3]
        if self.refusals:
            self._send(request, *self.refusals.pop(0))
            return
        if request.headers.get("authorization", "") not in {f"Bearer {token}" for token in self.tokens}:
            self._send(request, 401, {})
            return
        report = msgspec.json.decode(body, type=Report)
        if self.lead is not None:
            self.lead(site, report)
        with self._lock:
            self.reports.setdefault(site, []).append(report)
            etag = f'"{hashlib.sha256(repr((self.generation, self.wishes.get(site))).encode()).hexdigest()}"'
            desired = self.desired(site)
        if request.headers.get("if-none-match") == etag and self.spoil is None:
            self._send(request, 304, {})
            return
        if self.spoil is not None:
            desired = self.spoil(desired)
        self._send(request, 200, {"etag": etag}, msgspec.json.encode(desired))

    def _send(self, request: Any, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.statuses.append(status)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if status != 304:
            request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


def wanted(pushed: Pushed, mode: str, counter: int, *, model: str = "llama", **fields: Any) -> Wanted:
    return Wanted(
        model=model,
        reference=pushed.reference,
        version=Version(pushed.digest, f"v{counter}", counter),
        mode=mode,  # type: ignore[arg-type]
        disk_bytes=pushed.total_bytes,
        **fields,
    )


def order_for(orchestrator: Orchestrator, folder: Path, site: str = "fr-paris-01", **fields: Any) -> Order:
    token = folder.parent / f"{folder.name}.token"
    token.write_text(TOKEN)
    settings: dict[str, Any] = {
        "key_pem": orchestrator.key.public_pem,
        "interval_s": 0.1,
        "retry_s": 0.05,
        "health_every_s": 0.05,
        "probe_every_s": 0.2,
        "ready_s": 3.0,
        "hook_s": 5.0,
        "keep_free_bytes": 0,
    }
    return Order(site=site, url=orchestrator.url, token_file=token, folder=folder, **(settings | fields))


def work_until(
    order: Order, condition: Callable[[], object], what: str, seconds: float = 20.0, **fields: Any
) -> list[str]:
    """Run the agent here until the condition holds, then end it in order; what it said."""
    said: list[str] = []

    async def run() -> None:
        stop = asyncio.Event()
        agent = asyncio.create_task(run_agent(order, said.append, stop, **fields))
        deadline = time.monotonic() + seconds
        try:
            while not condition():
                assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}; said: {said}"
                assert not agent.done(), f"the agent ended: {agent.exception() if not agent.cancelled() else ''}"
                await asyncio.sleep(0.01)
        finally:
            stop.set()
            await asyncio.wait_for(agent, 20)

    asyncio.run(run())
    return said


def complaint_of(folder: Path) -> str:
    """What is wrong with what the folder's pointers and `current` lead to, by reading every byte; "" when nothing is.

    Written from the description of the folder, not with the agent's own code."""
    for model in sorted((folder / "models").iterdir()) if (folder / "models").is_dir() else ():
        pointers = model / "pointers.json"
        told = json.loads(pointers.read_text()) if pointers.is_file() else {}
        named = {role: told.get(role) for role in ("committed", "previous", "trial")}
        places = {role: model / version["digest"][7:] for role, version in named.items() if version}
        if (model / "current").is_symlink():
            places["current"] = (model / "current").resolve()
        for role, place in places.items():
            wrong = wrong_with(place)
            if wrong:
                return f"{role} of {model.name}: {wrong}"
    return ""


def wrong_with(place: Path) -> str:
    mark = place / ".gridctl" / "manifest.json"
    if not mark.is_file():
        return f"{place.name[:12]} is not whole"
    data = mark.read_bytes()
    if hashlib.sha256(data).hexdigest() != place.name:
        return f"{place.name[:12]} holds another manifest"
    expected = {
        layer["annotations"]["org.cncf.model.filepath"]: layer["digest"] for layer in json.loads(data)["layers"]
    }
    found = {
        path.relative_to(place).as_posix(): f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in place.rglob("*")
        if path.is_file() and ".gridctl" not in path.relative_to(place).parts
    }
    return "" if found == expected else f"{place.name[:12]} mixes: {sorted(set(found.items()) ^ set(expected.items()))}"


def committed_digest(folder: Path, model: str = "llama") -> str | None:
    path = folder / "models" / model / "pointers.json"
    told = json.loads(path.read_text()) if path.is_file() else {}
    return told["committed"]["digest"] if told.get("committed") else None


def lead_to(
    orchestrator: Orchestrator, pushed: Pushed, counter: int, model: str = "llama"
) -> Callable[[str, Report], None]:
    """Wishes as a rollout makes them: stage, then trial, then commit, each once the site reports the one before."""
    order = ("stage", "trial", "commit")

    def lead(site: str, report: Report) -> None:
        actual = report.of(model)
        mode = "stage"
        if actual is not None and actual.holds(pushed.digest):
            is_tried = actual.trial is not None and actual.trial.digest == pushed.digest
            is_served = actual.committed is not None and actual.committed.digest == pushed.digest
            mode = "commit" if is_tried or is_served else "trial"
        now = next((one for one in orchestrator.wishes.get(site, ()) if one.version.counter == counter), None)
        if now is None or order.index(mode) > order.index(now.mode):
            orchestrator.wish(site, wanted(pushed, mode, counter, model=model))

    return lead


class Nursery:
    """A process that has everything imported and forks agents, so that one can die by kill −9 at no cost."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *orders: Order, die_at: str = "", nth: int = 1) -> int:
        """Fork a process with these agents; its id. `die_at` kills it when the step is reached for the nth time."""
        tell = {
            "orders": [json.loads(msgspec.json.encode(_plain(order))) for order in orders],
            "at": die_at,
            "nth": nth,
        }
        return int(self._ask(json.dumps(tell)))

    def wait(self, process: int) -> int:
        """How it ended: a negative signal, or an exit code."""
        return int(self._ask(json.dumps({"wait": process})))

    def kill(self, process: int, how: int = signal.SIGKILL) -> None:
        os.kill(process, how)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery has died"
        return answer


def _plain(order: Order) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in ((name, getattr(order, name)) for name in order.__dataclass_fields__)
    }
