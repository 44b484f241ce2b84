"""Serving: what all exchanges of one worker share: the broker, the engines, limits, budgets, counters and logs.

Owns the reload: a new plan replaces engines and settings in place, connections of engines that stay are kept, and
those of engines that went end in peace. Knows no request.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from gridctl.broker.refusal import UNAVAILABLE, Refusal
from gridctl.errors import InputError
from gridctl.gateway.hedging import HedgeBudget
from gridctl.gateway.limits import Limits
from gridctl.gateway.origin import Address, parse_origin
from gridctl.gateway.outbox import Outbox
from gridctl.gateway.pool import Pool
from gridctl.gateway.retries import RetryBudget, Suspects
from gridctl.gateway.upstream import Upstream
from gridctl.signals.finished import Finished, missed
from gridctl.signals.rows import SLOT_AT, SLOT_WORDS

if TYPE_CHECKING:
    from gridctl.broker.broker import Broker
    from gridctl.broker.plan import Backend, Plan, Settings
    from gridctl.gateway.caching import Caching
    from gridctl.gateway.deadlines import Deadlines
    from gridctl.signals.board import Board
    from gridctl.signals.meter import Meter

NS_PER_MS: Final = 1_000_000
Sink = Callable[[Finished], None]
_RETRIES: Final = SLOT_AT["retries"]
_OPENED: Final = SLOT_AT["opened"]
_CONNECTIONS: Final = SLOT_AT["connections"]


class Serving:
    """One worker's shared state. `in_flight` counts exchanges; `sinks` are told of each one that has ended."""

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        meter: Meter,
        board: Board,
        worker: int,
        deadlines: Deadlines,
        *,
        own: Collection[Address] = (),
        sinks: Collection[Sink] = (),
    ) -> None:
        self.broker = broker
        self.meter = meter
        self.deadlines = deadlines
        self.sinks = tuple(sinks)
        self.suspects = Suspects()
        self.outbox = Outbox()
        self.retries = RetryBudget()
        self.hedges = HedgeBudget()
        self.limits = Limits(plan.settings.max_connections, plan.settings.max_connections_per_address)
        self.in_flight = 0
        self.is_draining = False
        self.half_close_grace_ns = 0
        self.problems: list[InputError] = []
        self.caching: Caching | None = None
        self._board = board
        self._words = board.slot_words(worker)
        self._own = frozenset(own)
        self._context: ssl.SSLContext | None = None
        self.upstreams: dict[int, Upstream] = {}
        self._adopt(plan)

    def reload(self, plan: Plan) -> None:
        """Serve a new plan from now on; requests under way end as they began."""
        self.broker.reload(plan)
        self.meter.refresh()
        self._adopt(plan)
        if self.caching is not None:
            self.caching.adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        settings = plan.settings
        self.settings: Settings = settings
        self.generation = plan.generation
        self.retries.share, self.retries.floor = settings.retry_budget, settings.retry_floor
        self.hedges.share = settings.hedge_budget
        self.limits.most_per_address = settings.max_connections_per_address
        self.first_byte_timeout_ns = settings.first_byte_timeout_ms * NS_PER_MS
        self.stream_stall_ns = settings.stream_stall_ms * NS_PER_MS
        self.write_stall_ns = settings.write_stall_ms * NS_PER_MS
        self.keep_alive_ns = settings.keep_alive_ms * NS_PER_MS
        self.head_timeout_ns = settings.head_timeout_ms * NS_PER_MS
        self.body_timeout_ns = settings.body_timeout_ms * NS_PER_MS
        self.sse_keep_alive_ns = settings.sse_keep_alive_ms * NS_PER_MS
        self.objectives = {
            workload.name: (workload.limits(), workload.unseen_ns, min(goal.most_ns for goal in workload.objectives))
            for workload in self._board.directory().workloads
            if workload.objectives
        }
        self._adopt_engines(plan)

    def _adopt_engines(self, plan: Plan) -> None:
        """Keep the upstream of every backend that is as it was; an engine that may not be reached is a problem said."""
        before, self.upstreams, self.problems = self.upstreams, {}, []
        for backend in plan.backends:
            known = before.get(backend.row)
            if known is not None and known.backend == backend:
                known.pool.settings = self.settings
                self.upstreams[backend.row] = before.pop(backend.row)
                continue
            try:
                self.upstreams[backend.row] = Upstream(backend, self._pool(backend))
            except InputError as error:
                self.problems.append(error)
        for row, upstream in before.items():
            upstream.pool.close()
            self._words[row * SLOT_WORDS + _CONNECTIONS] = 0

    def _pool(self, backend: Backend) -> Pool:
        origin = parse_origin(backend.url, f"cluster {backend.cluster}")
        if origin.is_tls and self._context is None:
            self._context = ssl.create_default_context()
        context = self._context if origin.is_tls else None
        return Pool(origin, self.settings, self.deadlines, self.outbox, own=self._own, context=context)

    def upstream(self, row: int) -> Upstream | None:
        """The engine of a row; None for one that may not be reached."""
        return self.upstreams.get(row)

    def count_retry(self, row: int) -> None:
        """An engine's failure has led to a second try."""
        if row >= 0:
            self._words[row * SLOT_WORDS + _RETRIES] += 1

    def count_connections(self) -> None:
        """Bring the counters of connections to engines up to date on the board."""
        for row, upstream in self.upstreams.items():
            at = row * SLOT_WORDS
            self._words[at + _OPENED] += upstream.pool.opened_since()
            self._words[at + _CONNECTIONS] = upstream.pool.open_now

    def ended(self, finished: Finished, *, is_whole: bool) -> None:
        """Count and log a request that has ended."""
        objectives = self.objectives.get(finished.workload)
        if objectives is not None:
            limits, unseen_ns, least_ns = objectives
            # What took less in all than the least that is promised of any part has kept every promise.
            if finished.end_ns - finished.arrival_ns + unseen_ns > least_ns:
                finished.objective_misses = missed(finished, limits, unseen_ns, is_whole)
        self.meter.finished(finished)
        for sink in self.sinks:
            sink(finished)

    def draining_refusal(self) -> Refusal:
        """What a request gets that would begin while the worker goes."""
        return Refusal(
            503,
            "The gateway is shutting down; the same address will answer again soon.",
            reason="draining",
            type=UNAVAILABLE,
            code="draining",
            retry_after_ms=1000,
            should_retry=True,
        )

    @property
    def has_connections(self) -> bool:
        """Whether any connection to an engine is open."""
        return any(upstream.pool.open_now for upstream in self.upstreams.values())

    async def closed(self) -> None:
        """Close every connection to an engine."""
        if self.caching is not None:
            self.caching.close()
        for upstream in self.upstreams.values():
            await upstream.pool.closed()
