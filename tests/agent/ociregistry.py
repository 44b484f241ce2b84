"""A real OCI registry: Debian's docker-registry on loopback, for tests that move models."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from ports import free_port

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: "of-these-tests"}}
"""
START_S = 20.0
MISSING = "docker-registry is not installed (apt-get install docker-registry)"


@dataclass
class Registry:
    """A docker-registry process; `stop` kills it, `start` starts it again on the same port and data."""

    root: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.root / "config.yml"
        config.write_text(CONFIG.format(root=self.root / "data", port=self.port))
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, f"the registry did not start in {START_S:g} s"
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def blob_file(self, digest: str) -> Path:
        return self.root / "data/docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.host}/v2/", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_registry(root: Path) -> Iterator[Registry]:
    registry = Registry(root)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def has_registry() -> bool:
    return shutil.which("docker-registry") is not None
