"""Jobs for executors, in a module that their processes can import: they compute, fail, park or die as told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError


@dataclass(frozen=True)
class Board:
    """What jobs read: numbers, a word, and a folder to leave marks in."""

    numbers: NDArray[np.int64]
    word: str
    folder: Path


def total(board: Board, job: int, advanced: Callable[[int], None]) -> tuple[int, str, int]:
    """The sum of the board's numbers times the job, its word, and who did it."""
    advanced(1)
    return int(board.numbers.sum()) * job, board.word, os.getpid()


def writable(board: Board, job: int, advanced: Callable[[int], None]) -> tuple[bool, int]:
    """Whether the numbers can be written, and the first one as found; then writes there."""
    found = int(board.numbers[0])
    flag = board.numbers.flags.writeable
    board.numbers[0] = 1_000 + job
    return flag, found


def refuse(board: Board, job: int, advanced: Callable[[int], None]) -> int:
    """The third job raises one of our errors."""
    if job == 2:
        raise InputError("the third is wrong", where="here", fix="leave it out")
    return job


def break_down(board: Board, job: int, advanced: Callable[[int], None]) -> int:
    """A bug."""
    return {}[job]  # type: ignore[misc]


def die_once(board: Board, job: int, advanced: Callable[[int], None]) -> int:
    """Each job's first worker is killed by the kernel's signal; the second lives."""
    mark = board.folder / f"died-{job}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * job


def die(board: Board, job: int, advanced: Callable[[int], None]) -> int:
    """Every worker of the second job is killed."""
    if job == 1:
        with (board.folder / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def park(board: Board, job: int, advanced: Callable[[int], None]) -> int:
    """Says who it is, then waits for a reader of a pipe that never comes."""
    announce(board.folder)
    return job


def announce(folder: Path) -> None:
    """Write this process's number into the pipe `pids`, then block on the pipe `never`."""
    with (folder / "pids").open("w") as file:
        file.write(f"{os.getpid()}\n")
    (folder / "never").open("w").close()
