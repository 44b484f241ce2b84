"""Layout: where in a worker's share of the board the meter counts what. Words are int64, each written by that worker.

    by workload   a histogram per KIND, then TOTALS
    by engine     for each workload and engine (the last stands for none): the OUTCOMES, good, bad
    by word       for each outcome the REASONS; the phases of cancellations; the endpoints
    by place      for each engine a coarse histogram and the sum, of TTFT and of TPOT
    by model      for each model and operation the histograms of OpenTelemetry's GenAI conventions
    cache         for each workload CACHE, then the CACHE_REASONS (`cache_counts`)

Sums of time are microseconds and sums of money are nano-dollars: int64 adds up exactly, whatever the order, and holds
10,000 requests in flight for 29 years.
"""

from __future__ import annotations

from dataclasses import dataclass

from gridctl.signals import buckets
from gridctl.signals.finished import ENDPOINTS, METRICS, OUTCOMES, PHASES

MOST_OBJECTIVES = 4
"""Thresholds of one metric that a workload's row can count exactly."""
KINDS = ("ttft", "tpot", "e2e", "decision")
TTFT, TPOT, E2E, DECISION = range(len(KINDS))
SUM_AT = buckets.CELLS
WITHIN_AT = SUM_AT + 1
"""From here, for each objective of the metric: what of its threshold's cell is at or under the threshold."""
HISTOGRAM_WORDS = WITHIN_AT + MOST_OBJECTIVES

TOTALS = (
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "estimated_tokens",
    "nano_usd",
    *(f"missed_{metric}" for metric in METRICS),
    "retries",
    "streams",
    "ttft_predictions",
    "ttft_error_us",  # predicted − observed
    "ttft_absolute_error_us",
    "tpot_predictions",
    "tpot_error_us",
    "tpot_absolute_error_us",
)
TOTAL_AT = {name: len(KINDS) * HISTOGRAM_WORDS + index for index, name in enumerate(TOTALS)}
WORKLOAD_WORDS = -(-(len(KINDS) * HISTOGRAM_WORDS + len(TOTALS)) // 8) * 8

ENGINE_WORDS = 8
GOOD_AT, BAD_AT = len(OUTCOMES), len(OUTCOMES) + 1
PLACE_KINDS = ("ttft", "tpot")
PLACE_SUM_AT = buckets.COARSE_CELLS
PLACE_HISTOGRAM_WORDS = -(-(PLACE_SUM_AT + 1) // 8) * 8
PLACE_WORDS = len(PLACE_KINDS) * PLACE_HISTOGRAM_WORDS
REASON_WORDS = 64
"""Reasons there is room for, of each outcome."""
PHASE_WORDS = 8
ENDPOINT_WORDS = 16

OPERATIONS = ("chat", "text_completion", "embeddings", "other")
OPERATION_OF = {"chat": 0, "messages": 0, "responses": 0, "completions": 1, "embeddings": 2}

GENAI = ("duration", "failed_duration", "ttft", "tpot", "input_tokens", "output_tokens")
DURATION_EDGES_US = tuple(10_000 * 2**power for power in range(14))
TTFT_EDGES_US = tuple(
    int(seconds * 1_000_000)
    for seconds in (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
)
TPOT_EDGES_US = tuple(
    int(seconds * 1_000_000) for seconds in (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
)
TOKEN_EDGES = tuple(4**power for power in range(14))
GENAI_EDGES: tuple[tuple[int, ...], ...] = (
    DURATION_EDGES_US,
    DURATION_EDGES_US,
    TTFT_EDGES_US,
    TPOT_EDGES_US,
    TOKEN_EDGES,
    TOKEN_EDGES,
)
"""Upper bounds, inclusive, that OpenTelemetry's GenAI conventions advise: µs, or tokens."""
GENAI_HISTOGRAM_WORDS = 18
"""At most 16 bounds, what is over them, the sum."""
GENAI_SUM_AT = GENAI_HISTOGRAM_WORDS - 1
MODEL_WORDS = len(OPERATIONS) * len(GENAI) * GENAI_HISTOGRAM_WORDS

MOST_MODELS = 64

CACHE = (
    "exact_hits",
    "semantic_hits",
    "shared_hits",  # of a request under way that asked the same
    "stale_hits",  # of the above, those served past their time
    "misses",
    "bypasses",
    "audits",  # hits that are checked
    "explored",  # misses whose answer is compared
    "asked_again",  # requests to engines in the background
    "asked_again_nano_usd",
    "saved_nano_usd",
    "saved_us",
    "kept",  # answers handed in
)
"""What became of the requests of a workload at the cache."""
CACHE_AT = {name: index for index, name in enumerate(CACHE)}
CACHE_WORDS = 16
CACHE_REASON_WORDS = 64
"""Reasons of misses and bypasses there is room for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The places in one worker's share, for a board of so many engines and so many workloads."""

    backends: int
    workloads: int

    @property
    def engines_at(self) -> int:
        return self.workloads * WORKLOAD_WORDS

    @property
    def reasons_at(self) -> int:
        return self.engines_at + self.workloads * (self.backends + 1) * ENGINE_WORDS

    @property
    def phases_at(self) -> int:
        return self.reasons_at + len(OUTCOMES) * REASON_WORDS

    @property
    def endpoints_at(self) -> int:
        return self.phases_at + PHASE_WORDS

    @property
    def models_at(self) -> int:
        return self.endpoints_at + ENDPOINT_WORDS

    @property
    def places_at(self) -> int:
        return self.models_at + MOST_MODELS * MODEL_WORDS

    @property
    def cache_at(self) -> int:
        return self.places_at + self.backends * PLACE_WORDS

    @property
    def cache_reasons_at(self) -> int:
        return self.cache_at + self.workloads * CACHE_WORDS

    @property
    def words(self) -> int:
        """All of them, in whole cache lines."""
        return -(-(self.cache_reasons_at + CACHE_REASON_WORDS) // 8) * 8


assert len(PHASES) <= PHASE_WORDS
assert len(ENDPOINTS) < ENDPOINT_WORDS
assert len(CACHE) <= CACHE_WORDS
