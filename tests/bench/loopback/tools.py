"""Processes pinned to one core, what they cost, and the bench's own C programs: a mock engine and a closed-loop load.

Nothing here knows a gateway. CPU seconds and resident bytes are those of a process and all its descendants, from
/proc: a gateway pays for its workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SOURCES = Path(__file__).parent


class BenchError(Exception):
    """Something the bench needs is missing or did not start."""


def compile_programs(folder: Path) -> None:
    """Compile engine.c and load.c into the folder with the machine's C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError("no C compiler: install cc (gcc or clang)")
    for name in ("engine", "load"):
        command = [compiler, "-O2", "-Wall", "-o", str(folder / name), str(SOURCES / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{name}.c does not compile:\n{done.stderr}")


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """A started program, pinned to `core`, its output in a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        core: int,
        log: Path,
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        with log.open("wb") as output:
            popen = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
                start_new_session=True,
            )
        return cls(popen, log)

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def stop(self) -> None:
        """Ask it to end; after ten seconds end it and what it started."""
        if self.is_alive:
            tree = [self.popen.pid, *descendants(self.popen.pid)]
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                for pid in tree:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self.popen.wait(10)

    def cpu_s(self) -> float:
        """Processor seconds so far, user and system, of the process and its living descendants."""
        return sum(_cpu_s(pid) for pid in (self.popen.pid, *descendants(self.popen.pid)))

    def rss_bytes(self) -> int:
        """Resident bytes now. Pages that processes share count in each."""
        return sum(_rss_bytes(pid) for pid in (self.popen.pid, *descendants(self.popen.pid)))


def descendants(root: int) -> list[int]:
    """Process ids of all living descendants."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(_stat_fields(int(entry))[1])
    found: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found.extend(sorted(frontier))
    return found


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    try:
        fields = _stat_fields(pid)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


@dataclass
class Engines:
    """The mock engine: one process, several ports, each a backend of a gateway."""

    process: Process
    ports: tuple[int, ...]

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, ports: int, core: int) -> Iterator[Engines]:
        process = Process.start([str(folder / "engine"), "--ports", str(ports)], core, folder / "engine.log")
        try:
            deadline = time.monotonic() + 10
            while not (text := process.log.read_text()).endswith("]}\n"):
                if not process.is_alive or time.monotonic() > deadline:
                    raise BenchError(f"the mock engine did not start: {text}")
                time.sleep(0.01)
            yield cls(process, tuple(json.loads(text)["ports"]))
        finally:
            process.stop()

    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def requests(self) -> dict[str, int]:
        """How many are `running`, how many `aborts` there were, and `last_abort_ns`, of the monotonic clock."""
        with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=5) as connection:
            connection.sendall(b"GET /requests HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            text = b""
            while not text.endswith(b"}"):
                received = connection.recv(1 << 20)
                if not received:
                    raise BenchError("the mock engine closed the connection")
                text += received
        answer: dict[str, int] = json.loads(text.partition(b"\r\n\r\n")[2])
        return answer


def load(folder: Path, core: int, port: int, **options: object) -> dict[str, Any]:
    """One run of the load on `core` against `port`. Options are those of load.c, with underscores; None: left out."""
    command = ["taskset", "-c", str(core), str(folder / "load"), "--port", str(port)]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BenchError(f"the load against port {port} failed: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
