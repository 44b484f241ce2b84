"""Telling: a kept or shared answer written as its client wants it: whole, as a stream at once, or at a pace; now, or as
late as an engine's.

Decides nothing about which answer. What the loop calls back runs guarded: an error of ours ends one request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gridctl.answers.said import read_whole
from gridctl.answers.whole import Whole
from gridctl.cache.cacheable import refusal_of
from gridctl.gateway.hits import NATURAL_TOKEN_S
from gridctl.gateway.paces import Pace
from gridctl.gateway.shapes import stream_events, whole_body
from gridctl.gateway.usage import Usage
from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.gateway.visit import Visit

LEAST_PAUSE_S = 0.001
"""Between two writes of a stream: what the loop's timers can keep."""


def say(visit: Visit, whole: Whole, token_s: float = 0.0) -> None:
    """Write an answer, as the client asked for it; a stream token by token, so long apart, or at once."""
    exchange, ask = visit.exchange, visit.ask
    visit.whole = whole
    assert visit.understood is not None
    own = visit.own
    if not ask.stream:
        exchange.reply.ready(exchange, whole_body(ask.endpoint, ask.request_id, whole, own))
        done(visit, whole)
        return
    if visit.understood.caller.terms.is_natural:
        token_s = max(token_s, NATURAL_TOKEN_S)
    events = stream_events(
        ask.endpoint, ask.request_id, whole, own, wants_usage=ask.wants_usage, in_pieces=token_s > 0.0
    )
    exchange.first_token_ns = time.monotonic_ns()
    if token_s > 0.0:
        exchange.reply.begin_own(exchange, next(events), is_last=False)
        exchange.look_again()
        _pace(visit, events, whole, token_s, asyncio.get_running_loop().time())
    else:
        exchange.reply.begin_own(exchange, b"".join(events), is_last=True)
        exchange.last_token_ns = exchange.first_token_ns
        done(visit, whole)


def say_late(visit: Visit, whole: Whole) -> None:
    """Write an answer when an engine's would have come, as fast as an engine's would, so that nobody learns by its time
    that it was kept. The loop's timers count whole milliseconds."""
    exchange, understood = visit.exchange, visit.understood
    assert understood is not None
    kind = (*understood.caller.kind, visit.ask.stream)
    pace = visit.caching.keeping.paces.draw(kind, whole.prompt_tokens, whole.output_tokens) or Pace(0.0, 0.0)
    left_s = pace.first_s - (time.monotonic_ns() - exchange.arrival_ns) / NS_PER_S
    visit.pacing = asyncio.get_running_loop().call_later(
        max(0.0, left_s), lambda: visit.caching.guarded(visit, lambda: _say_now(visit, whole, pace.token_s))
    )
    exchange.look_again()


def as_hit(visit: Visit, model: str, body: bytes) -> bytes:
    """An engine's answer in one piece as it would be if it were a hit: what engines add to their answers would tell
    that one was asked. What could be no hit stays as it is."""
    whole, ask = read_whole(visit.ask.endpoint, body), visit.ask
    if refusal_of(whole.finish_reason, 200, whole.content, whole.has_tool_call) is not None:
        return body
    whole.model = model
    return whole_body(ask.endpoint, ask.request_id, whole, visit.own)


def _say_now(visit: Visit, whole: Whole, token_s: float) -> None:
    visit.pacing = None
    if not visit.exchange.is_over:
        say(visit, whole, token_s)


def _pace(visit: Visit, events: Iterator[bytes], whole: Whole, token_s: float, due_s: float) -> None:
    """Write what is due of the events since `due_s`, and come again."""
    exchange, loop = visit.exchange, asyncio.get_running_loop()
    if exchange.is_over:
        return
    if not exchange.client.is_paused:
        now_s, ready, is_last = loop.time(), list[bytes](), False
        while due_s <= now_s and not is_last:
            event = next(events, None)
            is_last = event is None
            ready.append(event or b"")
            due_s += token_s
        exchange.reply.go_on(b"".join(ready), is_last=is_last)
        exchange.last_token_ns = time.monotonic_ns()
        if is_last:
            visit.pacing = None
            done(visit, whole)
            return
    visit.pacing = loop.call_at(
        max(due_s, loop.time() + LEAST_PAUSE_S),
        lambda: visit.caching.guarded(visit, lambda: _pace(visit, events, whole, token_s, due_s)),
    )


def done(visit: Visit, whole: Whole) -> None:
    """The client has been given all of it."""
    visit.exchange.answered_by_another(Usage(whole.prompt_tokens, 0, whole.output_tokens))
