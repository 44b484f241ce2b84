"""Visit: one request's way through the cache, from its question to what its end means for those who wait with it.

A request bypasses, is answered (by a kept answer, by the stream of another one that asked the same), or goes to an
engine; then it may lead a flight, and what the engine says is handed in to be kept. What breaks on the way makes it go
to an engine. Invariants: a client gets one answer; a flight that this request leads ends with it; a ticket is used or
given back. Which answer may be served is decided by the keeper and `cache`, not here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gridctl.answers.question import Found, Fresh, Kept, Question
from gridctl.broker.refusal import Refusal
from gridctl.cache.cacheable import refusal_of
from gridctl.gateway.hits import NATURAL_TOKEN_S, Whole, read_stream, read_whole, stream_events, whole_body
from gridctl.gateway.reply import NOTHING
from gridctl.gateway.single_flight import MOST_BUFFERED, Flight
from gridctl.gateway.unattended import is_nobody
from gridctl.gateway.usage import Usage
from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.choice import Choice
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.caching import Again, Caching
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.questions import Understood
    from gridctl.signals.finished import Finished

STALE_IF_ERROR_S = 86_400.0
"""How long past its time an answer is still better than none, when no engine can be reached."""
KNOWING_ROLES = ("operator", "admin")
"""Who may learn of a public workload's cache what it did: to others, a hit tells what strangers asked."""
RESCUED_STATUSES = (502, 503, 504)
NANO = 1e9


class Visit:
    """One request at the cache. `word` is what the answer's head tells; `body` the request's."""

    __slots__ = (
        "_caching",
        "_cancel_look",
        "_flight",
        "_is_deaf",
        "_is_live",
        "_is_rescued",
        "_is_unattended",
        "_kept",
        "_level",
        "_pacing",
        "_parts",
        "_place",
        "_size",
        "_stamp",
        "_ticket",
        "_whole_body",
        "ask",
        "body",
        "exchange",
        "outcome",
        "reason",
        "understood",
        "whole",
    )

    def __init__(self, caching: Caching, exchange: Exchange, ask: Ask | None, body: bytes) -> None:
        self.exchange = exchange
        self.ask: Any = ask
        self.body = body
        self.outcome = "bypass"
        self.reason = ""
        self.understood: Understood | None = None
        self.whole: Whole | None = None
        """The engine's answer, once it is complete and understood."""
        self._caching = caching
        self._kept: Kept | None = None
        self._level = ""
        self._flight: Flight | None = None
        self._parts: list[bytes] = []
        self._place = 0
        """Of the flight's parts that the client has been given."""
        self._size = 0
        self._stamp = 0
        self._ticket: int | None = None
        self._whole_body: bytes | None = None
        self._cancel_look: Any = None
        self._pacing: asyncio.TimerHandle | None = None
        self._is_deaf = False
        self._is_live = False
        self._is_rescued = False
        self._is_unattended = False

    @classmethod
    def unattended(cls, caching: Caching, exchange: Exchange, again: Again) -> Visit:
        """The way of a request that no client waits for."""
        visit = cls(caching, exchange, None, b"")
        visit.understood, visit._ticket = again.understood, again.ticket
        visit.outcome, visit.reason, visit._is_unattended = "miss", "again", True
        visit._stamp = caching.answers.stamp()
        return visit

    # ── what the head tells ──

    @property
    def word(self) -> bytes:
        """The value of x-gridctl-cache; nothing for those who may not know."""
        terms = self.understood.terms if self.understood is not None else None
        if terms is not None and terms.sharing == "public" and not self._may_know:
            return b""
        if self.outcome != "hit":
            return f"{self.outcome}; reason={self.reason}".encode("ascii", "replace")
        kept = self._kept
        if kept is None:
            return b"hit; level=shared; age=0"
        parts = [f"hit; level={kept.level}"]
        if kept.similarity is not None:
            parts.append(f"similarity={kept.similarity:.4g}")
        if kept.bound is not None:
            parts.append(f"bound={kept.bound:.4g}")
        parts.append(f"age={max(0, time.time_ns() - kept.born_unix_ns) // NS_PER_S}")
        if kept.age == "stale":
            parts.append("stale")
        return "; ".join(parts).encode("ascii", "replace")

    @property
    def _may_know(self) -> bool:
        return self.ask is not None and self.ask.principal.role in KNOWING_ROLES

    # ── looking ──

    def bypass(self, reason: str) -> None:
        """Go to an engine, and nothing is kept."""
        self.reason = reason

    def withdraw(self) -> None:
        """Something of ours broke: have no more to do with the cache."""
        flight, self._flight, self.understood = self._flight, None, None
        self.outcome, self.reason = "bypass", "other"
        if flight is not None and flight.leader is self:
            self._caching.flights.fail(flight)
        elif flight is not None:
            self._caching.flights.leave(flight, self)

    def look(self, understood: Understood) -> bool:
        """Find an answer; whether there is one, now or soon."""
        self.understood = understood
        caching, question = self._caching, understood.question
        answers = caching.answers
        self.outcome = "miss"
        if understood.is_fresh_only:
            self.reason = "no-cache"
            self._stamp = answers.stamp()
            return False
        kept = answers.exact(question, time.time_ns())
        if kept is not None and self._fits(kept):
            self._serve(kept)
            return True
        # Of a public answer others get nothing before enough callers asked for it, nor while it comes.
        key = (question.exact, understood.most_tokens, question.tenant, question.user)
        flight = caching.flights.find(key)
        if flight is not None:
            self._flight = flight
            caching.flights.join(flight, self)
            self.exchange.look_again()
            self.follow()
            return True
        self._stamp = answers.stamp()
        self._flight = caching.flights.begin(key, self, is_stream=self.ask.stream, wants_usage=self.ask.wants_usage)
        if self._flight is not None:
            self._flight.parts = self._parts
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
        if found.kind in ("hit", "audit") and kept is not None and self._fits(kept):
            if found.kind == "audit":
                self._count("audits")
                self._caching.ask_again(self, found.ticket)
            self._serve(kept)
            return
        self._ticket = found.ticket
        self.reason = "longer-than-allowed" if kept is not None else _plain(found.reason)
        if found.kind == "explore":
            self._count("explored")
        self.exchange.ask_an_engine()

    def _fits(self, kept: Kept) -> bool:
        assert self.understood is not None
        most = self.understood.most_tokens
        return most is None or kept.output_tokens <= most

    # ── serving what is kept ──

    def _serve(self, kept: Kept) -> None:
        self._kept = kept
        self._level = kept.level
        self.outcome, self.reason = "hit", kept.level
        if kept.age == "stale" and not self._is_rescued:
            self._caching.ask_again(self, None)
        self._caching.saved(self, kept)
        flight = self._flight
        if flight is not None and flight.leader is self:
            self._flight = None
            self._caching.flights.land(flight)
        whole = Whole(kept.content, kept.finish_reason, kept.model, kept.prompt_tokens, kept.output_tokens)
        self._say(whole)

    def _say(self, whole: Whole) -> None:
        """Write an answer, as the client asked for it."""
        exchange, ask = self.exchange, self.ask
        self.whole = whole
        assert self.understood is not None
        if not ask.stream:
            exchange.reply.ready(exchange, whole_body(ask.endpoint, ask.request_id, whole))
            self._done(whole)
            return
        is_natural = self.understood.terms.is_natural
        events = stream_events(ask.endpoint, ask.request_id, whole, wants_usage=ask.wants_usage, in_pieces=is_natural)
        exchange.first_token_ns = time.monotonic_ns()
        if is_natural:
            exchange.reply.begin_own(exchange, next(events), is_last=False)
            exchange.look_again()
            self._pace(events, whole)
        else:
            exchange.reply.begin_own(exchange, b"".join(events), is_last=True)
            exchange.last_token_ns = exchange.first_token_ns
            self._done(whole)

    def _pace(self, events: Iterator[bytes], whole: Whole) -> None:
        """Write the next event, and come again."""
        exchange = self.exchange
        if exchange.is_over:
            return
        if not exchange.client.is_paused:
            event = next(events, None)
            exchange.reply.go_on(event or b"", is_last=event is None)
            exchange.last_token_ns = time.monotonic_ns()
            if event is None:
                self._pacing = None
                self._done(whole)
                return
        loop = asyncio.get_running_loop()
        self._pacing = loop.call_later(
            NATURAL_TOKEN_S, lambda: self._caching.guarded(self, lambda: self._pace(events, whole))
        )

    def _done(self, whole: Whole) -> None:
        self.exchange.answered_by_another(Usage(whole.prompt_tokens, 0, whole.output_tokens))

    def rescues(self, refusal: Refusal) -> bool:
        """Whether an answer past its time goes out instead of an error, because no engine gave one."""
        understood, exchange = self.understood, self.exchange
        if (
            refusal.status not in RESCUED_STATUSES
            or understood is None
            or self._is_unattended
            or self._is_rescued
            or self._kept is not None
            or exchange.reply.state != NOTHING
            or exchange.serving.is_draining
        ):
            return False
        self._is_rescued = True
        question: Question = msgspec.structs.replace(understood.question, stale_s=STALE_IF_ERROR_S)
        kept = self._caching.answers.exact(question, time.time_ns()) if question.may_serve else None
        if kept is None or not self._fits(kept):
            return False
        self._serve(kept)
        return True

    # ── following another request ──

    def follow(self) -> None:
        """There is more of the flight's stream than the client was given."""
        flight, exchange = self._flight, self.exchange
        if flight is None or exchange.is_over or not flight.parts:
            return
        is_alike = flight.is_stream and self.ask.stream and flight.wants_usage == self.ask.wants_usage
        if not is_alike or exchange.client.is_paused:
            return
        data = b"".join(flight.parts[self._place :])
        self._place = len(flight.parts)
        now = time.monotonic_ns()
        exchange.last_token_ns = now
        if self._is_live:
            exchange.reply.go_on(data, is_last=False)
            return
        self._is_live = True
        self.outcome, self.reason = "hit", "shared"
        exchange.first_token_ns = now
        exchange.reply.begin_own(exchange, data, is_last=False)

    def on_resume(self) -> None:
        """The client has caught up."""
        if self._flight is not None and self._flight.leader is not self:
            self.follow()

    def landed(self) -> None:
        """The flight's answer is complete."""
        flight, self._flight = self._flight, None
        if flight is None or self.exchange.is_over:
            return
        self._caching.guarded(self, lambda: self._land(flight))

    def _land(self, flight: Flight) -> None:
        leader = flight.leader
        assert isinstance(leader, Visit)
        whole = leader.whole
        self._level = "shared"
        if self._is_live:
            self.exchange.reply.go_on(b"".join(flight.parts[self._place :]), is_last=True)
            self.whole = whole
            self._done(whole or Whole())
        elif leader._kept is not None and self._fits(leader._kept):
            self._serve(leader._kept)
        elif whole is not None and whole.is_understood and not whole.has_tool_call:
            self.outcome, self.reason = "hit", "shared"
            self._say(whole)
        else:
            self._go_alone()

    def go_alone(self) -> None:
        """There is no answer to share."""
        self._flight = None
        if self._is_live:
            self.broke()
        elif not self.exchange.is_over:
            self._caching.guarded(self, self._go_alone)

    def _go_alone(self) -> None:
        self._level = ""
        self.outcome, self.reason = "miss", "leader-failed"
        self._stamp = self._caching.answers.stamp()
        self.exchange.ask_an_engine()

    def broke(self) -> None:
        """The answer that the client was getting has broken off."""
        self._flight = None
        if self.exchange.is_over:
            return
        if not self._is_live:
            self.go_alone()
            return
        self.exchange.give_up(
            Refusal(502, "The engine's answer stopped short.", reason="truncated", type="server_error",
                    code="upstream_error", should_retry=False)
        )  # fmt: skip

    # ── leading ──

    def heard(self, attempt: Attempt, data: bytes) -> None:
        """A piece of an answer goes to the client."""
        if self.understood is None:
            return
        flight = self._flight
        if attempt.scanner is None:
            self._is_deaf = True
            return
        self._size += len(data)
        if self._size > MOST_BUFFERED and not (flight is not None and flight.followers):
            self._is_deaf = True
            self._parts.clear()
        elif flight is not None:
            flight.heard(data)
        else:
            self._parts.append(data)

    def heard_whole(self, attempt: Attempt, body: bytes) -> None:
        """An answer in one piece goes to the client."""
        head = attempt.head
        if self.understood is not None and head is not None and head.status == 200 and not head.is_encoded:
            self._whole_body = body

    def goes_on_without(self, reason: str) -> bool:
        """The client has left: whether its request goes on, because others wait for the same answer."""
        flight, exchange = self._flight, self.exchange
        if flight is None or flight.leader is not self or not flight.followers or exchange.serving.is_draining:
            return False
        if not is_nobody(exchange.client):
            left = exchange.has_lost_its_client(self._caching.alone(exchange), reason)
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
        if self._pacing is not None:
            self._pacing.cancel()
            self._pacing = None
        is_clients = not (self._is_unattended or is_nobody(self.exchange.client))
        try:
            self._settle(finished, is_clients=is_clients)
        except Exception as error:
            self._caching.report(error)
        self.body = b""
        self._parts = []
        return is_clients

    def _settle(self, finished: Finished, *, is_clients: bool) -> None:
        flight, self._flight = self._flight, None
        caching = self._caching
        if flight is not None and flight.leader is not self:
            if caching.flights.leave(flight, self) and isinstance(flight.leader, Visit):
                flight.leader.abandoned()
        elif self._is_from_cache and finished.outcome == "completed":
            self._tell_hit(finished)
            if flight is not None:
                caching.flights.land(flight)
        else:
            self._settle_engine(finished, flight)
        finished.cache, finished.cache_reason = self.outcome, self.reason
        if is_clients:
            self._count_outcome(finished)
        elif self._is_unattended and self.understood is not None:
            caching.counts.add(self.understood.terms.name, "asked_again")
            caching.counts.add(self.understood.terms.name, "asked_again_nano_usd", int(finished.usd * NANO))
            caching.ended_again(self.exchange, self.understood)

    @property
    def _is_from_cache(self) -> bool:
        return self._kept is not None or self._level == "shared"

    def abandoned(self) -> None:
        """Nobody follows any more; without a client of its own the request ends."""
        if is_nobody(self.exchange.client) and not self._is_unattended:
            self.exchange.client_gone()

    def _tell_hit(self, finished: Finished) -> None:
        """What a request that no engine answered got."""
        whole, kept = self.whole or Whole(), self._kept
        finished.reason = f"cache-{self._level}"
        finished.phase = "done"
        finished.prompt_tokens = whole.prompt_tokens or finished.prompt_tokens
        finished.output_tokens = whole.output_tokens
        if kept is not None:
            finished.variant, finished.saved_usd = kept.variant, kept.saved_usd

    def _settle_engine(self, finished: Finished, flight: Flight | None) -> None:
        """An engine answered, or none did."""
        is_whole = finished.outcome == "completed" and finished.status == 200
        understood = self.understood
        whole = self.whole = self._read(finished) if is_whole and understood is not None else None
        flights = self._caching.flights
        if understood is not None:
            self._hand_in(finished, whole)
        if flight is None:
            return
        if is_whole:
            flights.land(flight)
        elif flight.parts:
            flights.break_off(flight)
        else:
            flights.fail(flight)

    def _read(self, finished: Finished) -> Whole | None:
        if self._whole_body is not None:
            whole = read_whole(finished.endpoint, self._whole_body)
        elif self._parts and not self._is_deaf:
            whole = read_stream(finished.endpoint, b"".join(self._parts))
        else:
            return None
        whole.prompt_tokens = finished.prompt_tokens
        whole.output_tokens = finished.output_tokens
        return whole

    def _hand_in(self, finished: Finished, whole: Whole | None) -> None:
        """Give the answer to the keeper, if it may be kept or is a label."""
        assert self.understood is not None
        question, answers = self.understood.question, self._caching.answers
        ticket, self._ticket = self._ticket, None
        if whole is None or refusal_of(whole.finish_reason, finished.status, whole.content, whole.has_tool_call):
            if ticket is not None:
                answers.abandon(question, ticket)
            return
        choice = cast("Choice | None", finished.choice)
        model = choice.backend.model if choice is not None else whole.model
        took_us = _took_us(finished)
        self._caching.took(finished.workload, finished.stream, took_us)
        fresh = Fresh(
            whole.content, whole.finish_reason, model, finished.variant, "", finished.site, finished.cluster,
            whole.prompt_tokens, whole.output_tokens, finished.usd,
            took_us, False, 200, ticket, finished.request_id, self._stamp,
        )  # fmt: skip
        self._caching.keep(question, fresh)
        self._count("kept")

    # ── counting ──

    def _count(self, name: str, amount: int = 1) -> None:
        assert self.understood is not None
        self._caching.counts.add(self.understood.terms.name, name, amount)

    def _count_outcome(self, finished: Finished) -> None:
        counts, workload = self._caching.counts, finished.workload
        if self.outcome == "hit" and finished.outcome == "completed":
            counts.add(workload, f"{self._level or 'shared'}_hits")
            if self._kept is not None and self._kept.age == "stale":
                counts.add(workload, "stale_hits")
            saved_us = self._caching.saved_us(workload, finished.stream, _took_us(finished))
            if saved_us:
                counts.add(workload, "saved_us", saved_us)
            if finished.saved_usd > 0.0:
                counts.add(workload, "saved_nano_usd", int(finished.saved_usd * NANO))
        elif self.outcome != "hit":
            counts.add(workload, "misses" if self.outcome == "miss" else "bypasses")
            counts.reason(self.reason)


def _took_us(finished: Finished) -> float:
    """To the first token of a stream, or to the end of an answer in one piece."""
    until_ns = finished.first_token_ns if finished.first_token_ns >= 0 else finished.end_ns
    return max(0.0, (until_ns - finished.arrival_ns) / 1000.0)


def _plain(reason: str) -> str:
    """A word that a header can carry."""
    return reason if reason.isascii() and reason.replace("-", "").isalnum() else "other"
