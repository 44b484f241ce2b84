"""Entries: what is kept of an answer, what else the file holds, and when an entry still holds.

Decides validity by purges, and what goes into and out of an entry; nothing about where it is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.answers.lifetimes import age_of
from gridctl.answers.question import Age, Fresh, Kept, Level, Question

OVERHEAD_BYTES = 400
"""What an entry costs beside its text, answer and vector: its row's other columns and what the keeper remembers."""


class Stored(msgspec.Struct, frozen=True):
    """What of an entry an exact repeat needs. Times are Unix nanoseconds."""

    number: int
    exact: bytes
    partition: bytes
    workload: str
    jurisdiction: str
    stamp: int
    born: int
    ttl_s: float
    stale_s: float
    tags: tuple[str, ...]
    content: bytes
    finish_reason: str
    model: str
    variant: str
    prompt_tokens: int
    output_tokens: int
    usd: float


class Entry(Stored, frozen=True, kw_only=True):
    """One kept answer and the prompt that got it. `vector` is float16 bytes of a unit vector by `embedder`, None when
    the entry is found by exact repeat only; `founder` is the number of the entry that began its answer group, 0 for
    itself."""

    tenant: str
    founder: int
    user: str
    text: str
    embedder: str
    vector: bytes | None
    digest: str
    request_id: str
    site: str
    cluster: str
    endpoint: str

    @property
    def size_bytes(self) -> int:
        """What the entry costs."""
        return len(self.content) + 2 * len(self.text) + 3 * len(self.vector or b"") + OVERHEAD_BYTES


class Purge(msgspec.Struct, frozen=True):
    """The last purge of a tag: its number among all sites, the highest number heard of, its place among the purges
    here. An entry is valid when no tag of it was purged after the entry's stamp and none has a purge that is
    missing."""

    number: int
    announced: int
    place: int


class Serving(msgspec.Struct, frozen=True):
    """One answer that went out."""

    request_id: str
    entry: int
    level: str
    workload: str
    tenant: str
    user: str
    saved_usd: float
    unix_ns: int


class Lesson(msgspec.Struct, frozen=True):
    """A label the model learnt from; `features` are float64 bytes, after a few that say which features they are."""

    workload: str
    features: bytes
    wrong: bool
    weight: float


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    entries: dict[int, Entry] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)
    purges: dict[str, Purge] = field(default_factory=dict)
    lessons: list[Lesson] = field(default_factory=list)
    served: list[Serving] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.entries or self.removed or self.purges or self.lessons or self.served)


def entry_of(
    question: Question,
    fresh: Fresh,
    number: int,
    now_ns: int,
    *,
    founder: int,
    embedder: str,
    vector: NDArray[np.float32] | None,
    user: str | None = None,
) -> Entry:
    """The entry of an answer that is born now. Its prompt is kept only where it is looked for by meaning; `user` is the
    question's unless it is said."""
    return Entry(
        number=number,
        exact=question.exact,
        partition=bytes.fromhex(question.partition),
        workload=question.workload,
        tenant=question.tenant,
        jurisdiction=question.jurisdiction,
        stamp=fresh.stamp,
        born=now_ns,
        ttl_s=question.ttl_s,
        stale_s=question.stale_s,
        tags=tags_of(question, fresh),
        content=fresh.content,
        finish_reason=fresh.finish_reason,
        model=fresh.model,
        variant=fresh.variant,
        prompt_tokens=fresh.prompt_tokens,
        output_tokens=fresh.output_tokens,
        usd=fresh.usd,
        founder=founder,
        user=question.user if user is None else user,
        text=question.text if vector is not None else "",
        embedder=embedder if vector is not None else "",
        vector=None if vector is None else vector.astype(np.float16).tobytes(),
        digest=fresh.digest,
        request_id=fresh.request_id,
        site=fresh.site,
        cluster=fresh.cluster,
        endpoint=question.endpoint,
    )


def tags_of(question: Question, fresh: Fresh) -> tuple[str, ...]:
    """What an answer can be purged by: the operator's tags, and its own origin."""
    own = (f"tenant:{question.tenant}", f"workload:{question.workload}", f"model:{fresh.model}/{fresh.variant}")
    digest: Iterable[str] = (f"digest:{fresh.digest}",) if fresh.digest else ()
    return (*own, *digest, *(f"tag:{tag}" for tag in dict.fromkeys(question.tags)))


def kept_of(
    entry: Stored, question: Question, now_ns: int, level: Level, similarity: float | None, bound: float | None
) -> Kept:
    """What goes out of an entry."""
    age = age_of(entry, question.ttl_s, question.stale_s, now_ns) or "stale"
    return kept_at(entry, question, age, level, similarity, bound)


def kept_at(
    entry: Stored, question: Question, age: Age, level: Level, similarity: float | None, bound: float | None
) -> Kept:
    """What goes out of an entry of this age."""
    return Kept(
        entry.number, level, entry.content, entry.finish_reason, entry.model, entry.variant, entry.prompt_tokens,
        entry.output_tokens, age, similarity, bound, entry.usd if question.usd is None else question.usd, entry.born,
    )  # fmt: skip


def is_valid(tags: tuple[str, ...], stamp: int, purges: dict[str, Purge]) -> bool:
    """Whether no tag was purged after the stamp, and none has a purge that did not arrive."""
    for tag in tags:
        purge = purges.get(tag)
        if purge is not None and (purge.place > stamp or purge.announced > purge.number):
            return False
    return True
