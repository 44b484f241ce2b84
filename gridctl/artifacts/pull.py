"""Pull: a model from a registry into a plain folder that an engine can load, moving as few bytes as it can.

Decides, file by file, the cheapest way: it is here already, it can be made again from the base by the recipe, by the
delta, by the blocks that the base lacks, or it is fetched whole. A way that fails is told and the next one tried; a
wrong digest at the end of the last is an error. Invariant: the folder gets its mark (`.gridctl/manifest.json`) last,
and only when it holds exactly the files of the manifest, each by digest. A folder with a mark is whole; one without is
not.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gridctl.artifacts.blockindex import (
    MAX_INDEX_BYTES,
    Segment,
    bytes_missing,
    index_tag,
    known_blocks,
    read_index,
    segments,
)
from gridctl.artifacts.contents import MARK_FOLDER, bytes_digest, file_digest
from gridctl.artifacts.delta import apply
from gridctl.artifacts.download import DiskFullError, fetch_blob, fetch_small
from gridctl.artifacts.manifest import CONFIG_TYPE, Descriptor, Manifest, layer_names, read_manifest
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.package import Package, keep_mark, load
from gridctl.artifacts.push import delta_tag
from gridctl.artifacts.recipe import Derivation, recipe_for, rederive
from gridctl.artifacts.rederivation import DERIVATIONS
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.artifacts.signature import is_signed_by, named_digest, signature_tag, signatures
from gridctl.errors import GridctlError, InputError, Interrupted, NotFoundError

MAX_CONFIG_BYTES = 1 << 20
SPARE_BYTES = 256 << 20
"""Disk left free after a pull."""
FileWay = Literal["kept", "copied", "rederived", "delta", "blocks", "whole"]


class UnsignedError(InputError):
    """Nobody whom we were told to trust vouches for the model."""


@dataclass(frozen=True, slots=True)
class PullReport:
    """What a pull did. `moved_bytes` came from the registry, manifests and indexes included; `ways` by file name;
    `notes` tell which cheaper ways failed and why."""

    package: Package
    moved_bytes: int
    ways: Mapping[str, FileWay]
    notes: tuple[str, ...]


def pull(
    client: RegistryClient,
    out: Path,
    *,
    base: Package | None = None,
    key: Path | None = None,
    pace: Pace | None = None,
    derivations: Mapping[str, Derivation] | None = None,
    advance: Callable[[int], None] | None = None,
) -> PullReport:
    """Pull the client's reference into `out`. With `key`, a model that this key has not signed is refused.

    Raises: NotFoundError, InputError, UnreachableError; repeating goes on where it stopped.
    """
    where = str(client.reference)
    data = client.manifest()
    if data is None:
        raise NotFoundError("no such artefact", where=where, fix="check the repository and the tag")
    manifest = read_manifest(data, where)
    if manifest.config.mediaType != CONFIG_TYPE:
        raise InputError("the artefact is no model", where=where, fix="name a model packaged by ModelPack tools")
    if key is not None:
        require_signature(client, bytes_digest(data), key)
    known = DERIVATIONS if derivations is None else derivations
    pulling = _Pulling(client, out, data, manifest, base, pace or Pace(None), known, advance)
    pulling.prepare()
    pulling.rederive()
    pulling.by_delta()
    pulling.fetch()
    return pulling.finish()


class _Pulling:
    """One pull: what is still missing, and what it took so far."""

    def __init__(
        self,
        client: RegistryClient,
        out: Path,
        data: bytes,
        manifest: Manifest,
        base: Package | None,
        pace: Pace,
        derivations: Mapping[str, Derivation],
        advance: Callable[[int], None] | None,
    ) -> None:
        self._client = client
        self._out = out
        self._data = data
        self._manifest = manifest
        self._base = base
        self._pace = pace
        self._derivations = derivations
        self._advance = advance
        self._work = out / MARK_FOLDER / "partial"
        names = layer_names(manifest, str(client.reference))
        self._layers = dict(zip(names, manifest.layers, strict=True))
        self._ways: dict[str, FileWay] = {}
        self._notes: list[str] = []
        self._moved = len(data)
        self._lock = threading.Lock()
        self._config = b""
        self._known: dict[str, tuple[Path, int]] | None = None

    def prepare(self) -> None:
        """Refuse a folder that holds something else, keep what is right, copy whole files of the base."""
        _refuse_other_files(self._out, set(self._layers), bytes_digest(self._data))
        self._out.mkdir(parents=True, exist_ok=True)
        self._config = fetch_small(self._client, self._manifest.config, MAX_CONFIG_BYTES)
        self._moved += len(self._config)
        for name, layer in self._layers.items():
            path = self._out / name
            if path.is_file() and path.stat().st_size == layer.size and file_digest(path) == layer.digest:
                self._ways[name] = "kept"
        self._require_space()
        held = {file.digest: file for file in self._base.files} if self._base is not None else {}
        for name, layer in self._missing().items():
            same = held.get(layer.digest)
            if same is not None:
                part = (Segment(layer.size, same.path, 0),) if layer.size else ()
                self._attempt(name, layer, "copied", part)

    def rederive(self) -> None:
        """Make what the recipe makes."""
        recipe = recipe_for(self._manifest, self._base, self._derivations)
        missing = self._missing()
        if recipe is None or self._base is None or not missing:
            return
        expected = {name: (layer.size, layer.digest) for name, layer in missing.items()}
        try:
            made = rederive(recipe, self._base, expected, self._out, self._work, self._derivations)
        except Interrupted:
            raise
        except (GridctlError, OSError, ValueError) as error:  # whatever a derivation makes of a base it cannot read
            self._notes.append(f"{recipe.key} failed: {error}")
            return
        self._ways |= dict.fromkeys(made, "rederived")
        self._notes += [
            f"{recipe.key} made another {name}" for name in sorted(set(missing) - made) if self._weighs(name)
        ]

    def by_delta(self) -> None:
        """Make what is missing by the delta from the base, where that is published and the cheapest."""
        missing = self._missing()
        if self._base is None or not any(self._weighs(name) for name in missing):
            return
        data = self._client.manifest(delta_tag(self._base.digest, bytes_digest(self._data)))
        if data is None:
            return
        self._moved += len(data)
        layer = read_manifest(data, "delta").layers[0]
        if layer.size >= sum(other.size for other in missing.values()):
            return
        delta = self._work / "delta"
        expected = {name: (other.size, other.digest) for name, other in self._layers.items()}
        try:
            self._count(fetch_blob(self._client, layer, delta, self._work, self._pace))
            apply(delta, self._base, expected, self._out, skip=self._ways, advance=self._advance)
        except (InputError, NotFoundError) as error:
            self._notes.append(f"the delta failed: {error.what}")
            return
        finally:
            delta.unlink(missing_ok=True)
        self._ways |= dict.fromkeys(missing, "delta")

    def fetch(self) -> None:
        """Fetch what is still missing, several files at a time."""
        missing = self._missing()
        with ThreadPoolExecutor(self._client.parallel) as pool:
            plans = {name: self._parts(name, layer) for name, layer in missing.items()}
            futures = [pool.submit(self._fetch, name, layer, plans[name]) for name, layer in missing.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._pace.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def finish(self) -> PullReport:
        """Put the mark and open the folder."""
        shutil.rmtree(self._work, ignore_errors=True)
        keep_mark(self._out, self._data, self._config)
        return PullReport(load(self._out), self._moved, dict(self._ways), tuple(self._notes))

    def _missing(self) -> dict[str, Descriptor]:
        return {name: layer for name, layer in self._layers.items() if name not in self._ways}

    def _count(self, moved: int) -> None:
        with self._lock:
            self._moved += moved

    def _weighs(self, name: str) -> bool:
        return name.endswith(".safetensors")

    def _require_space(self) -> None:
        needed = sum(layer.size for layer in self._missing().values())
        free = shutil.disk_usage(self._out).free
        if needed + SPARE_BYTES > free:
            raise DiskFullError(
                f"the disk has {free:,} bytes free and the model needs {needed + SPARE_BYTES:,}",
                where=str(self._out),
                fix="free space, or pull to another disk",
            )

    def _parts(self, name: str, layer: Descriptor) -> tuple[Segment, ...]:
        """How the file is made of the base's blocks; empty when it is fetched whole."""
        if self._base is None or not self._weighs(name):
            return ()
        tag = index_tag(layer.digest)
        try:
            data = self._client.manifest(tag)
            if data is None:
                return ()
            blob = read_manifest(data, tag).layers[0]
            text = fetch_small(self._client, blob, MAX_INDEX_BYTES)
            index = read_index(text, layer, tag)
            if self._known is None:
                self._known = known_blocks(self._base.files)
        except (InputError, NotFoundError, IndexError) as error:
            self._notes.append(f"the block index of {name} failed: {error}")
            return ()
        self._moved += len(data) + len(text)
        found = segments(index, self._known)
        return found if bytes_missing(found) < layer.size else ()

    def _fetch(self, name: str, layer: Descriptor, parts: tuple[Segment, ...]) -> None:
        if parts and self._attempt(name, layer, "blocks", parts):
            return
        self._count(fetch_blob(self._client, layer, self._out / name, self._work, self._pace, advance=self._advance))
        self._ways[name] = "whole"

    def _attempt(self, name: str, layer: Descriptor, way: FileWay, parts: tuple[Segment, ...]) -> bool:
        try:
            self._count(
                fetch_blob(
                    self._client, layer, self._out / name, self._work, self._pace, parts=parts, advance=self._advance
                )
            )
        except InputError as error:
            self._notes.append(f"{name} could not be made from the base: {error.what}")
            return False
        self._ways[name] = way
        return True


def _refuse_other_files(out: Path, names: set[str], digest: str) -> None:
    """A folder that mixes two models must not come to be; what is not ours is not touched."""
    mark = out / MARK_FOLDER / "manifest.json"
    if mark.is_file() and bytes_digest(mark.read_bytes()) != digest:
        raise InputError("the folder holds another model", where=str(out), fix="pull into a folder of its own")
    left_over: list[Path] = []
    for path in sorted(out.rglob("*")) if out.is_dir() else ():
        name = path.relative_to(out).as_posix()
        if path.is_symlink():
            raise InputError("the folder holds a symbolic link", where=str(path), fix="pull into a new folder")
        if path.is_dir() or name in names or name.startswith(f"{MARK_FOLDER}/"):
            continue
        if not _is_left_over(path, out, names):
            raise InputError(
                "the folder holds a file that is not the model's", where=str(path), fix="pull into a folder of its own"
            )
        left_over.append(path)
    for path in left_over:
        path.unlink()


def _is_left_over(path: Path, out: Path, names: set[str]) -> bool:
    """Whether this is `.NAME.PID`, what a killed process left of one of the model's files."""
    name, _, process = path.name.rpartition(".")
    whole = (path.parent / name.removeprefix(".")).relative_to(out).as_posix()
    return name.startswith(".") and process.isdigit() and whole in names


def require_signature(client: RegistryClient, digest: str, key: Path) -> None:
    """Check that this key vouches for the manifest. Raises: UnsignedError, UnreachableError."""
    tag = signature_tag(digest)
    data = client.manifest(tag)
    for blob, size, signature in signatures(read_manifest(data, tag)) if data is not None else ():
        text = fetch_small(client, Descriptor("", blob, size), size)
        if named_digest(text) == digest and is_signed_by(text, signature, key):
            return
    what = "no signature by this key" if data is not None else "the model is not signed"
    raise UnsignedError(
        f"{what}: refused", where=str(client.reference), fix="push it with --sign-key, or name another key"
    )
