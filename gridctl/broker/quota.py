"""Quota: how much a client key may ask for, in requests a second and tokens a minute, over all workers together.

A sliding window of two buckets: what came in the window now, and of the one before it the part that the sliding window
still covers, taken to have come evenly (the counter that Cloudflare describes for its rate limits). Every worker counts
in words of its own, in memory that all of them see, and adds up everybody's: no locks, and workers that decide in the
same instant may together let one request each pass that none should have.

Tokens are those expected when the request comes: its prompt as estimated, and the answer its workload usually gets.
What a client is refused counts for nothing. Keys without a limit cost one look into a dictionary.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

from gridctl.broker.plan import LIMITED_KEYS, Key, Plan
from gridctl.broker.refusal import RATE_LIMIT, Refusal
from gridctl.errors import InputError
from gridctl.registry.faults import disk_fault
from gridctl.units import NS_PER_MS, NS_PER_S

WORD_BYTES: Final = 8
REQUESTS: Final = 0
TOKENS: Final = 3
"""Where in a row the words of each window are: its number, what came in it, what came in the one before."""
ROW_WORDS: Final = 6
MINUTE_NS: Final = 60 * NS_PER_S


class Window(NamedTuple):
    """At most `most` in any `length_ns`; `at` is where its words are in a row, `what` what is counted."""

    at: int
    length_ns: int
    most: float
    what: str


class Quotas:
    """The quotas of one worker, of so many. Without a file the counts are this process's alone."""

    def __init__(self, worker: int = 0) -> None:
        self._worker = worker
        self._path: str | None = None
        self._own()
        self._windows: dict[str, tuple[int, tuple[Window, ...]]] = {}

    def adopt(self, plan: Plan) -> None:
        """Go on under another plan: counts stay with their keys. Raises InputError when the file cannot be used."""
        path = plan.settings.quota_file
        if path is not None and path != self._path:
            self._words = _mapped(Path(path), plan.settings.workers)
            self._place, self._workers = self._worker, plan.settings.workers
        elif path is None and self._path is not None:
            self._own()
        self._path = path
        self._windows = {
            key.name: (key.row, windows)
            for key in plan.keys
            if 0 <= key.row < LIMITED_KEYS and (windows := _windows_of(key))
        }

    def _own(self) -> None:
        """Count in this process's own memory."""
        self._words = memoryview(bytearray(LIMITED_KEYS * ROW_WORDS * WORD_BYTES)).cast("q")
        self._place, self._workers = 0, 1

    def take(self, name: str, tokens: int, now_ns: int) -> None:
        """Count a request of the key called `name`, expected to take so many tokens. Raises Refusal (429) instead when
        that would be more than the key may."""
        limited = self._windows.get(name)
        if limited is None:
            return
        row, windows = limited
        for window in windows:
            amount = 1 if window.at == REQUESTS else tokens
            wait_ns = self._wait_ns(row, window, amount, now_ns)
            if wait_ns:
                raise _refusal(name, window, amount, wait_ns)
        for window in windows:
            self._count(row, window, 1 if window.at == REQUESTS else tokens, now_ns)

    def _wait_ns(self, row: int, window: Window, amount: int, now_ns: int) -> int:
        """How long until so much more fits, 0 now; to the next window's begin when it never does."""
        number, into_ns = divmod(now_ns, window.length_ns)
        now, before = self._counts(row, window.at, number)
        if now + before * (1.0 - into_ns / window.length_ns) + amount <= window.most:
            return 0
        if now + amount <= window.most:  # then `before` has something to fade
            return max(1, round(window.length_ns * (1.0 - (window.most - now - amount) / before)) - into_ns)
        rest_ns = window.length_ns - into_ns
        room = window.most - amount
        return rest_ns + (round(window.length_ns * (1.0 - room / now)) if 0 <= room < now else 0)

    def _counts(self, row: int, at: int, number: int) -> tuple[int, int]:
        """What all workers counted in the window of that number, and in the one before."""
        words = self._words
        now = before = 0
        for worker in range(self._workers):
            start = (worker * LIMITED_KEYS + row) * ROW_WORDS + at
            counted_in = words[start]
            if counted_in == number:
                now += words[start + 1]
                before += words[start + 2]
            elif counted_in == number - 1:
                before += words[start + 1]
        return now, before

    def _count(self, row: int, window: Window, amount: int, now_ns: int) -> None:
        words, number = self._words, now_ns // window.length_ns
        start = (self._place * LIMITED_KEYS + row) * ROW_WORDS + window.at
        if words[start] != number:
            words[start + 2] = words[start + 1] if words[start] == number - 1 else 0
            words[start + 1] = 0
            words[start] = number
        words[start + 1] += amount


def make_quota_file(path: Path, workers: int) -> None:
    """An empty file for the counts of so many workers, for its owner alone. Raises StoreError.

    A new one in place of an older one: workers of a control process that was killed may still count in that, and would
    crash were it cut. Written, not left a hole: a full disk is an error now, not a crash of who first counts."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(bytes(workers * LIMITED_KEYS * ROW_WORDS * WORD_BYTES))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise disk_fault(error, path) from error


def _mapped(path: Path, workers: int) -> memoryview:
    try:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), workers * LIMITED_KEYS * ROW_WORDS * WORD_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"the counts of quotas cannot be shared: {error}", where=str(path), fix="gridctl up") from None
    return memoryview(memory).cast("q")


def _windows_of(key: Key) -> tuple[Window, ...]:
    windows = []
    if key.requests_per_s is not None:
        length_s = max(1.0, 1.0 / key.requests_per_s)
        most = key.requests_per_s * length_s
        windows.append(Window(REQUESTS, round(length_s * NS_PER_S), most, f"{key.requests_per_s:g} requests a second"))
    if key.tokens_per_minute is not None:
        most = float(key.tokens_per_minute)
        windows.append(Window(TOKENS, MINUTE_NS, most, f"{key.tokens_per_minute:,} tokens a minute"))
    return tuple(windows)


def _refusal(name: str, window: Window, amount: int, wait_ns: int) -> Refusal:
    if amount > window.most:
        return Refusal(
            429,
            f"The request takes about {amount:,} tokens, and the key {name} may have {window.what}: it never fits.",
            reason="quota",
            type=RATE_LIMIT,
            code="rate_limit_exceeded",
            should_retry=False,
        )
    wait_ms = -(-wait_ns // NS_PER_MS)
    return Refusal(
        429,
        f"Rate limit reached for the key {name}: {window.what}. Try again in {wait_ms / 1000:.3g} s.",
        reason="quota",
        type=RATE_LIMIT,
        code="rate_limit_exceeded",
        retry_after_ms=wait_ms,
        should_retry=True,
    )
