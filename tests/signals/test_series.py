"""Windows of cumulative counts against a recount of every event; thinning, clocks set back, restarts, damaged bytes."""

from __future__ import annotations

import random

import pytest

from gridctl.errors import InputError
from gridctl.signals.board import Board
from gridctl.signals.directory import Directory
from gridctl.signals.finished import Finished
from gridctl.signals.meter import Meter
from gridctl.signals.series import MOST_KEYS, Key, Series, Window, counts_of
from gridctl.signals.totals import read_totals

VOICE, PARIS = Key("voice"), Key("", "paris")
DAY_S = 86_400
BEGAN_S = 1_790_000_000


def test_a_window_is_the_difference_of_two_samples() -> None:
    series = Series()
    for step in range(61):
        series.sample(BEGAN_S + 10 * step, {VOICE: (9 * step, step, 2 * step)})
    assert series.between(VOICE, 300) == Window(270, 30, 60, 300.0)
    assert series.between(VOICE, 300).valid == 300
    assert series.between(VOICE, 305) == Window(279, 31, 62, 310.0)
    assert series.between(VOICE, 10) == Window(9, 1, 2, 10.0)


def test_a_window_longer_than_the_series_says_how_far_it_reaches() -> None:
    series = Series()
    assert series.between(VOICE, 300) == Window(0, 0, 0, 0.0)
    series.sample(BEGAN_S, {VOICE: (5, 0, 0)})
    assert series.between(VOICE, 300) == Window(0, 0, 0, 0.0)
    series.sample(BEGAN_S + 20, {VOICE: (8, 1, 0)})
    assert series.between(VOICE, 300) == Window(3, 1, 0, 20.0)


def test_a_key_nobody_counted_has_nothing_in_any_window() -> None:
    series = Series()
    series.sample(BEGAN_S, {})
    series.sample(BEGAN_S + 10, {VOICE: (1, 0, 0)})
    assert series.between(Key("unheard"), 10) == Window(0, 0, 0, 10.0)
    assert series.between(VOICE, 10) == Window(1, 0, 0, 10.0)


def test_a_key_left_out_of_a_sample_has_not_changed() -> None:
    series = Series()
    series.sample(BEGAN_S, {VOICE: (1, 0, 0), PARIS: (1, 0, 0)})
    series.sample(BEGAN_S + 10, {PARIS: (4, 0, 0)})
    series.sample(BEGAN_S + 20, {VOICE: (2, 0, 0), PARIS: (5, 0, 0)})
    assert series.between(VOICE, 20) == Window(1, 0, 0, 20.0)
    assert series.between(PARIS, 20) == Window(4, 0, 0, 20.0)


def test_forty_days_keep_few_samples_and_every_window_to_the_step_of_its_age() -> None:
    """One good request a second, and every hundredth bad, counted exactly by time."""
    series = Series()
    last = 40 * DAY_S
    at = 0
    while at <= last:
        series.sample(BEGAN_S + at, {VOICE: (at, at // 100, 0)})
        at += 10 if last - at < 8 * 3600 else 600
    for window_s, step_s in ((300, 10), (3600, 10), (6 * 3600, 60), (3 * DAY_S, 600), (30 * DAY_S, 7200)):
        window = series.between(VOICE, window_s)
        assert window_s <= window.covered_s <= window_s + max(step_s, 600 if window_s > 8 * 3600 else 0) + 1
        assert window.good == window.covered_s
        assert window.bad == pytest.approx(window.covered_s / 100, abs=1)
    assert len(series._times) < 2100
    assert len(series.to_bytes()) < 100_000


def test_thinning_loses_no_count() -> None:
    """Against a list of all events, over windows that begin at samples that are left."""
    draw = random.Random(4)
    series, events, total = Series(), [], 0
    for step in range(9000):
        count = draw.randint(0, 5)
        total += count
        events.append((10 * step, count))
        series.sample(BEGAN_S + 10 * step, {VOICE: (total, 0, 0)})
    for window_s in (10, 600, 5000, 40_000, 89_000):
        window = series.between(VOICE, window_s)
        since = 10 * 8999 - window.covered_s
        assert window.good == sum(count for at, count in events if at > since)


def test_a_clock_set_back_drops_no_count() -> None:
    series = Series()
    for step in range(1000):
        series.sample(BEGAN_S + 10 * step, {VOICE: (step, 0, 0)})
    back = BEGAN_S + 10 * 999 - 3600
    series.sample(back, {VOICE: (1010, 0, 0)})
    assert series.last_s == back
    assert series.between(VOICE, 10_000_000).good == 1010
    series.sample(back + 10, {VOICE: (1015, 0, 0)})
    assert series.between(VOICE, 10) == Window(5, 0, 0, 10.0)


def test_counts_of_a_new_board_add_to_those_before_it() -> None:
    series = Series()
    series.sample(BEGAN_S, {VOICE: (0, 0, 0)})
    series.sample(BEGAN_S + 10, {VOICE: (100, 10, 1)})
    series.sample(BEGAN_S + 20, {VOICE: (3, 0, 0)})
    series.sample(BEGAN_S + 30, {VOICE: (5, 1, 0)})
    assert series.between(VOICE, 30) == Window(105, 11, 1, 30.0)


def test_what_is_kept_over_a_restart_is_what_was_there_and_a_new_board_adds_to_it() -> None:
    series = Series()
    for step in range(500):
        series.sample(BEGAN_S + 10 * step, {VOICE: (step, 0, 0)} | ({PARIS: (step, 0, 0)} if step > 200 else {}))
    again = Series.from_bytes(series.to_bytes())
    assert again.keys == series.keys
    assert again.last_s == series.last_s
    for key in (VOICE, PARIS):
        for window_s in (10, 300, 3600, 10**6):
            assert again.between(key, window_s) == series.between(key, window_s)
    again.sample(BEGAN_S + 6000, {VOICE: (7, 0, 0), Key("new"): (1, 0, 0)})
    assert again.between(VOICE, 10**6).good == 499 + 7
    assert Series.from_bytes(Series().to_bytes()).last_s is None


def test_the_same_samples_give_the_same_bytes() -> None:
    def made() -> bytes:
        series = Series()
        for step in range(100):
            series.sample(BEGAN_S + 10 * step, {VOICE: (step, 0, 0)})
        return series.to_bytes()

    assert made() == made()


def test_damaged_bytes_are_an_error_that_says_what_to_do() -> None:
    series = Series()
    for step in range(50):
        series.sample(BEGAN_S + 10 * step, {VOICE: (step, 0, 0)})
    whole = series.to_bytes()
    draw = random.Random(1)
    damaged = [b"", b"x", whole[:-1], whole[:20], b"\x00" * 100, whole + b"x"]
    for _ in range(300):
        broken = bytearray(whole)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        damaged.append(bytes(broken))
    for content in damaged:
        with pytest.raises(InputError, match="cannot be read") as caught:
            Series.from_bytes(content)
        assert "remove the file" in (caught.value.fix or "")


def test_keys_beyond_the_limit_are_not_kept_and_the_first_are() -> None:
    series = Series()
    series.sample(BEGAN_S, {VOICE: (0, 0, 0)})
    series.sample(BEGAN_S + 10, {Key("w", f"site-{n}"): (1, 0, 0) for n in range(MOST_KEYS + 5)} | {VOICE: (2, 0, 0)})
    assert len(series.keys) == MOST_KEYS
    assert series.between(VOICE, 10).good == 2


def test_counts_by_key_of_a_board_are_sums_of_its_engines(board: Board, directory: Directory) -> None:
    """Three at paris, of them one bad; one excluded at lyon; one bad that reached no engine."""
    meter = Meter(board, 0)

    def finish(workload: str, backend: int, outcome: str, status: int) -> None:
        meter.finished(Finished(workload=workload, backend=backend, outcome=outcome, status=status))

    finish("voice", 0, "completed", 200)
    finish("batch", 0, "completed", 200)
    finish("voice", 0, "failed", 502)
    finish("voice", 1, "cancelled", 499)
    finish("voice", -1, "rejected", 503)
    assert counts_of(read_totals(board)) == {
        Key(): (2, 2, 1),
        Key("voice"): (1, 2, 1),
        Key("batch"): (1, 0, 0),
        Key("", "paris"): (2, 1, 0),
        Key("", "lyon"): (0, 0, 1),
        Key("voice", "paris"): (1, 1, 0),
        Key("voice", "lyon"): (0, 0, 1),
        Key("batch", "paris"): (1, 0, 0),
    }
