"""Versions: models on the disk of a site, each whole and verified, and what their pointers say of them.

Decides how a version that has come gets its place, how pointers are written, and whether what lies there is still what
it was. Every change is one rename, and reached steps are told after it. Must not talk to a registry or an engine.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from gridctl.agent.folder import (
    CURRENT,
    AgentFolder,
    is_folder,
    point,
    rename_durably,
    sync_folder,
    sync_tree,
    write_durably,
)
from gridctl.agent.pointers import Pointers, read_pointers
from gridctl.agent.steps import Reached, unobserved
from gridctl.artifacts.contents import MARK_FOLDER, file_digest
from gridctl.artifacts.package import Package, load
from gridctl.errors import GridctlError, InputError

POINTERS = "pointers.json"
READ_ONLY = 0o444
NO_POINTERS = Pointers()


class Versions:
    """All models of one folder. One thread changes them; others may read `pointers`."""

    def __init__(self, folder: AgentFolder, reached: Reached = unobserved) -> None:
        self.folder = folder
        self._reached = reached
        self._pointers: dict[str, Pointers] = {}
        for name in folder.model_names():
            path = folder.model(name) / POINTERS
            if path.is_file():
                self._pointers[name] = read_pointers(path.read_bytes(), str(path))
        self._whole = {name: frozenset(folder.versions(name)) for name in folder.model_names()}

    @property
    def models(self) -> list[str]:
        """Models of which anything is known or held."""
        return sorted(set(self._pointers) | set(self._whole))

    def pointers(self, model: str) -> Pointers:
        """Of a model; empty ones of a model that was never here."""
        return self._pointers.get(model, NO_POINTERS)

    def whole(self, model: str) -> frozenset[str]:
        """Digests that are on the disk, whole."""
        return self._whole.get(model, frozenset())

    def path(self, model: str, digest: str) -> Path:
        """Where a version lies."""
        return self.folder.version(model, digest)

    def package(self, model: str, digest: str) -> Package:
        """A version as something to make others from. Raises: InputError, NotFoundError."""
        return load(self.path(model, digest))

    def set(self, model: str, pointers: Pointers) -> None:
        """Write the pointers down, and make `current` follow."""
        if pointers == self.pointers(model):
            return
        folder = self.folder.model(model)
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / POINTERS, msgspec.json.encode(pointers))
        self._pointers[model] = pointers

    def follow(self, model: str) -> None:
        """Make `current` lead to the committed version, for engines that start by themselves."""
        link = self.folder.model(model) / CURRENT
        committed = self.pointers(model).committed
        if committed is not None:
            point(link, committed.digest.removeprefix("sha256:"))
        elif link.is_symlink():
            link.unlink()
            sync_folder(link.parent)

    def link_held(self, package_names: dict[str, str], stage: Path) -> None:
        """Put what is held already, by digest, under its name (name → digest) into a folder on its way."""
        for name, digest in package_names.items():
            blob, target = self.folder.blob(digest), stage / name
            if blob.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(OSError):  # a disk without links, or too many: it is fetched or copied
                    os.link(blob, target)

    def install(self, model: str, digest: str) -> None:
        """Give a pulled version its place. It is on the disk, whole, before it has its name there."""
        stage = self.folder.stage(model, digest)
        package = load(stage)
        if package.digest != digest:
            raise InputError("the folder on its way holds another model", where=str(stage), fix="remove it")
        for file in package.files:
            file.path.chmod(READ_ONLY)
            self._keep_blob(file.path, file.digest)
        sync_tree(stage)
        sync_folder(self.folder.blobs)
        place = self.path(model, digest)
        if place.exists() or place.is_symlink():
            self.folder.discard(place)
        rename_durably(stage, place)
        self._whole[model] = self.whole(model) | {digest}
        self._reached("installed")

    def forget(self, model: str, digest: str) -> None:
        """Remove a version that nothing names."""
        assert digest not in self.pointers(model).named, "a named version is never removed"
        self._whole[model] = self.whole(model) - {digest}
        self.folder.discard(self.path(model, digest))

    def damage(self, model: str, digest: str) -> str:
        """What is wrong with a version on the disk, all of it read; "" when nothing is."""
        try:
            return self._damage(self.path(model, digest), digest)
        except (GridctlError, OSError) as error:
            return str(error)

    def drop_damaged(self, model: str, digests: frozenset[str]) -> None:
        """Have nothing name damaged versions, then remove them and the blobs that they share."""
        for digest in digests:
            with contextlib.suppress(GridctlError, OSError):
                self._drop_blobs(self.path(model, digest))
        self.set(model, self.pointers(model).without(digests))
        self.follow(model)
        for digest in digests:
            self.forget(model, digest)

    def _keep_blob(self, path: Path, digest: str) -> None:
        blob = self.folder.blob(digest)
        if blob.exists():
            return
        with contextlib.suppress(OSError):  # a disk without links: the version is held once all the same
            os.link(path, blob)

    def _damage(self, path: Path, digest: str) -> str:
        package = load(path)
        if package.digest != digest:
            return "its manifest is another"
        names = {file.name for file in package.files}
        for found in path.rglob("*"):
            name = found.relative_to(path).as_posix()
            if found.is_symlink():
                return f"{name} is a symbolic link"
            if not is_folder(found) and name not in names and not name.startswith(f"{MARK_FOLDER}/"):
                return f"{name} is not the model's"
        for file in package.files:
            if file_digest(file.path) != file.digest:
                return f"{file.name} is not what its digest says"
        return ""

    def _drop_blobs(self, path: Path) -> None:
        for file in load(path).files:
            blob = self.folder.blob(file.digest)
            if blob.is_file() and file_digest(blob) != file.digest:
                blob.unlink()
