"""A small grid with engines that have addresses, and orchestrators over it that run plain workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridctl.control.folder import ControlFile, LiveFolder
from gridctl.manifest import read_manifests
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.registry import Registry

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0

MANIFESTS = """\
apiVersion: gridctl/v1
kind: Site
metadata: {name: fr-paris-01}
spec: {lat: 48.86, lon: 2.35, country: FR, tier: edge, city: Paris}
---
apiVersion: gridctl/v1
kind: Site
metadata: {name: no-oslo-01}
spec: {lat: 59.9, lon: 10.7, country: NO, tier: core, city: Oslo}
---
apiVersion: gridctl/v1
kind: Cluster
metadata: {name: paris-gpu}
spec: {site: fr-paris-01, gpu: l4, gpus: 2, deployments: [{variant: tiny/bf16, replicas: 2,
       endpoints: ["http://127.0.0.1:7101", "http://127.0.0.1:7102"]}]}
---
apiVersion: gridctl/v1
kind: Cluster
metadata: {name: oslo-gpu}
spec: {site: no-oslo-01, gpu: l40s, gpus: 1, deployments: [{variant: tiny/bf16}], endpoints: ["http://127.0.0.1:7103"]}
---
apiVersion: gridctl/v1
kind: Model
metadata: {name: tiny}
spec:
  architecture: {layers: 16, hidden_size: 2048, heads: 32, kv_heads: 8, head_dim: 64, intermediate_size: 8192,
                 vocab_size: 128256, tied_embeddings: true}
  variants: [{name: bf16, quality: 0.6}]
---
apiVersion: gridctl/v1
kind: Workload
metadata: {name: chat}
spec: {models: [tiny], objectives: [{metric: ttft_ms, threshold_ms: 500}]}
"""

UP = """
import sys
from pathlib import Path
from gridctl.broker.plan import Settings
from gridctl.control.listening import parse_address
from gridctl.control.order import Order, Tls
from gridctl.control.process import run
from gridctl.errors import GridctlError
from gridctl.orchestrator.context import home_of
from gridctl.orchestrator.live import LocalServices

home = home_of(Path(sys.argv[1]), "test")
options = eval(sys.argv[2])
tls = options.pop("tls", None)
order = Order(
    database=home.database, grid="grid", program=(sys.argv[3],),
    listen=parse_address(options.pop("listen", "127.0.0.1:0"), "--listen"),
    admin=parse_address(options.pop("admin"), "--admin") if "admin" in options else None,
    tls=Tls(*map(Path, tls)) if tls else None,
    settings=Settings(anonymous=options.pop("anonymous", True)),
    **options,
)
say = lambda text: print(text, file=sys.stderr, flush=True)
try:
    run(order, LocalServices(home, None, None), say, lambda live: say("ready"))
except GridctlError as error:
    say(f"{type(error).__name__}: {error.what} [{error.where}] {error.fix}")
    sys.exit(error.exit_code)
"""


def wait_until(what: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """What `what` says, once that is true."""
    deadline = time.monotonic() + patience_s
    while not (said := what()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return said


@dataclass
class Orchestrator:
    """A control process of a test."""

    home: GridHome
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def folder(self) -> LiveFolder:
        return LiveFolder(self.home.database)

    def ready(self) -> ControlFile:
        """Wait until it is."""

        def look() -> ControlFile | None:
            assert self.process.poll() is None, self.rest()
            found = self.folder.running()
            return found if found is not None and found.state == "ready" else None

        found: ControlFile = wait_until(look)
        return found

    def asked(self) -> dict[str, Any]:
        """What a plain worker answers at the data address."""
        return asked(self.ready().data_url)

    def rest(self) -> str:
        """Everything it said, once it has ended."""
        _, text = self.process.communicate(timeout=PATIENCE_S)
        self.said.append(text)
        return "".join(self.said)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; its status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.rest()
        return self.process.returncode


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    """A grid with three engines."""
    (tmp_path / "grid.yaml").write_text(MANIFESTS, encoding="utf-8")
    home = home_of(tmp_path / "grid", "test")
    home.runs.mkdir(parents=True)
    with Registry.open(home.database, create=True) as registry:
        registry.apply([one.resource for one in read_manifests([tmp_path / "grid.yaml"])], cause="test")
    return home


@pytest.fixture
def start(home: GridHome) -> Iterator[Callable[..., Orchestrator]]:
    """Start orchestrators of the grid; `mood` is the plain worker's. All are gone after the test."""
    begun: list[Orchestrator] = []

    def start(mood: str = "", **options: Any) -> Orchestrator:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                UP,
                str(home.folder),
                repr(options),
                str(Path(__file__).with_name("plain_worker.py")),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PLAIN_WORKER": mood},
        )
        begun.append(Orchestrator(home, process))
        return begun[-1]

    try:
        yield start
    finally:
        for one in begun:
            if one.process.poll() is None:
                one.process.kill()
            one.process.communicate(timeout=PATIENCE_S)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., Any]:
    """Wait until something is so."""
    return wait_until


@pytest.fixture(name="is_alive")
def is_alive_fixture() -> Callable[[int], bool]:
    """Whether a process runs."""
    return is_alive


def asked(url: str) -> dict[str, Any]:
    """What a plain worker answers at the data address."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        said: dict[str, Any] = json.loads(answer.read())
    return said


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
