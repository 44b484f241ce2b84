"""Several processes count on one board at once, and one of them is killed: nothing is lost, nothing counted twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gridctl.signals.board import Board
from gridctl.signals.directory import Directory
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.rows import SLOT_AT, SLOT_WORDS
from gridctl.signals.totals import read_totals

WORKER = """
import sys
from gridctl.signals.board import Board
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.rows import SLOT_AT, SLOT_WORDS

board = Board.attach(sys.argv[1])
worker, most = int(sys.argv[2]), int(sys.argv[3])
meter, slots = Meter(board, worker), board.slot_words(worker)
request = Finished(workload="voice", backend=1, outcome="completed", status=200, arrival_ns=1, end_ns=5_000_001)
for number in range(1, most + 1):
    slots[1 * SLOT_WORDS + SLOT_AT["in_flight"]] += 1
    meter.finished(request)
    if number % 100 == 0:
        print(number, flush=True)
    slots[1 * SLOT_WORDS + SLOT_AT["in_flight"]] -= 1 if number < most else 0
"""


@contextmanager
def counting(board: Board, worker: int, most: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, board.name, str(worker), str(most)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_counts_of_processes_at_once_add_up_and_outlive_the_one_that_is_killed(
    board: Board, directory: Directory
) -> None:
    with (
        counting(board, 0, 2000) as first,
        counting(board, 1, 2000) as second,
        counting(board, 2, 1_000_000_000) as killed,
    ):
        assert killed.stdout is not None
        acknowledged = 0
        while acknowledged < 1000:
            acknowledged = int(killed.stdout.readline())
        killed.kill()
        rest = killed.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        assert (first.wait(60), second.wait(60)) == (0, 0)

    counted = read_totals(board).counted("voice")
    assert 4000 + acknowledged <= counted.requests <= 4000 + acknowledged + 100
    left = counted.requests
    board.clear(2)
    assert board.slots.in_flight[:, 1].tolist() == [1, 1, 0]
    assert read_totals(board).counted("voice").requests == left
    Meter(board, 2).finished(Finished(workload="voice", backend=1, outcome="completed", status=200))
    assert read_totals(board).counted("voice").requests == left + 1
    assert board.slot_words(0)[SLOT_WORDS + SLOT_AT["in_flight"]] == 1
