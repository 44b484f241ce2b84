"""Following: a request that waits for another one's answer, and gets it as it comes.

Decides what a follower does when the flight it follows moves, lands or fails: what it has begun to get it gets from
that flight to the end, or is told that it broke; with nothing begun it is served whole, or goes to an engine alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gridctl.answers.whole import Whole
from gridctl.broker.refusal import Refusal
from gridctl.gateway.telling import done, say

if TYPE_CHECKING:
    from gridctl.gateway.single_flight import Flight
    from gridctl.gateway.visit import Visit


def follow(visit: Visit) -> None:
    """Give the client what of the flight's stream it has not got."""
    flight, exchange = visit.flight, visit.exchange
    if flight is None or exchange.is_over or not flight.parts:
        return
    is_alike = flight.is_stream and visit.ask.stream and flight.wants_usage == visit.ask.wants_usage
    if not is_alike or flight.leader.own != visit.own or exchange.client.is_paused:
        return
    data = b"".join(flight.parts[visit.place :])
    visit.place = len(flight.parts)
    now = time.monotonic_ns()
    exchange.last_token_ns = now
    if visit.is_live:
        exchange.reply.go_on(data, is_last=False)
        return
    visit.is_live = True
    visit.outcome, visit.reason = "hit", "shared"
    exchange.first_token_ns = now
    exchange.reply.begin_own(exchange, data, is_last=False)


def land(visit: Visit, flight: Flight) -> None:
    """The answer is complete: give the rest, or all of it, or go alone where it cannot be handed on."""
    leader = flight.leader
    whole, kept = leader.whole, leader.kept
    visit.level = "shared"
    if visit.is_live:
        visit.exchange.reply.go_on(b"".join(flight.parts[visit.place :]), is_last=True)
        visit.whole = whole
        done(visit, whole or Whole())
    elif kept is not None and visit.fits(kept):
        visit.serve(kept)
    elif whole is not None and whole.is_understood and not whole.has_tool_call:
        visit.outcome, visit.reason = "hit", "shared"
        say(visit, whole)
    else:
        _ask_an_engine(visit)


def go_alone(visit: Visit) -> None:
    """There is no answer to share."""
    visit.flight = None
    if visit.is_live:
        break_off(visit)
    elif not visit.exchange.is_over:
        visit.caching.guarded(visit, lambda: _ask_an_engine(visit))


def break_off(visit: Visit) -> None:
    """The answer has broken off: say so where the client has a part of it."""
    visit.flight = None
    if visit.exchange.is_over:
        return
    if not visit.is_live:
        go_alone(visit)
        return
    visit.exchange.give_up(
        Refusal(502, "The engine's answer stopped short.", reason="truncated", type="server_error",
                code="upstream_error", should_retry=False)
    )  # fmt: skip


def _ask_an_engine(visit: Visit) -> None:
    visit.level = ""
    visit.outcome, visit.reason = "miss", "leader-failed"
    visit.stamp = visit.caching.answers.stamp()
    visit.exchange.ask_an_engine()
