"""`gridctl cache forecast` and `replay run --cache`: what is printed, and what is refused how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """120 requests a second apart: 30 texts, each four times in a row."""
    rows = [
        {"timestamp": 1000.0 * row, "prompt": f"question {row // 4}", "answer_key": f"k{row // 4}", "output_length": 10}
        for row in range(120)
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def items(result: Any) -> list[dict[str, Any]]:
    assert result.code == 0, result.err
    return json.loads(result.out)["items"]


def test_a_row_for_each_size_time_and_rate(shell: Any, trace: Path) -> None:
    """An engine takes 0.5 s, so three of four are exact hits; 90 of 120. 256 bytes and 4 · (3 + 10) tokens … an answer,
    so 4,000 bytes hold some, and the last four asked for are always there."""
    rows = items(
        shell("cache", "forecast", str(trace), "--mode", "exact", "--size", "4000,1GiB", "--ttl", "0.6,1h",
                "--error-rate", "0.05", "--price", "1,10", "-o", "json")
    )  # fmt: skip
    assert [(row["size_bytes"], row["ttl_s"]) for row in rows] == [
        (4000, 0.6), (4000, 3600.0), (1 << 30, 0.6), (1 << 30, 3600.0),
    ]  # fmt: skip
    assert rows[3]["exact_hits"] == rows[1]["exact_hits"] == 90
    assert rows[3]["hit_share"] == 0.75
    assert rows[3]["wrong_per_request"] == 0.0
    # "question 0" … "question 9" are 3 tokens of four bytes, the others too: 10 or 11 bytes
    assert rows[3]["saved_usd"] == pytest.approx(90 * (3 * 1 + 10 * 10) / 1e6)
    # kept from 0.5 s on for 0.54 to 0.66 s: the repeat after a second finds it, the one after two seconds does not
    assert rows[2]["exact_hits"] == 60
    assert rows[0]["evidence"] == "text"


def test_without_texts_keys_and_lengths_tell(shell: Any, trace: Path) -> None:
    rows = items(shell("cache", "forecast", str(trace), "--evidence", "keys", "--error-rate", "0.05", "-o", "json"))
    assert rows[0]["evidence"] == "keys"
    assert rows[0]["requests"] == 120
    assert rows[0]["saved_usd"] is None


def test_every_format_prints(shell: Any, trace: Path) -> None:
    for output in ("table", "wide", "jsonl", "yaml", "csv", "markdown", "name"):
        result = shell("cache", "forecast", str(trace), "--mode", "exact", "--error-rate", "0.05", "-o", output)
        assert result.code == 0, result.err
        assert result.out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--size", "big"), "no capacity"),
        (("--ttl", ","), "lists nothing"),
        (("--error-rate", "1"), "cannot be kept"),
        (("--error-rate", "nan"), "cannot be kept"),
        (("--price", "1"), "no two prices"),
    ],
)
def test_what_is_none_is_refused(shell: Any, trace: Path, given: tuple[str, str], said: str) -> None:
    result = shell("cache", "forecast", str(trace), *given)
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_trace_that_tells_nothing_of_repeats_is_bad_input(shell: Any, tmp_path: Path) -> None:
    file = tmp_path / "bare.jsonl"
    file.write_text('{"timestamp":0,"input_length":5,"output_length":5}\n', encoding="utf-8")
    result = shell("cache", "forecast", str(file))
    assert (result.code, result.out) == (3, "")
    assert "tells nothing of repeats" in result.err
    texts = shell("cache", "forecast", str(file), "--evidence", "text")
    assert "no prompt texts" in texts.err
