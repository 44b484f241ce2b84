"""Processes of this machine: every job once, errors as they are, lost workers replaced, nobody left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tasks
from tasks import Board

from gridctl.errors import InputError, UnreachableError, UsageError
from gridctl.executors.pool import RETRIES, cores, running
from gridctl.executors.shared import mapped, packed, store, unpacked


def silent(number: int, amount: int) -> None:
    return None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_job_is_done_once_whatever_the_number_of_workers(board: Board) -> None:
    for workers in (1, 2, 5):
        heard: list[tuple[int, int]] = []
        with running("local", tasks.total, board, range(4), workers=workers) as pool:
            done = dict(pool.results(lambda number, amount, heard=heard: heard.append((number, amount))))
        assert {number: result[:2] for number, result in done.items()} == {n: (4950 * n, "word") for n in range(4)}
        assert sorted(heard) == [(0, 1), (1, 1), (2, 1), (3, 1)]
        pids = {result[2] for result in done.values()}
        assert os.getpid() not in pids
        assert len(pids) <= min(workers, 4)
        assert not any(map(is_alive, pids))


def test_the_caller_s_own_share_is_taken_up_when_results_are_asked_for(board: Board) -> None:
    with running("local", tasks.total, board, range(3), workers=1, own=1) as pool:
        assert sorted(number for number, _ in pool.results(silent)) == [0, 1, 2]


def test_no_jobs_have_no_results(board: Board) -> None:
    with running("local", tasks.total, board, [], workers=2) as pool:
        assert list(pool.results(silent)) == []


def test_workers_share_arrays_that_each_may_write_for_itself(board: Board) -> None:
    with running("local", tasks.writable, board, range(2), workers=2) as pool:
        results = dict(pool.results(silent))
    assert all(flag for flag, _ in results.values())
    assert {found for _, found in results.values()} <= {0, 1_000, 1_001}
    assert board.numbers[0] == 0


def test_one_of_our_errors_arrives_as_it_was(board: Board) -> None:
    with (
        pytest.raises(InputError) as raised,
        running("local", tasks.refuse, board, range(6), workers=2) as pool,
    ):
        list(pool.results(silent))
    assert (raised.value.what, raised.value.where, raised.value.fix) == ("the third is wrong", "here", "leave it out")


def test_a_bug_arrives_with_its_traceback(board: Board) -> None:
    with pytest.raises(RuntimeError) as raised, running("local", tasks.break_down, board, [0], workers=1) as pool:
        list(pool.results(silent))
    assert str(raised.value).splitlines()[0] == "KeyError: 0 (in a worker)"
    assert "break_down" in str(raised.value)


def test_a_job_whose_worker_is_killed_is_done_by_another(board: Board) -> None:
    with running("local", tasks.die_once, board, range(3), workers=2) as pool:
        assert dict(pool.results(silent)) == {0: 0, 1: 10, 2: 20}


def test_a_job_that_kills_every_worker_is_given_up_and_the_signal_named(board: Board) -> None:
    with pytest.raises(UnreachableError) as raised, running("local", tasks.die, board, range(2), workers=1) as pool:
        list(pool.results(silent))
    assert raised.value.exit_code == 5
    assert "job 2 lost its worker 3 times, last by signal 9" in raised.value.what
    assert (board.folder / "deaths").read_text() == "x" * (RETRIES + 1)


def test_a_worker_that_is_killed_from_outside_midway_costs_a_try_and_three_end_it(board: Board) -> None:
    killer = _killer(board.folder, RETRIES + 1)
    with running("local", tasks.park, board, [7], workers=1) as pool, pytest.raises(UnreachableError):
        list(pool.results(silent))
    killer.join()


def _killer(folder: Path, times: int) -> threading.Thread:
    """A thread that kills, `times` times, the process that announces itself."""

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < times:
            with (folder / "pids").open() as file:
                line = file.readline()
            # A worker that is dying may still hold the pipe open: then there is nothing in it.
            if line:
                os.kill(int(line), signal.SIGKILL)
                killed.add(int(line))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_leaving_ends_workers_that_are_busy_and_removes_what_they_shared(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with running("local", tasks.park, board, [0, 1], workers=1) as pool:
        with (board.folder / "pids").open() as file:
            pid = int(file.readline())
        assert is_alive(pid)
        assert pool is not None
    assert not is_alive(pid)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_disk_without_room_for_the_trace_is_said(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arrays: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gridctl.executors.local.store", full)
    with (
        pytest.raises(InputError, match="No space left on device"),
        running("local", tasks.total, board, [1], workers=1),
    ):
        pass


@pytest.mark.parametrize("workers", [0, -3])
def test_no_workers_are_a_usage_error(board: Board, workers: int) -> None:
    with pytest.raises(UsageError), running("local", tasks.total, board, [1], workers=workers):
        pass


def test_an_unknown_executor_is_a_usage_error_with_the_nearest(board: Board) -> None:
    with pytest.raises(UsageError) as raised, running("rai", tasks.total, board, [1]):
        pass
    assert raised.value.fix == "did you mean ray?"


def test_there_is_at_least_one_core() -> None:
    assert cores() >= 1


@dataclass(frozen=True)
class Box:
    """Arrays at two depths, and other things."""

    numbers: np.ndarray
    words: tuple[str, ...]
    inner: tuple[Board, ...]


def test_what_is_stored_is_mapped_bit_for_bit_and_written_for_oneself_only(board: Board, tmp_path: Path) -> None:
    box = Box(
        np.linspace(0, 1, 12).reshape(3, 4)[:, ::2], ("a", "b"), (board, replace(board, numbers=np.zeros(0, "i4")))
    )
    frame, arrays = packed(box)
    places = store(arrays, tmp_path / "arrays")
    first, second = (unpacked(frame, mapped(tmp_path / "arrays", places)) for _ in range(2))
    assert isinstance(first, Box)
    assert isinstance(second, Box)
    assert (first.words, first.inner[0].word, first.inner[1].folder) == (("a", "b"), "word", tmp_path)
    pairs = [
        (first.numbers, box.numbers),
        *((mine.numbers, its.numbers) for mine, its in zip(first.inner, box.inner, strict=True)),
    ]
    for mine, its in pairs:
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        assert np.array_equal(mine, its)
        assert mine.flags.writeable
    first.inner[0].numbers[0] = 99
    assert second.inner[0].numbers[0] == board.numbers[0] == 0


def test_a_value_without_arrays_needs_no_file_to_speak_of(tmp_path: Path) -> None:
    frame, arrays = packed(("a", 1))
    assert unpacked(frame, mapped(tmp_path / "arrays", store(arrays, tmp_path / "arrays"))) == ("a", 1)


def test_a_worker_hears_no_ctrl_c_not_even_before_its_first_line(board: Board) -> None:
    """Asked of the kernel, just after the start: an interpreter that still begins would print a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with running("local", tasks.total, board, range(2), workers=2) as pool:
        blocked = [
            int(line.split()[1], 16)
            for worker in pool._workers
            for line in Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii").splitlines()
            if line.startswith("SigBlk:")
        ]
        assert [bool(mask & 1 << (signal.SIGINT - 1)) for mask in blocked] == [True, True]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
        assert len(dict(pool.results(silent))) == 2
