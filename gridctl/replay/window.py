"""Window: the requests of a run whose rows are not final yet, and the rows of those that are.

A row is final when its request was refused, or its last token is out; rows leave in order, so the window reaches from
the first request in flight to the last one decided. Engines count requests from the window's first one; when it moves
on, so do the numbers they hold. Invariant: every request leaves exactly once, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import COMPLETED, RunRows
from gridctl.engine.state import GPU, NIL, RESULT, SERVERLESS, UNUSED, Fleet, records
from gridctl.errors import InputError
from gridctl.grid.image import GridImage
from gridctl.kernels import Records
from gridctl.replay.prefixes import PART_REQUESTS
from gridctl.replay.scene import Outcomes
from gridctl.traces.trace import Trace, Traffic
from gridctl.units import PS_PER_NS

NOBODYS = 1
"""Results at the end of the table that are nobody's: what an engine writes of an answer that nobody waits for."""


class Window:
    """What the replay loop and the twin write of the requests from number `first` on."""

    def __init__(self, image: GridImage, traffic: Traffic, fleet: Fleet, keep: Callable[[RunRows], None]) -> None:
        self.first = 0
        self.window_ns = 0
        self.outcomes = _outcomes(len(fleet.results))
        self._fleet = fleet
        self._stop = 0
        self._begin_ns: int | None = None
        self._traffic = traffic
        self._keep = keep
        self._kinds = np.array([engine.spec.kind for engine in image.engines], np.int64)
        self._gpus = np.array([engine.spec.gpus for engine in image.engines], np.int64)

    def forked(self, fleet: Fleet, keep: Callable[[RunRows], None]) -> Window:
        """The window in the same state over a copy of its fleet; further rows go to `keep`."""
        fork = copy(self)
        fork._fleet = fleet
        fork._keep = keep
        fork.outcomes = Outcomes(*(column.copy() for column in self.outcomes))
        return fork

    def make_room(self, requests: int) -> Fleet:
        """The fleet with results for so many more requests."""
        used, room = self._stop - self.first, len(self._fleet.results) - NOBODYS
        if used + requests <= room:
            return self._fleet
        larger = max(2 * room, used + requests)
        results, outcomes = _results(larger + NOBODYS), _outcomes(larger)
        results[:used] = self._fleet.results[:used]
        for new, old in zip(outcomes, self.outcomes, strict=True):
            new[:used] = old[:used]
        self.outcomes = outcomes
        self._fleet = self._fleet._replace(results=results)
        return self._fleet

    def played(self, fleet: Fleet, stop: int) -> None:
        """All requests before number `stop` are decided: let go of those that are final. O(requests) over a run:
        what stays is moved only once as much has left."""
        self._fleet, self._stop = fleet, stop
        used = stop - self.first
        open_yet = (self.outcomes.outcome[:used] == COMPLETED) & (fleet.results.last_token[:used] < 0)
        final = int(np.argmax(open_yet)) if open_yet.any() else used
        if final < max(PART_REQUESTS, used - final):
            return
        self._let_go(final)
        left = used - final
        for column in self.outcomes:
            column[:left] = column[final:used]
            column[left:used] = 0
        self.outcomes.engine[left:used] = NIL
        fleet.results[:left] = fleet.results[final:used]
        _clear(fleet.results[left:used])
        requests = fleet.sequences.request
        np.subtract(requests, final, out=requests, where=requests != NIL)
        self.first += final

    def finish(self) -> None:
        """The engines are empty: let go of the rest."""
        self._let_go(self._stop - self.first)
        self.first = self._stop

    def _let_go(self, count: int) -> None:
        for start in range(0, count, PART_REQUESTS):
            stop = min(count, start + PART_REQUESTS)
            trace = self._traffic.rows(self.first + start, self.first + stop)
            some = slice(start, stop)
            outcomes = Outcomes(*(column[some] for column in self.outcomes))
            rows = self._rows(trace, outcomes, self._fleet.results[some].view(np.recarray))
            ends = rows.arrival_ns + rows.rtt_ns // 2 + rows.queue_ns + rows.compute_ns + rows.decode_ns
            if self._begin_ns is None:
                self._begin_ns = int(rows.arrival_ns[0])
            # From the first arrival to the last token or refusal; at least a nanosecond.
            self.window_ns = max(1, self.window_ns, int(ends.max()) - self._begin_ns)
            self._keep(rows)

    def _rows(self, trace: Trace, outcomes: Outcomes, results: Records) -> RunRows:
        """Picoseconds of the twin → nanoseconds of the run; columns a request never reached are 0."""
        engine = outcomes.engine
        is_done = (outcomes.outcome == COMPLETED) & (results.last_token >= 0)
        if not np.array_equal(is_done, outcomes.outcome == COMPLETED):
            raise InputError(
                "the grid needs more than 53 days of virtual time to finish this trace",
                where=f"trace {self._traffic.name}",
                fix="the load is far beyond the grid: lower --speed, or add GPUs",
            )
        arrived = trace.arrival_ns * PS_PER_NS + outcomes.rtt // 2
        kind = np.where(engine >= 0, self._kinds[engine], UNUSED)
        zero = np.zeros(len(trace), np.int64)

        def span(later: NDArray[np.int64], earlier: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.where(is_done, (later - earlier) // PS_PER_NS, zero)

        return RunRows(
            arrival_ns=trace.arrival_ns.astype(np.int64),
            origin=trace.origin.astype(np.int32),
            workload=trace.workload.astype(np.int32),
            tenant=trace.tenant.astype(np.int32),
            engine=engine.astype(np.int32),
            outcome=outcomes.outcome.astype(np.int8),
            reason=outcomes.reason.astype(np.int8),
            input_tokens=trace.input_tokens.astype(np.int64),
            cached_tokens=np.where(is_done, results.cached_tokens, zero),
            output_tokens=trace.output_tokens.astype(np.int64),
            rtt_ns=np.where(is_done, outcomes.rtt // PS_PER_NS, zero),
            queue_ns=span(results.scheduled, arrived),
            compute_ns=span(results.first_token, results.scheduled),
            decode_ns=span(results.last_token, results.first_token),
            preemptions=np.where(is_done, results.preemptions, zero).astype(np.int32),
            gpu_ns=np.where(kind == GPU, results.share * self._gpus[engine] // PS_PER_NS, zero),
            serverless_ns=np.where(kind == SERVERLESS, results.share // PS_PER_NS, zero),
        )


def _outcomes(room: int) -> Outcomes:
    outcomes = Outcomes(*(np.zeros(room, np.int64) for _ in Outcomes._fields))
    outcomes.engine[:] = NIL
    return outcomes


def _results(room: int) -> Records:
    results = records(room, RESULT)
    _clear(results)
    return results


def _clear(results: NDArray[np.void]) -> None:
    for field in RESULT.names or ():
        results[field] = NIL if field in ("scheduled", "first_token", "last_token") else 0
