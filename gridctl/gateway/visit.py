"""Visit: one request's way through the cache, from its question to what its end means for those who wait with it.

A request bypasses, is answered (by a kept answer, by the stream of another one that asked the same), or goes to an
engine; then it may lead a flight, and what the engine says is handed in to be kept. What breaks on the way makes it go
to an engine. Invariants: a client gets one answer; a flight that this request leads ends with it; a ticket is used or
given back. Which answer may be served is decided by the keeper and `cache`, not here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.gateway.cache_word import plain, word_of
from gridctl.gateway.following import break_off, follow, go_alone, land
from gridctl.gateway.hits import Whole
from gridctl.gateway.reply import NOTHING
from gridctl.gateway.settling import settle
from gridctl.gateway.single_flight import MOST_BUFFERED, Flight
from gridctl.gateway.telling import say
from gridctl.gateway.unattended import is_nobody

if TYPE_CHECKING:
    import asyncio

    from gridctl.answers.question import Found, Kept, Question
    from gridctl.broker.ask import Ask
    from gridctl.broker.refusal import Refusal
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.caching import Again, Caching
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.terms import Understood
    from gridctl.signals.finished import Finished

STALE_IF_ERROR_S = 86_400.0
"""How long past its time an answer is still better than none, when no engine can be reached."""
RESCUED_STATUSES = (502, 503, 504)


class Visit:
    """One request at the cache. `word` is what the answer's head tells; `body` the request's."""

    __slots__ = (
        "_cancel_look", "_size", "ask", "body", "caching", "exchange", "flight", "is_deaf", "is_live", "is_rescued",
        "is_unattended", "kept", "level", "outcome", "pacing", "parts", "place", "reason", "stamp", "ticket",
        "understood", "whole", "whole_body",
    )  # fmt: skip

    def __init__(self, caching: Caching, exchange: Exchange, ask: Ask | None, body: bytes) -> None:
        self.exchange = exchange
        self.ask: Any = ask
        self.body = body
        self.outcome = "bypass"
        self.reason = ""
        self.understood: Understood | None = None
        self.whole: Whole | None = None
        """The engine's answer, once it is complete and understood."""
        self.caching = caching
        self.kept: Kept | None = None
        self.level = ""
        self.flight: Flight | None = None
        self.parts: list[bytes] = []
        self.place = 0
        """Of the flight's parts that the client has been given."""
        self._size = 0
        self.stamp = 0
        self.ticket: int | None = None
        self.whole_body: bytes | None = None
        self._cancel_look: Any = None
        self.pacing: asyncio.TimerHandle | None = None
        self.is_deaf = False
        self.is_live = False
        self.is_rescued = False
        self.is_unattended = False

    @classmethod
    def unattended(cls, caching: Caching, exchange: Exchange, again: Again) -> Visit:
        """The way of a request that no client waits for."""
        visit = cls(caching, exchange, None, b"")
        visit.understood, visit.ticket = again.understood, again.ticket
        visit.outcome, visit.reason, visit.is_unattended = "miss", "again", True
        visit.stamp = caching.answers.stamp()
        return visit

    @property
    def word(self) -> bytes:
        """The value of x-gridctl-cache; nothing for those who may not know."""
        return word_of(self)

    # ── looking ──

    def bypass(self, reason: str) -> None:
        """Go to an engine, and nothing is kept."""
        self.reason = reason

    def withdraw(self) -> None:
        """Something of ours broke: have no more to do with the cache."""
        flight, self.flight, self.understood = self.flight, None, None
        self.outcome, self.reason = "bypass", "other"
        if flight is not None and flight.leader is self:
            self.caching.flights.fail(flight)
        elif flight is not None:
            self.caching.flights.leave(flight, self)

    def look(self, understood: Understood) -> bool:
        """Find an answer; whether there is one, now or soon."""
        self.understood = understood
        caching, question = self.caching, understood.question
        answers = caching.answers
        self.outcome = "miss"
        if understood.is_fresh_only:
            self.reason = "no-cache"
            self.stamp = answers.stamp()
            return False
        kept = answers.exact(question, time.time_ns())
        if kept is not None and self.fits(kept):
            self.serve(kept)
            return True
        # Of a public answer others get nothing before enough callers asked for it, nor while it comes.
        key = (question.exact, understood.most_tokens, question.tenant, question.user)
        flight = caching.flights.find(key)
        if flight is not None:
            self.flight = flight
            caching.flights.join(flight, self)
            self.exchange.look_again()
            self.follow()
            return True
        self.stamp = answers.stamp()
        self.flight = caching.flights.begin(key, self, is_stream=self.ask.stream, wants_usage=self.ask.wants_usage)
        if self.flight is not None:
            self.flight.parts = self.parts
        self.reason = "absent" if kept is None else "longer-than-allowed"
        if question.mode != "semantic":
            return False
        self._cancel_look = caching.look(self, self._found)
        self.exchange.look_again()
        return True

    def _found(self, found: Found) -> None:
        """The keeper has answered, or was too slow."""
        self._cancel_look = None
        if self.exchange.is_over:
            return
        kept = found.kept
        if found.kind in ("hit", "audit") and kept is not None and self.fits(kept):
            if found.kind == "audit":
                self.caching.count(self, "audits")
                self.caching.ask_again(self, found.ticket)
            self.serve(kept)
            return
        self.ticket = found.ticket
        self.reason = "longer-than-allowed" if kept is not None else plain(found.reason)
        if found.kind == "explore":
            self.caching.count(self, "explored")
        self.exchange.ask_an_engine()

    def fits(self, kept: Kept) -> bool:
        """Whether an answer is as short as the client wants it."""
        assert self.understood is not None
        most = self.understood.most_tokens
        return most is None or kept.output_tokens <= most

    # ── serving what is kept ──

    def serve(self, kept: Kept) -> None:
        """Answer with what is kept."""
        self.kept = kept
        self.level = kept.level
        self.outcome, self.reason = "hit", kept.level
        if kept.age == "stale" and not self.is_rescued:
            self.caching.ask_again(self, None)
        self.caching.saved(self, kept)
        flight = self.flight
        if flight is not None and flight.leader is self:
            self.flight = None
            self.caching.flights.land(flight)
        whole = Whole(kept.content, kept.finish_reason, kept.model, kept.prompt_tokens, kept.output_tokens)
        say(self, whole)

    def rescues(self, refusal: Refusal) -> bool:
        """Whether an answer past its time goes out instead of an error, because no engine gave one."""
        understood, exchange = self.understood, self.exchange
        if (
            refusal.status not in RESCUED_STATUSES
            or understood is None
            or self.is_unattended
            or self.is_rescued
            or self.kept is not None
            or exchange.reply.state != NOTHING
            or exchange.serving.is_draining
        ):
            return False
        self.is_rescued = True
        question: Question = msgspec.structs.replace(understood.question, stale_s=STALE_IF_ERROR_S)
        kept = self.caching.answers.exact(question, time.time_ns()) if question.may_serve else None
        if kept is None or not self.fits(kept):
            return False
        self.serve(kept)
        return True

    # ── following another request ──

    def follow(self) -> None:
        """There is more of the flight's stream than the client was given."""
        follow(self)

    def on_resume(self) -> None:
        """The client has caught up."""
        if self.flight is not None and self.flight.leader is not self:
            follow(self)

    def landed(self) -> None:
        """The flight's answer is complete."""
        flight, self.flight = self.flight, None
        if flight is not None and not self.exchange.is_over:
            self.caching.guarded(self, lambda: land(self, flight))

    def go_alone(self) -> None:
        """There is no answer to share."""
        go_alone(self)

    def broke(self) -> None:
        """The answer that the client was getting has broken off."""
        break_off(self)

    # ── leading ──

    def heard(self, attempt: Attempt, data: bytes) -> None:
        """A piece of an answer goes to the client."""
        if self.understood is None:
            return
        flight = self.flight
        if attempt.scanner is None:
            self.is_deaf = True
            return
        self._size += len(data)
        if self._size > MOST_BUFFERED and not (flight is not None and flight.followers):
            self.is_deaf = True
            self.parts.clear()
        elif flight is not None:
            flight.heard(data)
        else:
            self.parts.append(data)

    def heard_whole(self, attempt: Attempt, body: bytes) -> None:
        """An answer in one piece goes to the client."""
        head = attempt.head
        if self.understood is not None and head is not None and head.status == 200 and not head.is_encoded:
            self.whole_body = body

    def goes_on_without(self, reason: str) -> bool:
        """The client has left: whether its request goes on, because others wait for the same answer."""
        flight, exchange = self.flight, self.exchange
        if flight is None or flight.leader is not self or not flight.followers or exchange.serving.is_draining:
            return False
        if not is_nobody(exchange.client):
            left = exchange.has_lost_its_client(self.caching.alone(exchange), reason)
            left.cache, left.cache_reason = self.outcome, self.reason
            exchange.serving.ended(left, is_whole=False)
            if exchange.attempt is not None and exchange.attempt.connection is not None:
                exchange.attempt.connection.resume()
            exchange.look_again()
        return True

    # ── the end ──

    def ended(self, finished: Finished) -> bool:
        """The request has ended: tell whoever waits, hand in what is to be kept. Whether a client's request ended."""
        if self._cancel_look is not None:
            self._cancel_look()
            self._cancel_look = None
        if self.pacing is not None:
            self.pacing.cancel()
            self.pacing = None
        is_clients = not (self.is_unattended or is_nobody(self.exchange.client))
        try:
            settle(self, finished, is_clients=is_clients)
        except Exception as error:
            self.caching.report(error)
        self.body = b""
        self.parts = []
        return is_clients

    def abandoned(self) -> None:
        """Nobody follows any more; without a client of its own the request ends."""
        if is_nobody(self.exchange.client) and not self.is_unattended:
            self.exchange.client_gone()
