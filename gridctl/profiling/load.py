"""The load: which requests measure a live engine, and how much of its time they may take.

A repetition holds lone requests at rising prompt lengths (time to first token against prompt tokens tells the dense
and the prefill-attention times) and batches that start together (time between tokens against sequences and KV tokens
tells the decode times). Each repetition also holds loads between those, kept out of the fit: they tell its error.
Repetitions follow one another, so a load that ends early has seen every kind, and slow drift falls on all alike.
This module decides what to ask; it must not know the wire.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from gridctl.errors import UsageError

LONE_OUTPUT_TOKENS = 9
"""Output tokens of a lone request: one token to time the prefill by, eight gaps to time decodes of one sequence by."""
MAX_CONCURRENCY = 512
MAX_DURATION_S = 3600.0
MAX_REPETITIONS = 1000


@dataclass(frozen=True, slots=True)
class Round:
    """Requests that start together: `streams` prompts of about `prompt_tokens`, each answered in `output_tokens`."""

    prompt_tokens: int
    streams: int
    output_tokens: int
    held_out: bool

    @property
    def tokens(self) -> int:
        """Prompt and output tokens the round asks for."""
        return self.streams * (self.prompt_tokens + self.output_tokens)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to ask, and limits: the load ends at whichever of `max_requests`, `max_tokens` or `duration_s` comes first.

    `prompt_tokens` are the lone requests' lengths, `context_tokens` the prompt lengths of the batches.
    """

    prompt_tokens: tuple[int, ...] = (16, 64, 128, 256, 512, 1024, 2048, 4096)
    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16)
    context_tokens: tuple[int, ...] = (64, 1024)
    output_tokens: int = 33
    max_requests: int = 2000
    max_tokens: int = 1_000_000
    duration_s: float = 60.0

    def __post_init__(self) -> None:
        _check_counts("--concurrency", self.concurrency, MAX_CONCURRENCY)
        _check_counts("prompt lengths", self.prompt_tokens, 10_000_000)
        _check_counts("context lengths", self.context_tokens, 10_000_000)
        if len(set(self.prompt_tokens)) < 3:
            raise UsageError("a fit needs at least three prompt lengths", fix="give three or more, such as 16,256,2048")
        if self.output_tokens < LONE_OUTPUT_TOKENS:
            raise UsageError(
                f"{self.output_tokens} output tokens are too few to time decodes",
                fix=f"ask for at least {LONE_OUTPUT_TOKENS} tokens",
            )
        if not 0.0 < self.duration_s <= MAX_DURATION_S:
            raise UsageError(
                f"a load of {self.duration_s:g} s", fix=f"--duration takes up to {MAX_DURATION_S:.0f} s, such as 60s"
            )
        least = sum(one.streams for one in self.repetition())
        if self.max_requests < least:
            raise UsageError(
                f"{self.max_requests} requests are too few: one repetition of this load takes {least}",
                fix=f"--requests {least} or more, or a smaller --concurrency",
            )

    def repetition(self) -> tuple[Round, ...]:
        """The rounds of one repetition, cheap ones first."""
        levels, batches = sorted(set(self.prompt_tokens)), sorted(set(self.concurrency))
        contexts = sorted(set(self.context_tokens))
        lone = [Round(level, 1, LONE_OUTPUT_TOKENS, False) for level in levels]
        batch = [Round(context, n, self.output_tokens, False) for n in batches for context in contexts]
        between = [_middle(low, high) for low, high in itertools.pairwise(levels)]
        lone_checks = [Round(level, 1, LONE_OUTPUT_TOKENS, True) for level in between[1:]]
        context = _middle(contexts[0], contexts[-1])
        sizes = [(low + high) // 2 for low, high in itertools.pairwise(batches) if high - low > 1] or batches[-1:]
        batch_checks = [Round(context, n, self.output_tokens, True) for n in sizes]
        return (*lone, *batch, *lone_checks, *batch_checks)

    def rounds(self) -> Iterator[Round]:
        """All rounds, repetition after repetition, until the requests or tokens are used up."""
        requests = tokens = 0
        for _ in range(MAX_REPETITIONS):
            for one in self.repetition():
                requests += one.streams
                tokens += one.tokens
                if requests > self.max_requests or tokens > self.max_tokens:
                    return
                yield one

    def most(self) -> tuple[int, int]:
        """Requests and tokens the load may come to, were there time for all of it."""
        rounds = list(self.rounds())
        return sum(one.streams for one in rounds), sum(one.tokens for one in rounds)


def _middle(low: int, high: int) -> int:
    """The geometric mean, where an interpolation between two lengths is furthest from both."""
    return math.isqrt(low * high)


def _check_counts(name: str, counts: tuple[int, ...], largest: int) -> None:
    if not counts or min(counts) < 1 or max(counts) > largest:
        raise UsageError(f"{name} must be counts from 1 to {largest}", fix=f"{name} 1,2,4,8")
