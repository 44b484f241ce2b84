"""Contents: what lies in a model's folder, which of it travels, and where its tensors are.

Decides the layer type of every file and refuses what must not travel: pickles (loading one runs code), symbolic links,
names that would leave the folder. Hidden files stay behind. Must not change the folder. Invariant: a `ModelFile`'s name
is a relative POSIX path that is safe to join to any folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gridctl.errors import InputError, NotFoundError

Role = Literal["weight", "weight.config", "doc", "code"]
READ_BYTES = 1 << 20
MAX_FILES = 10_000
"""Files of one model; a manifest of as many layers stays below the 4 MB that every registry takes."""
MAX_NAME = 255
MARK_FOLDER = ".gridctl"
"""Where a pulled folder keeps its manifest; hidden, so engines do not see it."""

_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"})
_CONFIGS = frozenset({".json", ".model", ".jinja", ".txt", ".tiktoken", ".vocab", ".yaml", ".yml", ".jsonl"})
_DOCS = frozenset({".md", ".rst", ".pdf", ".png", ".jpg"})
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_ZIP_START = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: its name in the model, where it lies now, its bytes and its SHA-256."""

    name: str
    path: Path
    size: int
    digest: str
    role: Role


def is_digest(text: str) -> bool:
    """Whether this is `sha256:` and 64 lower-case hex digits."""
    return _DIGEST.match(text) is not None


def checked_name(name: str, where: str) -> str:
    """The name, if a file of that name stays in the folder it is joined to. Raises: InputError."""
    parts = name.split("/")
    is_safe = (
        0 < len(name) <= MAX_NAME
        and "\\" not in name
        and ":" not in name
        and name.isprintable()
        and all(part not in ("", ".", "..") for part in parts)
        and not parts[0].startswith(MARK_FOLDER)
    )
    if not is_safe:
        raise InputError(
            f"the file name {name[:80]!r} could leave the model's folder",
            where=where,
            fix="take the model from a source you trust: no honest tool writes such a name",
        )
    return name


def role_of(name: str) -> Role:
    """Which kind of layer a file is, by its suffix; what nobody knows is configuration, which tools keep."""
    suffix = Path(name).suffix.lower()
    if suffix in (".safetensors", ".gguf"):
        return "weight"
    if suffix == ".py":
        return "code"
    if suffix in _CONFIGS:
        return "weight.config"
    if suffix in _DOCS or Path(name).name.upper().startswith(("LICENSE", "NOTICE", "README")):
        return "doc"
    return "weight.config"


def scan(folder: Path, *, advance: Callable[[int], None] | None = None, workers: int = 4) -> tuple[ModelFile, ...]:
    """The files of a model's folder with their digests, by name. Hidden files and folders are left out.

    `advance` hears of the bytes read. Raises: NotFoundError, InputError.
    """
    found = list(_walk(folder))
    if not found:
        raise InputError("the folder holds no file of a model", where=str(folder), fix="name the model's own folder")
    if len(found) > MAX_FILES:
        raise InputError(f"more than {MAX_FILES} files", where=str(folder), fix="name the model's own folder")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        digests = list(pool.map(lambda item: file_digest(item[1], advance), found))
    return tuple(
        ModelFile(name, path, path.stat().st_size, digest, role_of(name))
        for (name, path), digest in zip(found, digests, strict=True)
    )


def file_digest(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """`sha256:…` of a file."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            if advance is not None:
                advance(len(piece))
    return f"sha256:{digest.hexdigest()}"


def bytes_digest(data: bytes) -> str:
    """`sha256:…` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or not at all, after a loss of power too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _walk(folder: Path) -> Iterable[tuple[str, Path]]:
    if not folder.is_dir():
        raise NotFoundError("no such folder", where=str(folder), fix="name the folder of the model's files")
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *sorted(names)):
            if name.startswith("."):
                continue
            path = Path(root, name)
            if path.is_symlink():
                raise InputError(
                    "a symbolic link does not travel", where=str(path), fix="replace it by the file it points to"
                )
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(root, name)
                _refuse_special(path)
                yield checked_name(path.relative_to(folder).as_posix(), str(path)), path


def _refuse_special(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError("not a regular file", where=str(path), fix="remove it from the model's folder")
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix.lower() in _PICKLES or start[:2] in _PICKLE_STARTS or start == _ZIP_START:
        raise InputError(
            "a pickle or an archive: loading one can run code on every site",
            where=str(path),
            fix="convert the weights to safetensors and remove this file",
        )
