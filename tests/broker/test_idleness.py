"""Second copies: only an engine with an idle slot gets one, by our own counts and by its own fresh report."""

from __future__ import annotations

from typing import Any

import pytest
from livegrids import Request, broker_of, chat, grid

from gridctl.broker.broker import Broker
from gridctl.broker.choice import Choice
from gridctl.resources import PolicySpec
from gridctl.signals.rows import FRESH, STALE

NOW = 10**12


def made() -> tuple[Broker, Any, Choice, Any]:
    """A broker, its board, the choice of a stream that begins late, and what it asked."""
    broker, board = broker_of(grid(policy=PolicySpec(algorithm="nearest", candidates=64)))
    ask = broker.ask(Request(), chat(stream=True), NOW)
    return broker, board, broker.decide(ask, NOW), ask


def test_the_best_of_the_others_gets_the_copy_and_it_is_counted_there() -> None:
    broker, board, first, ask = made()
    spare = broker.spare(ask, NOW, (first.row,))
    assert spare is not None
    assert spare.row != first.row
    assert spare.backend.site == "paris"  # two engines are there
    assert board.slots.in_flight[0][[first.row, spare.row]].tolist() == [1, 1]
    for choice in (first, spare):
        broker.ended(choice, ask, "cancelled", 0, NOW)
    assert board.slots.in_flight.sum() == board.slots.pending_tokens.sum() == board.slots.kv_tokens.sum() == 0


@pytest.mark.parametrize(
    "busy",
    [
        {"pending_tokens": 1},  # another worker's prompt that is not read yet
        {"in_flight": 1_000_000},
        {"telemetry_state": FRESH, "waiting": 1},
        {"telemetry_state": FRESH, "running": 1_000_000},
        {"telemetry_state": FRESH, "kv_used_tokens": 81, "kv_capacity_tokens": 100},
    ],
    ids=["unread", "full", "waiting", "running", "kv"],
)
def test_a_busy_engine_gets_no_copy(busy: dict[str, int]) -> None:
    broker, board, first, ask = made()
    near = next(one.row for one in broker.live.backends if one.site == "paris" and one.row != first.row)
    for field, value in busy.items():
        table = board.slots[1] if field in ("pending_tokens", "in_flight") else board.engines
        table[near][field] = value
    spare = broker.spare(ask, NOW, (first.row,))
    assert spare is not None
    assert spare.backend.site == "lyon"
    for one in broker.live.backends:
        board.slots[1][one.row].pending_tokens = 1
    before = board.slots.copy()
    assert broker.spare(ask, NOW, (first.row,)) is None
    assert (board.slots == before).all(), "nothing is counted for a copy that is not sent"


def test_an_old_report_makes_nobody_busy() -> None:
    broker, board, first, ask = made()
    for one in broker.live.backends:
        row = board.engines[one.row]
        row.telemetry_state, row.waiting, row.running = STALE, 9, 9_999
    spare = broker.spare(ask, NOW, (first.row,))
    assert spare is not None
    assert spare.backend.site == "paris"
