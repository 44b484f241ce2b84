"""Trying: which engine an exchange asks, and which takes over from one that declined, broke or is late.

Before the first byte has gone to the client another engine may take over; after it, never. A request goes elsewhere
only within its deadline and the retries' budget, never more often than its failures allow (`retries`), and to no engine
twice. Of two copies whoever begins first serves, and one that fails leaves the request to the other. Decides nothing of
what has begun to be relayed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gridctl.broker.refusal import Refusal, unavailable
from gridctl.gateway.attempt import Attempt
from gridctl.gateway.reply import NOTHING
from gridctl.gateway.retries import BUDGETED_KINDS, MOST_LOST, MOST_UNREACHED, SAFE_KINDS

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.choice import Choice
    from gridctl.gateway.exchange import Exchange

_now_ns: Final = time.monotonic_ns
NEVER: Final = -1
NO_ROOM_RETRY_MS: Final = 1_000
REASONS: Final = {
    "connect-failed": "connect-failed",
    "reset": "upstream-reset",
    "garbage": "upstream-garbage",
    "truncated": "truncated",
    "timeout": "upstream-timeout",
    "stall": "upstream-stalled",
}
MESSAGES: Final = {
    "connect-failed": "No engine could be connected to.",
    "reset": "The engine closed the connection before it answered.",
    "garbage": "The engine's answer was not HTTP.",
    "truncated": "The engine's answer stopped short.",
    "timeout": "The engine did not begin to answer in time.",
    "stall": "The engine's stream stood still.",
}


def decide(exchange: Exchange, ask: Ask) -> Attempt:
    """A try at the engine that the broker chooses among those not tried yet. Raises Refusal when there is none."""
    serving = exchange.serving
    while True:
        now = _now_ns()
        choice = serving.broker.decide(ask, now, exchange.tried)
        exchange.decided_ns = now
        exchange.attempts += 1
        exchange.tried = (*exchange.tried, choice.row)
        upstream = serving.upstream(choice.row)
        if upstream is not None:
            return Attempt(exchange, choice, upstream)
        _unreachable(exchange, ask, choice, now)


def declined(exchange: Exchange, attempt: Attempt, kind: str) -> None:
    """An engine answered that it cannot: go elsewhere if there is an elsewhere, else its answer is the answer."""
    if exchange.rival is not None and exchange.relaying is None:
        attempt.abandon()
        if kind != "status-429":
            exchange.serving.broker.failed(attempt.choice.row, "status-5xx", _now_ns())
        _leave_to_rival(exchange, attempt)
    elif _may_go_elsewhere(exchange):
        _go_elsewhere(exchange, attempt, kind)


def failed(exchange: Exchange, attempt: Attempt, kind: str, why: str) -> None:
    """An attempt broke: go elsewhere, leave the request to its other copy, or end it."""
    if exchange.is_over or attempt.is_over:
        return
    serving, now, row = exchange.serving, _now_ns(), attempt.choice.row
    serving.broker.failed(row, kind, now)
    if exchange.rival is not None and exchange.relaying is None:
        _leave_to_rival(exchange, attempt)
        return
    if _may_go_elsewhere(exchange):
        if kind != "connect-failed":
            exchange.lost_engines += 1
            exchange.lost_rows = (*exchange.lost_rows, row)
            serving.suspects.broke(exchange.head.path, exchange.body, row, now)
            if exchange.lost_engines > MOST_LOST:
                serving.suspects.add(exchange.head.path, exchange.body, exchange.lost_rows, now)
        if _go_elsewhere(exchange, attempt, kind):
            return
    message = MESSAGES.get(kind, "The engine failed.")
    if kind == "connect-failed" and why:
        message = f"{message} The last one: {why}."
    exchange.fail(
        Refusal(
            502,
            message,
            reason=REASONS.get(kind, "upstream-error"),
            type="server_error",
            code="upstream_error",
            should_retry=False,
        ),
        "failed",
    )


def without_room(exchange: Exchange, attempt: Attempt, why: str) -> None:
    """This worker can open no connection to anybody: no engine is to blame, and none other would help."""
    if exchange.is_over or attempt.is_over:
        return
    if exchange.rival is not None and exchange.relaying is None:
        _leave_to_rival(exchange, attempt)
        return
    message = f"The gateway has too many connections open: {why}."
    exchange.fail(unavailable(message, reason="no-descriptors", retry_after_ms=NO_ROOM_RETRY_MS), "rejected")


def hedge(exchange: Exchange) -> None:
    """Ask a second engine, if one is idle, while the first has not begun: whoever begins first serves."""
    exchange.hedge_at_ns = NEVER
    serving, ask = exchange.serving, exchange.ask
    assert ask is not None
    if exchange.relaying is not None or exchange.rival is not None or not serving.hedges.take():
        return
    now = _now_ns()
    choice = serving.broker.spare(ask, now, exchange.tried)
    if choice is None:
        serving.hedges.give_back()
        return
    exchange.attempts += 1
    upstream = serving.upstream(choice.row)
    if upstream is None:
        _unreachable(exchange, ask, choice, now)
        return
    exchange.tried = (*exchange.tried, choice.row)
    exchange.rival = Attempt(exchange, choice, upstream)
    exchange.rival.start()


def _unreachable(exchange: Exchange, ask: Ask, choice: Choice, now_ns: int) -> None:
    """An engine that the gateway refuses to reach: as good as one that takes no connection."""
    broker = exchange.serving.broker
    broker.failed(choice.row, "connect-failed", now_ns)
    broker.ended(choice, ask, "failed", 0, now_ns)


def _may_go_elsewhere(exchange: Exchange) -> bool:
    """Nothing has gone to the client yet, not even a head that names an engine."""
    return exchange.relaying is None and exchange.reply.state == NOTHING


def _go_elsewhere(exchange: Exchange, attempt: Attempt, kind: str) -> bool:
    """Give the request to another engine, if it may be tried again and there is one."""
    serving, ask = exchange.serving, exchange.ask
    assert ask is not None
    if kind not in SAFE_KINDS and exchange.lost_engines > MOST_LOST:
        return False
    most = MOST_UNREACHED if kind == "connect-failed" else serving.settings.retries
    if exchange.attempts > most or _now_ns() >= ask.deadline_ns:
        return False
    if kind in BUDGETED_KINDS and not exchange.holds_retry:
        if not serving.retries.take(serving.in_flight):
            return False
        exchange.holds_retry = True
    try:
        following = decide(exchange, ask)
    except Refusal:
        return False
    serving.count_retry(attempt.choice.row)
    if kind in ("status-502", "status-503"):
        serving.broker.failed(attempt.choice.row, "status-5xx", _now_ns())
    attempt.abandon()
    exchange.close(attempt, "failed", 0, _now_ns())
    exchange.attempt = following
    following.start()
    exchange.look_again()
    return True


def _leave_to_rival(exchange: Exchange, attempt: Attempt) -> None:
    """One of two copies has failed: the other one is left."""
    exchange.close(attempt, "failed", 0, _now_ns())
    survivor = exchange.rival if attempt is exchange.attempt else exchange.attempt
    exchange.attempt, exchange.rival = survivor, None
