"""Caching: a worker's side of the cache: which requests are taken to it, and what it asks engines for by itself.

    ask ─▶ question ─▶ exact look ─▶ a flight to follow? ─▶ semantic look ─▶ engine ─▶ kept
             │ bypass: counted     └─ `visit`: one request's way through this

Owns what requests share: the kept answers, the flights, the counts, the background requests. Decides nothing about one
request's way. A cache that fails costs hits, never a request: whatever breaks here sends requests on to engines.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.gateway.keeping import Keeping
from gridctl.gateway.questions import Questions
from gridctl.gateway.reply import NOTHING
from gridctl.gateway.single_flight import Flights
from gridctl.gateway.terms import Again, Terms, Understood, terms_of, versions_of
from gridctl.gateway.unattended import Nobody
from gridctl.gateway.visit import Visit
from gridctl.resources import Workload
from gridctl.signals.cache_counts import CacheCounts

if TYPE_CHECKING:
    from gridctl.answers.client import Answers
    from gridctl.answers.question import Found, Kept
    from gridctl.broker.ask import Ask
    from gridctl.broker.plan import Plan
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.recipient import Recipient
    from gridctl.gateway.serving import Serving
    from gridctl.signals.board import Board

MOST_BACKGROUND = 4
"""Requests to engines at a time that no client waits for: checks and renewals are never in anybody's way."""
MOST_QUEUED = 512
LONGEST_AGAIN = 64 << 10
"""Bytes of a body that is kept to be asked again."""
BUDGET_NS = 30_000_000
"""How long a request waits for the keeper of the answers; what it finds later is not worth the wait."""
HOP_NS = 5_000_000
"""Of that, the way to the keeper and back where it only looks for the very question, among other gateways' answers."""

WITH_QUERY = ("messages", "responses")
"""Endpoints where engines get the query, too, which may change what they say."""
SECRET_FILE = "secret"
"""In the cache's folder: what keys are made under. Who has it can tell which questions were asked."""

Report = Callable[[BaseException], None]


class Caching:
    """One worker's cache. `report` is told of our own errors."""

    def __init__(
        self, serving: Serving, answers: Answers, secret: bytes, counts: CacheCounts, plan: Plan, report: Report
    ) -> None:
        self.serving = serving
        self.answers = answers
        self.counts = counts
        self.report = report
        self.flights = Flights()
        self.budget_ns = BUDGET_NS
        self.keeping = Keeping(answers, counts, report)
        self._questions = Questions(secret)
        self._terms: dict[str, Terms] = {}
        self._queue: deque[Again] = deque()
        self._running: set[Exchange] = set()
        self._renewing: set[bytes] = set()
        self.adopt(plan)

    def adopt(self, plan: Plan) -> None:
        """Follow another plan's workloads."""
        self.counts.refresh()
        found = [terms_of(one) for one in plan.resources if isinstance(one, Workload)]
        self._terms = {terms.name: terms for terms in found if terms is not None}
        self._questions.adopt(versions_of(plan) if self._terms else {})

    def takes(self, exchange: Exchange, ask: Ask, body: bytes) -> bool:
        """Whether the request is answered from here, now or later; if not, an engine is to be asked."""
        terms = self._terms.get(ask.workload)
        if exchange.visit is not None or terms is None:
            return False
        try:
            understood = self._questions.read(ask, exchange.head.headers, body, terms)
            if exchange.head.query and ask.endpoint in WITH_QUERY:
                understood = "endpoint"
            visit = exchange.visit = Visit(self, exchange, ask, body)
            if isinstance(understood, str):
                visit.bypass(understood)
                return False
            return visit.look(understood)
        except Exception as error:
            self.report(error)
            if exchange.visit is not None:
                exchange.visit.withdraw()
            if exchange.reply.state != NOTHING:
                exchange.broke()
            return exchange.is_over

    # ── asking engines again ──

    def ask_again(self, visit: Visit, ticket: int | None) -> None:
        """Ask an engine for what was just answered: to check it, where there is a ticket, else to renew it."""
        understood, serving = visit.understood, self.serving
        assert understood is not None
        exact = understood.exact
        if ticket is None and exact in self._renewing:
            return
        if serving.is_draining or len(self._queue) >= MOST_QUEUED or len(visit.body) > LONGEST_AGAIN:
            if ticket is not None:
                self.answers.abandon(understood.question, ticket)
            return
        if ticket is None:
            self._renewing.add(exact)
        self._queue.append(Again(visit.exchange.head, visit.ask.endpoint, visit.body, understood, ticket))
        self._start_next()

    def _start_next(self) -> None:
        from gridctl.gateway.exchange import Exchange

        while self._queue and len(self._running) < MOST_BACKGROUND and not self.serving.is_draining:
            again = self._queue.popleft()
            nobody = Nobody(self.serving.deadlines)
            exchange = Exchange(self.serving, nobody, again.head, again.endpoint, again.body)
            exchange.request_id = b"again-" + exchange.request_id[:120]
            exchange.visit = Visit.unattended(self, exchange, again)
            nobody.attend(exchange)
            self._running.add(exchange)
            try:
                exchange.start()
            except Exception as error:
                self.report(error)
                exchange.broke()

    def ended_again(self, exchange: Exchange, understood: Understood) -> None:
        """A background request has ended."""
        self._running.discard(exchange)
        self._renewing.discard(understood.exact)
        if self._queue:
            self._start_next()

    def alone(self, exchange: Exchange) -> Recipient:
        """Somebody to answer in place of a client that has left."""
        nobody = Nobody(self.serving.deadlines)
        nobody.attend(exchange)
        return nobody

    # ── counting ──

    def count(self, visit: Visit, name: str, amount: int = 1) -> None:
        """Count something of a request's workload."""
        assert visit.understood is not None
        self.counts.add(visit.understood.caller.terms.name, name, amount)

    # ── safely ──

    def guarded(self, visit: Visit, work: Callable[[], None]) -> None:
        """Run what the loop calls back for a request; an error of ours ends the request with one that says so."""
        try:
            work()
        except Exception as error:
            self.report(error)
            visit.exchange.broke()

    def look(self, visit: Visit, then: Callable[[Found], None]) -> Callable[[], None]:
        """Ask the keeper, and through it other gateways; what `then` does wrong ends no more than its request."""
        understood = visit.understood
        assert understood is not None
        question = understood.question
        budget_ns = self.budget_ns if question.mode == "semantic" else HOP_NS
        if understood.caller.terms.is_shared:
            budget_ns += self.answers.shared_ns
        return self.answers.look(question, lambda found: self.guarded(visit, lambda: then(found)), budget_ns)

    def saved(self, visit: Visit, kept: Kept) -> None:
        """Note a kept answer that was served."""
        assert visit.understood is not None
        self.answers.served(visit.understood.question, kept)
        self._questions.comes_again(visit.understood, visit.body)

    def close(self) -> None:
        """End what runs in the background, and hang up."""
        for again in self._queue:
            if again.ticket is not None:
                self.answers.abandon(again.understood.question, again.ticket)
        self._queue.clear()
        for exchange in tuple(self._running):
            exchange.client_gone("draining")
        self.keeping.hand_in()
        self.answers.close()


def open_caching(
    place: tuple[str, str], serving: Serving, board: Board, worker: int, plan: Plan, report: Report
) -> Caching | None:
    """The cache in a folder, with its table of that name; None, and a line that says why, where it cannot be used."""
    from gridctl.answers.client import Answers

    folder, presence = Path(place[0]), place[1]
    try:
        secret = (folder / SECRET_FILE).read_bytes()
    except OSError as error:
        sys.stderr.write(f"gridctl gateway: nothing is cached: {folder / SECRET_FILE}: {error.strerror}\n")
        return None
    answers = Answers(folder, presence, asyncio.get_running_loop())
    return Caching(serving, answers, secret, CacheCounts(board, worker), plan, report)
