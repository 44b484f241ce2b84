"""Idleness: which engines would begin one more request at once, without anybody waiting longer for it.

Decides where a second copy of a request may go: a hedge that waits in a queue is late itself, and makes those behind it
late. Own counts are exact, so they decide; an engine's own report, while it is fresh, adds what came past us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gridctl.signals.rows import FRESH

if TYPE_CHECKING:
    from gridctl.signals.board import Board

IDLE_PART = 0.5
"""Of an engine's slots, more than this part has to be free: a fuller batch makes each of its answers slower."""
FREE_KV_PART = 0.2


def have_idle_slots(board: Board, rows: NDArray[np.int64], max_num_seqs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which engines, by their rows of the board, have an idle slot; `max_num_seqs` are their slots. Shapes (n,).

    An engine has one when no prompt of ours is unread there, none waits by its own report, less than half of its slots
    are taken, and a fifth of its KV cache is free. O(n · workers)."""
    slots, reports = board.slots, board.engines[rows]
    unread = slots["pending_tokens"][:, rows].sum(axis=0)
    running = slots["in_flight"][:, rows].sum(axis=0)
    is_fresh = reports["telemetry_state"] == FRESH
    running = np.where(is_fresh, np.maximum(running, reports["running"]), running)
    capacity = reports["kv_capacity_tokens"]
    is_full = (capacity > 0) & (reports["kv_used_tokens"] > (1 - FREE_KV_PART) * capacity)
    is_behind = is_fresh & ((reports["waiting"] > 0) | is_full)
    idle: NDArray[np.bool_] = (unread == 0) & (running < IDLE_PART * max_num_seqs) & ~is_behind
    return idle
