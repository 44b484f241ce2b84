"""Rows measured on prompts: what is in them, that they come again, and that a table of them forecasts those prompts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gridctl.cache.embedders import HashedEmbedder
from gridctl.cache.evidence import FEATURES
from gridctl.cache.measuring import Rows, different, joined, measured, reach_of

THINGS = ("lamp", "door", "heating", "radio", "oven", "alarm", "blinds", "kettle")


def prompts(count: int) -> tuple[list[str], list[int]]:
    """Different texts; those of one thing want one answer."""
    coin = random.Random(3)
    keys = [coin.randrange(len(THINGS)) for _ in range(count)]
    return [f"please number {row} turn the {THINGS[key]} on" for row, key in enumerate(keys)], keys


def rows_of(count: int, rates: tuple[float, ...] = (0.05,)) -> Rows:
    texts, keys = prompts(count)
    return measured(texts, keys, HashedEmbedder(64).embed(texts), rates)


def test_a_row_tells_of_the_prompts_before_it() -> None:
    _, keys = prompts(60)
    rows = rows_of(60)
    assert rows.features.shape == (59, len(FEATURES))  # before the first there was nothing
    assert rows.stored.tolist() == list(range(1, 60))  # 60 are too few to serve any
    assert rows.aliases.tolist() == [keys[:row].count(keys[row]) for row in range(1, 60)]
    assert rows.is_wrong[rows.aliases == 0].all()


def test_the_same_prompts_give_the_same_rows_and_each_rate_a_pass() -> None:
    one, again = rows_of(150, (0.01, 0.05)), rows_of(150, (0.01, 0.05))
    assert np.array_equal(one.features, again.features)
    assert sorted(set(one.rate.tolist())) == pytest.approx([0.01, 0.05])
    assert len(joined([one, again])) == 4 * 149


def test_verbatim_repeats_and_prompts_without_an_answer_are_left_out() -> None:
    assert different(["Hello", "hello ", "who", "where"], [1, 1, -1, 2]) == [0, 3]


def test_few_prompts_are_trusted_less() -> None:
    """5.5 over the root of the prompts too many, as a share, and four points at the least."""
    assert reach_of(2_500).too_many == pytest.approx(0.11)
    assert reach_of(100_000).too_many == reach_of(900).too_few == 0.04


def test_the_script_that_wrote_the_shipped_tables_writes_the_same_bytes_again(
    semantic_folder: Path, tmp_path: Path
) -> None:
    """With few prompts, and strings hashed differently in each run."""
    script = Path(__file__).resolve().parents[1] / "bench" / "measure_population.py"
    written = []
    for seed in ("1", "77"):
        target = tmp_path / seed
        command = [sys.executable, str(script), "--embedder", "hashed", "--prompts", "150", "--to", str(target)]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(script.parents[2])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        written.append({file.name: file.read_bytes() for file in target.iterdir()})
    assert sorted(written[0]) == ["assistant-hashed.npz", "commands-hashed.npz", "questions-hashed.npz"]
    assert written[0] == written[1]
