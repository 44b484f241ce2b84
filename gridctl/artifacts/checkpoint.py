"""A model's folder as it lies on disk: configuration, index, shards. Only safetensors is read, never pickle.

Decides which files of a folder are the model: the shards that the index names, or all of them without one. File names
in an index are plain names of this folder; links are followed, because download caches are made of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridctl.artifacts.safetensors import Header, Tensor, read_header
from gridctl.errors import InputError, NotFoundError

CONFIG = "config.json"
INDEX_END = ".safetensors.index.json"
INDEX = "model.safetensors.index.json"
MAX_JSON_BYTES = 64 << 20
WEIGHT_ENDS = (".bin", ".safetensors", ".pth", ".pt", ".msgpack", ".pkl", ".pickle", ".ckpt", ".h5", ".gguf", ".onnx")
"""Files that hold weights in some form: those of other forms are left behind."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's configuration and where each of its tensors lies."""

    folder: Path
    config: dict[str, Any]
    shards: dict[str, Header]
    index_name: str | None
    companions: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, tuple[str, Tensor]]:
        """Each tensor's shard and place, in the order of shards and data."""
        return {
            name: (shard, tensor) for shard, header in self.shards.items() for name, tensor in header.tensors.items()
        }

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for header in self.shards.values() for tensor in header.tensors.values())

    def digest(self) -> str:
        """SHA-256 of configuration, headers, sizes and times: whether this is the folder that was begun with."""
        found = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for shard, header in sorted(self.shards.items()):
            status = header.path.stat()
            found.update(f"{shard} {header.file_bytes} {status.st_mtime_ns}\n".encode())
            with header.path.open("rb") as file:
                found.update(file.read(header.header_bytes))
        return found.hexdigest()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a model's folder. Raises: NotFoundError; InputError, for pickles too."""
    if not folder.is_dir():
        raise NotFoundError("no such folder", where=str(folder), fix="give the folder that holds config.json")
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    present = [name for name in names if name.endswith(".safetensors")]
    if not present:
        others = [name for name in names if name.lower().endswith(WEIGHT_ENDS)]
        what = f"the weights ({others[0]}) are not safetensors" if others else "no .safetensors files"
        raise InputError(f"{what}; nothing else is read", where=str(folder), fix="save the model as safetensors first")
    if CONFIG not in names:
        raise InputError("no config.json", where=str(folder), fix="give the folder of the whole model")
    config = read_json(folder / CONFIG)
    index_name = next((name for name in names if name.endswith(INDEX_END)), None)
    weight_map = _weight_map(folder / index_name) if index_name else None
    wanted = sorted(set(weight_map.values())) if weight_map is not None else present
    for name in wanted:
        if name not in present:
            raise InputError(f"the index names {name[:80]!r}, which is not in the folder", where=str(folder))
    shards = {name: read_header(folder / name) for name in wanted}
    _agree(folder, shards, weight_map)
    companions = tuple(
        name for name in names if name not in (CONFIG, index_name) and not name.lower().endswith(WEIGHT_ENDS)
    )
    return Checkpoint(folder, config, shards, index_name, companions)


def _agree(folder: Path, shards: dict[str, Header], weight_map: dict[str, str] | None) -> None:
    """Every tensor in one shard, and where the index says."""
    seen: dict[str, str] = {}
    for shard, header in shards.items():
        for name in header.tensors:
            if name in seen:
                raise InputError(f"tensor {name!r} is in {seen[name]} and in {shard}", where=str(folder))
            seen[name] = shard
    if weight_map is not None and weight_map != seen:
        odd = next(name for name in {**weight_map, **seen} if weight_map.get(name) != seen.get(name))
        raise InputError(
            f"index and shards disagree about tensor {odd[:80]!r}", where=str(folder), fix="fetch the model again"
        )


def _weight_map(path: Path) -> dict[str, str]:
    found = read_json(path).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(value, str) for value in found.values()):
        raise InputError("weight_map is no table of tensors and files", where=str(path))
    for value in found.values():
        if Path(value).name != value or not value.endswith(".safetensors"):
            raise InputError(f"{value[:80]!r} is no file name of a shard", where=str(path))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises: NotFoundError, InputError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"over {MAX_JSON_BYTES:,} bytes", where=str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError("no such file", where=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {str(error)[:200]}", where=str(path)) from None
    if not isinstance(found, dict):
        raise InputError("not a JSON object", where=str(path))
    return found
