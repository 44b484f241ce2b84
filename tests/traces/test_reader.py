"""Every format, on samples whose values were worked out by hand, and the real files."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gridctl.errors import InputError, NotFoundError, UsageError
from gridctl.traces.reader import FORMATS, detect_format, read_trace
from gridctl.traces.trace import UNSAID

Write = Callable[..., Path]

AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805901,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
    "2023-11-17 00:00:00.0000000,7,1\r\n"
)


@pytest.mark.parametrize("compress", [False, True])
def test_azure_2023_keeps_its_hundred_nanoseconds(write: Write, compress: bool) -> None:
    trace = read_trace(write(AZURE_2023, "azure.csv.gz", compress=compress))
    assert trace.name == "azure"
    # 50.9951690 − 46.6805901 s; midnight is 5 h 44 min 13.3194099 s after the first
    assert trace.arrival_ns.tolist() == [0, 4_314_578_900, (5 * 3600 + 44 * 60 + 13) * 10**9 + 319_409_900]
    assert trace.input_tokens.tolist() == [374, 396, 7]
    assert trace.output_tokens.tolist() == [44, 109, 1]
    assert trace.session.tolist() == [UNSAID] * 3
    assert trace.block_tokens == 0


def test_azure_2024_reads_offsets_and_any_number_of_decimals(write: Write) -> None:
    trace = read_trace(
        write(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2024-05-10 00:00:00.009930+00:00,2162,5\n"
            "2024-05-10T00:00:01Z,2399,6\n"
            "2024-05-10 02:00:02.5+02:00,76,15\n"
            "2024-05-09 23:30:02.500000001-00:30,76,15\n"
        )
    )
    assert trace.arrival_ns.tolist() == [0, 990_070_000, 2_490_070_000, 2_490_070_001]


def test_leap_day_and_year_end_are_counted(write: Write) -> None:
    header = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    trace = read_trace(write(header + "2024-02-28 23:59:59,1,1\n2024-02-29 00:00:00,1,1\n2025-01-01 00:00:00,1,1"))
    # 2024 has 307 days from 29 February on
    assert trace.arrival_ns.tolist() == [0, 10**9, 10**9 + 307 * 86_400 * 10**9]


def test_burstgpt_leaves_failed_requests_out_and_says_so(write: Write) -> None:
    trace = read_trace(
        write(
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "5,ChatGPT,472,18,490,Conversation log\n"
            "45.25,GPT-4,1087,0,1087,API log\n"
            "118,GPT-4,417,276,693,Conversation log\n"
            "118.000000001,ChatGPT,1360,647,2007,API log\n"
        )
    )
    assert trace.arrival_ns.tolist() == [0, 113 * 10**9, 113 * 10**9 + 1]
    assert [trace.models[number] for number in trace.model] == ["ChatGPT", "GPT-4", "ChatGPT"]
    assert trace.notes == ("1 failed requests (0 response tokens) left out",)


def test_burstgpt_with_sessions_and_elapsed_time(write: Write) -> None:
    trace = read_trace(
        write(
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "1,7,0.5,ChatGPT,10,20,30,API log\n2,,0.5,ChatGPT,10,20,30,API log\n3,7,1,ChatGPT,10,20,30,API log\n"
        )
    )
    assert trace.session.tolist() == [7, UNSAID, 7]


def test_quoted_cells_blank_lines_and_a_byte_order_mark_are_read(write: Write) -> None:
    trace = read_trace(
        write(
            "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\n"
            '"2024-05-10 00:00:00","12","3"\n\n2024-05-10 00:00:01,4.0,5\n'
        )
    )
    assert trace.input_tokens.tolist() == [12, 4]


MOONCAKE = (
    '{"timestamp": 27482, "input_length": 6955, "output_length": 52, '
    '"hash_ids": [46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 2353, 2354]}\n'
    '{"timestamp": 30535, "input_length": 1024, "output_length": 26, "hash_ids": [46, 2366]}\n'
)


def test_mooncake_rows_hold_blocks_of_512(write: Write) -> None:
    trace = read_trace(write(MOONCAKE))
    assert trace.arrival_ns.tolist() == [0, 3_053_000_000]
    assert trace.block_tokens == 512
    assert trace.block_offsets.tolist() == [0, 14, 16]
    assert trace.block_ids[[0, 13, 14, 15]].tolist() == [46, 2354, 46, 2366]


def test_aiperf_names_sessions_and_delays(write: Write) -> None:
    trace = read_trace(
        write(
            '{"session_id": "a", "timestamp": 1000, "isl": 655, "osl": 52, "text_input": "hello"}\n'
            '{"session_id": "a", "delay": 2000, "isl": 672, "osl": 26}\n'
            '{"session_id": "b", "timestamp": 1500.5, "isl": 655, "osl": 52}\n'
        )
    )
    # the second turn comes 2 s after the first of its session, so after the other session's request
    assert trace.arrival_ns.tolist() == [0, 500_500_000, 2_000_000_000]
    assert trace.session.tolist() == [0, 1, 0]
    assert trace.input_tokens.tolist() == [655, 655, 672]
    assert trace.prompts == ("hello", "", "")
    assert trace.notes == ("1 delays counted from the arrival of the session's previous request",)


def test_dynamo_aliases_are_the_same_fields(write: Write) -> None:
    trace = read_trace(write('{"created_time": 5, "input_tokens": 20, "output_tokens": 3, "session_id": 4}\n'))
    assert (trace.input_tokens[0], trace.output_tokens[0], trace.session[0]) == (20, 3, 4)


def test_agent_sessions_are_merged_by_arrival(write: Write) -> None:
    trace = read_trace(
        write(
            '{"session":"x","step":0,"session_offset_ms":0.0,"input_tokens":130,"output_tokens":5,"hash_ids":[0,1]}\n'
            '{"session":"x","step":1,"session_offset_ms":2700.614,"input_tokens":200,"output_tokens":5,"hash_ids":[0,1,2]}\n'
            '{"session":"y","step":0,"session_offset_ms":10.5,"input_tokens":70,"output_tokens":5,"hash_ids":[9]}\n'
        )
    )
    assert trace.arrival_ns.tolist() == [0, 10_500_000, 2_700_614_000]
    assert trace.session.tolist() == [0, 1, 0]
    assert trace.block_ids.tolist() == [0, 1, 9, 0, 1, 2]
    # 130 tokens in 2 full blocks allow 44…129 tokens, 200 in 3 allow 51…99, 70 in 1 at least 36: 64 is the power of two
    assert trace.block_tokens == 64


def test_native_header_tables_and_fields(write: Write) -> None:
    trace = read_trace(
        write(
            '{"gridctl_trace":"v1","name":"n","block_tokens":16,"requests":2,"origins":["o2","o1"]}\n'
            '{"timestamp":0.000001,"input_length":20,"output_length":3,"hash_ids":[5],"origin":"o1","workload":"w",'
            '"tenant":"t","model":"m","session":3,"prompt":"p"}\n'
            '{"timestamp":0.000003,"input_length":20,"output_length":3}\n'
        )
    )
    assert trace.name == "n"
    assert trace.arrival_ns.tolist() == [0, 2]
    assert (trace.origins, trace.origin.tolist()) == (("o2", "o1"), [1, UNSAID])
    assert (trace.workloads, trace.tenants, trace.models) == (("w",), ("t",), ("m",))
    assert trace.block_tokens == 16
    assert trace.prompts == ("p", "")


def test_times_since_1970_keep_their_nanoseconds(write: Write) -> None:
    row = '"input_length": 1, "output_length": 1}\n'
    trace = read_trace(write(f'{{"timestamp": 1700000000000.000001, {row}{{"timestamp": 1700000000000.123457, {row}'))
    assert trace.arrival_ns.tolist() == [0, 123_456]


def test_ids_above_the_signed_range_are_renumbered(write: Write) -> None:
    trace = read_trace(
        write(
            '{"timestamp":0,"input_length":1000,"output_length":1,"hash_ids":[18446744073709551615,3]}\n'
            '{"timestamp":0,"input_length":1000,"output_length":1,"hash_ids":[18446744073709551615,4]}\n'
        )
    )
    assert trace.block_ids.tolist() == [2, 0, 2, 1]
    assert "renumbered" in trace.notes[0]


def test_integer_and_text_sessions_do_not_collide(write: Write) -> None:
    rows = "".join(
        f'{{"timestamp":0,"input_length":1,"output_length":1,"session":{key}}}\n' for key in ('"a"', "5", '"b"', '"a"')
    )
    assert read_trace(write(rows)).session.tolist() == [6, 5, 7, 6]


def test_zero_generated_tokens_count_as_one(write: Write) -> None:
    trace = read_trace(write('{"timestamp":0,"input_length":9,"output_length":0}\n'))
    assert trace.output_tokens.tolist() == [1]
    assert trace.notes == ("1 requests generated 0 tokens: counted as 1",)


def test_limit_keeps_the_first_requests(write: Write) -> None:
    assert len(read_trace(write(AZURE_2023), limit=2)) == 2
    trace = read_trace(write(MOONCAKE), limit=1)
    assert (len(trace), len(trace.block_ids)) == (1, 14)


def test_limit_with_sort_keeps_the_earliest(write: Write) -> None:
    rows = "".join(f'{{"timestamp":{t},"input_length":{t + 1},"output_length":1}}\n' for t in (9, 3, 7))
    assert read_trace(write(rows), sort=True, limit=2).input_tokens.tolist() == [4, 8]


def test_sort_keeps_the_order_of_ties(write: Write) -> None:
    rows = "".join(
        f'{{"timestamp":{t},"input_length":{i},"output_length":1}}\n' for t, i in ((5, 1), (2, 2), (5, 3), (2, 4))
    )
    trace = read_trace(write(rows), sort=True)
    assert trace.input_tokens.tolist() == [2, 4, 1, 3]
    assert trace.arrival_ns.tolist() == [0, 0, 3_000_000, 3_000_000]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(MOONCAKE.encode()))))  # type: ignore[arg-type]
    trace = read_trace("-")
    assert (trace.name, len(trace)) == ("stdin", 2)


def test_blocks_of_lines_join_without_a_seam(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(
        f'{{"timestamp":{t},"input_length":{t + 1},"output_length":2,"hash_ids":[{t}]}}\n' for t in range(500)
    )
    whole = read_trace(write(rows), block_tokens=512)
    monkeypatch.setattr("gridctl.traces.lines.BLOCK_BYTES", 97)
    pieces = read_trace(write(rows), block_tokens=512)
    for column in ("arrival_ns", "input_tokens", "block_ids", "block_offsets"):
        assert np.array_equal(getattr(whole, column), getattr(pieces, column))


def test_an_unsorted_row_is_found_across_blocks(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.traces.lines.BLOCK_BYTES", 64)
    times = [*range(40), 3, 41]
    rows = "\n".join(f'{{"timestamp":{t},"input_length":1,"output_length":1}}\n' for t in times)
    path = write(rows)
    with pytest.raises(InputError, match="non-monotonic") as caught:
        read_trace(path)
    assert caught.value.where == f"{path}:81"  # every other line is blank
    assert "--sort" in str(caught.value.fix)


def test_format_is_insisted_on(write: Write) -> None:
    path = write(MOONCAKE)
    assert len(read_trace(path, format="mooncake")) == 2
    assert len(read_trace(path, format="dynamo")) == 2
    with pytest.raises(InputError, match="the content is mooncake, not azure"):
        read_trace(path, format="azure")
    with pytest.raises(UsageError, match="mooncak"):
        read_trace(path, format="mooncak")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ('{"gridctl_trace":"v1"}', "native"),
        ('{"timestamp":0,"input_length":1,"output_length":1}', "mooncake"),
        ('{"delay":0,"input_length":1,"output_length":1}', "dynamo"),
        ('{"timestamp_ms":0,"input_tokens":1,"output_tokens":1}', "agent"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "azure"),
        ("Timestamp,Model,Request tokens,Response tokens", "burstgpt"),
    ],
)
def test_formats_are_recognised_by_content(write: Write, row: str, found: str) -> None:
    assert detect_format(write(row, "misleading.csv")) == found
    assert found in FORMATS


@pytest.mark.parametrize(
    ("name", "requests", "block_tokens", "last_ns"),
    [
        ("AzureLLMInferenceTrace_conv.first-half.csv.gz", 9739, 0, 1_750_845_894_000),
        ("AzureLLMInferenceTrace_code.first-half.csv.gz", 5353, 0, 1_705_797_496_000),
        ("mooncake_conversation_trace.first-half.jsonl.gz", 5606, 512, 1_767_000_000_000),
        ("sharegpt_llama-3.1-8b-300-sps10.jsonl.gz", 300, 16, 29_136_836_395),
        ("agent_magagent.jsonl.gz", 529, 64, 388_636_255_000),
        ("agent_miniswe.jsonl.gz", 260, 64, 45_537_170_000),
        ("agent_taubench.jsonl.gz", 392, 64, 15_915_293_000),
    ],
)
def test_real_traces_are_read_whole(
    real_traces: Path, name: str, requests: int, block_tokens: int, last_ns: int
) -> None:
    trace = read_trace(real_traces / name)
    assert (len(trace), trace.block_tokens, trace.duration_ns) == (requests, block_tokens, last_ns)


def test_a_real_trace_agrees_with_the_standard_library(real_traces: Path) -> None:
    import csv
    import gzip
    from datetime import datetime

    path = real_traces / "AzureLLMInferenceTrace_conv.first-half.csv.gz"
    with gzip.open(path, "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    stamps = [row["TIMESTAMP"] for row in rows]
    start = datetime.fromisoformat(stamps[0][:19])
    seconds = [int((datetime.fromisoformat(stamp[:19]) - start).total_seconds()) for stamp in stamps]
    times = [s * 10**9 + int(stamp[20:]) * 100 for s, stamp in zip(seconds, stamps, strict=True)]
    trace = read_trace(path)
    assert trace.arrival_ns.tolist() == [time - times[0] for time in times]
    assert trace.input_tokens.tolist() == [int(row["ContextTokens"]) for row in rows]
    assert trace.output_tokens.tolist() == [int(row["GeneratedTokens"]) for row in rows]


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_trace(tmp_path / "nothing.csv")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder"):
        read_trace(tmp_path)
