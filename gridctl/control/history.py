"""Counts of the past: sampled every 10 seconds, kept over restarts, so that budgets of 30 days can be told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from gridctl.control.folder import write_private
from gridctl.errors import GridctlError
from gridctl.signals.board import Board
from gridctl.signals.series import SAMPLE_S, Series, counts_of
from gridctl.signals.totals import read_totals

SAVED_EVERY = 6
"""Samples between two writings to the disk: what a power loss takes."""


class History:
    """The series of one orchestrator. A file that cannot be read is put aside, and said; counts begin anew then."""

    def __init__(self, board: Board, path: Path, say: Callable[[str], None]) -> None:
        self._board = board
        self._path = path
        self._say = say
        self._unsaved = 0
        self.series = self._read()
        self.sample()  # a window begins at a sample: without this one the first requests would be in none

    async def run(self) -> None:
        """Sample until cancelled; the last sample is kept, too."""
        try:
            while True:
                await asyncio.sleep(SAMPLE_S)
                self.sample()
                if self._unsaved >= SAVED_EVERY:
                    await asyncio.to_thread(self._write, self.series.to_bytes())
        finally:
            self.sample()
            self._write(self.series.to_bytes())

    def sample(self) -> None:
        """Take what the workers have counted until now."""
        self.series.sample(time.time(), counts_of(read_totals(self._board)))
        self._unsaved += 1

    def _read(self) -> Series:
        try:
            return Series.from_bytes(self._path.read_bytes())
        except FileNotFoundError:
            return Series()
        except (OSError, GridctlError) as error:
            self._say(f"{error}; what was counted before this start is not known any more")
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".unreadable"))
            return Series()

    def _write(self, content: bytes) -> None:
        self._unsaved = 0
        try:
            write_private(self._path, content)
        except GridctlError as error:
            self._say(f"the counts of the past are not kept: {error.what}")
