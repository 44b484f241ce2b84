"""A real worker process over a small real grid: the real broker, board and meter, started as control starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.broker.plan import Plan, Settings, live_backends, write_plan
from gridctl.resources import (
    Cluster,
    ClusterSpec,
    Metadata,
    Model,
    ModelSpec,
    Objective,
    Resource,
    Site,
    SiteSpec,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.cluster import Deployment
from gridctl.resources.model import Architecture, Variant
from gridctl.signals.board import Board
from gridctl.signals.directory import BackendRow, WorkloadRow, enrolled
from gridctl.signals.directory import Objective as Goal
from gridctl.signals.layout import MOST_MODELS

SHAPE = Architecture(
    layers=2, hidden_size=64, heads=2, kv_heads=2, head_dim=32, intermediate_size=128, vocab_size=256
)  # fmt: skip


def small_grid(urls: Sequence[str]) -> tuple[Resource, ...]:
    """A core site with one cluster for each URL."""
    clusters = tuple(
        Cluster(
            metadata=Metadata(name=f"cluster-{number}"),
            spec=ClusterSpec(
                site="paris", gpu="l4", gpus=1, deployments=(Deployment(variant="tiny/bf16", endpoints=(url,)),)
            ),
        )
        for number, url in enumerate(urls)
    )
    return (
        Site(
            metadata=Metadata(name="paris"),
            spec=SiteSpec(lat=48.85, lon=2.35, country="FR", tier="core", population=1),
        ),
        Model(metadata=Metadata(name="tiny"), spec=ModelSpec(architecture=SHAPE, variants=(Variant(name="bf16"),))),
        *clusters,
        Workload(
            metadata=Metadata(name="chat"),
            spec=WorkloadSpec(objectives=(Objective(metric="ttft_ms", threshold_ms=60_000.0),), models=("tiny",)),
        ),
    )


def real_plan(urls: Sequence[str], settings: Settings | None = None, generation: int = 1) -> Plan:
    resources = small_grid(urls)
    return Plan(
        generation=generation,
        resources=resources,
        backends=live_backends(resources),
        settings=settings or Settings(anonymous=True, default_origin="paris"),
        salt="00" * 16,
    )


def real_board(plan: Plan, name: str, workers: int = 1) -> Board:
    board = Board.create(name, workers, 64)
    rows = [
        (backend.row, BackendRow(backend.site, backend.cluster, backend.model, backend.variant, "core"))
        for backend in plan.backends
    ]
    chat = WorkloadRow("chat", (Goal("ttft_ms", 60_000_000_000),))
    board.write_directory(
        enrolled(
            board.directory(), [chat], ["tiny"], rows, most_workloads=board.layout.workloads, most_models=MOST_MODELS
        )
    )
    return board


@dataclass
class RunningWorker:
    """A worker process and control's end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    port: int
    board: Board
    plan: Plan
    folder: Path
    _held: bytes = b""

    def hear(self, event: str) -> dict[str, Any]:
        """The next event of that kind."""
        while True:
            while b"\n" not in self._held:
                data = self.channel.recv(65536)
                assert data, "the channel ended"
                self._held += data
            line, _, self._held = self._held.partition(b"\n")
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event:
                return said

    def say(self, **message: object) -> None:
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def running_worker(
    folder: Path, urls: Sequence[str], settings: Settings | None = None, extra: Sequence[str] = ()
) -> Iterator[RunningWorker]:
    plan = real_plan(urls, settings)
    path = folder / "plan-1.json"
    write_plan(path, plan)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ours, theirs = socket.socketpair()
    ours.settimeout(120)
    with real_board(plan, f"gateway-test-{os.getpid()}-{uuid.uuid4().hex[:8]}") as board:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "gridctl.gateway.worker", "--plan", str(path), "--board", board.name,
                "--worker", "0", "--listen-fd", str(listener.fileno()), "--channel-fd", str(theirs.fileno()), *extra,
            ],
            pass_fds=(listener.fileno(), theirs.fileno()),
            stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        worker = RunningWorker(process, ours, listener.getsockname()[1], board, plan, folder)
        try:
            worker.hear("ready")
            yield worker
        finally:
            process.kill()
            _, said = process.communicate(timeout=10)
            ours.close()
            listener.close()
            board.unlink()
            sys.stderr.write(said.decode(errors="replace"))
