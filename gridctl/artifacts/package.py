"""Package: a model on disk as something with a digest, in either of two shapes.

An OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`) is what `model package` writes and other tools read;
a pulled folder is plain files for an engine, with its manifest kept under `.gridctl`. Invariant: `Package.digest` is
the SHA-256 of the manifest's bytes, and every file is the one that its layer names, by size at once, by digest when
read. Blobs of a layout are hard links where the disk has them: packaging 16 GB costs nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gridctl.artifacts.contents import MARK_FOLDER, ModelFile, bytes_digest, is_digest, role_of, scan, write_whole
from gridctl.artifacts.manifest import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    MODEL_TYPE,
    Descriptor,
    Manifest,
    layer_names,
    model_config,
    model_manifest,
    read_manifest,
    to_bytes,
)
from gridctl.errors import InputError, NotFoundError

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Package:
    """A model with its manifest. `files` are in the order of the manifest's layers."""

    folder: Path
    manifest_bytes: bytes
    config_bytes: bytes
    manifest: Manifest
    files: tuple[ModelFile, ...]

    @property
    def digest(self) -> str:
        """`sha256:…` of the manifest: the model's name among machines."""
        return bytes_digest(self.manifest_bytes)

    @property
    def is_stored(self) -> bool:
        """Whether the folder is a package, not the plain folder that one was built from."""
        return (self.folder / LAYOUT_FILE).is_file() or (self.folder / MARK_FOLDER / "manifest.json").is_file()

    @property
    def descriptor(self) -> Descriptor:
        """The manifest as the subject of a side artefact."""
        return Descriptor(MANIFEST_TYPE, self.digest, len(self.manifest_bytes))


def build(
    source: Path, annotations: Mapping[str, str] | None = None, *, advance: Callable[[int], None] | None = None
) -> Package:
    """The package of a plain folder, in memory: nothing is written. Raises: InputError, NotFoundError."""
    files = sorted(scan(source, advance=advance), key=lambda file: (file.role != "weight", file.name))
    if not any(file.role == "weight" for file in files):
        raise InputError("no weights (*.safetensors)", where=str(source), fix="name the model's own folder")
    config_path = source / "config.json"
    own = config_path.read_bytes() if config_path.is_file() else None
    config = model_config(files, own)
    data = model_manifest(files, config, annotations or {})
    return Package(source, data, config, read_manifest(data, str(source)), tuple(files))


def write_layout(package: Package, out: Path) -> Package:
    """Write the package as an OCI image layout and open it. A package that is there already is kept where it is
    the same and else replaced; the index comes last. Raises: InputError when something else is there."""
    if out.exists() and not (out / LAYOUT_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("there is something else already", where=str(out), fix="name a new folder")
    write_whole(out / LAYOUT_FILE, LAYOUT)
    blobs = out / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for file in package.files:
        _place(file.path, blobs / file.digest[7:], file.size)
    write_whole(blobs / bytes_digest(package.config_bytes)[7:], package.config_bytes)
    write_whole(blobs / package.digest[7:], package.manifest_bytes)
    entry = {
        "mediaType": MANIFEST_TYPE,
        "artifactType": MODEL_TYPE,
        "digest": package.digest,
        "size": len(package.manifest_bytes),
    }
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}
    write_whole(out / "index.json", to_bytes(index))
    return load(out)


def load(folder: Path) -> Package:
    """Open a layout or a pulled folder. Raises: NotFoundError when it is neither, InputError when it is damaged."""
    if (folder / LAYOUT_FILE).is_file():
        return _load_layout(folder)
    mark = folder / MARK_FOLDER / "manifest.json"
    if not mark.is_file():
        raise NotFoundError(
            "not a package", where=str(folder), fix=f"gridctl model package {folder} --out {folder}.package"
        )
    data = mark.read_bytes()
    manifest = read_manifest(data, str(mark))
    config = (folder / MARK_FOLDER / "config.json").read_bytes()
    names = layer_names(manifest, str(mark))
    return _opened(folder, data, config, manifest, [folder / name for name in names], names)


def keep_mark(folder: Path, manifest_bytes: bytes, config_bytes: bytes) -> None:
    """Note in a folder of plain files which model it is: the manifest is written last."""
    write_whole(folder / MARK_FOLDER / "config.json", config_bytes)
    write_whole(folder / MARK_FOLDER / "manifest.json", manifest_bytes)


def _load_layout(folder: Path) -> Package:
    where = str(folder / "index.json")
    try:
        entries = msgspec.json.decode((folder / "index.json").read_bytes(), type=_Index).manifests
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"the layout's index cannot be read: {error}", where=where, fix="package it again") from None
    if len(entries) != 1 or not is_digest(entries[0].digest):
        raise InputError("the layout does not hold exactly one manifest", where=where, fix="package it again")
    blobs = folder / "blobs" / "sha256"
    data = _checked_blob(blobs, entries[0].digest)
    manifest = read_manifest(data, where)
    config = _checked_blob(blobs, manifest.config.digest)
    names = layer_names(manifest, where)
    return _opened(folder, data, config, manifest, [blobs / layer.digest[7:] for layer in manifest.layers], names)


class _Index(msgspec.Struct):
    manifests: tuple[Descriptor, ...]


def _checked_blob(blobs: Path, digest: str) -> bytes:
    path = blobs / digest[7:]
    data = path.read_bytes() if path.is_file() else b""
    if bytes_digest(data) != digest:
        raise InputError("a blob is missing or damaged", where=str(path), fix="package it again")
    return data


def _opened(
    folder: Path, data: bytes, config: bytes, manifest: Manifest, paths: list[Path], names: tuple[str, ...]
) -> Package:
    files = []
    for layer, path, name in zip(manifest.layers, paths, names, strict=True):
        if not path.is_file() or path.stat().st_size != layer.size:
            raise InputError(f"{name} is missing or not as packaged", where=str(path), fix="package or pull it again")
        files.append(ModelFile(name, path, layer.size, layer.digest, role_of(name)))
    return Package(folder, data, config, manifest, tuple(files))


def _place(source: Path, target: Path, size: int) -> None:
    if target.is_file() and target.stat().st_size == size:
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, partial)
    partial.replace(target)
