"""`gridctl cache forecast` and `replay run --cache`: what is printed, and what is refused how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gridctl.orchestrator.forecasting import ForecastOrder, usual_seeds
from gridctl.traces.reader import read_trace


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


def questions(folder: Path, name: str, count: int, *, with_texts: bool = True) -> Path:
    """So many different questions about eight things."""
    rows = [
        {"timestamp": 1000.0 * row, "answer_key": f"thing {row % 8}", "output_length": 10, "input_length": 9}
        | ({"prompt": f"please number {row} tell me of thing {row % 8}"} if with_texts else {})
        for row in range(count)
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_a_forecast_by_keys_says_what_was_drawn_and_how_far_off_it_may_be(shell: Any, tmp_path: Path) -> None:
    asked = questions(tmp_path, "asked", 200, with_texts=False)
    result = shell("cache", "forecast", str(asked), "--error-rate", "0.05", "--seeds", "3", "-o", "json")
    (row,) = items(result)
    assert row["population"] == "shipped: questions, assistant, commands"
    assert row["seeds"] == 3
    assert row["hit_share_low"] <= max(0.0, row["hit_share"] - 0.28)
    assert row["hit_share_high"] >= min(1.0, row["hit_share"] + 0.17)
    assert "28 points too many or 17 too few" in result.err
    assert "--measure" in result.err


def test_a_forecast_by_a_sample_of_ones_own_is_drawn_from_it(shell: Any, tmp_path: Path) -> None:
    asked = questions(tmp_path, "asked", 200, with_texts=False)
    sample = questions(tmp_path, "sample", 1000)
    given = ("--error-rate", "0.05", "--measure", str(sample), "--seeds", "1", "-o", "json")
    forecast = ("cache", "forecast", str(asked), *given)
    (row,) = items(shell(*forecast))
    assert row["population"] == "sample: 1,000 prompts"
    assert row["hit_share_low"] == pytest.approx(max(0.0, row["hit_share"] - 5.5 / 1000**0.5))
    assert row["hit_share_high"] == pytest.approx(min(1.0, row["hit_share"] + 0.04))
    assert items(shell(*forecast)) == [row]


def test_a_short_trace_told_by_keys_is_rehearsed_five_times_and_texts_once(
    shell: Any, tmp_path: Path, trace: Path
) -> None:
    asked = questions(tmp_path, "by-keys", 60, with_texts=False)
    (by_keys,) = items(shell("cache", "forecast", str(asked), "--error-rate", "0.05", "-o", "json"))
    (by_texts,) = items(shell("cache", "forecast", str(trace), "--error-rate", "0.05", "-o", "json"))
    assert (by_keys["seeds"], by_texts["seeds"]) == (5, 1)
    order = ForecastOrder(sizes_bytes=tuple(range(1, 51)), ttls_s=(60.0,), error_rates=(0.05,))
    assert usual_seeds(read_trace(str(asked)), order, 200) == 4  # of 50 sizes, 200 rehearsals at most


def test_by_second_admission_each_answer_costs_one_more_engine_call(shell: Any, trace: Path) -> None:
    """Each of 30 texts is asked for four times in a row: the third and the fourth find it."""
    arguments = ("cache", "forecast", str(trace), "--mode", "exact", "--error-rate", "0.05", "-o", "json")
    assert items(shell(*arguments, "--admission", "second"))[0]["exact_hits"] == 60
    assert items(shell(*arguments))[0]["exact_hits"] == 90


def test_with_texts_the_interval_is_that_of_the_rehearsals_mean(shell: Any, trace: Path) -> None:
    arguments = ("cache", "forecast", str(trace), "--error-rate", "0.05", "-o", "json")
    (alone,) = items(shell(*arguments))
    assert (alone["hit_share_low"], alone["hit_share_high"], alone["population"]) == (None, None, None)
    shares = [items(shell(*arguments, "--seed", str(seed)))[0]["hit_share"] for seed in (1, 2)]
    (both,) = items(shell(*arguments, "--seeds", "2"))
    middle, apart = sum(shares) / 2, abs(shares[0] - shares[1]) / 2
    assert both["hit_share"] == pytest.approx(middle)
    # two draws a and b: the mean's error is |a − b| / 2, and Student's t of one degree of freedom is 12.706
    assert both["hit_share_high"] == pytest.approx(min(1.0, middle + 12.706 * apart), abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--measure", "SMALL", "--evidence", "keys"), "too few to measure"),
        (("--measure", "SMALL"), "told by text"),
        (("--measure", "SMALL", "--evidence", "keys", "--like", "commands"), "two populations"),
        (("--seeds", "100"), "at most 200"),
        (("--stale", "-3"), "is not a span of time"),
        (("--admission", "second"), "kept at once"),
    ],
    ids=["small-sample", "texts-are-there", "two-populations", "too-many", "no-time", "second-by-meaning"],
)
def test_what_cannot_be_forecast_is_refused(
    shell: Any, tmp_path: Path, trace: Path, arguments: tuple[str, ...], words: str
) -> None:
    small = questions(tmp_path, "small", 20)
    given = [str(small) if one == "SMALL" else one for one in arguments]
    result = shell("cache", "forecast", str(trace), *given)
    assert result.code in (2, 3)
    assert result.out == ""
    assert words in result.err


def test_stale_answers_are_hits_that_save_nothing(shell: Any, tmp_path: Path) -> None:
    """One question every 10 s, and answers that are fresh for 6 s at most: without stale ones all miss. With them each
    but the first is answered at once and asked for anew, and the next finds that answer stale in turn."""
    rows = [
        {"timestamp": 10_000.0 * row, "prompt": "the same", "answer_key": "k", "output_length": 10} for row in range(20)
    ]
    file = tmp_path / "same.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = ("cache", "forecast", str(file), "--mode", "exact", "--ttl", "6", "--error-rate", "0.05", "--price", "1,1")
    (without,) = items(shell(*common, "-o", "json"))
    (stale,) = items(shell(*common, "--stale", "1h", "-o", "json"))
    assert (without["hit_share"], without["stale_hits"]) == (0.0, 0)
    assert (stale["hit_share"], stale["stale_hits"], stale["saved_usd"]) == (0.95, 19, 0.0)


def test_a_dry_run_stumbles_over_what_the_cached_replay_would(grid: Any, trace: Path) -> None:
    """The small grid's sites have no cache."""
    for arguments in (("--dry-run",), ("--name", "real", "--no-centralized")):
        result = grid("replay", "run", str(trace), "--cache", "exact", *arguments)
        assert (result.code, result.out) == (3, ""), result.err
        assert "no active site has a cache" in result.err
    assert grid("replay", "run", str(trace), "--dry-run").code == 0
