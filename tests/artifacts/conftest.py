"""A real OCI registry on loopback, and small models made of numbers drawn here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}", secret: "of-these-tests"}}
"""


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """A safetensors file written from the format's description: name → dtype, shape, data."""
    header: dict[str, object] = {}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def bf16(numbers: np.ndarray) -> bytes:
    """float32 numbers rounded to nearest-even bfloat16."""
    bits = numbers.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


@dataclass
class Registry:
    """A docker-registry process; `stop` kills it, `start` starts it again on the same port and data."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

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
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none", **self.environment},
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://{self.host}/v2/", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the registry does not start")

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None

    def blob_file(self, digest: str) -> Path:
        return self.root / "data/docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed (apt-get install docker-registry)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Registry(tmp_path_factory.mktemp("registry"), port)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A small model's folder: `tensors` bf16 matrices of `rows` × 256, in `shards` files."""

    def make(name: str = "model", *, tensors: int = 4, rows: int = 2048, shards: int = 2, seed: int = 0) -> Path:
        folder = tmp_path / name
        draw = np.random.default_rng(seed)
        for shard in range(shards):
            held = {
                f"layers.{index}.weight": ("BF16", (rows, 256), bf16(draw.standard_normal(rows * 256) * 0.02))
                for index in range(shard, tensors, shards)
            }
            write_safetensors(folder / f"model-{shard + 1:05}-of-{shards:05}.safetensors", held)
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "torch_dtype": "bfloat16"}))
        (folder / "tokenizer.json").write_text("{}")
        return folder

    return make
