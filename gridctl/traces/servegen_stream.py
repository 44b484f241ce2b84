"""ServeGen stream: a span of a pool's days as a trace, piece by piece in order of arrival, in bounded memory.

Decides the order of the pieces and what a request says: its client is its tenant; its origin is drawn by the sites'
population and its workload by traffic share among those whose limits hold it, by the rules of the overlay. Prefix
blocks, sessions and models stay unsaid: the data does not have them. Every draw is keyed by client, window and place
in it. Invariant: the same pool, span, grid and seed give the same requests on every machine, whatever the piece size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError, UsageError
from gridctl.resources import Site, Workload
from gridctl.traces.overlay import fitting_workloads, token_limits
from gridctl.traces.population import origin_sites, workload_shares
from gridctl.traces.randomness import choices, uniforms
from gridctl.traces.servegen_arrivals import WINDOW_NS, gap_spreads, window_arrivals, window_counts
from gridctl.traces.servegen_lengths import LengthTables, length_tables
from gridctl.traces.servegen_pool import WINDOW_S, WINDOWS_PER_PERIOD, ServegenPool
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PIECE_REQUESTS = 65_536
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class ServegenSpan:
    """Which part of the pool's time, from `start_s` after its first midnight, and how much of its traffic."""

    start_s: float
    duration_s: float
    fraction: float = 1.0
    name: str = "servegen"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a span will hold: requests (exact where `is_exact`: the span begins and ends with a window), mean tokens,
    clients that send, the fullest window's rate, and the share of requests whose lengths are borrowed."""

    requests: int
    is_exact: bool
    input_tokens: int
    output_tokens: int
    clients: int
    peak_rps: float
    borrowed_share: float
    silent_windows: int


class ServegenStream:
    """A span of a pool over a grid's sites and workloads (none: unsaid), ready to be told or drawn."""

    def __init__(
        self, pool: ServegenPool, span: ServegenSpan, sites: Sequence[Site], workloads: Sequence[Workload], seed: int
    ) -> None:
        _check(pool, span)
        self.name, self.duration_s = span.name, span.duration_s
        self.tenants = tuple(f"client-{client}" for client in pool.clients)
        self._pool, self._span, self._seed = pool, span, seed
        self._begin_ns = round(span.start_s * NS_PER_S)
        self._end_ns = round((span.start_s + span.duration_s) * NS_PER_S)
        self._windows = range(self._begin_ns // WINDOW_NS, min(-(-self._end_ns // WINDOW_NS), pool.windows))
        some = slice(self._windows.start, self._windows.stop)
        self._spreads = gap_spreads(pool.cv[:, some], pool.is_weibull[:, some])
        self._lengths: LengthTables = length_tables(pool)
        self.origins, self._population, _ = origin_sites(sites) if sites else ((), np.ones(1), np.zeros(1))
        ordered, self._shares = workload_shares(workloads) if workloads else ((), np.ones(1))
        self.workloads = tuple(workload.name for workload in ordered)
        self._limits = token_limits(ordered)

    def forecast(self) -> Forecast:
        """What `pieces` will hold, without drawing it."""
        requests, tokens, peak = 0.0, np.zeros(2), 0.0
        sent = np.zeros(len(self.tenants))
        silent = 0
        for window in self._windows:
            counts = self._counts(window)
            within = self._within(window) * counts
            requests += float(within.sum())
            sent += within
            tokens += self._lengths.mean[:, :, window // WINDOWS_PER_PERIOD] @ within
            peak = max(peak, float(counts.sum()) / WINDOW_S)
            silent += not self._pool.rate_rps[:, window].any()
        borrowed = float(sent[~self._lengths.is_measured].sum()) / requests if requests else 0.0
        return Forecast(
            requests=round(requests),
            is_exact=self.is_whole,
            input_tokens=round(float(tokens[0])),
            output_tokens=round(float(tokens[1])),
            clients=int(np.count_nonzero(sent)),
            peak_rps=peak,
            borrowed_share=borrowed,
            silent_windows=silent,
        )

    @property
    def is_whole(self) -> bool:
        """Whether the span begins and ends with a window, so that its number of requests is known beforehand."""
        return self._begin_ns % WINDOW_NS == 0 and self._end_ns % WINDOW_NS == 0

    def pieces(self) -> Iterator[Trace]:
        """The requests, at most `PIECE_REQUESTS` at a time, the first of all arriving at 0. Memory: one window."""
        base: int | None = None
        for window in self._windows:
            for piece in self._window_pieces(window, 0 if base is None else base):
                if base is None:
                    base = int(piece.arrival_ns[0])
                    piece.arrival_ns[:] -= base
                yield piece
        if base is None:
            raise self._empty()

    def sample(self, windows: int) -> Iterator[Iterator[Trace]]:
        """The pieces of some windows, evenly apart, with times from the start of the span."""
        sending = [window for window in self._windows if self._counts(window).any()]
        if not sending:
            raise self._empty()
        places = np.linspace(0, len(sending) - 1, min(windows, len(sending))).round().astype(int).tolist()
        for place in places:
            window = sending[place]
            yield self._window_pieces(window, self._begin_ns)

    def _empty(self) -> InputError:
        return InputError(
            "no request in this span",
            where=f"pool {self._pool.name}",
            fix="raise --fraction or --duration, or choose another --day",
        )

    def _counts(self, window: int) -> Ints:
        return window_counts(self._pool, window, self._span.fraction, self._seed)

    def _window_pieces(self, window: int, base: int) -> Iterator[Trace]:
        """A window's requests within the span, their times counted from `base`."""
        counts = self._counts(window)
        if not counts.any():
            return
        spreads = self._spreads[:, window - self._windows.start]
        time, client, key = window_arrivals(self._pool, spreads, window, counts, self._seed)
        time += window * WINDOW_NS
        first, last = np.searchsorted(time, [self._begin_ns, self._end_ns], side="left").tolist()
        for start in range(first, last, PIECE_REQUESTS):
            rows = slice(start, min(start + PIECE_REQUESTS, last))
            yield self._piece(time[rows] - base, client[rows], key[rows], window)

    def _piece(self, arrival: Ints, client: Ints, key: Ints, window: int) -> Trace:
        count = len(arrival)
        period = window // WINDOWS_PER_PERIOD
        input_tokens, output_tokens = self._lengths.draw(client, period, key, self._seed)
        unsaid = np.full(count, UNSAID, np.int32)
        origin = workload = unsaid
        if self.origins:
            origin = choices(self._population, uniforms(self._seed, "servegen/origin", key)).astype(np.int32)
        if self.workloads:
            workload = self._workloads_of(input_tokens, output_tokens, key)
        return Trace(
            name=self.name,
            arrival_ns=arrival,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            origin=origin,
            workload=workload,
            tenant=client.astype(np.int32),
            model=unsaid,
            session=np.full(count, UNSAID, np.int64),
            block_offsets=np.zeros(count + 1, np.int64),
            block_ids=np.zeros(0, np.int64),
            origins=self.origins,
            workloads=self.workloads,
            tenants=self.tenants,
        )

    def _workloads_of(self, input_tokens: Ints, output_tokens: Ints, key: Ints) -> NDArray[np.int32]:
        uniform = uniforms(self._seed, "servegen/workload", key)
        # most requests fit everywhere: only the others need to be weighed one by one
        chosen = choices(self._shares, uniform)
        limits_in, limits_out = self._limits
        long = np.flatnonzero((input_tokens > limits_in.min()) | (output_tokens > limits_out.min()))
        if len(long):
            chosen[long] = fitting_workloads(
                input_tokens[long], output_tokens[long], limits_in, limits_out, self._shares, uniform[long]
            )
        return chosen.astype(np.int32)

    def _within(self, window: int) -> float:
        """The share of a window that lies in the span."""
        first, last = window * WINDOW_NS, (window + 1) * WINDOW_NS
        return (min(last, self._end_ns) - max(first, self._begin_ns)) / WINDOW_NS


def _check(pool: ServegenPool, span: ServegenSpan) -> None:
    # written so that NaN fails too
    if not 0.0 < span.fraction <= 1.0:
        raise UsageError(f"{span.fraction} is outside 0 (not included) to 1", where="--fraction", fix="--fraction 0.01")
    if not span.duration_s > 0.0:
        raise UsageError("no time at all", where="--duration", fix="--duration 24h")
    if not 0.0 <= span.start_s < pool.duration_s:
        days = -(-pool.duration_s // DAY_S)
        raise UsageError(
            f"the pool has {pool.duration_s / DAY_S:g} days and this starts after {span.start_s / DAY_S:g}",
            where="--day",
            fix=f"--day 1 to --day {days}",
        )
    if span.start_s + span.duration_s > pool.duration_s:
        left = pool.duration_s - span.start_s
        raise UsageError(
            f"the pool ends {left:,g} s after this start",
            where="--duration",
            fix=f"--duration {left:g}s, or an earlier --day",
        )
