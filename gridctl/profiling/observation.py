"""Observations: when each token of a measured load arrived, and the step times that follow from it.

A prefill is timed by a lone request: sent to first token, less the idle round trip. A decode step is timed between two
tokens of one stream, where the batch is known: every stream that had its first and not yet its last token halfway is
in it, and no other request is waiting for its first token, because a prefill would share the step. Of each round and
batch size one median remains, so a hiccup of the client, the network or the engine does not count.
This module reduces; it must not fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gridctl.profiling.load import Round

Floats = NDArray[np.float64]

GAPS_PER_BLOCK = 8
"""Gaps averaged before the median is taken: engines and networks deliver tokens in pairs or bunches."""
BURST_SHARE = 0.02
"""Tokens that arrive within this share of the time to the first one were buffered on the way, not streamed."""
SAME_COUNT_TOLERANCE = 2
"""Chunks and tokens this close are one to one; engines leave out a chunk at either end."""


@dataclass(frozen=True, slots=True)
class RequestTiming:
    """One answered request: seconds on the client's monotonic clock, and token counts.

    `arrivals_s` has an entry per chunk that carried a token; `is_estimated` when the engine gave no counts.
    """

    sent_s: float
    arrivals_s: Floats
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    is_estimated: bool = False

    @property
    def ttft_s(self) -> float:
        """Seconds from sending to the first token, network included."""
        return float(self.arrivals_s[0]) - self.sent_s

    @property
    def tokens_per_chunk(self) -> float:
        """Tokens each chunk after the first stands for."""
        chunks = len(self.arrivals_s)
        if chunks < 2 or self.is_estimated or abs(self.output_tokens - chunks) <= SAME_COUNT_TOLERANCE:
            return 1.0
        return max(1.0, (self.output_tokens - 1) / (chunks - 1))


@dataclass(frozen=True, slots=True)
class MeasuredRound:
    """A round of the load, with a timing for each of its requests."""

    plan: Round
    requests: tuple[RequestTiming, ...]


@dataclass(frozen=True, slots=True)
class Observations:
    """All that was measured. `stopped` says why the load ended before its plan, `notes` what an operator should know;
    `client_share` is the largest share of one core this client used while measuring a batch."""

    endpoint: str
    model: str
    round_trip_s: float
    rounds: tuple[MeasuredRound, ...]
    warmup_requests: int = 0
    throttled: int = 0
    failed: int = 0
    client_share: float = 0.0
    stopped: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def requests(self) -> int:
        """Requests that were answered and timed."""
        return sum(len(one.requests) for one in self.rounds)

    @property
    def tokens(self) -> int:
        """Prompt and output tokens of those."""
        return sum(r.prompt_tokens + r.output_tokens for one in self.rounds for r in one.requests)

    @property
    def is_estimated(self) -> bool:
        """Whether any token count is a guess."""
        return any(r.is_estimated for one in self.rounds for r in one.requests)


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """One lone request: `seconds` to prefill `tokens` after `cached` ones, requests' overhead included."""

    round: int
    held_out: bool
    tokens: int
    cached: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """The median decode step of `sequences` sequences that read `kv_tokens` in all, in one round."""

    round: int
    held_out: bool
    sequences: int
    kv_tokens: float
    seconds: float


def is_burst(timing: RequestTiming) -> bool:
    """Whether the tokens came all at once: what a buffering proxy or a stored answer looks like."""
    if len(timing.arrivals_s) < GAPS_PER_BLOCK or timing.ttft_s <= 0.0:
        return len(timing.arrivals_s) < 2 < timing.output_tokens
    return float(timing.arrivals_s[-1] - timing.arrivals_s[0]) < BURST_SHARE * timing.ttft_s


def prefill_rows(observations: Observations) -> list[PrefillRow]:
    """A row for each lone request that took longer than the network."""
    rows = []
    for index, one in enumerate(observations.rounds):
        if one.plan.streams != 1:
            continue
        timing = one.requests[0]
        seconds = timing.ttft_s - observations.round_trip_s
        if seconds > 0.0:
            tokens = max(1, timing.prompt_tokens - timing.cached_tokens)
            rows.append(PrefillRow(index, one.plan.held_out, tokens, timing.prompt_tokens - tokens, seconds))
    return rows


def decode_rows(observations: Observations) -> list[DecodeRow]:
    """A row for each round and batch size seen in it."""
    return [
        row
        for index, one in enumerate(observations.rounds)
        if not all(is_burst(timing) for timing in one.requests)
        for row in _round_rows(index, one)
    ]


def _round_rows(index: int, one: MeasuredRound) -> list[DecodeRow]:
    """The medians of one round's blocks, by batch size."""
    sequences: list[int] = []
    kv_tokens: list[float] = []
    seconds: list[float] = []
    for timing in one.requests:
        for batch, kv, gap in _blocks(one.requests, timing):
            sequences.append(batch)
            kv_tokens.append(kv)
            seconds.append(gap)
    batches = np.array(sequences)
    rows = []
    for batch in sorted(set(sequences)):
        chosen = batches == batch
        rows.append(
            DecodeRow(
                index,
                one.plan.held_out,
                batch,
                float(np.median(np.array(kv_tokens)[chosen])),
                float(np.median(np.array(seconds)[chosen])),
            )
        )
    return [row for row in rows if row.seconds > 0.0]


def _blocks(requests: tuple[RequestTiming, ...], timing: RequestTiming) -> list[tuple[int, float, float]]:
    """`(sequences, KV tokens, seconds a step)` of each run of gaps of one stream with one known batch."""
    times = timing.arrivals_s
    if len(times) < 2:
        return []
    middles = (times[:-1] + times[1:]) / 2.0
    sequences = np.zeros(len(middles), np.int64)
    kv_tokens = np.zeros(len(middles))
    is_clean = np.ones(len(middles), bool)
    for other in requests:
        first, last = other.arrivals_s[0], other.arrivals_s[-1]
        is_in = (first <= middles) & (middles <= last)
        sequences += is_in
        made = np.searchsorted(other.arrivals_s, middles) * other.tokens_per_chunk
        kv_tokens += np.where(is_in, other.prompt_tokens + made, 0.0)
        is_clean &= ~((first > middles) & (other.sent_s < times[1:]))
    gaps = np.diff(times) / timing.tokens_per_chunk
    blocks = []
    start = 0
    while start < len(gaps):
        stop = start + GAPS_PER_BLOCK
        whole = slice(start, stop)
        if stop <= len(gaps) and is_clean[whole].all() and (sequences[whole] == sequences[start]).all():
            blocks.append((int(sequences[start]), float(kv_tokens[whole].mean()), float(gaps[whole].mean())))
            start = stop
        else:
            start += 1
    return blocks
