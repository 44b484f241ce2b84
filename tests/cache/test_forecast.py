"""The forecast without text beside the run with text, on real prompts whose right answers are known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from gridctl.cache.embedders import embed, open_embedder
from gridctl.cache.forecast import Stream, Tally, drawn_memories, exact_of_lengths, exact_of_texts, forecast
from gridctl.cache.forecast import text_memories as of_texts
from gridctl.cache.rehearsal import Asked, CacheRule

REQUESTS = 4_000
POINTS = 0.03


def test_keys_and_lengths_alone_forecast_the_hits_of_the_texts_within_three_points(semantic_folder: Path) -> None:
    with gzip.open(semantic_folder / "stream.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:REQUESTS]
    names = [row["answer_key"].split(":")[0] for row in rows]
    numbers: dict[str, int] = {}
    keys = np.array([numbers.setdefault(row["answer_key"], len(numbers)) for row in rows])
    texts = [row["prompt"] for row in rows]
    lengths = np.array([-(-len(text.encode()) // 4) for text in texts])
    arrival = np.array([round(row["timestamp_ms"] * 1e6) for row in rows])
    rules = {name: CacheRule(error_rate=0.02, ttl_s=1e7) for name in set(names)}

    def hits(exact: list[object], stream: Stream, seed: int) -> float:
        asked = [
            Asked(row, names[row], names[row], int(keys[row]), exact[row], int(lengths[row]), 40)
            for row in range(REQUESTS)
        ]
        whole = Tally()
        for tally in forecast(Stream(arrival, asked, stream.remember, 0), rules, 1 << 40, seed=seed).values():
            whole.add(tally)
        assert whole.wrong_hits <= 0.02 * REQUESTS
        return whole.hits / REQUESTS

    vectors = embed(open_embedder("hashed"), texts)
    told = hits(list(exact_of_texts(texts)), Stream(arrival, (), of_texts(texts, vectors), 0), 1)
    drawn = drawn_memories(keys, lengths, "hashed", workloads=names)
    blind = [
        hits(list(exact_of_lengths(names, keys, lengths, seed)), Stream(arrival, (), drawn, 0), seed) for seed in (1, 2)
    ]
    assert told > 0.1
    assert abs(sum(blind) / 2 - told) < POINTS, (told, blind)


def test_tallies_of_workloads_add_up() -> None:
    asked = Asked(0, "a", "chat", 1, "x", 3, 5, 0.25)
    from gridctl.cache.rehearsal import Got

    one, two = Tally(), Tally()
    one.count(asked, Got("exact", True))
    two.count(asked, Got("miss"))
    one.add(two)
    assert (one.requests, one.hits, one.wrong_hits, one.saved_usd) == (2, 1, 1, 0.25)
    assert (one.saved_input_tokens, one.saved_output_tokens) == (3, 5)
