"""Source: where manifest bytes come from: files, folders, standard input, a URL. Decides nothing about their content.

A folder stands for the manifests under it, in sorted order: hidden files, compressed files, gridctl's own settings file
and request traces are not manifests, and a grid's folder does not stand for another grid inside it. Nothing larger than
`MAX_BYTES` is ever held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gridctl.errors import InputError, did_you_mean
from gridctl.manifest.document import MAX_BYTES

SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv")
SETTINGS_FILE = "gridctl.yaml"
STDIN = "-"
MAX_FILES = 10_000
MAX_ENTRIES = 200_000
"""A walk ends here: who names `/` or a home folder is told so at once, instead of reading every text of the machine."""
_SCHEMES = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes of one manifest, the name errors call it by, and whether a folder walk found it."""

    name: str
    data: bytes
    from_folder: bool = False


def sources(paths: Sequence[str | Path], stdin: BinaryIO | None, problems: list[InputError]) -> Iterator[Source]:
    """The bytes of every path in order. What cannot be read goes to `problems`; an unreachable URL is raised."""
    for path in paths:
        text = str(path)
        try:
            if text == STDIN:
                yield Source("<stdin>", _read_stdin(stdin))
            elif "://" in text:
                yield _read_url(text)
            elif os.path.isdir(text):
                yield from _read_folder(Path(path), problems)
            else:
                yield Source(text, _read_file(Path(path)))
        except InputError as error:
            problems.append(error)


def _read_stdin(stdin: BinaryIO | None) -> bytes:
    if stdin is None:
        import sys

        stdin = sys.stdin.buffer
    return _limited(stdin, "<stdin>")


def _read_url(url: str) -> Source:
    if not url.lower().startswith(_SCHEMES):
        scheme = url.partition("://")[0]
        raise InputError(
            f"manifests are not read over {scheme[:20]}", where=url[:200], fix="use an https:// URL or a file"
        )
    from gridctl.manifest.download import download

    return Source(url, download(url))


def _read_folder(folder: Path, problems: list[InputError]) -> Iterator[Source]:
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        problems.append(
            InputError(
                f"the folder cannot be read: {error.strerror}", where=str(error.filename), fix="check its permissions"
            )
        )

    before, seen = len(problems), 0
    is_grid = (folder / SETTINGS_FILE).exists()
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        if is_grid and parent != os.fspath(folder) and SETTINGS_FILE in files:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in files if _is_manifest_name(name)]
        seen += len(folders) + len(files)
        if len(found) > MAX_FILES or seen > MAX_ENTRIES:
            raise _no_grid(folder, len(found))
    if not found and len(problems) == before:
        raise InputError(
            "the folder holds no manifests",
            where=str(folder),
            fix=f"put {', '.join(SUFFIXES)} files into it, or name a file",
        )
    for path in sorted(found):
        try:
            yield Source(str(path), _read_file(path), from_folder=True)
        except InputError as error:
            problems.append(error)


def _no_grid(folder: Path, manifests: int) -> InputError:
    held = f"{MAX_FILES:,} manifests" if manifests > MAX_FILES else f"{MAX_ENTRIES:,} files and folders"
    return InputError(
        f"the folder holds more than {held}: that is no grid's folder",
        where=str(folder),
        fix="name the grid's own folder, or its files",
    )


def _is_manifest_name(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and name != SETTINGS_FILE


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file, str(path))
    except FileNotFoundError:
        raise InputError("the file does not exist", where=str(path), fix=_nearby(path)) from None
    except PermissionError:
        raise InputError("the file may not be read", where=str(path), fix=f"chmod u+r {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"the file cannot be read: {reason}", where=str(path), fix="check the path and the disk"
        ) from None


def _nearby(path: Path) -> str:
    try:
        close = did_you_mean(path.name, sorted(os.listdir(path.parent))[:10_000])
    except OSError:
        return f"the folder {path.parent} does not exist either"
    return f"did you mean {path.parent / close}?" if close else "check the path"


def _limited(file: BinaryIO, name: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise too_large(name)
    return data


def too_large(name: str) -> InputError:
    """The refusal of a manifest over the limit."""
    return InputError(
        f"the manifest is larger than {MAX_BYTES >> 20} MiB", where=name, fix="split it into several files"
    )
