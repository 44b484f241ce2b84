"""Recipe: how a variant follows from a base, so that a site that holds the base makes it and fetches nothing.

The recipe travels in the manifest's annotations; the digest of every file it must make is the manifest's own.
Invariant: a file is taken only when its digest is the manifest's, so a recipe that comes out differently somewhere
costs time, never correctness: the caller fetches what is missing. Only derivations that the caller knows are run: a
recipe is a name and parameters, never code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gridctl.artifacts.contents import file_digest
from gridctl.artifacts.manifest import BASE, RECIPE, Manifest, to_bytes
from gridctl.artifacts.package import Package
from gridctl.errors import InputError

Value = str | int | float | bool | None | tuple[str, ...]
Derivation = Callable[[Path, Path, Mapping[str, Value]], None]
"""Make the variant: folder of the base, empty folder to fill, parameters. Must be deterministic to the bit."""
MAX_RECIPE_BYTES = 1 << 16


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A derivation by name and version, and its parameters."""

    name: str
    version: int = 1
    parameters: dict[str, Value] = {}

    @property
    def key(self) -> str:
        """`name/version`: what a site must know to follow it."""
        return f"{self.name}/{self.version}"

    @property
    def text(self) -> str:
        """The annotation."""
        return to_bytes({"name": self.name, "version": self.version, "parameters": self.parameters}).decode()


def read_recipe(text: str, where: str) -> Recipe:
    """A recipe as written. Raises: InputError."""
    if len(text) > MAX_RECIPE_BYTES:
        raise InputError("the recipe is too long", where=where, fix="package the model again")
    try:
        return msgspec.json.decode(text, type=Recipe)
    except msgspec.DecodeError as error:
        raise InputError(f"not a recipe: {error}", where=where, fix='write {"name": …, "parameters": {…}}') from None


def recipe_for(manifest: Manifest, base: Package | None, derivations: Mapping[str, Derivation]) -> Recipe | None:
    """The recipe that makes this model of that base, if there is one and this machine knows it."""
    text = manifest.annotations.get(RECIPE)
    if text is None or base is None or manifest.annotations.get(BASE) != base.digest:
        return None
    try:
        recipe = read_recipe(text, "manifest")
    except InputError:
        return None
    return recipe if recipe.key in derivations else None


def rederive(
    recipe: Recipe,
    base: Package,
    expected: Mapping[str, tuple[int, str]],
    out: Path,
    scratch: Path,
    derivations: Mapping[str, Derivation],
) -> frozenset[str]:
    """Follow the recipe in `scratch` and put the files that came out as `expected` (size, digest) in `out`.

    Returns their names; of the others nothing is left. Raises: InputError when the derivation itself refuses the base.
    """
    made = scratch / "derived"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    right: set[str] = set()
    try:
        derivations[recipe.key](plain_folder(base, scratch / "base"), made, recipe.parameters)
        for name, (size, digest) in expected.items():
            path = made / name
            if path.is_file() and path.stat().st_size == size and file_digest(path) == digest:
                target = out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _synced(path)
                path.replace(target)
                right.add(name)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(scratch / "base", ignore_errors=True)
    return frozenset(right)


def plain_folder(package: Package, scratch: Path) -> Path:
    """A folder with the package's files under their own names: its own, or links to a layout's blobs."""
    if all(file.path == package.folder / file.name for file in package.files):
        return package.folder
    shutil.rmtree(scratch, ignore_errors=True)
    for file in package.files:
        target = scratch / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.path, target)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file.path, target)
    return scratch


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
