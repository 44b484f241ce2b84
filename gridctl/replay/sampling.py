"""Sampling: the evidence that prompts of an operator's own trace have, for forecasts of the traffic they were taken of.

Decides which prompts of a sample are measured: each workload's by themselves, without verbatim repeats, in the order
they came. Must not decide hits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gridctl.cache.embedders import embed, open_embedder
from gridctl.cache.measuring import LEAST_PROMPTS, different, joined, measured
from gridctl.cache.population import Population
from gridctl.errors import InputError
from gridctl.replay.repeats import workload_of
from gridctl.traces.trace import Trace


def population_of(
    sample: Trace, embedder: str, rates: Sequence[float], advanced: Callable[[int], None] = lambda prompts: None
) -> tuple[Population, dict[str, int]]:
    """What the sample's prompts are like at the error rates, and how many different ones each workload has.

    Raises InputError for a sample without texts, without answer keys, or too small."""
    if sample.prompts is None or sample.answers is None:
        lacks = "prompt texts" if sample.prompts is None else "answer keys"
        raise InputError(f"the sample has no {lacks}", where=sample.name, fix="give prompt and answer_key in its rows")
    streams: list[list[int]] = []
    counts: dict[str, int] = {}
    for workload in np.unique(sample.workload).tolist():
        own = np.flatnonzero(sample.workload == workload).tolist()
        places = different([sample.prompts[row] for row in own], [int(sample.answers[row]) for row in own])
        streams.append([own[place] for place in places])
        counts[workload_of(sample, own[0])] = len(places)
    prompts = sum(map(len, streams))
    if prompts < LEAST_PROMPTS:
        raise InputError(
            f"{prompts:,} different prompts with an answer key are too few to measure: {LEAST_PROMPTS:,} at least",
            where=sample.name,
            fix="give a larger sample",
        )
    parts = []
    for rows in streams:
        texts, keys = [sample.prompts[row] for row in rows], [int(sample.answers[row]) for row in rows]
        vectors = embed(open_embedder(embedder), texts) if texts else np.zeros((0, 1), np.float32)
        parts.append(measured(texts, keys, vectors, rates, advanced=advanced))
    return joined(parts).population(), counts
