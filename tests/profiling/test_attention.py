"""Attention: a known law comes back at batches nobody measured; outliers and noise do little; real kernels fit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import CHUNKS, LENGTHS, LinearLaw, batches_of, measured_folder

from gridctl.profiling.attention import fit_attention, predict
from gridctl.profiling.tables import Batch, read_tables

UNSEEN = [
    (0, 0, 5, 700),
    (0, 0, 100, 16_000),
    (40, 300, 0, 0),
    (1500, 8000, 0, 0),
    (16, 0, 8, 1024),
    (700, 100, 48, 9000),
    (2048, 8192, 128, 16_384),
    (64, 2048, 1, 16),
]


@pytest.mark.parametrize("batch", UNSEEN, ids=str)
def test_a_linear_law_comes_back_at_batches_that_were_not_measured(batch: Batch) -> None:
    law = LinearLaw()
    assert predict(fit_attention(batches_of(law), 0.0), batch) == pytest.approx(law(*batch), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.builds(
        LinearLaw,
        chunk_per_token=st.floats(0.01, 2.0),
        kv_per_token=st.floats(0.0, 1e-4),
        decode_per_kv=st.floats(1e-4, 0.01),
        mixed_per_kv=st.floats(1e-4, 0.02),
        cross=st.floats(0.0, 0.01),
    ),
    st.sampled_from(UNSEEN),
)
def test_every_linear_law_comes_back(law: LinearLaw, batch: Batch) -> None:
    assert predict(fit_attention(batches_of(law), 0.0), batch) == pytest.approx(law(*batch), rel=1e-7)


def test_the_parts_of_the_law_are_told_apart() -> None:
    """A chunk of 256 alone: 5 + 0.2·256; a KV token before it: 0.001 + 1e-5·256; cross as it is."""
    law = LinearLaw()
    fit = fit_attention(batches_of(law), 0.0)
    place = CHUNKS.index(256)
    assert fit.alone[place] == pytest.approx(56.2)
    assert fit.per_kv[place] == pytest.approx(0.00356)
    assert fit.cross == pytest.approx(0.0004)
    assert (fit.longest, fit.most_decodes) == (16_384, 128)
    assert fit.error_p95 < 1e-6


def test_a_curve_that_bends_keeps_knots_only_where_it_bends() -> None:
    """Decodes cost nothing more up to 1,024 KV tokens and then rise: the knots are the ends and the bend."""

    def law(chunk: int, before: int, decodes: int, kv: int) -> float:
        return LinearLaw()(chunk, before, 0, 0) if chunk else 100.0 + decodes * max(0, kv - 1024)

    fit = fit_attention(batches_of(law), 0.001)
    assert fit.kv.tolist() == [16, 1024, 16_384]
    assert predict(fit, (0, 0, 20, 5000)) == pytest.approx(100 + 20 * 3976)


def test_small_attention_is_not_told_apart_finely() -> None:
    """Where a layer's attention stays under 50 µs, what lies within 3 % of 50 µs is one segment."""

    def law(chunk: int, before: int, decodes: int, kv: int) -> float:
        return LinearLaw()(chunk, before, 0, 0) if chunk else 5.0 + (1.0 if kv == 1024 else 0.0)

    assert fit_attention(batches_of(law), 0.03).kv.tolist() == [16, 16_384]


def test_lengths_missing_at_one_count_lie_on_the_line_of_the_others() -> None:
    law = LinearLaw()
    batches = batches_of(law)
    del batches[(0, 0, 8, 128)], batches[(0, 0, 8, 16_384)]
    fit = fit_attention(batches, 0.0)
    for kv in (128, 16_384):
        assert predict(fit, (0, 0, 8, kv)) == pytest.approx(law(0, 0, 8, kv))


def test_without_mixed_batches_decodes_beside_a_prefill_take_what_they_take_alone() -> None:
    law = LinearLaw()
    alone = {batch: time for batch, time in batches_of(law).items() if batch[0] == 0 or batch[2] == 0}
    fit = fit_attention(alone, 0.0)
    assert fit.cross == 0.0
    assert predict(fit, (256, 512, 32, 4096)) == pytest.approx(law(256, 512, 0, 0) + law(0, 0, 32, 4096))


def test_counts_without_mixed_batches_take_the_ratio_of_their_neighbour() -> None:
    """Mixed twice as slow as alone wherever measured; 64 decodes were not measured beside a prefill."""
    law = LinearLaw(mixed_us=12.0, mixed_per_sequence=0.2, mixed_per_kv=0.004, cross=0.0)
    batches = {batch: time for batch, time in batches_of(law).items() if batch[0] == 0 or batch[2] != 64}
    fit = fit_attention(batches, 0.0)
    for kv in LENGTHS:
        beside = predict(fit, (256, 512, 64, kv)) - law(256, 512, 0, 0)
        assert beside == pytest.approx(2 * law(0, 0, 64, kv))


def test_one_broken_kernel_of_a_group_moves_nothing() -> None:
    """Medians: of the 20 prefills beside 32 decodes at 4,096 tokens, one took a hundred times as long."""
    law = LinearLaw()
    batches = batches_of(law)
    batches[(64, 512, 32, 4096)] *= 100
    assert predict(fit_attention(batches, 0.0), (256, 512, 32, 4096)) == pytest.approx(law(256, 512, 32, 4096))


def test_noise_of_two_percent_stays_about_two_percent() -> None:
    """Seeded: no measured table is smooth; p95 of |ε| for ε ~ N(0, 2 %) is 3.9 %."""
    draw = random.Random(7)
    law = LinearLaw()
    batches = {batch: time * (1 + draw.gauss(0, 0.02)) for batch, time in batches_of(law).items()}
    fit = fit_attention(batches, 0.03)
    wrong = [abs(predict(fit, batch) / law(*batch) - 1) for batch in UNSEEN]
    assert max(wrong) < 0.08
    assert fit.error_p50 < 3.0
    assert fit.error_p95 < 8.0


def test_more_work_never_takes_less_time_whatever_was_measured() -> None:
    draw = random.Random(11)
    fit = fit_attention({batch: draw.uniform(1, 1000) for batch in batches_of(LinearLaw())}, 0.03)
    assert np.all(np.diff(fit.decode, axis=1) >= 0)
    assert np.all(np.diff(fit.mixed, axis=1) >= 0)
    assert np.all(np.diff(fit.alone) >= 0)
    assert np.all(np.diff(fit.per_kv) >= 0)
    assert fit.cross >= 0
    assert min(fit.decode.min(), fit.mixed.min(), fit.alone.min(), fit.per_kv.min()) >= 0


def measured_batches(model: str, parallel: int) -> dict[Batch, float]:
    folder = measured_folder()
    names = (f"op_rtxpro6000_{model}_tp{parallel}_{part}.csv.gz" for part in ("attention", "dense", "per_sequence"))
    return read_tables(*(Path(folder / name) for name in names)).attention


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Qwen3-30B-A3B-Instruct-2507"])
def test_decodes_left_out_of_a_measured_table_are_predicted(model: str) -> None:
    """Every third inner KV length left out at every third inner count: they are predicted within a few percent."""
    batches = measured_batches(model, 1)
    counts = sorted({decodes for chunk, _, decodes, _ in batches if chunk == 0})
    lengths = sorted({kv for chunk, _, _, kv in batches if chunk == 0})
    hidden = {(count, kv) for count in counts[1:-1:3] for kv in lengths[1:-1:3]}
    known = {batch: time for batch, time in batches.items() if batch[2:] not in hidden}
    fit = fit_attention(known, 0.03)
    alone = [(0, 0, *pair) for pair in hidden if (0, 0, *pair) in batches]
    errors = [abs(predict(fit, batch) / batches[batch] - 1) for batch in alone]
    big = [abs(predict(fit, batch) / batches[batch] - 1) for batch in alone if batches[batch] > 50]
    assert len(alone) > 10
    assert np.median(errors) < 0.05
    assert np.percentile(big, 95) < 0.10


@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Qwen3-30B-A3B-Instruct-2507"])
def test_kv_before_a_measured_prefill_is_predicted(model: str) -> None:
    """Every second inner KV length before a prefill left out: the slope through the others finds it."""
    batches = measured_batches(model, 1)
    prefills = {batch: time for batch, time in batches.items() if batch[2] == 0}
    lengths = sorted({before for _, before, _, _ in prefills})
    hidden = set(lengths[1:-1:2])
    known = {batch: time for batch, time in batches.items() if batch[2] > 0 or batch[1] not in hidden}
    fit = fit_attention(known, 0.03)
    errors = [abs(predict(fit, batch) / time - 1) for batch, time in prefills.items() if batch[1] in hidden]
    assert len(errors) > 10
    assert np.median(errors) < 0.10
