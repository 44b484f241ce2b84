"""The shared board: whole, private, checked; sums over workers; what a dead worker leaves; reads of one moment."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gridctl.errors import InputError, NotFoundError
from gridctl.signals import segment
from gridctl.signals.board import DIRECTORY_BYTES, MAGIC, Board, Scraped
from gridctl.signals.directory import BackendRow, Directory
from gridctl.signals.rows import (
    HEARTBEAT,
    LINE_BYTES,
    SCRAPED,
    SLOT,
    SLOT_AT,
    SLOT_WORDS,
)
from gridctl.signals.segment import path_of


def test_what_one_process_writes_another_that_attached_reads(board: Board) -> None:
    with Board.attach(board.name) as other:
        board.slots[2, 5].in_flight = 7
        other.heartbeats[1].pid = 4321
        assert other.slots[2, 5].in_flight == 7
        assert board.heartbeats[1].pid == 4321
        assert (other.workers, other.backends, other.layout) == (3, 8, board.layout)


def test_a_process_that_attached_and_ended_leaves_the_board_in_place(board: Board) -> None:
    program = (
        "import sys; from gridctl.signals.board import Board\n"
        "Board.attach(sys.argv[1]).slot_words(1)[0] = 42; print('wrote')"
    )
    done = subprocess.run([sys.executable, "-c", program, board.name], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("wrote\n", "")
    assert board.slots[1, 0].in_flight == 42
    Board.attach(board.name).close()


def test_the_file_is_private_and_its_space_is_reserved(board: Board) -> None:
    status = path_of(board.name).stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_blocks * 512 >= status.st_size


def test_after_unlink_nobody_attaches_and_who_had_it_goes_on(name: str) -> None:
    board = Board.create(name, 1, 4, 1)
    board.unlink()
    board.unlink()
    with pytest.raises(NotFoundError, match="no such board"):
        Board.attach(name)
    board.slots[0, 0].requests = 1
    assert board.slots[0, 0].requests == 1
    board.close()


def test_a_new_board_takes_the_place_of_an_older_one_which_stays_what_it_was(name: str) -> None:
    old = Board.create(name, 1, 4, 1)
    old.slots[0, 0].in_flight = 9
    new = Board.create(name, 2, 4, 1)
    assert new.slots.in_flight.sum() == 0
    assert old.slots[0, 0].in_flight == 9
    with Board.attach(name) as attached:
        assert attached.workers == 2
    for board in (old, new):
        board.close()
    new.unlink()
    assert list(Path(name).parent.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"somebody's notes", b"gridct\x00" + bytes(9000)])
def test_a_file_that_is_not_a_board_is_neither_read_nor_replaced(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(InputError, match="not a board"):
        Board.attach(name)
    with pytest.raises(InputError, match="not a board"):
        Board.create(name, 1, 4, 1)
    assert Path(name).read_bytes() == content


def test_a_link_to_a_board_is_not_followed(board: Board, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(board.name)
    with pytest.raises(InputError, match="cannot open"):
        Board.attach(str(link))
    with pytest.raises(InputError, match="cannot replace"):
        Board.create(str(link), 1, 4, 1)


def test_a_board_of_another_version_is_refused_with_what_to_do(name: str) -> None:
    Board.create(name, 1, 4, 1).close()
    content = bytearray(Path(name).read_bytes())
    content[8] = 99
    Path(name).write_bytes(content)
    with pytest.raises(InputError, match="version 99") as caught:
        Board.attach(name)
    assert caught.value.fix is not None
    assert "gridctl up" in caught.value.fix


@pytest.mark.parametrize("kept", [100, 4096, 20_000])
def test_a_board_cut_short_is_refused(name: str, kept: int) -> None:
    Board.create(name, 1, 4, 1).close()
    os.truncate(name, kept)
    with pytest.raises(InputError):
        Board.attach(name)


@pytest.mark.parametrize("bad", ["", "a/../..", ".hidden", "x" * 201, "with space", "nul\x00"])
def test_a_name_that_could_be_anything_is_refused(bad: str) -> None:
    with pytest.raises((InputError, NotFoundError)):
        Board.attach(bad)


@pytest.mark.parametrize("counts", [(0, 4, 1), (1, 0, 1), (1, 4, 0), (257, 4, 1), (1, 65_537, 1), (1, 4, 1025)])
def test_counts_out_of_range_are_refused_before_anything_is_made(name: str, counts: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="a board holds"):
        Board.create(name, *counts)
    assert not Path(name).exists()


def test_no_room_is_an_error_that_leaves_nothing_behind(name: str) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from gridctl.signals.board import Board\n"
        "from gridctl.errors import InputError\n"
        "try: Board.create(sys.argv[1], 4)\n"
        "except InputError as error: print(error.what, '|', error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot reserve")
    assert "--shm-size" in done.stdout
    assert list(Path(name).parent.iterdir()) == []


def test_boards_left_behind_by_the_killed_are_removed_and_those_of_the_living_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a folder of this test's own: every orchestrator that starts on this machine removes what the killed left.
    program = (
        "import sys; from pathlib import Path; from gridctl.signals import segment\n"
        "from gridctl.signals.board import Board\n"
        "segment._MEMORY = Path(sys.argv[2])\n"
        "board = Board.create(sys.argv[1], 1, 4, 1); print('made', flush=True); sys.stdin.readline()"
    )
    monkeypatch.setattr("gridctl.signals.segment._MEMORY", tmp_path)
    names = [f"gridctl-test-{number}" for number in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, name, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in names[:2]
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
        processes[0].kill()
        processes[0].wait()
        assert path_of(names[0]).exists()
        with Board.create(names[2], 1, 4, 1) as board:
            assert not path_of(names[0]).exists()
            assert path_of(names[1]).exists()
            assert path_of(names[2]).exists()
            Board.attach(names[1]).close()
            board.unlink()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_name_that_went_to_a_new_board_meanwhile_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "_MEMORY", tmp_path)
    with Board.create("gridctl-grid", 1, 4, 1):
        pass  # closed, not unlinked: as a killed one leaves it
    began: list[Board] = []
    claim = segment._claim

    def late(descriptor: int) -> bool:
        if not began and path_of("gridctl-grid").exists():
            monkeypatch.setattr(segment, "_claim", claim)
            began.append(Board.create("gridctl-grid", 1, 8, 1))
        return claim(descriptor)

    monkeypatch.setattr(segment, "_claim", late)
    segment.remove_orphans("gridctl-", MAGIC.rstrip(b"\x00"))
    with began[0]:
        with Board.attach("gridctl-grid") as found:
            assert found.backends == 8
        began[0].unlink()


def test_no_two_writers_share_a_cache_line(board: Board) -> None:
    for rows in (board.engines, board.slots, board.heartbeats):
        array = rows.view(np.ndarray)
        assert array.ctypes.data % LINE_BYTES == 0
        assert array.itemsize % LINE_BYTES == 0
    for worker in range(board.workers):
        assert board.meters[worker].ctypes.data % LINE_BYTES == 0
    assert {SCRAPED.itemsize, SLOT.itemsize, HEARTBEAT.itemsize} == {192, 128, 64}


def test_parts_of_the_board_do_not_overlap(board: Board) -> None:
    spans = sorted(
        (array.ctypes.data, array.ctypes.data + array.nbytes)
        for array in (board.engines, board.slots, board.heartbeats, board.meters)
    )
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_loads_are_sums_over_workers(board: Board) -> None:
    board.slots[0, 1].in_flight, board.slots[1, 1].in_flight, board.slots[2, 1].in_flight = 1, 20, 300
    board.slots[0, 2].pending_tokens, board.slots[2, 2].pending_tokens = 1000, 24
    board.slots[1, 0].kv_tokens = 5
    board.slots[1, 7].in_flight = 99
    out = np.full((4, 3), -1, np.int64)
    assert board.loads(out) is out
    assert out.tolist() == [[0, 0, 5], [321, 0, 0], [0, 1024, 0], [0, 0, 0]]


def test_words_of_a_slot_are_its_fields(board: Board) -> None:
    words = board.slot_words(1)
    words[5 * SLOT_WORDS + SLOT_AT["connect_failures"]] += 3
    assert board.slots[1, 5].connect_failures == 3
    assert board.slots.connect_failures.sum() == 3


def test_a_dead_workers_load_is_forgotten_and_its_counts_are_kept(board: Board) -> None:
    for worker in (0, 1):
        slot = board.slots[worker, 3]
        slot.in_flight, slot.pending_tokens, slot.kv_tokens, slot.recent_tokens, slot.connections = 4, 50, 60, 70, 2
        slot.requests, slot.completed, slot.failures = 10, 8, 2
        board.beat(worker, 123, pid=77)
    board.clear(1)
    out = np.zeros((8, 3), np.int64)
    assert board.loads(out)[3].tolist() == [4, 50, 60]
    assert board.slots.connections[:, 3].tolist() == [2, 0, 0]
    assert board.slots.requests[:, 3].tolist() == [10, 10, 0]
    assert board.slots.failures[:, 3].tolist() == [2, 2, 0]
    assert board.heartbeats.pid.tolist() == [77, 0, 0]
    assert board.heartbeats.beat_ns.tolist() == [123, 0, 0]


def test_before_the_first_report_nothing_is_known_and_all_traffic_is_admitted(board: Board) -> None:
    assert board.scraped(0) == Scraped()
    assert board.scraped(0).running == -1
    assert board.engines.admit_ppm.tolist() == [1_000_000] * 8
    assert board.engines.health.tolist() == [0] * 8


def test_a_report_leaves_health_alone_and_health_leaves_the_report(board: Board) -> None:
    report = Scraped(5, 10, 3, 4, 1000, 2000, 500_000, 1, 7, 8)
    board.set_health(2, 3, 50_000)
    board.report(2, report)
    assert (int(board.engines[2].health), int(board.engines[2].admit_ppm)) == (3, 50_000)
    board.set_health(2, 1, 1_000_000)
    assert board.scraped(2) == report
    assert board.scraped(1) == Scraped()
    assert (int(board.engines[2].running), int(board.engines[2].waiting)) == (3, 4)


def test_a_reader_sees_whole_reports_while_they_are_written(board: Board) -> None:
    """All words of report n are n, so a mixture of two shows."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            board.report(4, Scraped(*[number] * len(Scraped._fields)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        deadline = time.monotonic() + 2
        while len(seen) < 50 and time.monotonic() < deadline:
            report = board.scraped(4)
            if report.scrape_ns:
                assert len(set(report)) == 1
                seen.add(report.scrape_ns)
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(before)
    assert len(seen) > 1


def test_a_writer_that_died_half_way_stops_no_reader(board: Board) -> None:
    board.report(1, Scraped(running=5))
    assert board.scraped(1).running == 5
    board.engines[1]["sequence"] += 1
    board.engines[1]["waiting"] = 6
    assert board.scraped(1) == Scraped(running=5)
    board.report(1, Scraped(running=7))
    assert board.scraped(1) == Scraped(running=7)


def test_the_directory_is_read_as_it_was_written(board: Board, directory: Directory) -> None:
    with Board.attach(board.name) as other:
        assert other.directory() == directory
    board.write_directory(Directory())
    assert board.directory() == Directory()


def test_a_directory_that_does_not_fit_is_refused_and_the_old_one_stays(board: Board, directory: Directory) -> None:
    huge = Directory(backends=(BackendRow(site="x" * DIRECTORY_BYTES),))
    with pytest.raises(InputError, match="a board holds"):
        board.write_directory(huge)
    assert board.directory() == directory


def test_a_board_closes_though_rows_are_still_held(name: str) -> None:
    board = Board.create(name, 1, 4, 1)
    slots = board.slots
    board.close()
    board.unlink()
    slots[0, 0].in_flight = 3
    assert slots[0, 0].in_flight == 3


def test_adding_up_64_engines_over_4_workers_costs_little(name: str) -> None:
    """At most a few sums of an array of that size: 3 microseconds on the machine it was made on."""
    with Board.create(name, 4) as board:
        out = np.zeros((64, 3), np.int64)
        flat = np.zeros(768, np.int64)

        def cost(action: object) -> float:
            best = float("inf")
            for _ in range(7):
                began = time.process_time()
                for _ in range(2000):
                    action()  # type: ignore[operator]
                best = min(best, time.process_time() - began)
            return best

        assert cost(lambda: board.loads(out)) < 4 * cost(lambda: np.add.reduce(flat))
        board.unlink()
