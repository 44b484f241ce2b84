"""What the past counts: from the first request of an orchestrator on, over restarts."""

from __future__ import annotations

from pathlib import Path

from gridctl.control.history import History
from gridctl.health.burn import HOUR_S
from gridctl.signals.board import Board
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.series import Key


def answered(count: int, board: Board) -> None:
    meter = Meter(board, 0)
    for _ in range(count):
        meter.finished(Finished(outcome="completed", status=200, phase="done", arrival_ns=1, end_ns=1_000_001))


def test_requests_before_the_first_regular_sample_are_in_the_last_hour(tmp_path: Path) -> None:
    for start in (1, 2):
        board = Board.create(str(tmp_path / f"board-{start}"), 1, 8)
        history = History(board, tmp_path / "history", print)
        answered(80, board)
        history.sample()
        assert history.series.between(Key(), HOUR_S).valid == 80 * start
        history._write(history.series.to_bytes())
        board.close()
        board.unlink()
