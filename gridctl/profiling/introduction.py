"""Introduction: what must be known of an engine before it is measured.

The models it lists and their context limit, the dialect it accepts, how many tokens a word makes, and the idle round
trip; on the way the engine warms up (connections, kernels, batch sizes). Nothing asked here counts as measured.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass

from gridctl.errors import UnreachableError
from gridctl.profiling.client import EngineClient
from gridctl.profiling.endpoint import DIALECTS, BrokenError, Dialect, RefusedError, refusal
from gridctl.profiling.load import LONE_OUTPUT_TOKENS
from gridctl.profiling.prompts import PromptSource, WordLaw, word_law

ROUND_TRIPS = 7
SAMPLE_WORDS = (16, 256)
SHORT_PROMPT_WORDS = 8
ABSENT = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What the engine said of itself. `longest` is the context limit in tokens, where one is stated."""

    dialect: Dialect
    law: WordLaw
    models: tuple[str, ...]
    longest: int | None
    round_trip_s: float
    requests: int
    notes: tuple[str, ...]


async def introduce(client: EngineClient, prompts: PromptSource, streams: int) -> Introduction:
    """Get to know the engine, and warm it up with `streams` requests at once.

    Raises UnreachableError, NotFoundError or InputError when it cannot be measured, in the engine's own words."""
    models: tuple[str, ...] = ()
    try:
        models, longest = await served_models(client)
        dialect = await _agree(client, prompts)
        law, notes = await _learn_words(client, dialect, prompts)
        await asyncio.gather(
            *(client.complete(dialect, prompts.prompt(SAMPLE_WORDS[0]), LONE_OUTPUT_TOKENS, 1) for _ in range(streams))
        )
        round_trip_s = await _round_trip_s(client)
    except RefusedError as error:
        raise refusal(error, client.endpoint, models) from None
    except BrokenError as error:
        raise UnreachableError(
            f"the endpoint gives no usable answer: {error}",
            where=client.base,
            fix=f"check that an OpenAI-compatible engine listens there: curl {client.base}/models",
        ) from None
    return Introduction(dialect, law, models, longest, round_trip_s, 1 + len(SAMPLE_WORDS) + streams, notes)


async def served_models(client: EngineClient) -> tuple[tuple[str, ...], int | None]:
    """The models the endpoint lists, and the context limit it states for ours. Some engines state neither."""
    status, body, _ = await client.get("/models")
    rows = body.get("data") if status == 200 and isinstance(body, dict) else None
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    limits = [row.get("max_model_len") for row in known if row.get("id") == client.endpoint.model]
    longest = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    return tuple(row["id"] for row in known if isinstance(row.get("id"), str)), longest


async def _agree(client: EngineClient, prompts: PromptSource) -> Dialect:
    """The first dialect the engine accepts. Raises the refusal that says most when it accepts none."""
    refusals: list[RefusedError] = []
    absent: set[str] = set()
    for dialect in DIALECTS:
        if dialect.path in absent:
            continue
        try:
            await client.complete(dialect, prompts.prompt(SHORT_PROMPT_WORDS), LONE_OUTPUT_TOKENS, 1)
        except RefusedError as error:
            if error.status in (401, 403, 429):
                raise
            if error.status in ABSENT:
                absent.add(dialect.path)
            refusals.append(error)
        else:
            return dialect
    spoken = [error for error in refusals if error.status not in ABSENT]
    raise spoken[-1] if spoken else refusals[-1]


async def _learn_words(
    client: EngineClient, dialect: Dialect, prompts: PromptSource
) -> tuple[WordLaw, tuple[str, ...]]:
    """Tokens per word, from the engine's own counts of two prompts; a note where it counts none."""
    seen: list[tuple[int, int]] = []
    for words in SAMPLE_WORDS:
        timing = await client.complete(dialect, prompts.prompt(words), LONE_OUTPUT_TOKENS, 0)
        tokens = timing.prompt_tokens
        if tokens == 0:
            usage = await client.count_tokens(dialect, prompts.prompt(words))
            tokens = usage.prompt_tokens if usage is not None else 0
        seen.append((words, tokens))
    if all(tokens > 0 for _, tokens in seen):
        return word_law(seen[0], seen[1]), ()
    law = WordLaw()
    return law, (f"the engine counts no tokens: prompts are taken at {law.per_word} tokens a word",)


async def _round_trip_s(client: EngineClient) -> float:
    """The idle round trip: the quickest small answers of the engine's server, over an open connection."""
    quickest = []
    for path in ("/models", "/health"):
        seconds = sorted([(await client.get(path))[2] for _ in range(ROUND_TRIPS)])
        quickest.append(statistics.median(seconds[:3]))
    return min(quickest)
