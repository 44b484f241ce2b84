"""A real OCI registry on loopback, and small models made of numbers drawn here."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))  # the registry

from ociregistry import MISSING, Registry, has_registry, running_registry


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


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    if not has_registry():
        pytest.skip(MISSING)
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


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
