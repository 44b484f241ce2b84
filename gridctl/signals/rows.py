"""Rows: the fixed-width records that the processes of one orchestrator share, and the words their numbers stand for.

Every field has one writer. `SCRAPED` is written by the control process, `SLOT` and `HEARTBEAT` by the worker they
belong to. All fields are int64, whole rows are multiples of a cache line, so no two writers share one and no number
is ever seen half written. Times are nanoseconds of the machine's monotonic clock.
"""

from __future__ import annotations

from typing import Final

import numpy as np

WORD_BYTES: Final = 8
LINE_BYTES: Final = 64

NEVER, FRESH, STALE, FAILING, UNSUPPORTED = range(5)
TELEMETRY_STATES = ("never", "fresh", "stale", "failing", "unsupported")
"""What is known of an engine by its own report: nothing yet, news, old news, no answer or nonsense, has no report."""

UNKNOWN, HEALTHY, DEGRADED, EJECTED, PROBATION, CORDONED = range(6)
HEALTH_STATES = ("unknown", "healthy", "degraded", "ejected", "probation", "cordoned")

ALL_TRAFFIC_PPM: Final = 1_000_000
NOT_REPORTED: Final = -1
"""In place of a number that the engine does not report: a state, not a zero."""


def _words(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, np.int64) for name in names])


SCRAPED = _words(
    "sequence",  # odd while being written
    "scrape_ns",  # when the report was asked for; 0 before the first
    "period_ns",  # how often it is asked at present
    "running",
    "waiting",
    "kv_used_tokens",
    "kv_capacity_tokens",
    "prefix_hit_ppm",  # of the prompt tokens looked up between the last two reports
    "telemetry_state",
    "prompt_tokens",  # counted by the engine since it started
    "output_tokens",
    "check",  # sum of the scraped words: a row read half written is seen on processors that reorder stores
    "scrape_errors",
    "health",
    "admit_ppm",  # share of the traffic it may get
    "generation",  # of the plan that the row is from
    "probe_passed_ns",  # when the last probe ended that passed, and the last that did not; 0: none yet
    "probe_failed_ns",
    "spare_1",
    "spare_2",
    "spare_3",
    "spare_4",
    "spare_5",
    "spare_6",
)
SLOT = _words(
    "in_flight",
    "pending_tokens",
    "kv_tokens",
    "recent_tokens",  # decayed; the broker says how
    "recent_ns",
    "requests",
    "completed",
    "failures",
    "connect_failures",  # of the failures: no connection was to be had; counted first, so for an instant there are more
    "cancels",
    "retries",
    "opened",  # connections opened to the engine
    "connections",  # open now
    "received_bytes",
    "breaks",  # of the failures: connections that broke under a request
    "spare",
)
HEARTBEAT = _words("pid", "beat_ns", "generation", "in_flight", "connections", "loop_lag_ns", "started_ns", "accepted")

PASSING = ("in_flight", "pending_tokens", "kv_tokens", "recent_tokens", "recent_ns", "connections")
"""Fields of SLOT that end with the worker; the others go on counting in the worker that takes its place."""

SLOT_WORDS: Final = SLOT.itemsize // WORD_BYTES
SLOT_AT = {name: index for index, name in enumerate(SLOT.names or ())}
"""The word of a field in its row: `words[row * SLOT_WORDS + SLOT_AT["in_flight"]]`."""
SCRAPED_WORDS: Final = SCRAPED.itemsize // WORD_BYTES
SCRAPED_AT = {name: index for index, name in enumerate(SCRAPED.names or ())}
