"""Settling: what the end of a request means at the cache: for those who wait with it, for what is kept, for the counts.

Decides which answers are handed in: complete ones of our own engines that `cache.cacheable` does not refuse. A flight
that the request leads ends with it; a ticket is used or given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gridctl.answers.question import Fresh
from gridctl.cache.cacheable import refusal_of
from gridctl.gateway.hits import Whole, read_stream, read_whole

if TYPE_CHECKING:
    from gridctl.broker.choice import Choice
    from gridctl.gateway.single_flight import Flight
    from gridctl.gateway.visit import Visit
    from gridctl.signals.finished import Finished

NANO = 1e9


def settle(visit: Visit, finished: Finished, *, is_clients: bool) -> None:
    """A request has ended: end its flight, hand its answer in, count it."""
    flight, visit.flight = visit.flight, None
    caching = visit.caching
    if flight is not None and flight.leader is not visit:
        if caching.flights.leave(flight, visit):
            flight.leader.abandoned()
    elif (visit.kept is not None or visit.level == "shared") and finished.outcome == "completed":
        _tell_hit(visit, finished)
        if flight is not None:
            caching.flights.land(flight)
    else:
        _settle_engine(visit, finished, flight)
    finished.cache, finished.cache_reason = visit.outcome, visit.reason
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


def _settle_engine(visit: Visit, finished: Finished, flight: Flight | None) -> None:
    """An engine answered, or none did."""
    is_whole = finished.outcome == "completed" and finished.status == 200
    understood = visit.understood
    whole = visit.whole = _read(visit, finished) if is_whole and understood is not None else None
    flights = visit.caching.flights
    if understood is not None:
        _hand_in(visit, finished, whole)
    if flight is None:
        return
    if is_whole:
        flights.land(flight)
    elif flight.parts:
        flights.break_off(flight)
    else:
        flights.fail(flight)


def _read(visit: Visit, finished: Finished) -> Whole | None:
    if visit.whole_body is not None:
        whole = read_whole(finished.endpoint, visit.whole_body)
    elif visit.parts and not visit.is_deaf:
        whole = read_stream(finished.endpoint, b"".join(visit.parts))
    else:
        return None
    whole.prompt_tokens = finished.prompt_tokens
    whole.output_tokens = finished.output_tokens
    return whole


def _hand_in(visit: Visit, finished: Finished, whole: Whole | None) -> None:
    """Give the answer to the keeper, if it may be kept or is a label."""
    assert visit.understood is not None
    question, answers = visit.understood.question, visit.caching.answers
    ticket, visit.ticket = visit.ticket, None
    if whole is None or refusal_of(whole.finish_reason, finished.status, whole.content, whole.has_tool_call):
        if ticket is not None:
            answers.abandon(question, ticket)
        return
    choice = cast("Choice | None", finished.choice)
    model = choice.backend.model if choice is not None else whole.model
    took_us = _took_us(finished)
    visit.caching.took(finished.workload, finished.stream, took_us)
    fresh = Fresh(
        whole.content, whole.finish_reason, model, finished.variant, "", finished.site, finished.cluster,
        whole.prompt_tokens, whole.output_tokens, finished.usd,
        took_us, False, 200, ticket, finished.request_id, visit.stamp,
    )  # fmt: skip
    visit.caching.keep(question, fresh)
    visit.caching.count(visit, "kept")


def _count_outcome(visit: Visit, finished: Finished) -> None:
    counts, workload = visit.caching.counts, finished.workload
    if visit.outcome == "hit" and finished.outcome == "completed":
        counts.add(workload, f"{visit.level or 'shared'}_hits")
        if visit.kept is not None and visit.kept.age == "stale":
            counts.add(workload, "stale_hits")
        saved_us = visit.caching.saved_us(workload, finished.stream, _took_us(finished))
        if saved_us:
            counts.add(workload, "saved_us", saved_us)
        if finished.saved_usd > 0.0:
            counts.add(workload, "saved_nano_usd", int(finished.saved_usd * NANO))
    elif visit.outcome != "hit":
        counts.add(workload, "misses" if visit.outcome == "miss" else "bypasses")
        counts.reason(visit.reason)


def _took_us(finished: Finished) -> float:
    """To the first token of a stream, or to the end of an answer in one piece."""
    until_ns = finished.first_token_ns if finished.first_token_ns >= 0 else finished.end_ns
    return max(0.0, (until_ns - finished.arrival_ns) / 1000.0)
