"""Everything a trace file can be instead of a trace: each an error that names the line and the way out."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.errors import InputError, UsageError
from gridctl.traces.reader import read_trace

Write = Callable[..., Path]

GOOD = '{"timestamp":0,"input_length":600,"output_length":5}\n'
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,12,3\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def assert_refused(path: Path, match: str, line: int | None = None) -> InputError:
    with pytest.raises(InputError, match=match) as caught:
        read_trace(path)
    expected = str(path) if line is None else f"{path}:{line}"
    assert caught.value.where == expected
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("content", ["", "\n\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file(write: Write, content: str | bytes) -> None:
    assert_refused(write(content), "empty")


def test_an_empty_gzip(write: Write) -> None:
    assert_refused(write("", compress=True), "empty")


def test_a_header_without_rows(write: Write) -> None:
    assert_refused(write("TIMESTAMP,ContextTokens,GeneratedTokens\n"), "no request")
    assert_refused(write('{"gridctl_trace":"v1"}\n'), "no request")


@pytest.mark.parametrize("kept", [15, 40, 60])
def test_a_gzip_cut_short(write: Write, kept: int) -> None:
    assert_refused(write(gzip.compress((GOOD * 500).encode(), mtime=0)[:kept]), "cut short")


def test_a_gzip_with_a_flipped_byte(write: Write) -> None:
    packed = bytearray(gzip.compress((GOOD * 500).encode(), mtime=0))
    packed[-6] ^= 0xFF
    assert_refused(write(bytes(packed)), "damaged")


def test_a_json_line_cut_short(write: Write) -> None:
    assert_refused(write(GOOD + GOOD[:30]), "cut short", line=2)


def test_a_csv_line_cut_short(write: Write) -> None:
    assert_refused(write(AZURE + "2024-05-10 00:0"), "1 cells where the header has 3", line=3)


def test_a_csv_of_another_format_lists_the_known_ones(write: Write) -> None:
    error = assert_refused(write("time,prompt,answer\n1,2,3\n"), "another format", line=1)
    assert "ContextTokens" in str(error.fix)
    assert "Request tokens" in str(error.fix)


def test_a_csv_without_its_header(write: Write) -> None:
    assert_refused(write("2024-05-10 00:00:00,12,3\n"), "another format", line=1)


def test_json_lines_of_another_format(write: Write) -> None:
    assert_refused(write('{"ts":1,"user":"x"}\n'), "fields ts, user", line=1)


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: gridctl/v1\nkind: Site\n",
        "# sites\nkind: Site\n",
        "---\nkind: Site\n",
        '{"apiVersion":"gridctl/v1","kind":"Site"}\n',
    ],
)
def test_a_manifest_by_mistake(write: Write, text: str) -> None:
    error = assert_refused(write(text), "manifest", line=1)
    assert "gridctl apply" in str(error.fix)


def test_a_json_array(write: Write) -> None:
    assert_refused(write("[" + GOOD.strip() + "]"), "array", line=1)


def test_pretty_printed_json(write: Write) -> None:
    assert_refused(write('{\n  "timestamp": 0\n}\n'), "one JSON object per line", line=1)


def test_a_sentence(write: Write) -> None:
    assert_refused(write("hello there\n"), "not a trace", line=1)


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01\x01\0\0\0", b'{"timestamp":0}\n\0\0\0', "ab".encode("utf-16")])
def test_binary_data(write: Write, content: bytes) -> None:
    path = write(content)
    with pytest.raises(InputError, match="binary"):
        read_trace(path)


@pytest.mark.parametrize(
    ("magic", "match"),
    [
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "Parquet"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ", "xz"),
    ],
)
def test_other_packings_are_named(write: Write, magic: bytes, match: str) -> None:
    assert_refused(write(magic + b"rest"), match)


def test_a_ten_megabyte_line(write: Write) -> None:
    assert_refused(write(GOOD + '{"prompt":"' + "x" * 10_000_000 + '"}\n'), "longer than 4 MiB", line=2)


def test_a_long_line_within_the_limit_is_read(write: Write) -> None:
    row = '{"timestamp":0,"input_length":600,"output_length":5,"prompt":"' + "x" * 3_000_000 + '"}\n'
    assert len(read_trace(write(GOOD + row + row))) == 3


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ('{"timestamp":0,"input_length":0,"output_length":5}', "0 input tokens"),
        ('{"timestamp":0,"input_length":-3,"output_length":5}', "-3 input tokens"),
        ('{"timestamp":0,"input_length":3,"output_length":-5}', "-5 output tokens"),
        ('{"timestamp":0,"input_length":10000001,"output_length":5}', "10,000,001 input tokens"),
        ('{"timestamp":0,"input_length":99999999999999999999,"output_length":5}', "tokens|not a request"),
        ('{"timestamp":0,"input_length":NaN,"output_length":5}', "NaN"),
        ('{"timestamp":NaN,"input_length":5,"output_length":5}', "NaN"),
        ('{"timestamp":Infinity,"input_length":5,"output_length":5}', "infinity"),
        ('{"timestamp":-1,"input_length":5,"output_length":5}', "timestamp -1"),
        ('{"timestamp":1e300,"input_length":5,"output_length":5}', "timestamp"),
        ('{"timestamp":"now","input_length":5,"output_length":5}', "not a request"),
        ('{"timestamp":0,"input_length":2.5,"output_length":5}', "not a request"),
        ('{"timestamp":0,"input_length":"5","output_length":5}', "not a request"),
        ('{"timestamp":0,"output_length":5}', "no input_length"),
        ('{"timestamp":0,"text_input":"hi","output_length":5}', "no input_length"),
        ('{"timestamp":0,"input_length":5}', "no output_length"),
        ('{"input_length":5,"output_length":5}', "no timestamp"),
        ('{"delay":-1,"input_length":5,"output_length":5}', "delay -1"),
        ('{"timestamp":0,"input_length":5,"output_length":5,"hash_ids":[1,2,3,4,5,6,7]}', "7 hash_ids for 5"),
        ('{"timestamp":0,"input_length":900,"output_length":5,"hash_ids":[-1,2]}', "hash_ids must be"),
        ('{"timestamp":0,"input_length":900,"output_length":5,"hash_ids":["a"]}', "not a request"),
        ('{"timestamp":0,"input_length":5,"output_length":5,"session":-4}', "session -4"),
        ("[]", "one JSON object per line"),
        ("nonsense", "not a request"),
    ],
)
def test_a_wrong_json_row(write: Write, row: str, match: str) -> None:
    assert_refused(write(f"{GOOD}\n{row}\n{GOOD}"), match, line=3)


def test_hash_ids_that_fit_no_common_block_size(write: Write) -> None:
    rows = (
        '{"timestamp":0,"input_length":1024,"output_length":5,"hash_ids":[1,2]}\n'
        '{"timestamp":0,"input_length":1024,"output_length":5,"hash_ids":[1,2,3,4,5,6,7,8]}\n'
    )
    assert_refused(write(rows), "8 hash_ids for 1,024 input tokens fit no block size", line=2)


def test_hash_ids_that_do_not_fit_the_declared_block_size(write: Write) -> None:
    row = '{"timestamp":0,"input_length":1024,"output_length":5,"hash_ids":[1]}\n'
    error = assert_refused(
        write('{"gridctl_trace":"v1","block_tokens":512}\n' + row), "do not fit blocks of 512", line=2
    )
    assert "--block-tokens" in str(error.fix)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("2024-05-10 00:00:01,NaN,3", "'NaN'"),
        ("2024-05-10 00:00:01,,3", "ContextTokens is ''"),
        ("2024-05-10 00:00:01,3.7,3", "whole number"),
        ("2024-05-10 00:00:01,1e400,3", "whole number|input tokens"),
        ("2024-05-10 00:00:01,-4,3", "-4 input tokens"),
        ("2024-05-10 00:00:01,0,3", "0 input tokens"),
        ("2024-05-10 00:00:01,99999999999999999999,3", "whole number"),
        ("2024-02-30 00:00:01,3,3", "date and time"),
        ("2024-13-01 00:00:01,3,3", "date and time"),
        ("2024-05-10 25:00:01,3,3", "date and time"),
        ("2024-05-10 00:00:01.,3,3", "date and time"),
        ("2024-05-10 00:00:01+0x:00,3,3", "date and time"),
        ("yesterday,3,3", "date and time"),
        ("2024-05-10 00:00:01,3,3,3", "4 cells"),
        ("2024-05-09 00:00:01,3,3", "non-monotonic"),
    ],
)
def test_a_wrong_azure_row(write: Write, row: str, match: str) -> None:
    assert_refused(write(f"{AZURE}\n{row}\n2024-05-10 00:00:02,1,1\n"), match, line=4)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("nan,GPT-4,3,3,6,API log", "Timestamp is 'nan'"),
        ("-1,GPT-4,3,3,6,API log", "Timestamp is '-1'"),
        ("1e300,GPT-4,3,3,6,API log", "Timestamp"),
        ("2,GPT-4,3,-3,6,API log", "-3 output tokens"),
    ],
)
def test_a_wrong_burstgpt_row_is_found_past_failed_ones(write: Write, row: str, match: str) -> None:
    assert_refused(write(f"{BURST}1,GPT-4,5,0,5,API log\n{row}\n"), match, line=3)


def test_text_that_is_not_utf8(write: Write) -> None:
    path = write(BURST.encode() + b"1,\xff\xfe,5,4,9,API log\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_trace(path)


def test_a_native_trace_that_lost_its_end(write: Write) -> None:
    assert_refused(write('{"gridctl_trace":"v1","requests":3}\n' + GOOD), "announces 3 requests, 1 are here")


def test_a_native_trace_of_a_newer_version(write: Write) -> None:
    error = assert_refused(write('{"gridctl_trace":"v9"}\n'), "'v9'", line=1)
    assert "newer" in str(error.fix)


def test_a_native_header_with_wrong_types(write: Write) -> None:
    assert_refused(write('{"gridctl_trace":"v1","block_tokens":"many"}\n'), "header", line=1)


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"block_tokens": 0}, {"block_tokens": 1 << 30}])
def test_arguments_out_of_range(write: Write, arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        read_trace(write(GOOD), **arguments)  # type: ignore[arg-type]
