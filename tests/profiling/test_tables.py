"""Tables: what is read, and what is refused with its file and line because nothing later could tell."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from operators import LinearLaw, csv_text, measured_folder, tables_of, written

from gridctl.errors import GridctlError, InputError, NotFoundError
from gridctl.profiling.csvfile import csv_rows
from gridctl.profiling.tables import OperatorTables, read_tables

ATTENTION = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"
LAYERS = {"norm": (2.0, 0.01), "matrix": (50.0, 0.5)}
HEAD = {"lm_head": (100.0, 0.25), "sampler": (10.0, 1.0)}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Three sound files."""
    return written(tables_of(LinearLaw(), LAYERS, HEAD), tmp_path)


def read(prefix: Path, suffix: str = ".csv") -> OperatorTables:
    return read_tables(*(Path(f"{prefix}_{name}{suffix}") for name in ("attention", "dense", "per_sequence")))


def edited(prefix: Path, name: str, old: str, new: str) -> Path:
    """The file with one text replaced."""
    path = Path(f"{prefix}_{name}.csv")
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def without(prefix: Path, name: str, *starts: str) -> Path:
    """The file without the rows that start so."""
    path = Path(f"{prefix}_{name}.csv")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(starts)]
    assert len(kept) < len(lines)
    path.write_text("".join(kept), encoding="utf-8")
    return path


def refused(prefix: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read(prefix)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def test_what_was_written_is_read(prefix: Path) -> None:
    tables, made = read(prefix), tables_of(LinearLaw(), LAYERS, HEAD)
    assert (tables.attention, tables.dense, tables.per_sequence) == (made.attention, made.dense, made.per_sequence)
    assert tables.source == "op_attention.csv, op_dense.csv, op_per_sequence.csv"
    assert tables.tokens == [1, 2, 4, 8, 16, 64, 256, 1024, 2048]
    assert tables.sequences == [1, 8, 64, 128]


def test_packed_files_and_a_byte_order_mark_read_the_same(prefix: Path, tmp_path: Path) -> None:
    plain = read(prefix)
    for name in ("attention", "dense", "per_sequence"):
        data = Path(f"{prefix}_{name}.csv").read_bytes()
        (tmp_path / f"op_{name}.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + data, mtime=0))
    packed = read(prefix, ".csv.gz")
    assert (packed.attention, packed.dense, packed.per_sequence) == (plain.attention, plain.dense, plain.per_sequence)


def test_columns_may_stand_in_any_order_and_others_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("note,time_us,layer\nwarm,3.5,norm\n", encoding="utf-8")
    assert list(csv_rows(path, ("layer", "time_us"))) == [
        (f"{path}:2", {"note": "warm", "time_us": "3.5", "layer": "norm"})
    ]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("-3.5", "time_us is -3.5"),
        ("0", "time_us is 0"),
        ("nan", "time_us is 'nan'"),
        ("inf", "time_us is 'inf'"),
        ("", "time_us is empty"),
        ("2,04", "the row has more than the header's 3 cells"),
        ("1e10", "time_us is 1e+10"),
    ],
)
def test_a_time_must_be_a_number_of_microseconds(prefix: Path, cell: str, says: str) -> None:
    path = edited(prefix, "dense", "norm,4,2.04", f"norm,4,{cell}")
    error = refused(prefix)
    assert (error.what, error.where) == (says, f"{path}:4")


@pytest.mark.parametrize("cell", ["-1", "1.5", "1e3", "", "x", "100000001"])
def test_a_count_must_be_whole_and_not_negative(prefix: Path, cell: str) -> None:
    path = edited(prefix, "dense", "norm,4,", f"norm,{cell},")
    error = refused(prefix)
    assert (error.what, error.where) == (f"tokens is {repr(cell) if cell else 'empty'}", f"{path}:4")


def test_a_row_that_ends_early_has_no_time(prefix: Path) -> None:
    path = edited(prefix, "attention", "0,0,1,128,6.356\n", "0,0,1,128\n")
    assert refused(prefix).where == f"{path}:3"


def test_a_batch_or_a_layer_measured_twice_is_refused(prefix: Path) -> None:
    edited(prefix, "dense", "norm,4,2.04\n", "norm,4,2.04\nnorm,4,2.05\n")
    assert refused(prefix).what == "norm was measured twice at 4"
    edited(prefix, "attention", "0,0,1,128,6.356\n", "0,0,1,128,6.356\n0,0,1,128,6.4\n")
    assert refused(prefix).what == "the batch was measured twice"


def test_an_empty_batch_is_no_measurement(prefix: Path) -> None:
    edited(prefix, "attention", "0,0,1,16,", "0,0,0,16,")
    assert "no prefill and no decode" in refused(prefix).what


def test_a_layer_that_lacks_a_count_is_a_hole(prefix: Path) -> None:
    path = without(prefix, "dense", "matrix,64,")
    error = refused(prefix)
    assert error.what == "the table has a hole: norm was measured at 64, matrix was not"
    assert (error.where, error.fix) == (str(path), "measure matrix at 64 too, or drop those rows of norm")


def test_layers_with_nothing_in_common_are_a_hole_too(prefix: Path) -> None:
    Path(f"{prefix}_dense.csv").write_text(
        csv_text(("layer", "tokens", "time_us"), [("a", 1, 1), ("b", 2, 1)]), encoding="utf-8"
    )
    assert refused(prefix).what == "the table has a hole: a was measured at 1, b was not"


def test_a_number_of_decodes_at_two_kv_lengths_gives_no_slope(prefix: Path) -> None:
    without(prefix, "attention", "0,0,8,1024,", "0,0,8,4096,", "0,0,8,16384,")
    assert refused(prefix).what == "8 decodes were measured at 2 KV lengths only"


def test_a_prefill_at_two_kv_lengths_gives_no_slope(prefix: Path) -> None:
    without(prefix, "attention", "256,0,0,0,", "256,512,0,0,")
    assert refused(prefix).what == "256 prefill tokens were measured at 2 KV lengths only"


def test_a_table_without_decodes_or_without_prefills_is_refused(prefix: Path) -> None:
    without(prefix, "attention", "0,0,")
    assert refused(prefix).what == "only 0 different numbers of decodes were measured alone"


@pytest.mark.parametrize(("name", "says"), [("dense", "the table has no rows"), ("attention", "only 0 different")])
def test_a_header_without_rows_is_refused(prefix: Path, name: str, says: str) -> None:
    path = Path(f"{prefix}_{name}.csv")
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert refused(prefix).what.startswith(says)


def test_two_counts_are_too_few(prefix: Path) -> None:
    rows = [(layer, count, 5.0) for layer in ("lm_head", "sampler") for count in (1, 8)]
    Path(f"{prefix}_per_sequence.csv").write_text(csv_text(("layer", "sequences", "time_us"), rows), encoding="utf-8")
    assert refused(prefix).what == "layers were measured at 2 counts only"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("layer,tokens,time_ms", "layer, tokens, time_ms"),
        ("norm,4,2.04", "norm, 4, 2.04"),
        ("layer;tokens;time_us", "layer;tokens;time_us"),
        ("layer,tokens,time_us,time_us", "column time_us is there twice"),
        ("", "nothing"),
    ],
)
def test_a_wrong_header_is_named_with_what_it_has(prefix: Path, header: str, found: str) -> None:
    path = edited(prefix, "dense", "layer,tokens,time_us", header) if header else Path(f"{prefix}_dense.csv")
    if not header:
        path.write_text("", encoding="utf-8")
    error = refused(prefix)
    assert found in error.what
    assert error.where == f"{path}:1"


BROKEN = {
    "a truncated .gz": ("csv.gz", gzip.compress(ATTENTION.encode() * 100, mtime=0)[:-20]),
    "a .gz that is none": ("csv.gz", ATTENTION.encode()),
    "a .gz with damaged contents": ("csv.gz", gzip.compress(b"x", mtime=0)[:10] + b"\x07" * 40),
    "bytes": ("csv", bytes(range(256)) * 20),
    "a packed file under a plain name": ("csv", gzip.compress(ATTENTION.encode(), mtime=0)),
    "one endless cell": ("csv", f"{ATTENTION}\n{'7' * 200_000}".encode()),
    "zero bytes": ("csv", f"{ATTENTION}\n".encode() + b"\0" * 1000),
    "an open quote": ("csv", f'{ATTENTION}\n"0,0,1,16,1\n'.encode() + b"0,0,1,16,1\n" * 20_000),
}


@pytest.mark.parametrize("suffix_and_data", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_table_is_refused_in_words(prefix: Path, suffix_and_data: tuple[str, bytes]) -> None:
    suffix, data = suffix_and_data
    path = prefix.parent / f"broken.{suffix}"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_tables(path, Path(f"{prefix}_dense.csv"), Path(f"{prefix}_per_sequence.csv"))
    assert str(caught.value.where).startswith(str(path))
    assert len(caught.value.what) < 200


def test_a_missing_file_and_a_folder_are_told_apart(prefix: Path, tmp_path: Path) -> None:
    others = Path(f"{prefix}_dense.csv"), Path(f"{prefix}_per_sequence.csv")
    with pytest.raises(NotFoundError):
        read_tables(tmp_path / "none.csv", *others)
    with pytest.raises(InputError):
        read_tables(tmp_path, *others)


def test_a_packed_bomb_stops_at_the_limit(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.profiling.csvfile.LARGEST_FILE", 10_000)
    path = prefix.parent / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 10_001, mtime=0))
    with pytest.raises(GridctlError, match="larger than"):
        list(csv_rows(path, ("a",)))


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Qwen3-30B-A3B-Instruct-2507"])
@pytest.mark.parametrize("parallel", [1, 2])
def test_the_measured_tables_are_read_whole(model: str, parallel: int) -> None:
    """As many rows as the files have lines, less the header."""
    prefix = measured_folder() / f"op_rtxpro6000_{model}_tp{parallel}"
    tables = read(prefix, ".csv.gz")
    for name, rows in (
        ("attention", len(tables.attention)),
        ("dense", sum(map(len, tables.dense.values()))),
        ("per_sequence", sum(map(len, tables.per_sequence.values()))),
    ):
        with gzip.open(f"{prefix}_{name}.csv.gz", "rt", encoding="utf-8") as stream:
            assert rows == sum(1 for line in stream if line.strip()) - 1
    assert (tables.tokens[0], tables.tokens[-1], tables.sequences[-1]) == (1, 2048, 256)
