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

from gridctl.answers.whole import Whole
from gridctl.gateway.cache_word import plain, word_of
from gridctl.gateway.following import break_off, follow, go_alone, land
from gridctl.gateway.questions import ABSENT
from gridctl.gateway.reply import NOTHING
from gridctl.gateway.settling import settle
from gridctl.gateway.single_flight import MOST_BUFFERED
from gridctl.gateway.telling import as_hit, say, say_late
from gridctl.gateway.unattended import is_nobody

if TYPE_CHECKING:
    import asyncio

    from gridctl.answers.question import Found, Kept, Question
    from gridctl.broker.ask import Ask
    from gridctl.broker.refusal import Refusal
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.caching import Caching
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.single_flight import Flight, FlightKey
    from gridctl.gateway.terms import Again, Understood
    from gridctl.signals.finished import Finished

STALE_IF_ERROR_S = 86_400.0
"""How long past its time an answer is still better than none, when no engine can be reached."""
TOO_LONG = "longer-than-allowed"
RESCUED_STATUSES = (502, 503, 504)


class Visit:
    """One request at the cache. `word` is what the answer's head tells; `body` the request's. Most requests are misses
    that nobody follows: what those never need is here as it begins, and set when it changes."""

    reason = ABSENT
    understood: Understood | None = None
    whole: Whole | None = None
    """The engine's answer, read for those who wait with this request; or what it was answered with."""
    kept: Kept | None = None
    level = ""
    key: FlightKey | None = None
    """Of the flight that this request leads."""
    flight: Flight | None = None
    """The one that it leads, once somebody follows, or the one that it follows."""
    place = 0
    """Of the flight's parts that the client has been given."""
    size = 0
    stamp = 0
    ticket: int | None = None
    whole_body: bytes | None = None
    is_deaf = False
    is_live = False
    is_rescued = False
    is_unattended = False
    pacing: asyncio.TimerHandle | None = None
    outcome = "miss"
    parts: list[bytes] | tuple[()] = ()
    """Of a stream, so far."""
    _cancel_look: Any = None

    def __init__(self, caching: Caching, exchange: Exchange, ask: Ask | None, body: bytes) -> None:
        self.caching = caching
        self.exchange = exchange
        self.ask: Any = ask
        self.body = body

    @classmethod
    def unattended(cls, caching: Caching, exchange: Exchange, again: Again) -> Visit:
        """The way of a request that no client waits for."""
        visit = cls(caching, exchange, None, b"")
        visit.understood, visit.ticket = again.understood, again.ticket
        visit.reason, visit.is_unattended = "again", True
        visit.stamp = caching.answers.stamp()
        return visit

    @property
    def is_stream(self) -> bool:
        """Whether its client asked for a stream."""
        return self.ask is not None and bool(self.ask.stream)

    @property
    def wants_usage(self) -> bool:
        """Whether its client asked for the usage in a stream."""
        return self.ask is not None and bool(self.ask.wants_usage)

    @property
    def own(self) -> bytes:
        """What an answer to it repeats of it."""
        return b"" if self.understood is None else self.understood.form.own

    @property
    def word(self) -> bytes:
        """The value of x-gridctl-cache; nothing for those who may not know."""
        understood = self.understood
        if understood is not None and self.reason == ABSENT:
            return understood.caller.absent
        return word_of(self)

    # ── looking ──

    def bypass(self, reason: str) -> None:
        """Go to an engine, and nothing is kept."""
        self.outcome, self.reason = "bypass", reason

    def withdraw(self) -> None:
        """Something of ours broke: have no more to do with the cache."""
        key, self.key = self.key, None
        self.understood = None
        self.outcome, self.reason = "bypass", "other"
        if key is not None:
            self.caching.flights.fail(key, self)
        elif self.flight is not None:
            flight, self.flight = self.flight, None
            self.caching.flights.leave(flight, self)

    def look(self, understood: Understood) -> bool:
        """Find an answer; whether there is one, now or soon."""
        self.understood = understood
        caching, caller, exact = self.caching, understood.caller, understood.exact
        answers = caching.answers
        if caller.is_fresh_only:
            self.reason = "no-cache"
            self.stamp = answers.stamp()
            return False
        stamp = answers.absent(exact)
        if stamp is None:
            kept = answers.exact(understood.question, time.time_ns())
            if kept is not None:
                if self.suits(kept):
                    self.serve(kept)
                    return True
                if not self.fits(kept):
                    self.reason = TOO_LONG
            stamp = answers.stamp()
        self.stamp = stamp
        key = (exact, understood.form.most_tokens, caller.apart)
        if caching.flights.leaders.setdefault(key, self) is self:
            self.key = key
        else:
            flight = caching.flights.find(key)
            if flight is not None:
                self.flight = flight
                caching.flights.join(flight, self)
                self.exchange.look_again()
                self.follow()
                return True
        if not caller.is_by_meaning and not (answers.shared_ns and caller.terms.is_shared):
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
        if found.kind in ("hit", "audit") and kept is not None and self.suits(kept):
            if found.kind == "audit":
                self.caching.count(self, "audits")
                self.caching.ask_again(self, found.ticket)
            self.serve(kept)
            return
        self.ticket = found.ticket
        self.reason = TOO_LONG if kept is not None and not self.fits(kept) else plain(found.reason)
        if found.kind == "explore":
            self.caching.count(self, "explored")
        self.exchange.ask_an_engine()

    def fits(self, kept: Kept) -> bool:
        """Whether an answer is as short as the client wants it."""
        assert self.understood is not None
        most = self.understood.form.most_tokens
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
        key, self.key = self.key, None
        if key is not None:
            self.caching.flights.land(key, self)
        whole = Whole(kept.content, kept.finish_reason, kept.model, kept.prompt_tokens, kept.output_tokens)
        if self.hides and not self.is_rescued:
            say_late(self, whole)
        else:
            say(self, whole)

    @property
    def hides(self) -> bool:
        """Whether its client may not learn whether this is a hit."""
        return self.understood is not None and self.understood.caller.hides_hits

    def suits(self, kept: Kept) -> bool:
        """Whether an answer fits, and can be served without telling what may not be told."""
        assert self.understood is not None
        is_known = not self.hides or self.caching.keeping.paces.knows((*self.understood.caller.kind, self.ask.stream))
        return is_known and self.fits(kept)

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
        if self.flight is not None and self.key is None:
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
        self.size += len(data)
        if self.size > MOST_BUFFERED and not (flight is not None and flight.followers):
            self.is_deaf = True
            self.parts = []
        elif flight is not None:
            flight.heard(data)
        elif isinstance(self.parts, list):
            self.parts.append(data)
        else:
            self.parts = [data]

    def heard_whole(self, attempt: Attempt, body: bytes) -> bytes:
        """An answer in one piece goes to the client; as which it goes."""
        head = attempt.head
        if self.understood is not None and head is not None and head.status == 200 and not head.is_encoded:
            self.whole_body = body
            if self.understood.caller.hides_hits:
                return as_hit(self, attempt.choice.backend.model, body)
        return body

    def goes_on_without(self, reason: str) -> bool:
        """The client has left: whether its request goes on, because others wait for the same answer."""
        flight, exchange = self.flight, self.exchange
        if flight is None or self.key is None or not flight.followers or exchange.serving.is_draining:
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
        key, understood = self.key, self.understood
        body = self.whole_body
        if (
            key is not None
            and understood is not None
            and self.flight is None
            and body is not None
            and finished.outcome == "completed"
        ):  # a miss that nobody followed, answered in one piece: nearly every one
            self.caching.flights.leaders.pop(key, None)
            finished.cache, finished.cache_reason = "miss", self.reason
            self.caching.keeping.add(understood, finished, body, False, self.ticket, self.stamp, True)
            return True
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
