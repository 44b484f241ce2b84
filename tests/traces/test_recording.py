"""A recording is the traffic that came: in order of arrival, whole rows only, and nothing that was not asked for."""

import errno
import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.traces import recorder as recorder_module
from gridctl.traces.reader import detect_format, open_traffic, read_trace
from gridctl.traces.recorded import Recorded, RecordingHeader
from gridctl.traces.recorder import Recorder, start_recording
from gridctl.traces.recording import read_decisions, read_recording

START = 1_790_000_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "yesterday.recording"


def begin(folder: Path, *, block_tokens: int = 64, keeps_prompts: bool = False) -> RecordingHeader:
    return start_recording(folder, started_unix_ns=START, block_tokens=block_tokens, keeps_prompts=keeps_prompts)


def row(recorder: Recorder, after_ns: int, **fields: object) -> Recorded:
    given = {"input_length": 100, "output_length": 10, "workload": "chat", "origin": "Paris", **fields}
    return Recorded(timestamp=recorder.timestamp(START + after_ns), **given)  # type: ignore[arg-type]


def test_two_workers_rows_come_back_in_order_of_arrival_to_the_nanosecond(folder: Path) -> None:
    header = begin(folder)
    first, second = Recorder(folder, 0, header), Recorder(folder, 1, header)
    first.add(row(first, 5_000_000_001, input_length=140, session=7, hash_ids=[11, 12]))
    first.add(row(first, 2_000_000_003, input_length=100))
    second.add(row(second, 3_141_592_653, input_length=127, hash_ids=[11], tenant="acme", model="m/fp8"))
    first.close()
    second.close()
    trace = read_trace(folder)
    assert trace.arrival_ns.tolist() == [0, 1_141_592_650, 2_999_999_998]
    assert trace.input_tokens.tolist() == [100, 127, 140]
    assert [trace.block_ids[a:b].tolist() for a, b in pairwise(trace.block_offsets.tolist())] == [
        [],
        [11],
        [11, 12],
    ]
    assert trace.block_tokens == 64
    assert trace.session.tolist() == [-1, -1, 7]
    assert trace.tenants == ("acme",)
    assert detect_format(folder) == "recording"
    assert len(open_traffic(folder, limit=2)) == 2


def test_decisions_stand_beside_their_rows(folder: Path) -> None:
    header = begin(folder)
    recorder = Recorder(folder, 0, header)
    for number in range(300):
        recorder.add(row(recorder, number, request_id=f"r{number}"), bytes([number % 251]) * number)
        if number == 100:
            recorder.flush()
    recorder.close()
    kept = list(read_decisions(folder))
    assert [one.request_id for one, _ in kept] == [f"r{number}" for number in range(300)]
    assert all(seen == bytes([number % 251]) * number for number, (_, seen) in enumerate(kept))


def test_a_recording_may_be_read_while_it_grows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    recorder.add(row(recorder, 1, request_id="first"), b"one")
    recorder.flush()
    for descriptor in Recorder(folder, 1, recorder.header)._open():  # another worker that has not written anything yet
        os.close(descriptor)
    (folder / "worker-1-0001.decisions").unlink()  # nor come to make its second file
    read_bytes = Path.read_bytes

    def slowly(path: Path) -> bytes:
        found = read_bytes(path)
        if path.suffix == ".decisions" and recorder.rows == 1:
            recorder.add(row(recorder, 2, request_id="second"), b"two")
            recorder.flush()
        return found

    monkeypatch.setattr(Path, "read_bytes", slowly)
    kept = [(one.request_id, seen) for one, seen in read_decisions(folder)]
    assert kept[0] == ("first", b"one")
    assert kept[1:] in ([], [("second", b"two")])
    assert [(one.request_id, seen) for one, seen in read_decisions(folder)] == [("first", b"one"), ("second", b"two")]
    recorder.close()


def test_prompt_text_is_kept_only_on_demand(tmp_path: Path) -> None:
    for keeps in (False, True):
        folder = tmp_path / f"{keeps}.recording"
        recorder = Recorder(folder, 0, begin(folder, keeps_prompts=keeps))
        recorder.add(row(recorder, 0, prompt="the patient's name"))
        recorder.close()
        assert (b"patient" in next(folder.glob("*.jsonl")).read_bytes()) is keeps


def test_a_trace_has_no_more_blocks_than_its_tokens_fill(folder: Path) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    recorder.add(row(recorder, 0, input_length=65, hash_ids=[1, 2, 3]))
    recorder.close()
    assert read_recording(folder).block_ids.tolist() == [1, 2]


def test_a_prompt_longer_than_was_estimated_keeps_its_prefix_and_gets_blocks_of_its_own(folder: Path) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    for number, ids in enumerate(([5, 6], [5, 6], [5, 7])):
        recorder.add(row(recorder, number, input_length=260, hash_ids=ids))
    recorder.close()
    first, second, third = np.split(read_recording(folder).block_ids, 3)
    assert first.tolist() == second.tolist()
    assert first[:2].tolist() == [5, 6]
    assert not set(first[1:].tolist()) & set(third[1:].tolist())


def test_a_worker_that_follows_a_dead_one_overwrites_nothing(folder: Path) -> None:
    header = begin(folder)
    for count in (3, 2):
        recorder = Recorder(folder, 0, header)
        for number in range(count):
            recorder.add(row(recorder, number))
        recorder.flush()  # and then it dies
    assert len(read_recording(folder)) == 5


def test_segments_are_begun_when_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "SEGMENT_BYTES", 500)
    recorder = Recorder(folder, 3, begin(folder))
    for number in range(12):
        recorder.add(row(recorder, number), bytes(100))
        recorder.flush()
    recorder.close()
    assert len(list(folder.glob("worker-3-*.jsonl"))) > 2
    assert len(read_recording(folder)) == 12


def test_a_full_disk_stops_the_recording_at_a_whole_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    recorder.add(row(recorder, 0), b"seen")
    recorder.flush()
    written, real = 0, os.write

    def full(file: int, data: bytes) -> int:
        nonlocal written
        written += 1
        if written == 1:
            return real(file, data[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder.add(row(recorder, 1), b"unseen")
    monkeypatch.setattr(os, "write", full)
    recorder.flush()
    monkeypatch.undo()
    assert "No space left" in recorder.stopped
    recorder.add(row(recorder, 2))
    recorder.close()
    assert [seen for _, seen in read_decisions(folder)] == [b"seen"]


def test_a_recording_ends_at_its_largest_size(folder: Path) -> None:
    recorder = Recorder(folder, 0, begin(folder), most_bytes=1_000)
    for number in range(100):
        recorder.add(row(recorder, number))
        recorder.flush()
    assert "largest size" in recorder.stopped
    size = sum(file.stat().st_size for file in folder.glob("worker-*"))
    assert 800 < size <= 1_000
    assert len(read_recording(folder)) > 3


def test_a_half_written_last_line_is_left_out_and_noted(folder: Path) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    recorder.add(row(recorder, 0))
    recorder.add(row(recorder, 1))
    recorder.close()
    segment = next(folder.glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes()[:-9])
    trace = read_recording(folder)
    assert len(trace) == 1
    assert any("cut short" in note for note in trace.notes)


def test_what_arrived_before_the_start_counts_as_the_first_moment(folder: Path) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    assert recorder.timestamp(START - 5) == 0.0


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no rows", "nothing was recorded"),
        ("version", "version"),
        ("header", "not a recording"),
        ("decision", "without its decision"),
        ("row", "yesterday.recording/worker-0-0001.jsonl:1"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_place(folder: Path, harm: str, words: str) -> None:
    recorder = Recorder(folder, 0, begin(folder))
    recorder.add(row(recorder, 0), b"seen")
    recorder.close()
    segment, header = next(folder.glob("*.jsonl")), folder / "recording.json"
    if harm == "no rows":
        segment.unlink()
    elif harm == "version":
        header.write_text(json.dumps({"gridctl_recording": "v9", "started_unix_ns": 1}))
    elif harm == "header":
        header.write_bytes(b"{")
    elif harm == "decision":
        segment.with_suffix(".decisions").write_bytes(b"\xff\xff")
    else:
        segment.write_bytes(b'{"timestamp": 0, "input_length": "many"}\n')
    with pytest.raises(InputError) as caught:
        list(read_decisions(folder)) if harm == "decision" else read_recording(folder)
    assert words in f"{caught.value.where} {caught.value.what}"


def test_a_recording_is_a_new_folder_of_a_telling_name(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="ends in"):
        begin(tmp_path / "day")
    begin(folder)
    with pytest.raises(InputError, match="something of that name"):
        begin(folder)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_recording_converts_to_a_native_file(folder: Path, tmp_path: Path) -> None:
    from gridctl.traces.writer import write_trace

    recorder = Recorder(folder, 0, begin(folder))
    for number in range(50):
        recorder.add(row(recorder, (50 - number) * 1_000_000, hash_ids=[number]))
    recorder.close()
    write_trace(read_trace(folder), tmp_path / "day.jsonl.gz")
    again = read_trace(tmp_path / "day.jsonl.gz")
    assert np.array_equal(again.arrival_ns, np.arange(50) * 1_000_000)
    assert again.block_ids.tolist() == list(range(49, -1, -1))
