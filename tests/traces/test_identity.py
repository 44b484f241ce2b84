"""A trace is known again by its requests, whatever format it lies in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gridctl.traces.identity import COLUMNS, trace_digest
from gridctl.traces.reader import convert_to_columns, open_traffic, read_trace
from gridctl.traces.trace import Trace


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    lines = [
        {
            "timestamp": 10 * number,
            "input_length": 2048 + number,
            "output_length": 5 + number,
            "hash_ids": [0, 1, 2, 10 + number],
            "origin": ["paris", "oslo"][number % 2],
            "session_id": number // 3,
        }
        for number in range(9)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_trace(path)


def test_a_file_and_a_folder_of_columns_of_the_same_requests_have_one_digest(trace: Trace, tmp_path: Path) -> None:
    convert_to_columns(tmp_path / "t.jsonl", tmp_path / "u.columns")
    folder = open_traffic(tmp_path / "u.columns")
    assert trace_digest(folder) == trace_digest(trace) == trace_digest(replace(trace, name="other", notes=("x",)))
    assert trace_digest(trace).startswith("sha256:")
    assert len(trace_digest(trace)) == len("sha256:") + 64


@pytest.mark.parametrize("column", COLUMNS)
def test_one_value_of_any_column_makes_another_digest(trace: Trace, column: str) -> None:
    changed = getattr(trace, column).copy()
    changed[4] += 1
    assert trace_digest(replace(trace, **{column: changed})) != trace_digest(trace)


def test_blocks_names_and_length_count(trace: Trace) -> None:
    ids = trace.block_ids.copy()
    ids[5] = 77
    changed = [
        replace(trace, block_ids=ids),
        replace(trace, block_tokens=16),
        replace(trace, origins=("paris", "rome")),
        trace.rows(0, 8),
        replace(trace, block_ids=np.zeros(0, np.int64), block_offsets=np.zeros(10, np.int64)),
    ]
    digests = {trace_digest(one) for one in (trace, *changed)}
    assert len(digests) == 1 + len(changed)
