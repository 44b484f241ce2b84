"""What a look into the kept answers costs, without embedding: a worker's exact one, and the keeper's by meaning.

    python tests/bench/cache_look.py [--entries 25000] [--looks 5000]

Prompts are the real ones of the three intent sets in the data folder, and where more are wanted their variations (a
word of another prompt put in), embedded by the built-in embedder. Printed: microseconds of an exact look that finds
nothing and one that finds its answer; milliseconds of a look by meaning (nearest entries, evidence, verdict, ledger) at
p50, p99 and p99.9 in CPU time, of the first pass over all looks and of each look's least of three passes (other work on
the machine shows in the first); how many of the nearest 1, 5 and 20 are found, against comparing all; memory and disk
for each entry. A million entries take about ten minutes to put in, 6 GiB of memory and as much of disk.
"""

from __future__ import annotations

import argparse
import csv
import gc
import gzip
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the keeper's process does
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "answers"))

import numpy as np
from answer_parts import NOW, Bench, fresh_of, question_of
from numpy.typing import NDArray

from gridctl.answers.deciders import work_out
from gridctl.answers.entries import Entry
from gridctl.answers.process import GARBAGE_THRESHOLDS
from gridctl.answers.reading import Reading
from gridctl.answers.settings import Rules
from gridctl.cache.embedders import HashedEmbedder, embed
from gridctl.cache.index import Index

DATA = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).resolve().parents[2].parent / "shared" / "data")


def prompts(count: int, seed: int = 5) -> list[str]:
    """So many different prompts."""
    found: dict[str, None] = {}
    for name in ("banking77", "clinc150", "hwu64_slots"):
        with gzip.open(DATA / "semantic" / f"{name}.csv.gz", "rt", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found[next(row[key] for key in ("text", "prompt", "query", "utterance") if key in row)] = None
    texts, draw = list(found), random.Random(seed)
    draw.shuffle(texts)
    words = [word for text in texts for word in text.split()]
    while len(found) < count:
        text = draw.choice(texts).split()
        text.insert(draw.randrange(len(text) + 1), draw.choice(words))
        found[" ".join(text)] = None
    kept = list(found)[:count]
    draw.shuffle(kept)
    return kept


def cost_us(call: Callable[[], object], times: int = 20_000) -> float:
    """CPU microseconds of a call, the least of seven rounds."""
    rounds = []
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            call()
        rounds.append((time.process_time() - began) / times * 1e6)
    return min(rounds)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=25_000)
    parser.add_argument("--looks", type=int, default=5_000)
    options = parser.parse_args()
    texts = prompts(options.entries + options.looks)
    stored, asked = texts[: options.entries], texts[options.entries :]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            Path(folder) / "cache", rules={"chat": Rules(error_rate=0.05, judge="text")}, slots=1 << 21,
            capacity_bytes=1 << 40,
        )  # fmt: skip
        exact(bench)
        gc.set_threshold(*GARBAGE_THRESHOLDS)  # here, and after loading, as the keeper's process does
        fill(bench, stored)
        gc.freeze()
        by_meaning(bench, asked)


def exact(bench: Bench) -> None:
    question, absent = question_of("hello"), question_of("nobody asked this")
    bench.keep(question, fresh_of("x" * 800))
    bench.commit()
    reading = Reading(bench.folder, bench.presence_name)
    print(f"exact, absent: {cost_us(lambda: reading.find(absent, NOW)):.2f} µs")
    print(f"exact, present: {cost_us(lambda: reading.find(question, NOW)):.2f} µs again", end=", ")

    def first() -> None:
        reading._rows.clear()
        reading.find(question, NOW)

    print(f"{cost_us(first, 4_000):.2f} µs the first time (800-byte answer)")
    reading.close()


def fill(bench: Bench, texts: list[str]) -> None:
    """Put the prompts in as a restart does: from the file, four to an answer group."""
    template = bench.store.entries()[0]
    fields = {name: getattr(template, name) for name in Entry.__struct_fields__}
    founder = 0
    for start in range(0, len(texts), 5_000):
        some = texts[start : start + 5_000]
        rows = embed(HashedEmbedder(), some).astype(np.float16)
        for place, text in enumerate(some):
            number = bench.store.next_number()
            founder = number if place % 4 == 0 else founder
            key = question_of(text).exact
            bench.store.add(
                Entry(**{**fields, "number": number, "text": text, "founder": founder, "exact": key,
                         "vector": rows[place].tobytes()})
            )  # fmt: skip
        bench.store.flush()
    disk = sum(path.stat().st_size for path in bench.folder.glob("answers.db*"))
    before = resident_bytes()
    began = time.process_time()
    bench.keeper.load_again()
    while not bench.keeper.load(NOW, 1_000):
        pass
    spent, memory = time.process_time() - began, resident_bytes() - before
    count = len(texts)
    print(
        f"{count:,} entries loaded in {spent:.1f} s; {memory / count:,.0f} bytes of memory, {disk / count:,.0f} of disk"
    )
    print(f"each; {(1 << 30) / (memory / count):,.0f} entries in a GiB of memory")


def by_meaning(bench: Bench, texts: list[str]) -> None:
    bench.learn(*texts)
    section = next(iter(bench.keeper.shelf._sections.values()))
    assert section.groups is not None
    index = section.groups.index
    passes = []
    for turn in range(3):
        spent = []
        for place, text in enumerate(texts):
            question = question_of(text)
            if place % 25 == 0 and (copies := bench.keeper.deciders.aside("chat")) is not None:
                # As the service does, in another thread: no part of a look.
                bench.keeper.deciders.adopt("chat", *copies, work_out(*copies))
            began = time.process_time()
            found = bench.keeper.look(question, NOW)
            spent.append(time.process_time() - began)
            if found.ticket is not None and not turn:  # labels come, so that the model and the account work too
                bench.keeper.deciders.label("chat", found.ticket, len(text) % 3 == 0, NOW)
        passes.append(spent)
    for name, took in (("first of three passes", np.array(passes[0])), ("least of three", np.array(passes).min(0))):
        p50, p99, p999 = np.percentile(took, [50, 99, 99.9]) * 1e3
        print(f"by meaning at {len(index):,} entries, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms")
    asked = [bench.keeper.vectors["hashed"].get(text) for text in texts[:300]]
    told = recall(index, list(section.numbers), np.stack([one for one in asked if one is not None]))
    print("found of the nearest " + ", ".join(f"{count}: {share:.1%}" for count, share in told.items()))


def recall(index: Index, entries: list[int], asked: NDArray[np.float32]) -> dict[int, float]:
    """Shares of the nearest 1, 5 and 20 by comparing all that the index finds; one as near as the last counts."""
    best = np.full((len(asked), 20), -1.0, np.float32)
    for start in range(0, len(entries), 10_000):
        rows = np.stack([index.vector(entry) for entry in entries[start : start + 10_000]])
        best = -np.sort(-np.hstack([best, asked @ rows.T]), axis=1)[:, :20]
    found = np.stack([index.nearest(one, 20)[1] for one in asked])
    return {count: float((found[:, :count] >= best[:, count - 1 : count] - 1e-5).mean()) for count in (1, 5, 20)}


if __name__ == "__main__":
    main()
