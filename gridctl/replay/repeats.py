"""Repeats: what a trace tells of requests that want one answer, as a rehearsal of a cache takes it.

Decides by what: the prompts' texts where the trace has them, else answer keys and lengths, else equal chains of prefix
blocks, which tell word-for-word repeats alone. Must not decide hits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.forecast import Stream, drawn_memories, exact_of_lengths, exact_of_texts, text_memories
from gridctl.cache.population import Kind, Population
from gridctl.cache.rehearsal import Asked
from gridctl.errors import InputError
from gridctl.traces.trace import Trace
from gridctl.units import TOKENS_PER_MTOK

Told = Literal["text", "keys", "blocks"]
BYTES_PER_NUMBER = 4
HASHED_DIMENSION, SENTENCE_DIMENSION = 512, 384
UNNAMED = "all"


@dataclass(frozen=True, slots=True)
class Telling:
    """By what repeats are told. `evidence` auto takes the texts where there are any; `like` is the measured population
    that keys are like, None to tell by how often each is asked for; `measured` is one of own prompts instead;
    `usd_per_mtok` prices input and output tokens."""

    evidence: Literal["auto", "text", "keys"] = "auto"
    embedder: str = "hashed"
    like: Kind | None = None
    measured: Population | None = None
    usd_per_mtok: tuple[float, float] = (0.0, 0.0)
    seed: int = 1


def stream_of(
    trace: Trace,
    order: Telling,
    say: Callable[[str], None],
    further_walls: Sequence[Hashable] | None = None,
    *,
    by_meaning: bool = True,
) -> tuple[Stream, Told, bool]:
    """The trace as a rehearsal takes it, what tells of its repeats, and whether repeats in meaning can be told, too.
    `further_walls` stand between answers beside workload, tenant and model. Where nobody asks `by_meaning` no text is
    embedded."""
    told, has_keys = told_by(trace, order.evidence)
    keys = np.full(len(trace), -1, np.int64) if trace.answers is None else trace.answers
    walls = _partitions(trace, further_walls)
    if told == "blocks":
        say("no texts and no answer keys: equal chains of prefix blocks are the only repeats that can be told")
        return _stream(trace, order, keys, _exact_of_blocks(trace), walls, uses_text=False), told, False
    if told == "text":
        if not has_keys:
            say("no answer keys: which answers are right is not known, so word-for-word repeats are all that is told")
        assert trace.prompts is not None
        exact = exact_of_texts(trace.prompts)
    else:
        say("without texts: verbatim repeats are estimated from lengths, likenesses drawn from measured prompts")
        exact = exact_of_lengths(walls, keys, trace.input_tokens, order.seed)
    return (
        _stream(trace, order, keys, exact, walls, uses_text=told == "text" and has_keys and by_meaning),
        told,
        has_keys,
    )


def told_by(trace: Trace, evidence: Literal["auto", "text", "keys"]) -> tuple[Told, bool]:
    """What tells of the trace's repeats, and whether right answers are known. Raises InputError where nothing does."""
    if not len(trace):
        raise InputError("the trace has no requests", where=trace.name, fix="give a trace with at least one request")
    has_text = trace.prompts is not None and any(trace.prompts)
    if evidence == "text" and not has_text:
        raise InputError("the trace has no prompt texts", where=trace.name, fix="--evidence keys, or record them")
    has_keys = trace.answers is not None and bool((trace.answers >= 0).any())
    if has_text and evidence != "keys":
        return "text", has_keys
    if has_keys:
        return "keys", True
    if not len(trace.block_ids):
        raise InputError(
            "the trace tells nothing of repeats: it has no texts, no answer keys and no prefix blocks",
            where=trace.name,
            fix="give prompt, answer_key or hash_ids in its rows",
        )
    return "blocks", False


def _stream(
    trace: Trace,
    order: Telling,
    keys: NDArray[np.int64],
    exact: Sequence[Hashable],
    walls: Sequence[Hashable],
    *,
    uses_text: bool,
) -> Stream:
    from gridctl.cache.embedders import embed, open_embedder

    dimension = HASHED_DIMENSION if order.embedder == "hashed" else SENTENCE_DIMENSION
    if uses_text:
        assert trace.prompts is not None
        embedder = open_embedder(order.embedder)
        texts = sorted(set(trace.prompts))
        place = {text: number for number, text in enumerate(texts)}
        vectors = embed(embedder, texts)[[place[text] for text in trace.prompts]]
        remember = text_memories(trace.prompts, vectors)
        dimension = embedder.dimension
    else:
        remember = drawn_memories(
            keys, trace.input_tokens, order.embedder, order.like, order.measured, trace.workload.tolist()
        )
    prices = order.usd_per_mtok
    asked = [
        Asked(
            number=number,
            partition=wall,
            workload=workload_of(trace, number),
            key=key,
            exact=same,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            saving_usd=(tokens_in * prices[0] + tokens_out * prices[1]) / TOKENS_PER_MTOK,
        )
        for number, (wall, key, same, tokens_in, tokens_out) in enumerate(
            zip(walls, keys.tolist(), exact, trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
        )
    ]
    return Stream(trace.arrival_ns, asked, remember, dimension * BYTES_PER_NUMBER)


def workload_of(trace: Trace, number: int) -> str:
    """The workload of a request, `UNNAMED` where the trace does not say."""
    place = int(trace.workload[number])
    return trace.workloads[place] if place >= 0 else UNNAMED


def _partitions(trace: Trace, further: Sequence[Hashable] | None) -> list[Hashable]:
    """What a trace tells of the walls between answers: workload, tenant and model."""
    beside = further if further is not None else [0] * len(trace)
    return list(zip(trace.workload.tolist(), trace.tenant.tolist(), trace.model.tolist(), beside, strict=True))


def _exact_of_blocks(trace: Trace) -> list[Hashable]:
    """Equal chains of prefix blocks and equal lengths name equal prompts."""
    first, last = trace.block_offsets[:-1], trace.block_offsets[1:]
    blocks = (last - first).tolist()
    ends = np.where(last > first, trace.block_ids[np.maximum(last - 1, 0)], -1).tolist()
    return [
        (end, count, length) if count else number
        for number, (end, count, length) in enumerate(zip(ends, blocks, trace.input_tokens.tolist(), strict=True))
    ]
