"""Settling: what the end of a request means at the cache: for those who wait with it, for what is kept, for the counts.

Decides which answers are handed in: complete ones of our own engines, however they read. A flight that the request
leads ends with it; a ticket is used or given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.answers.said import read_said
from gridctl.answers.whole import Whole
from gridctl.gateway.keeping import took_us_of

if TYPE_CHECKING:
    from gridctl.gateway.single_flight import FlightKey
    from gridctl.gateway.visit import Visit
    from gridctl.signals.finished import Finished

NANO = 1e9


def settle(visit: Visit, finished: Finished, *, is_clients: bool) -> None:
    """A request has ended: end its flight, hand its answer in, count it."""
    caching, key, flight = visit.caching, visit.key, visit.flight
    visit.key = None
    finished.cache, finished.cache_reason = visit.outcome, visit.reason
    if key is None and flight is not None:
        visit.flight = None
        if caching.flights.leave(flight, visit):
            flight.leader.abandoned()
    elif (visit.kept is not None or visit.level == "shared") and finished.outcome == "completed":
        _tell_hit(visit, finished)
    else:
        _settle_engine(visit, finished, key)
    if is_clients:
        _count_outcome(visit, finished)
    elif visit.is_unattended and visit.understood is not None:
        caching.count(visit, "asked_again")
        caching.count(visit, "asked_again_nano_usd", int(finished.usd * NANO))
        caching.ended_again(visit.exchange, visit.understood)


def _tell_hit(visit: Visit, finished: Finished) -> None:
    """What a request that no engine answered got."""
    whole, kept = visit.whole or Whole(), visit.kept
    finished.reason = f"cache-{visit.level}"
    finished.phase = "done"
    finished.prompt_tokens = whole.prompt_tokens or finished.prompt_tokens
    finished.output_tokens = whole.output_tokens
    if kept is not None:
        finished.variant, finished.saved_usd = kept.variant, kept.saved_usd


def _settle_engine(visit: Visit, finished: Finished, key: FlightKey | None) -> None:
    """An engine answered, or none did: hand the answer in, and end the flight that the request leads."""
    is_whole = finished.outcome == "completed" and finished.status == 200
    flight, flights = visit.flight, visit.caching.flights
    is_stream = visit.whole_body is None
    said = b"".join(visit.parts) if is_stream else visit.whole_body
    assert said is not None
    if not is_whole or visit.is_deaf:
        said = b""
    understood = visit.understood
    if understood is not None:
        ticket, visit.ticket = visit.ticket, None
        if said:
            visit.caching.keeping.add(understood, finished, said, is_stream, ticket, visit.stamp, False)
        elif ticket is not None:
            visit.caching.answers.abandon(understood.question, ticket)
    if key is None:
        return
    if flight is not None and flight.followers and said:
        whole = visit.whole = read_said(finished.endpoint, said, is_stream=is_stream)
        whole.prompt_tokens, whole.output_tokens = finished.prompt_tokens, finished.output_tokens
    if is_whole:
        flights.land(key, visit)
    elif visit.parts:
        flights.break_off(key, visit)
    else:
        flights.fail(key, visit)


def _count_outcome(visit: Visit, finished: Finished) -> None:
    counts, workload = visit.caching.counts, finished.workload
    if visit.outcome == "hit" and finished.outcome == "completed":
        counts.add(workload, f"{visit.level or 'shared'}_hits")
        if visit.kept is not None and visit.kept.age == "stale":
            counts.add(workload, "stale_hits")
        saved_us = visit.caching.keeping.saved_us(workload, finished.stream, took_us_of(finished))
        if saved_us:
            counts.add(workload, "saved_us", saved_us)
        if finished.saved_usd > 0.0:
            counts.add(workload, "saved_nano_usd", int(finished.saved_usd * NANO))
    elif visit.outcome != "hit":
        counts.add(workload, "misses" if visit.outcome == "miss" else "bypasses")
        counts.reason(visit.reason)
