"""Sweeps on disk: a folder each, with what was asked and a journal of what came of it.

    sweeps/NAME/plan.json       what was asked for, and of which grid and traffic
    sweeps/NAME/results.jsonl   a line per replay, in the order they ended
    sweeps/NAME/.lock           held while replays are made

Invariant: a line that was added is on the disk, whole or not at all: the line that a kill cut off ends the file, is
read by nobody, and is cut away by the next writer. This room does not know what a line holds.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.registry.faults import disk_fault
from gridctl.registry.lock import locked

PLAN = "plan.json"
RESULTS = "results.jsonl"
LOCK = ".lock"
_NAME = r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"


class SweepStore:
    """The sweeps of a grid, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check_name(self, name: str) -> None:
        """Refuse what is no name for a sweep. Raises InputError."""
        if not re.fullmatch(_NAME, name):
            raise InputError(
                f"{name!r} is not a name for a sweep",
                fix="use lower-case letters, digits, '-' and '.'; 1 to 63 characters (--name)",
            )

    def list(self) -> builtins.list[str]:
        """Names of all sweeps, in code-point order."""
        try:
            entries = [entry.name for entry in os.scandir(self.folder) if (Path(entry.path) / PLAN).is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_fault(error, self.folder) from error
        return sorted(name for name in entries if re.fullmatch(_NAME, name))

    def latest(self) -> str | None:
        """The sweep begun last, or None when there is none."""
        moments = []
        for name in self.list():
            with contextlib.suppress(OSError):
                moments.append(((self.folder / name / PLAN).stat().st_mtime_ns, name))
        return max(moments)[1] if moments else None

    @contextlib.contextmanager
    def making(self, name: str) -> Iterator[None]:
        """Hold the sweep: a second command that would make it is refused at once with StoreError."""
        path = self.folder / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_fault(error, path) from error
        with locked(path / LOCK, timeout_s=0, doing=f"making sweep {name}"):
            yield

    def begin(self, name: str, plan: bytes) -> None:
        """Forget what there was of that name, and keep the plan of what is to come. `making` holds the sweep."""
        try:
            (self.folder / name / PLAN).unlink(missing_ok=True)
            (self.folder / name / RESULTS).unlink(missing_ok=True)
        except OSError as error:
            raise disk_fault(error, self.folder / name) from error
        self.write_plan(name, plan)

    def write_plan(self, name: str, plan: bytes) -> None:
        """Keep what was asked for, in place of what was."""
        path = self.folder / name / PLAN
        aside = path.with_name(f".{PLAN}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                file.write(plan)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise disk_fault(error, path, needed_bytes=len(plan)) from error

    def plan(self, name: str) -> bytes:
        """What was asked for. Raises NotFoundError with the nearest name."""
        if re.fullmatch(_NAME, name):
            try:
                return (self.folder / name / PLAN).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise disk_fault(error, self.folder / name / PLAN) from error
        near = did_you_mean(name, self.list())
        raise NotFoundError(
            f"there is no sweep {name}",
            where=str(self.folder),
            fix=f"did you mean {near}?" if near else "see what there is: gridctl sweep list",
        )

    @contextlib.contextmanager
    def adding(self, name: str) -> Iterator[Journal]:
        """The journal, opened to add lines; what a kill left of a line is cut away. `making` holds the sweep."""
        path = self.folder / name / RESULTS
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_fault(error, path) from error
        try:
            with _told(path):
                content = path.read_bytes()
                os.ftruncate(descriptor, content.rfind(b"\n") + 1)
                os.lseek(descriptor, 0, os.SEEK_END)
            yield Journal(descriptor, path)
        finally:
            os.close(descriptor)

    def lines(self, name: str) -> builtins.list[bytes]:
        """Whole lines, in the order they were added."""
        path = self.folder / name / RESULTS
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_fault(error, path) from error
        return content[: content.rfind(b"\n") + 1].splitlines()

    def delete(self, name: str) -> None:
        """Delete a sweep; its plan goes first, so that half a deletion is no sweep. Raises NotFoundError."""
        self.plan(name)
        with self.making(name):
            path = self.folder / name
            with _told(path):
                (path / PLAN).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)


class Journal:
    """An open journal."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def add(self, line: bytes) -> None:
        """Add a line; when this returns it survives a power loss. Raises StoreError when the disk refuses."""
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        content = line + b"\n"
        with _told(self._path):
            try:
                while content:
                    content = content[os.write(self._descriptor, content) :]
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, start)
                raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_fault(error, path) from error
