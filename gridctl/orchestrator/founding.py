"""Founding a grid: the folder, its manifests, its database, its context.

Decides what a new grid folder holds. The invariant: the folder appears whole or not at all (it is built beside its
place and renamed), and nothing that exists is ever overwritten: with `force` an old folder is moved aside.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import InputError, StoreError
from gridctl.orchestrator.config import PROJECT_FILE
from gridctl.orchestrator.context import STATE_FOLDER, GridHome, add_context, contexts, home_of
from gridctl.orchestrator.examples import GENERATED, example_folder

if TYPE_CHECKING:
    from gridctl.resources import Resource

DEFAULT_WORLD_SITES = 4400
_NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", re.IGNORECASE)
_SITE = re.compile(r"^kind:\s*Site\s*$", re.MULTILINE)
_SKIPPED = shutil.ignore_patterns(STATE_FOLDER, "__pycache__", ".*", "expected*")


@dataclass(frozen=True, slots=True)
class Founded:
    """A new grid, where the folder that was in its way went, the folder its context stood for until now, and why it
    could not be remembered as a context, if so: a machine without a home can have a grid all the same."""

    name: str
    home: GridHome
    moved_aside: Path | None
    context_before: Path | None = None
    forgotten: StoreError | None = None


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What to build: an example's name (None: an empty grid) and, for the generated world, its size and seed."""

    example: str | None = None
    sites: int | None = None
    seed: int = 1
    sites_file: Path | None = None


def found_grid(target: Path, blueprint: Blueprint, *, force: bool = False, remember: bool = True) -> Founded:
    """Build the grid in `target` and, unless `remember` is off, make it the current context.

    Raises: InputError when the folder is not empty (and `force` is not given) or the blueprint does not fit together;
    NotFoundError for an unknown example; StoreError when the disk refuses.
    """
    target = target.expanduser().absolute()
    _check_name(target)
    fill = _filler(blueprint)
    occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if occupied and not force:
        raise InputError(
            f"{target} exists and is not empty",
            fix="choose another name, or --force, which moves it aside and keeps it",
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        fill(partial)
        _write_frame(partial, target.name)
        moved = _move_aside(target) if occupied else None
        partial.rename(target)
    except OSError as error:
        raise _refused(error, target) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    founded = Founded(target.name, home_of(target, f"context {target.name}"), moved)
    return _remembered(founded) if remember else founded


def declares_sites(folder: Path) -> bool:
    """Whether the manifests of a founded folder make a grid; files of an example may be for another one."""
    return any(_SITE.search(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml")))


def _remembered(founded: Founded) -> Founded:
    """Make the grid the current context."""
    folder = founded.home.folder
    try:
        before = contexts().get(founded.name)
        add_context(founded.name, folder)
    except StoreError as error:
        return replace(founded, forgotten=error)
    return replace(founded, context_before=Path(before) if before not in (None, str(folder)) else None)


def _refused(error: OSError, target: Path) -> StoreError:
    """What the disk said; nothing of the grid is left behind."""
    from gridctl.registry.faults import disk_fault

    if isinstance(error, shutil.Error):
        # a copy of many files that failed: a list of (source, target, text), of which the first will do
        _, copied, text = error.args[0][0]
        return StoreError(
            f"cannot create the grid: {text}", where=str(copied), fix="free some space, or choose another folder"
        )
    return disk_fault(error, target)


def _check_name(target: Path) -> None:
    here = Path.cwd()
    if target.resolve() == here or target.resolve() in here.parents:
        raise InputError("the grid would replace the folder you are in", where=str(target), fix="name a new folder")
    if not _NAME.match(target.name):
        raise InputError(
            f"{target.name!r} cannot name a grid",
            fix="use letters, digits, '-', '_' and '.', 1 to 63 characters",
        )


def _filler(blueprint: Blueprint) -> Callable[[Path], None]:
    """What writes the manifests; everything that can be refused is refused here, before the disk is touched."""
    if blueprint.example != GENERATED:
        if blueprint.sites is not None or blueprint.sites_file is not None:
            raise InputError("--sites and --sites-file shape the world example only", fix="add --example world")
        if blueprint.example is None:
            return lambda folder: None
        source = example_folder(blueprint.example)
        return lambda folder: _copy_example(source, folder)
    if blueprint.sites is not None and blueprint.sites_file is not None:
        raise InputError("--sites and --sites-file both give the sites", fix="give one of them")
    return lambda folder: _write_manifests(_world(blueprint), folder)


def _world(blueprint: Blueprint) -> Sequence[Resource]:
    from gridctl.geography.world import generate_world, read_site_rows, world_from_sites

    if blueprint.sites_file is not None:
        return world_from_sites(read_site_rows(blueprint.sites_file))
    return generate_world(blueprint.sites or DEFAULT_WORLD_SITES, blueprint.seed)


def _copy_example(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, ignore=_SKIPPED, dirs_exist_ok=True)


def _write_manifests(resources: Sequence[Resource], folder: Path) -> None:
    from gridctl.manifest import dump
    from gridctl.resources import KINDS

    for kind in KINDS.values():
        members = [resource for resource in resources if type(resource) is kind]
        if members:
            (folder / f"{kind.plural}.yaml").write_text(dump(members, "yaml"), encoding="utf-8")


def _write_frame(folder: Path, name: str) -> None:
    """The project file, the ignore rule and an empty database."""
    from gridctl.registry import Registry

    project = folder / PROJECT_FILE
    if not project.exists():
        project.write_text(
            f'# gridctl works on this grid in this folder and below it. See: gridctl help manifests\nname: "{name}"\n',
            encoding="utf-8",
        )
    (folder / ".gitignore").write_text(f"{STATE_FOLDER}/\n", encoding="utf-8")
    home = home_of(folder, "new")
    home.runs.mkdir(parents=True)
    with Registry.open(home.database, create=True):
        pass


def _move_aside(target: Path) -> Path:
    number = 1
    while (aside := target.with_name(f"{target.name}.old-{number}")).exists():
        number += 1
    target.rename(aside)
    return aside
