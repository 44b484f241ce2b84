"""Cache word: what an answer's head tells of what the cache did with its request.

Decides who may learn it: of a public workload only operators, because to others a hit tells what strangers asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.answers.question import Kept
    from gridctl.gateway.visit import Visit

MOST_WORDS = 256
_words: dict[tuple[str, str], bytes] = {}


def word_of(visit: Visit) -> bytes:
    """The value of x-gridctl-cache; nothing for those who may not know."""
    understood = visit.understood
    if understood is not None and understood.caller.is_ignorant:
        return b""
    if visit.outcome == "hit":
        return b"hit; level=shared; age=0" if visit.kept is None else _word_of_hit(visit.kept)
    found = _words.get((visit.outcome, visit.reason))
    if found is None:
        found = f"{visit.outcome}; reason={visit.reason}".encode("ascii", "replace")
        if len(_words) < MOST_WORDS:
            _words[visit.outcome, visit.reason] = found
    return found


def _word_of_hit(kept: Kept) -> bytes:
    parts = [f"hit; level={kept.level}"]
    if kept.similarity is not None:
        parts.append(f"similarity={kept.similarity:.4g}")
    if kept.bound is not None:
        parts.append(f"bound={kept.bound:.4g}")
    parts.append(f"age={max(0, time.time_ns() - kept.born_unix_ns) // NS_PER_S}")
    if kept.age == "stale":
        parts.append("stale")
    return "; ".join(parts).encode("ascii", "replace")


def plain(reason: str) -> str:
    """A word that a header can carry."""
    return reason if reason.isascii() and reason.replace("-", "").isalnum() else "other"
