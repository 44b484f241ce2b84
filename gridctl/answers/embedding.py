"""Embedding beside the event loop: texts wait in line, go through the model many at a time in one thread, and come back
as vectors that the keeper knows.

Decides who goes first (looks before answers to keep) and who is turned away (a line that is too long). A model that
fails or a service that hangs is left alone for some seconds: whatever waits goes on without a vector. Invariant: every
job's `then` is called exactly once, from the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gridctl.answers.vectors import Vectors
from gridctl.cache.embedders import Embedder, embed, identity, open_embedder
from gridctl.errors import GridctlError

BATCH_TEXTS = 64
MOST_WAITING = 2_048
LEFT_ALONE_S = 5.0


@dataclass(slots=True)
class _Job:
    place: str
    texts: list[str]
    then: Callable[[], None]


class Embedding:
    """The line, the thread and the embedders by their places. `vectors` and `identities` are the keeper's."""

    def __init__(self, vectors: dict[str, Vectors], identities: dict[str, str]) -> None:
        self._vectors, self._identities = vectors, identities
        self._embedders: dict[str, Embedder] = {}
        self._first: deque[_Job] = deque()
        self._later: deque[_Job] = deque()
        self._alone_until: dict[str, float] = {}
        self._thread = ThreadPoolExecutor(1, "gridctl-embedding")
        self._is_running = False
        self.problems: dict[str, str] = {}

    def close(self) -> None:
        """Let go of the thread; what it does now is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def is_open(self, place: str) -> bool:
        """Whether vectors of this embedder can be had."""
        return place in self._embedders

    async def open(self, place: str) -> bool:
        """Open the embedder at a place; False when it cannot be, with the reason in `problems`."""
        if place in self._embedders:
            return True
        self._alone_until[place] = time.monotonic() + LEFT_ALONE_S
        try:
            embedder = await asyncio.get_running_loop().run_in_executor(self._thread, open_embedder, place)
        except GridctlError as error:
            self.problems[place] = error.what
            return False
        self._embedders[place] = embedder
        self._vectors[place] = Vectors()
        self._identities[place] = "/".join(identity(embedder))
        self.problems.pop(place, None)
        self._alone_until.pop(place, None)
        return True

    def may_try(self, place: str) -> bool:
        """Whether an embedder has been left alone long enough."""
        return time.monotonic() >= self._alone_until.get(place, 0.0)

    def want(self, place: str, texts: list[str], then: Callable[[], None], *, is_urgent: bool) -> bool:
        """Call `then` once the texts have vectors, or cannot have any; False when the line is too long: it is not
        called then."""
        known = self._vectors.get(place)
        missing = known.missing(texts) if known is not None else []
        if not missing or not self.may_try(place):
            then()
            return True
        line = self._first if is_urgent else self._later
        if len(line) >= MOST_WAITING:
            return False
        line.append(_Job(place, missing, then))
        if not self._is_running:
            self._is_running = True
            asyncio.get_running_loop().create_task(self._run())
        return True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while jobs := self._next_jobs():
                place = jobs[0].place
                texts = self._vectors[place].missing(text for job in jobs for text in job.texts)
                try:
                    if texts and self.may_try(place):
                        rows = await loop.run_in_executor(self._thread, embed, self._embedders[place], texts)
                        self._vectors[place].learn(texts, rows)
                        self.problems.pop(place, None)
                except Exception as error:  # a model's own kinds of errors: none may stop the line
                    self.problems[place] = error.what if isinstance(error, GridctlError) else str(error)[:500]
                    self._alone_until[place] = time.monotonic() + LEFT_ALONE_S
                for job in jobs:
                    job.then()
        finally:
            self._is_running = False

    def _next_jobs(self) -> list[_Job]:
        """Jobs of one embedder that go through together."""
        line = self._first or self._later
        found: list[_Job] = []
        texts = 0
        while line and (not found or (line[0].place == found[0].place and texts + len(line[0].texts) <= BATCH_TEXTS)):
            found.append(line.popleft())
            texts += len(found[-1].texts)
        return found
