"""What is written reads back as the same trace, byte for byte where it is written twice."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.errors import InputError
from gridctl.traces.reader import read_trace
from gridctl.traces.trace import Trace
from gridctl.traces.writer import write_trace

ARRAYS = ("arrival_ns", "input_tokens", "output_tokens", "origin", "workload", "tenant", "model", "session")
REST = ("name", "block_tokens", "origins", "workloads", "tenants", "models", "prompts")


def same(a: Trace, b: Trace) -> None:
    for column in (*ARRAYS, "block_offsets", "block_ids"):
        one, other = getattr(a, column), getattr(b, column)
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist(), column
    for field in REST:
        assert getattr(a, field) == getattr(b, field), field


names = st.text(min_size=1, max_size=8)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    count = draw(st.integers(1, 8))
    gaps = draw(st.lists(st.integers(0, 10**17), min_size=count, max_size=count))
    arrivals = np.cumsum(np.array([0, *gaps[1:]], np.int64))
    block_tokens = draw(st.sampled_from([1, 16, 64, 512]))
    inputs = [draw(st.integers(1, 40 * block_tokens)) for _ in range(count)]
    blocks = [draw(st.sampled_from([0, n // block_tokens, -(-n // block_tokens)])) for n in inputs]
    tables = {word: tuple(dict.fromkeys(draw(st.lists(names, max_size=3)))) for word in "owtm"}
    columns = {
        word: np.array([draw(st.integers(-1, len(table) - 1)) for _ in range(count)], np.int32)
        for word, table in tables.items()
    }
    prompts = draw(st.none() | st.lists(st.text(max_size=5), min_size=count, max_size=count).filter(any))
    return Trace(
        name=draw(names),
        arrival_ns=arrivals,
        input_tokens=np.array(inputs, np.int64),
        output_tokens=np.array([draw(st.integers(1, 10**7)) for _ in range(count)], np.int64),
        origin=columns["o"],
        workload=columns["w"],
        tenant=columns["t"],
        model=columns["m"],
        session=np.array([draw(st.integers(-1, 2**61)) for _ in range(count)], np.int64),
        block_offsets=np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64),
        block_ids=np.array([draw(st.integers(0, 2**63 - 1)) for _ in range(sum(blocks))], np.int64),
        block_tokens=block_tokens,
        origins=tables["o"],
        workloads=tables["w"],
        tenants=tables["t"],
        models=tables["m"],
        prompts=None if prompts is None else tuple(prompts),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(traces(), st.sampled_from(["t.jsonl", "t.jsonl.gz"]))
def test_any_trace_survives_writing_and_reading(tmp_path: Path, trace: Trace, name: str) -> None:
    path, again = tmp_path / name, tmp_path / f"again-{name}"
    write_trace(trace, path)
    back = read_trace(path)
    same(trace, back)
    write_trace(back, again)
    assert path.read_bytes() == again.read_bytes()


def test_gzip_bytes_do_not_depend_on_the_clock_or_the_name(tmp_path: Path, real_traces: Path) -> None:
    trace = read_trace(real_traces / "agent_miniswe.jsonl.gz")
    write_trace(trace, tmp_path / "one.gz")
    write_trace(trace, tmp_path / "two.gz")
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "two.gz").read_bytes()
    assert data[3] == 0  # no file name in the header
    assert data[4:8] == b"\0\0\0\0"  # no time
    same(trace, read_trace(tmp_path / "one.gz"))


def test_mooncake_rows_have_mooncakes_fields_alone(tmp_path: Path, real_traces: Path) -> None:
    source = real_traces / "mooncake_conversation_trace.first-half.jsonl.gz"
    write_trace(read_trace(source), tmp_path / "out.jsonl", to="mooncake")
    with gzip.open(source, "rt") as original:
        expected = [json.loads(line) for line in original]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == expected


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_traces: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    trace = read_trace(real_traces / "agent_miniswe.jsonl.gz")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gridctl.traces.writer._write_all", lambda *_, **__: full())
    with pytest.raises(InputError, match="No space left"):
        write_trace(trace, path)
    assert path.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_place_that_is_not_there(tmp_path: Path, real_traces: Path) -> None:
    trace = read_trace(real_traces / "agent_miniswe.jsonl.gz", limit=1)
    with pytest.raises(InputError, match="cannot write"):
        write_trace(trace, tmp_path / "missing" / "out.jsonl")
    with pytest.raises(InputError, match="folder"):
        write_trace(trace, tmp_path)


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "in").write_text('{"timestamp":0,"input_length":5,"output_length":4}\n')
    trace, pipe = read_trace(tmp_path / "in"), tmp_path / "pipe.gz"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_trace(trace, pipe)
    read = gzip.decompress(os.read(reader, 65536))
    os.close(reader)
    write_trace(trace, tmp_path / "file")
    assert read == (tmp_path / "file").read_bytes()
    assert pipe.is_fifo()


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "in").write_text('{"timestamp":0,"input_length":5,"output_length":4}\n')
    (tmp_path / "link.gz").symlink_to(tmp_path / "real")
    write_trace(read_trace(tmp_path / "in"), tmp_path / "link.gz")
    assert (tmp_path / "link.gz").is_symlink()
    assert gzip.decompress((tmp_path / "real").read_bytes()).count(b"\n") == 2
