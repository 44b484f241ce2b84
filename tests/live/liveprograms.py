"""Programs under test: started on free ports, their output in files, waited for with deadlines, ended by process id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 180.0
"""The longest start: kernels compile when no cache of them is there."""
Found = TypeVar("Found")


def wait_for(what: str, look: Callable[[], Found | None], seconds: float, every_s: float = 0.05) -> Found:
    """What `look` finds, once it finds something true. Fails naming `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every_s)


def get(url: str, timeout_s: float = 5.0) -> tuple[int, bytes]:
    """Status and body of a GET; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def own_environment(store: Path | None) -> dict[str, str]:
    """Variables that keep a command away from the account's own contexts, yet let it use the kernels in its cache."""
    variables = {"PYTHONPATH": str(REPOSITORY)}
    if store is not None:
        variables["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        variables["XDG_CONFIG_HOME"] = str(store.parent / "config")
        variables["HOME"] = str(store.parent)
    return variables


def gridctl_command(store: Path | None, *arguments: str) -> list[str]:
    """The command line of `gridctl` in this Python, for the grid in that folder."""
    where = ["--store", str(store)] if store is not None else []
    return [sys.executable, "-m", "gridctl", *where, *arguments]


def gridctl(*arguments: str, store: Path | None = None, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, **own_environment(store)}
    command = gridctl_command(store, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=environment)


def apply_grid(store: Path, manifests: Path) -> None:
    """Apply a folder of manifests to the grid in `store`, which is made if it is not there."""
    if not store.exists():
        command = gridctl_command(None, "init", str(store))
        environment = {**os.environ, **own_environment(store)}
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert made.returncode == 0, made.stderr
    done = gridctl("apply", "-f", str(manifests), store=store)
    assert done.returncode == 0, done.stderr


@dataclass
class Program:
    """A started process."""

    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, command: list[str], log: Path, environment: dict[str, str] | None = None) -> Program:
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        return cls(popen, log)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until_it_answers(self, url: str, seconds: float = START_S) -> None:
        """Until a GET of the URL comes back with status 200."""

        def look() -> bool:
            assert self.is_alive, f"it ended with {self.popen.returncode}:\n{self.said[-3000:]}"
            return get(url, 2.0)[0] == 200

        wait_for(f"{url} to answer", look, seconds)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.is_alive:
            self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def end(self, seconds: float = 15.0) -> int:
        """Ask it to end; kill it and what it started when it does not. Returns its exit code."""
        if self.is_alive:
            tree = descendants(self.pid)
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                for pid in (self.pid, *tree):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        return self.popen.wait(10)


def descendants(root: int) -> list[int]:
    """Process ids of all living descendants, from /proc."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found.extend(sorted(frontier))
    return found


@dataclass
class MockEngine(Program):
    """`gridctl engine mock`."""

    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def start_mock(cls, log: Path, *options: str, port: int = 0, store: Path | None = None) -> MockEngine:
        """Start one, on a port of its own unless one is given, and wait until it listens."""
        port = port or free_port()
        command = gridctl_command(store, "engine", "mock", "--port", str(port), *options)
        program = Program.start(command, log, own_environment(store))
        engine = cls(program.popen, log, port)
        engine.wait_until_it_answers(f"{engine.url}/health")
        return engine


@dataclass
class Orchestrator(Program):
    """`gridctl up`, listening for requests on `port`."""

    store: Path = Path()
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def start(cls, folder: Path, store: Path, *options: str) -> Orchestrator:  # type: ignore[override]
        port = free_port()
        command = gridctl_command(store, "up", "--listen", f"127.0.0.1:{port}", *options)
        program = Program.start(command, folder / "up.log", own_environment(store))
        return cls(program.popen, program.log, store, port)

    @property
    def live_folder(self) -> Path:
        """Where it keeps its socket and its plans."""
        return self.store / ".gridctl" / "live"

    def wait_until_ready(self) -> None:
        """Until it says so itself: one worker of several may answer before."""

        def look() -> bool:
            assert self.is_alive, f"it ended with {self.popen.returncode}:\n{self.said[-3000:]}"
            try:
                told = json.loads((self.live_folder / "control.json").read_text())
            except (OSError, ValueError):
                return False
            return bool(told["pid"] == self.pid and told["state"] == "ready")

        wait_for("the orchestrator to be ready", look, START_S)

    def ask(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        done = gridctl(*arguments, "-o", "json", store=self.store)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


Starter = Callable[..., Orchestrator]
"""Starts `gridctl up` over engines by site; see the fixture `orchestrate`."""
