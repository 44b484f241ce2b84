"""Draws on disk: beside each run, the summaries of the replays that say how sure it is.

Layout of the folder:

    draws/RUN/plan.json            what was asked for, and of which run
    draws/RUN/draw-0007.json.gz    one draw's tables
    draws/RUN/.lock                held while draws are made

Invariant: a file is whole whatever was killed when, because it is written aside, flushed and renamed; so draws that
were finished before an interruption are finished for good. This room does not know what a summary holds.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import StoreError
from gridctl.registry.faults import disk_fault
from gridctl.registry.lock import locked

PLAN = "plan.json"
LOCK = ".lock"
_DRAW = re.compile(r"draw-(\d{4,})\.json\.gz")
_COMPRESSION = 3


class DrawStore:
    """The draws of a grid's runs, in one folder. `run` is a run's name, checked by the run store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def making(self, run: str) -> Iterator[None]:
        """Hold the run's draws: a second command that would make them is refused at once with StoreError."""
        path = self.folder / run
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_fault(error, path) from error
        with locked(path / LOCK, timeout_s=0, doing=f"making draws of run {run}"):
            yield

    def plan(self, run: str) -> bytes | None:
        """What was asked for, or None where nothing was."""
        try:
            return (self.folder / run / PLAN).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_fault(error, self.folder / run / PLAN) from error

    def write_plan(self, run: str, plan: bytes) -> None:
        """Keep what was asked for, in place of what was."""
        self._write(self.folder / run / PLAN, plan)

    def numbers(self, run: str) -> list[int]:
        """Which draws are there, rising."""
        try:
            names = os.listdir(self.folder / run)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk_fault(error, self.folder / run) from error
        return sorted(int(found[1]) for found in map(_DRAW.fullmatch, names) if found)

    def add(self, run: str, number: int, summary: bytes) -> None:
        """Keep one draw; when this returns it survives a power loss. The same bytes make the same file."""
        self._write(self._path(run, number), gzip.compress(summary, _COMPRESSION, mtime=0))

    def read(self, run: str, number: int) -> bytes:
        """One draw. Raises StoreError when its file is missing or damaged."""
        path = self._path(run, number)
        try:
            content = path.read_bytes()
            if not content:  # which gzip takes for nothing at all, compressed
                raise EOFError("the file is empty")
            return gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise StoreError(
                f"draw {number} of run {run} is damaged: {error}",
                where=str(path),
                fix="delete the file, then give the replay's command again with --resume",
            ) from None

    def delete(self, run: str) -> None:
        """Forget a run's draws; nothing happens where there are none."""
        if (self.folder / run).is_dir():
            with self.making(run):
                self.clear(run)
            shutil.rmtree(self.folder / run, ignore_errors=True)

    def clear(self, run: str) -> None:
        """Forget plan and draws while `making` holds them; the plan goes first, so that half a deletion shows."""
        folder = self.folder / run
        try:
            (folder / PLAN).unlink(missing_ok=True)
            for path in [entry for entry in folder.iterdir() if entry.name != LOCK]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_fault(error, folder) from error

    def _path(self, run: str, number: int) -> Path:
        return self.folder / run / f"draw-{number:04}.json.gz"

    def _write(self, path: Path, content: bytes) -> None:
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise disk_fault(error, path, needed_bytes=len(content)) from error
