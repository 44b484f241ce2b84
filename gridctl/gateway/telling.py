"""Telling: a kept or shared answer written as its client wants it: whole, as a stream at once, or at a pace.

Decides nothing about which answer. What the loop calls back runs guarded: an error of ours ends one request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gridctl.gateway.hits import NATURAL_TOKEN_S, Whole, stream_events, whole_body
from gridctl.gateway.usage import Usage

if TYPE_CHECKING:
    from gridctl.gateway.visit import Visit


def say(visit: Visit, whole: Whole) -> None:
    """Write an answer, as the client asked for it."""
    exchange, ask = visit.exchange, visit.ask
    visit.whole = whole
    assert visit.understood is not None
    if not ask.stream:
        exchange.reply.ready(exchange, whole_body(ask.endpoint, ask.request_id, whole))
        done(visit, whole)
        return
    is_natural = visit.understood.terms.is_natural
    events = stream_events(ask.endpoint, ask.request_id, whole, wants_usage=ask.wants_usage, in_pieces=is_natural)
    exchange.first_token_ns = time.monotonic_ns()
    if is_natural:
        exchange.reply.begin_own(exchange, next(events), is_last=False)
        exchange.look_again()
        _pace(visit, events, whole)
    else:
        exchange.reply.begin_own(exchange, b"".join(events), is_last=True)
        exchange.last_token_ns = exchange.first_token_ns
        done(visit, whole)


def _pace(visit: Visit, events: Iterator[bytes], whole: Whole) -> None:
    """Write the next event, and come again."""
    exchange = visit.exchange
    if exchange.is_over:
        return
    if not exchange.client.is_paused:
        event = next(events, None)
        exchange.reply.go_on(event or b"", is_last=event is None)
        exchange.last_token_ns = time.monotonic_ns()
        if event is None:
            visit.pacing = None
            done(visit, whole)
            return
    loop = asyncio.get_running_loop()
    visit.pacing = loop.call_later(
        NATURAL_TOKEN_S, lambda: visit.caching.guarded(visit, lambda: _pace(visit, events, whole))
    )


def done(visit: Visit, whole: Whole) -> None:
    """The client has been given all of it."""
    visit.exchange.answered_by_another(Usage(whole.prompt_tokens, 0, whole.output_tokens))
