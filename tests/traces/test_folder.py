"""A trace as a folder of columns: what goes in comes out, part by part, and nothing damaged is believed."""

from __future__ import annotations

import dataclasses
import errno
import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.errors import InputError, StoreError
from gridctl.traces import folderwriter
from gridctl.traces.folder import TraceFolder, is_folder
from gridctl.traces.folderwriter import write_columns
from gridctl.traces.reader import convert_to_columns, detect_format, open_traffic, read_trace
from gridctl.traces.spans import ids_of, spans_of
from gridctl.traces.trace import Trace
from gridctl.traces.writer import write_trace

LINES = """\
{"timestamp": 5, "input_length": 40, "output_length": 3, "hash_ids": [7, 8, 9], "session": "b", "origin": "paris"}
{"timestamp": 6.5, "input_length": 17, "output_length": 0, "hash_ids": [7, 3]}
{"timestamp": 6.5, "input_length": 9, "output_length": 2, "session": "a", "tenant": "acme"}
{"timestamp": 8, "input_length": 64, "output_length": 1, "hash_ids": [7, 8, 20, 21]}
"""


def assert_same(a: Trace, b: Trace) -> None:
    for field in dataclasses.fields(Trace):
        one, other = getattr(a, field.name), getattr(b, field.name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, field.name


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "four.jsonl"
    path.write_text(LINES)
    return path


def test_a_trace_comes_back_whole_and_part_by_part(tmp_path: Path, text: Path) -> None:
    told = read_trace(text)
    write_trace(told, tmp_path / "four.columns")
    folder = TraceFolder(tmp_path / "four.columns")
    assert_same(folder.whole(), told)
    assert_same(read_trace(tmp_path / "four.columns"), told)
    assert detect_format(tmp_path / "four.columns") == "columns"
    assert (len(folder), folder.duration_ns, folder.blocks) == (4, 3_000_000, told.blocks)
    for start, stop in ((0, 4), (1, 3), (2, 3)):
        assert_same(folder.rows(start, stop), told.rows(start, stop))
        for one, other in zip(folder.spans(start, stop), told.spans(start, stop), strict=True):
            assert np.array_equal(one, other)


def test_spans_are_consecutive_ids_of_one_request() -> None:
    ids = np.array([7, 8, 9, 10, 11, 3, 2, 2])
    spans = spans_of(ids, np.array([0, 3, 3, 6, 8]))
    assert spans.offsets.tolist() == [0, 1, 1, 3, 5]
    assert list(zip(spans.first.tolist(), spans.blocks.tolist(), strict=True)) == [
        (7, 3),
        (10, 2),
        (3, 1),
        (2, 1),
        (2, 1),
    ]
    offsets, back = ids_of(spans)
    assert offsets.tolist() == [0, 3, 3, 6, 8]
    assert back.tolist() == ids.tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=6), min_size=1, max_size=8))
def test_any_ids_survive_being_spans(lists: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, lists)])
    ids = np.array([one for ids in lists for one in ids], np.int64)
    back = ids_of(spans_of(ids, offsets))
    assert np.array_equal(back[0], offsets)
    assert np.array_equal(back[1], ids)


@pytest.mark.parametrize("packed", [False, True])
def test_converting_line_by_line_gives_what_reading_all_gives(
    tmp_path: Path, text: Path, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridctl.traces.lines.BLOCK_BYTES", 100)  # a line or two at a time
    if packed:
        (tmp_path / "four.jsonl.gz").write_bytes(gzip.compress(text.read_bytes(), mtime=0))
        text = tmp_path / "four.jsonl.gz"
    folder = convert_to_columns(text, tmp_path / "out.columns")
    assert_same(folder.whole(), read_trace(text))
    assert any("0 tokens" in note for note in folder.notes)
    assert len(convert_to_columns(text, tmp_path / "out.columns", limit=2)) == 2


@pytest.mark.parametrize(
    "lines",
    [
        '{"timestamp":1,"input_length":1,"output_length":1,"session":"x"}\n'
        '{"timestamp":2,"input_length":1,"output_length":1,"session":4}\n',
        '{"timestamp":1,"input_length":9,"output_length":1,"hash_ids":[18446744073709551615]}\n',
        '{"session_id":"a","timestamp":1,"input_length":1,"output_length":1}\n'
        '{"session_id":"a","delay":5,"input_length":1,"output_length":1}\n'
        '{"session_id":"b","timestamp":3,"input_length":1,"output_length":1}\n',
    ],
    ids=["mixed sessions", "huge ids", "delays"],
)
def test_what_needs_the_whole_trace_gets_it(tmp_path: Path, lines: str) -> None:
    (tmp_path / "in.jsonl").write_text(lines)
    assert_same(
        convert_to_columns(tmp_path / "in.jsonl", tmp_path / "out.columns").whole(), read_trace(tmp_path / "in.jsonl")
    )


def test_a_bad_line_is_named_and_leaves_what_was_there(tmp_path: Path, text: Path) -> None:
    convert_to_columns(text, tmp_path / "out.columns")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(LINES + '{"timestamp": 1, "input_length": 4, "output_length": 1}\n')
    with pytest.raises(InputError, match="non-monotonic") as raised:
        convert_to_columns(bad, tmp_path / "out.columns")
    assert raised.value.where == f"{bad}:5"
    assert_same(TraceFolder(tmp_path / "out.columns").whole(), read_trace(text))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "four.jsonl", "out.columns"]


def test_something_else_is_not_overwritten(tmp_path: Path, text: Path) -> None:
    (tmp_path / "papers.columns").mkdir()
    (tmp_path / "papers.columns" / "thesis").write_text("mine")
    with pytest.raises(InputError, match="something else is there"):
        convert_to_columns(text, tmp_path / "papers.columns")
    with pytest.raises(InputError, match="something else is there"):
        write_columns([read_trace(text)], text)
    assert (tmp_path / "papers.columns" / "thesis").read_text() == "mine"


def test_a_full_disk_leaves_nothing(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folderwriter._ColumnFile, "finish", full)
    with pytest.raises(StoreError, match="No space left"):
        convert_to_columns(text, tmp_path / "out.columns")
    assert [path.name for path in tmp_path.iterdir()] == ["four.jsonl"]


def test_columns_said_late_are_unsaid_before(tmp_path: Path, text: Path) -> None:
    told = read_trace(text)
    parts = [dataclasses.replace(told, **{f"{name}s": getattr(told, f"{name}s") for name in ("origin",)})]
    assert write_columns(parts, tmp_path / "a.columns", name="renamed") == 4
    assert TraceFolder(tmp_path / "a.columns").name == "renamed"
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(line.split(', "session"')[0].rstrip("}\n") + "}\n" for line in LINES.splitlines()[:2]))
    first, second = read_trace(plain), told
    later = dataclasses.replace(second, arrival_ns=second.arrival_ns + first.duration_ns)
    write_columns([first, later], tmp_path / "b.columns")
    whole = TraceFolder(tmp_path / "b.columns").whole()
    assert whole.session.tolist() == [-1, -1, *told.session.tolist()]
    assert whole.tenant.tolist() == [-1, -1, *told.tenant.tolist()]
    assert whole.block_ids.tolist() == [*first.block_ids.tolist(), *told.block_ids.tolist()]


def test_files_are_plain_numpy(tmp_path: Path, text: Path) -> None:
    convert_to_columns(text, tmp_path / "out.columns")
    assert np.load(tmp_path / "out.columns" / "input_tokens.npy").tolist() == [40, 17, 9, 64]
    assert np.load(tmp_path / "out.columns" / "span_blocks.npy").tolist() == [3, 1, 1, 2, 2]
    assert not (tmp_path / "out.columns" / "model.npy").exists()


@pytest.mark.parametrize(
    ("column", "place", "value", "what"),
    [
        ("origin", 0, 9, "origin of requests 0 to 4 names nothing"),
        ("tenant", 2, -2, "names nothing"),
        ("input_tokens", 1, 0, "input_tokens outside"),
        ("output_tokens", 1, 20_000_000, "output_tokens outside"),
        ("arrival_ns", 1, 2**61, "not in order"),
        ("span_offsets", 1, 99, "out of range"),
        ("span_first", 0, -4, "out of range"),
        ("span_first", 2, 2**62, "out of range"),
        ("span_blocks", 3, 2**31 - 1, "out of range"),
        ("span_blocks", 3, 0, "out of range"),
    ],
)
def test_a_value_that_could_lead_astray_is_refused(
    tmp_path: Path, text: Path, column: str, place: int, value: int, what: str
) -> None:
    convert_to_columns(text, tmp_path / "out.columns")
    path = tmp_path / "out.columns" / f"{column}.npy"
    array = np.load(path)
    array[place] = value
    np.save(path, array)
    with pytest.raises(InputError, match="the trace is damaged") as raised:
        TraceFolder(tmp_path / "out.columns").whole()
    assert what in raised.value.what


def test_a_missing_cut_or_foreign_file_is_refused_when_it_is_opened(tmp_path: Path, text: Path) -> None:
    folder = tmp_path / "out.columns"
    for spoil, what in (
        (lambda: (folder / "origin.npy").unlink(), "origin.npy cannot be read"),
        (lambda: (folder / "session.npy").write_bytes((folder / "session.npy").read_bytes()[:-1]), "cut short"),
        (lambda: np.save(folder / "tenant.npy", np.zeros(4)), "is not a column of <i4"),
        (lambda: np.save(folder / "tenant.npy", np.zeros(3, np.int32)), "3 entries, 4 are announced"),
        (lambda: (folder / "trace.json").write_text("{"), "trace.json is wrong"),
        (lambda: _announce(folder, columns=["arrival_ns", "input_tokens"]), "no column output_tokens"),
        (lambda: _announce(folder, columns=["../../etc/passwd"]), "names a column"),
        (lambda: _announce(folder, gridctl_trace="columns-v9"), "this gridctl reads columns-v1"),
    ):
        convert_to_columns(text, folder)
        spoil()
        assert is_folder(folder)
        with pytest.raises(InputError) as raised:
            open_traffic(folder)
        assert what in raised.value.what
        (folder / "trace.json").touch()


def _announce(folder: Path, **changes: object) -> None:
    header = msgspec.json.decode((folder / "trace.json").read_bytes())
    (folder / "trace.json").write_bytes(msgspec.json.encode(header | changes))
