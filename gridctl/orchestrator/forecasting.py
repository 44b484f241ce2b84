"""The forecast service: a trace in, what a cache would save by size, time to live and error rate out.

Decides how a trace's requests become those of a rehearsal: its texts where it has them, else its answer keys and
lengths, else its chains of prefix blocks, which tell word-for-word repeats alone. Nothing of a grid is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gridctl.cache.forecast import (
    Stream,
    Tally,
    drawn_memories,
    exact_of_lengths,
    exact_of_texts,
    forecast,
    text_memories,
)
from gridctl.cache.population import Kind, expected_error
from gridctl.cache.rehearsal import Asked, CacheRule
from gridctl.errors import InputError
from gridctl.traces.trace import Trace
from gridctl.units import TOKENS_PER_MTOK

Evidence = Literal["auto", "text", "keys"]
BYTES_PER_NUMBER = 4
HASHED_DIMENSION, SENTENCE_DIMENSION = 512, 384
UNNAMED = "all"
EVERYTHING = "(all)"


@dataclass(frozen=True, slots=True)
class ForecastOrder:
    """What is asked for. `usd_per_mtok` are the prices of a million input and output tokens, None where no price is
    known; `like` is the measured population that keys are like, None to tell by how often each is asked for."""

    sizes_bytes: tuple[int, ...]
    ttls_s: tuple[float, ...]
    error_rates: tuple[float, ...]
    evidence: Evidence = "auto"
    embedder: str = "hashed"
    like: Kind | None = None
    mode: Literal["exact", "semantic"] = "semantic"
    usd_per_mtok: tuple[float, float] | None = None
    seed: int = 1

    @property
    def runs(self) -> int:
        """How many times the trace is gone through."""
        return len(self.sizes_bytes) * len(self.ttls_s) * len(self.error_rates)


def forecast_rows(
    trace: Trace,
    order: ForecastOrder,
    say: Callable[[str], None] = lambda text: None,
    advanced: Callable[[int], None] = lambda requests: None,
) -> list[dict[str, object]]:
    """Rows by size, time to live, error rate and workload, a row of all workloads where there are several.

    Raises InputError for a trace that tells nothing of repeats, and for texts that are asked for and are not there."""
    stream, mode = stream_of(trace, order, say)
    rows: list[dict[str, object]] = []
    for size in order.sizes_bytes:
        for ttl in order.ttls_s:
            for rate in order.error_rates:
                rule = CacheRule(mode=mode, error_rate=rate, ttl_s=ttl)
                rules = {asked.workload: rule for asked in stream.asked}
                tallies = forecast(stream, rules, size, seed=order.seed, advanced=advanced)
                if len(tallies) > 1:
                    total = Tally()
                    for tally in tallies.values():
                        total.add(tally)
                    tallies = {**dict(sorted(tallies.items())), EVERYTHING: total}
                rows += [_row(name, tally, size, ttl, rate, stream, order) for name, tally in tallies.items()]
    return rows


def stream_of(
    trace: Trace, order: ForecastOrder, say: Callable[[str], None]
) -> tuple[Stream, Literal["exact", "semantic"]]:
    """The trace as a rehearsal takes it, and the levels that it can tell of."""
    if not len(trace):
        raise InputError("the trace has no requests", where=trace.name, fix="give a trace with at least one request")
    has_text = trace.prompts is not None and any(trace.prompts)
    if order.evidence == "text" and not has_text:
        raise InputError("the trace has no prompt texts", where=trace.name, fix="--evidence keys, or record them")
    uses_text = has_text and order.evidence != "keys"
    keys = np.full(len(trace), -1, np.int64) if trace.answers is None else trace.answers
    walls, mode = _partitions(trace), order.mode
    if not uses_text and not (keys >= 0).any():
        exact = _exact_of_blocks(trace)
        say("no texts and no answer keys: equal chains of prefix blocks are the only repeats that can be told")
        return _stream(trace, order, keys, exact, walls, uses_text=False), "exact"
    if uses_text and not (keys >= 0).any():
        say("no answer keys: which answers are right is not known, so exact repeats alone are forecast")
        mode = "exact"
    if uses_text:
        assert trace.prompts is not None
        exact = exact_of_texts(trace.prompts)
    else:
        say("without texts: verbatim repeats are estimated from lengths, likenesses drawn from measured prompts")
        exact = exact_of_lengths(walls, keys, trace.input_tokens, order.seed)
    return _stream(trace, order, keys, exact, walls, uses_text=uses_text and mode == "semantic"), mode


def _stream(
    trace: Trace,
    order: ForecastOrder,
    keys: np.ndarray[tuple[int], np.dtype[np.int64]],
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
        remember = drawn_memories(keys, order.embedder, order.like)
    prices = order.usd_per_mtok or (0.0, 0.0)
    asked = [
        Asked(
            number=number,
            partition=wall,
            workload=_workload(trace, number),
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
    return Stream(trace.arrival_ns, asked, remember, dimension * BYTES_PER_NUMBER, uses_text)


def _workload(trace: Trace, number: int) -> str:
    place = int(trace.workload[number])
    return trace.workloads[place] if place >= 0 else UNNAMED


def _partitions(trace: Trace) -> list[Hashable]:
    """What a trace tells of the walls between answers: workload, tenant and model."""
    return list(zip(trace.workload.tolist(), trace.tenant.tolist(), trace.model.tolist(), strict=True))


def _exact_of_blocks(trace: Trace) -> list[Hashable]:
    """Equal chains of prefix blocks and equal lengths name equal prompts."""
    if not len(trace.block_ids):
        raise InputError(
            "the trace tells nothing of repeats: it has no texts, no answer keys and no prefix blocks",
            where=trace.name,
            fix="give prompt, answer_key or hash_ids in its rows",
        )
    first, last = trace.block_offsets[:-1], trace.block_offsets[1:]
    blocks = (last - first).tolist()
    ends = np.where(last > first, trace.block_ids[np.maximum(last - 1, 0)], -1).tolist()
    return [
        (end, count, length) if count else number
        for number, (end, count, length) in enumerate(zip(ends, blocks, trace.input_tokens.tolist(), strict=True))
    ]


def _row(
    workload: str, tally: Tally, size: int, ttl: float, rate: float, stream: Stream, order: ForecastOrder
) -> dict[str, object]:
    low, high = expected_error(tally.wrong_hits, tally.requests)
    knows_truth = any(asked.key >= 0 for asked in stream.asked)
    semantic = tally.levels["semantic"]
    return {
        "workload": workload,
        "size_bytes": size,
        "ttl_s": ttl,
        "error_rate": rate,
        "evidence": "text" if stream.has_text else "keys" if knows_truth else "blocks",
        "requests": tally.requests,
        "hit_share": tally.hits / tally.requests,
        "exact_hits": tally.levels["exact"],
        "shared_hits": tally.levels["joined"],
        "semantic_hits": semantic,
        "audits": tally.levels["audit"],
        "wrong_per_request": tally.wrong_hits / tally.requests if knows_truth else None,
        "wrong_per_request_low": low if knows_truth else None,
        "wrong_per_request_high": high if knows_truth else None,
        "wrong_per_hit": tally.wrong_hits / tally.hits if knows_truth and tally.hits else None,
        "saved_input_tokens": tally.saved_input_tokens,
        "saved_output_tokens": tally.saved_output_tokens,
        "saved_usd": tally.saved_usd if order.usd_per_mtok is not None else None,
    }
