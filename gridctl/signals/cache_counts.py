"""Cache counts: what the cache did with each worker's requests, counted on the board and read together.

Each worker writes its own words (`layout`), whole ones at a time; readers add them up. Counts are of the gateway: what
became of a request. What of the answers is right or wrong, the keeper of the answers knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gridctl.signals import metrics
from gridctl.signals.board import Board
from gridctl.signals.directory import OTHER_ROW
from gridctl.signals.finished import OTHER
from gridctl.signals.layout import CACHE, CACHE_AT, CACHE_REASON_WORDS, CACHE_WORDS
from gridctl.signals.textformat import Page
from gridctl.signals.totals import Totals

CACHE_REASONS = (
    OTHER,
    # of requests that bypass it
    "off", "no-store", "empty", "too-long", "not-text", "non-printing", "tools", "media", "temperature",
    "several-answers", "personal-data", "changes-by-itself", "untagged-documents", "endpoint", "no-user", "tags",
    "logprobs", "body", "stored", "thinking",
    # of misses
    "no-cache", "absent", "nothing-stored", "nothing-kept", "learning", "above-price", "bound-reached", "stopped",
    "keeper-slow", "keeper-down", "keeper-busy", "longer-than-allowed", "exact-only", "leader-failed", "expired",
    "purged", "no-embedding", "judged-different", "audit-coin", "few-askers", "probation",
)  # fmt: skip
"""Words that are counted each for itself; others as the first."""
_REASON_AT = {word: index for index, word in enumerate(CACHE_REASONS)}
NANO = 1e-9


class CacheCounts:
    """One worker's words."""

    def __init__(self, board: Board, worker: int) -> None:
        self._board = board
        self._words = board.meters[worker]
        self._at = board.layout.cache_at
        self._reasons_at = board.layout.cache_reasons_at
        self._rows: dict[str, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Learn the directory's names."""
        self._rows = self._board.directory().workload_rows()

    def add(self, workload: str, name: str, amount: int = 1) -> None:
        """Count one of layout.CACHE."""
        row = self._rows.get(workload, OTHER_ROW)
        self._words[self._at + row * CACHE_WORDS + CACHE_AT[name]] += amount

    def reason(self, word: str, amount: int = 1) -> None:
        """Count why requests were not answered."""
        self._words[self._reasons_at + _REASON_AT.get(word, 0)] += amount


def cache_counts(totals: Totals) -> dict[str, dict[str, int]]:
    """Each workload's counts by name, where there are any."""
    found: dict[str, dict[str, int]] = {}
    for row, workload in enumerate(totals.directory.workloads):
        at = totals.layout.cache_at + row * CACHE_WORDS
        counts = totals.words[at : at + len(CACHE)].tolist()
        if any(counts):
            here = found.setdefault(workload.name, dict.fromkeys(CACHE, 0))
            for name, count in zip(CACHE, counts, strict=True):
                here[name] += count
    return found


def cache_reasons(totals: Totals) -> dict[str, int]:
    """Why requests were not answered, where there were any."""
    at = totals.layout.cache_reasons_at
    counts = totals.words[at : at + len(CACHE_REASONS)].tolist()
    return {word: count for word, count in zip(CACHE_REASONS, counts, strict=True) if count}


def show_cache(page: Page, totals: Totals, bounds: Mapping[str, float]) -> None:
    """The families of the cache; `bounds` are the keeper's, by workload."""
    found = cache_counts(totals)
    page.family(metrics.CACHE_LOOKUPS)
    for workload, counts in found.items():
        for word, name in (
            ("exact", "exact_hits"),
            ("semantic", "semantic_hits"),
            ("shared", "shared_hits"),
            ("miss", "misses"),
            ("bypass", "bypasses"),
        ):
            page.sample(counts[name], (("workload", workload), ("result", word)))
    page.family(metrics.CACHE_REASONS)
    for reason, count in cache_reasons(totals).items():
        page.sample(count, (("reason", reason),))
    for metric, name, scale in (
        (metrics.CACHE_STALE, "stale_hits", 1.0),
        (metrics.CACHE_SAVED_USD, "saved_nano_usd", NANO),
        (metrics.CACHE_SAVED_S, "saved_us", 1e-6),
        (metrics.CACHE_ASKED_AGAIN, "asked_again", 1.0),
        (metrics.CACHE_ASKED_AGAIN_USD, "asked_again_nano_usd", NANO),
        (metrics.CACHE_KEPT, "kept", 1.0),
    ):
        page.family(metric)
        for workload, counts in found.items():
            page.sample(counts[name] * scale if scale != 1.0 else counts[name], (("workload", workload),))
    page.family(metrics.CACHE_CHECKED)
    for workload, counts in found.items():
        for word, name in (("audit", "audits"), ("explored", "explored")):
            page.sample(counts[name], (("workload", workload), ("kind", word)))
    page.family(metrics.CACHE_ERROR_BOUND)
    for workload, bound in sorted(bounds.items()):
        page.sample(bound, (("workload", workload),))


class SharedTier(NamedTuple):
    """The server that gateways share answers on, as the keeper tells of it."""

    is_up: bool
    owed: int
    counts: Mapping[str, int]


def show_shared(page: Page, tier: SharedTier | None) -> None:
    """The families of that server; none where answers are not shared."""
    if tier is None:
        return
    page.family(metrics.CACHE_SHARED_UP)
    page.sample(int(tier.is_up), ())
    page.family(metrics.CACHE_SHARED_OWED)
    page.sample(tier.owed, ())
    for metric, words in (
        (metrics.CACHE_SHARED_LOOKS, ("hits", "misses", "void", "foreign", "late", "unasked")),
        (metrics.CACHE_SHARED_ANSWERS, ("stored", "dropped", "refused", "too_large", "not_offered")),
    ):
        page.family(metric)
        for word in words:
            page.sample(tier.counts.get(word, 0), (("result", word),))


assert len(CACHE_REASONS) <= CACHE_REASON_WORDS
