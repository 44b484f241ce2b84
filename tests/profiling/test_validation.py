"""Validation: requests served by hand-computed steps, errors with their sign, and files that are no run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from operators import csv_text

from gridctl.engine.profile import profile_from
from gridctl.errors import InputError
from gridctl.profiling.validation import COLUMNS, MeasuredRun, Validation, read_measured, validate
from gridctl.resources import Architecture, ChunkKnot, DecodeRow, EngineLimits, ProfileRange, ProfileSpec

SHAPE = Architecture(layers=1, hidden_size=64, heads=1, kv_heads=1, head_dim=64, intermediate_size=64, vocab_size=100)
SPEC = ProfileSpec(
    gpu="toy",
    architecture=SHAPE,
    valid=ProfileRange(tokens=1000, sequences=8, kv_tokens=10_000),
    dense=((1, 10_000.0), (1000, 10_000.0)),
    sample=((1, 0.0), (8, 0.0)),
    decode=(DecodeRow(sequences=1, kv=((0, 0.0),)),),
    chunk=(ChunkKnot(tokens=1, us=0.0, us_per_kv_token=0.0), ChunkKnot(tokens=1000, us=0.0, us_per_kv_token=0.0)),
)
"""Every step takes 10 ms, whatever it holds."""
STEPS = profile_from(SPEC, tokens=1000, sequences=8, source="ten")
LIMITS = EngineLimits(max_num_seqs=8, max_num_batched_tokens=1000, block_size=16, async_scheduling=False)


def run_of(*rows: tuple[float, float, float, float, float]) -> MeasuredRun:
    inputs, outputs, queued, first, last = (np.array(column) for column in zip(*rows, strict=True))
    return MeasuredRun(inputs.astype(np.int64), outputs.astype(np.int64), queued, first, last)


def served(run: MeasuredRun, limits: EngineLimits = LIMITS, blocks: int = 1000) -> Validation:
    return validate(run, STEPS, limits, blocks, 1)


def test_one_request_takes_a_step_for_each_token() -> None:
    """TTFT 10 ms where 8 were measured: +25 %. 9 more steps: TPOT 10 against 12.5: −20 %. E2E 100 against 120.5."""
    found = served(run_of((100, 10, 0.0, 0.008, 0.1205)))
    ttft, tpot, e2e = found.errors
    assert [error.metric for error in found.errors] == ["TTFT", "TPOT", "E2E"]
    for error, expected in ((ttft, 0.25), (tpot, -0.2), (e2e, 100 / 120.5 - 1)):
        for value in (error.mean, error.p50, error.p95, error.p99):
            assert value == pytest.approx(expected)
        assert error.mape == pytest.approx(abs(expected))
    assert (ttft.measured_mean_ms, ttft.twin_mean_ms) == pytest.approx((8.0, 10.0))
    assert (found.requests, found.preemptions, found.kv_blocks, found.longest_context) == (1, 0, 1000, 110)


def test_the_mean_hides_what_the_mean_of_absolute_errors_shows() -> None:
    """Two requests, far apart: 10 ms each where 8 and 12 were measured. Mean 0 %; MAPE (25 + 16.7)/2."""
    found = served(run_of((10, 2, 0.0, 0.008, 0.018), (10, 2, 1.0, 1.012, 1.022)))
    assert found.errors[0].mean == pytest.approx(0.0, abs=1e-9)
    assert found.errors[0].mape == pytest.approx((10 / 8 - 1 + 1 - 10 / 12) / 2)


def test_a_measured_run_of_the_twin_itself_has_no_error() -> None:
    """Batched: both prompts in the first step; a third comes while the second step runs and joins the third."""
    found = served(
        run_of((100, 3, 0.0, 0.01, 0.03), (50, 3, 0.0, 0.01, 0.03), (50, 2, 0.015, 0.03, 0.04)),
    )
    for error in found.errors:
        assert (error.mean, error.mape) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_asynchronous_scheduling_makes_an_arrival_wait_a_step_more() -> None:
    """The second step is composed while the first runs: who comes at 5 ms joins the third, its token at 30 ms."""
    run = run_of((100, 5, 0.0, 0.01, 0.05), (50, 1, 0.005, 0.03, 0.03))
    eager = served(run).errors[0].twin_mean_ms
    waiting = served(run, EngineLimits(max_num_seqs=8, max_num_batched_tokens=1000)).errors[0].twin_mean_ms
    assert (eager, waiting) == pytest.approx(((10 + 15) / 2, (10 + 25) / 2))


def test_a_prompt_longer_than_a_step_takes_several() -> None:
    """2,500 tokens at 1,000 a step: the first token after three steps."""
    assert served(run_of((2500, 1, 0.0, 0.03, 0.03), (10, 2, 1.0, 1.01, 1.02))).errors[0].mean == pytest.approx(0.0)


def test_short_memory_preempts_and_says_so() -> None:
    """Two prompts of 32 tokens and 40 outputs on 6 blocks of 16: both start with 2 blocks each and cannot both end."""
    found = served(run_of((32, 40, 0.0, 0.01, 0.4), (32, 40, 0.0, 0.01, 0.4)), blocks=6)
    assert found.preemptions >= 1
    assert found.errors[2].mean > 0


def test_ranks_share_requests_and_limits() -> None:
    """Sixteen prompts at once: with 8 sequences two waves of 10 ms, with two ranks of 8 one."""
    rows = [(10, 1, 0.0, 0.01, 0.01)] * 15 + [(10, 2, 0.0, 0.01, 0.02)]
    one = validate(run_of(*rows), STEPS, LIMITS, 1000, 1).errors[0].twin_mean_ms
    wide = profile_from(SPEC, tokens=2000, sequences=16, source="ten")
    two = validate(run_of(*rows), wide, LIMITS, 1000, 2).errors[0].twin_mean_ms
    assert (one, two) == pytest.approx((15.0, 10.0))


def test_a_request_beyond_the_engine_s_memory_is_refused() -> None:
    with pytest.raises(InputError, match=r"110 tokens does not fit the engine's 6 KV blocks of 16"):
        served(run_of((100, 10, 0.0, 0.01, 0.1)), blocks=6)


def test_requests_of_one_token_have_no_tpot() -> None:
    with pytest.raises(InputError, match="no request has a TPOT"):
        served(run_of((100, 1, 0.0, 0.01, 0.01)))


def write(folder: Path, *rows: tuple[object, ...]) -> Path:
    path = folder / "run.csv"
    path.write_text(csv_text(COLUMNS, rows), encoding="utf-8")
    return path


def test_a_run_is_read_in_order_of_arrival_from_its_first_request(tmp_path: Path) -> None:
    path = write(tmp_path, (7, 20, 5, 101.5, 101.6, 102.0, 103.0), (3, 10, 4, 100.0, 100.0, 100.25, 101.0))
    run = read_measured(path)
    assert len(run) == 2
    assert (run.input_tokens.tolist(), run.output_tokens.tolist()) == ([10, 20], [4, 5])
    assert run.queued_s.tolist() == pytest.approx([0.0, 1.5])
    assert run.first_token_s.tolist() == pytest.approx([0.25, 2.0])
    assert run.last_token_s.tolist() == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((0, 0, 5, 0, 0, 1, 2), "token counts must be whole"),
        ((0, 10, 0, 0, 0, 1, 2), "token counts must be whole"),
        ((0, 10.5, 5, 0, 0, 1, 2), "token counts must be whole"),
        ((0, 10, 5, 2, 2, 1, 3), "times run backwards"),
        ((0, 10, 5, 0, 0, 2, 1), "times run backwards"),
        ((0, 10, 5, 1, 1, 1, 2), "times run backwards"),
        ((0, 10, 5, "", 0, 1, 2), "queued_s is empty"),
        ((0, 10, 5, "nan", 0, 1, 2), "queued_s is 'nan'"),
    ],
)
def test_a_row_that_cannot_be_a_request_is_refused_at_its_line(
    tmp_path: Path, row: tuple[object, ...], says: str
) -> None:
    path = write(tmp_path, (1, 10, 5, 0, 0, 1, 2), row)
    with pytest.raises(InputError, match=says) as caught:
        read_measured(path)
    assert caught.value.where == f"{path}:3"


def test_a_run_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no requests"):
        read_measured(write(tmp_path))
