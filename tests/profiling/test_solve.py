"""Fits of made-up engines, whose step times are known."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from gridctl.engine.profile import profile_from
from gridctl.errors import InputError, UnreachableError
from gridctl.profiling.calibration import Calibration
from gridctl.profiling.load import LoadPlan, Round
from gridctl.profiling.observation import MeasuredRound, Observations, RequestTiming
from gridctl.profiling.solve import solve
from gridctl.profiling.validation import MeasuredRun, validate
from gridctl.resources import Architecture, EngineLimits, ProfileSpec

KV_S, PAIR_S, REQUEST_S, ROUND_TRIP_S, CHUNK = 31e-9, 1.1e-9, 4e-3, 1e-3, 8192


def dense_s(tokens: float) -> float:
    """A roofline: 7.9 ms to read the weights, 2 ms and 21 µs a token from 281 tokens on."""
    return max(7.9e-3, 2e-3 + 21e-6 * tokens)


def ttft_s(prompt: int, chunk: int) -> float:
    """Round trip, request and the steps of the prompt's chunks."""
    seconds, done = ROUND_TRIP_S + REQUEST_S, 0
    while done < prompt:
        size = min(chunk, prompt - done)
        seconds += dense_s(size) + PAIR_S * (size * done + size * (size + 1) / 2)
        done += size
    return seconds


def answered(one: Round, chunk: int, wobble: Callable[[], float]) -> MeasuredRound:
    """The round as that engine answers it: prefills one after another, then decodes together."""
    n, prompt = one.streams, one.prompt_tokens
    first = ttft_s(prompt, chunk) * wobble() + (n - 1) * (ttft_s(prompt, chunk) - REQUEST_S - ROUND_TRIP_S)
    kv = n * (prompt + np.arange(1, one.output_tokens))
    gaps = (dense_s(n) + KV_S * kv) * np.array([wobble() for _ in kv])
    arrivals = first + np.concatenate([[0.0], np.cumsum(gaps)])
    return MeasuredRound(one, tuple(RequestTiming(0.0, arrivals, prompt, 0, one.output_tokens) for _ in range(n)))


def load(
    repetitions: int, chunk: int = CHUNK, wobble: Callable[[], float] = lambda: 1.0, stopped: str | None = None
) -> Observations:
    rounds = [answered(one, chunk, wobble) for one in LoadPlan().repetition() for _ in range(repetitions)]
    return Observations("http://x/v1", "m", ROUND_TRIP_S, tuple(rounds), stopped=stopped)


def at(calibration: Calibration, tokens: int) -> float:
    knots = calibration.dense_knots()
    return float(np.interp(tokens, [t for t, _ in knots], [us for _, us in knots]))


def test_a_quiet_engines_coefficients_come_back() -> None:
    found = solve(load(2), chunk_tokens=CHUNK)
    assert found.kv_us_per_token.value == pytest.approx(KV_S * 1e6, rel=0.01)
    assert found.pair_us.value == pytest.approx(PAIR_S * 1e6, rel=0.05)
    assert found.request_us.value == pytest.approx(REQUEST_S * 1e6, rel=0.02)
    for tokens in (1, 2, 8, 16, 128, 256, 1024, 4096):
        assert at(found, tokens) == pytest.approx(dense_s(tokens) * 1e6, rel=0.02)
    assert (found.valid.tokens, found.valid.sequences) == (4096, 16)
    assert found.notes == ()


def noisy(seed: int) -> Calibration:
    """A fit of three repetitions with 2 % of noise on every time, and every thirtieth time four times as long."""
    random = np.random.default_rng(seed)

    def wobble() -> float:
        return float(1.0 + 0.02 * random.standard_normal() + (3.0 if random.random() < 1 / 30 else 0.0))

    return solve(load(3, wobble=wobble), chunk_tokens=CHUNK)


def test_noise_and_wild_requests_move_predictions_little() -> None:
    found = noisy(1)
    assert at(found, 4) == pytest.approx(7900.0, rel=0.01)
    prefill_us = at(found, 3000) + found.pair_us.value * 3000 * 3001 / 2 + found.request_us.value
    assert prefill_us == pytest.approx((ttft_s(3000, CHUNK) - ROUND_TRIP_S) * 1e6, rel=0.03)


def test_standard_errors_are_as_large_as_the_errors_made() -> None:
    found = [noisy(seed) for seed in range(8)]
    for estimates, truth in (
        ([one.kv_us_per_token for one in found], KV_S * 1e6),
        ([one.pair_us for one in found], PAIR_S * 1e6),
        ([one.request_us for one in found], REQUEST_S * 1e6),
    ):
        # the standard deviation by way of the median, since one fit in some dozens is far off; eight draws know it
        # to a third
        made = 1.4826 * np.median([abs(one.value - truth) for one in estimates])
        stated = np.mean([one.standard_error for one in estimates])
        assert 0.4 < made / stated < 2.5


def test_the_error_is_that_of_rounds_the_fit_has_not_seen() -> None:
    quiet = solve(load(2), chunk_tokens=CHUNK)
    assert quiet.itl is not None
    assert quiet.ttft is not None
    # six prompt lengths between others twice, and four batch sizes; what is left is the roofline's corner
    assert quiet.ttft.count == 12
    assert quiet.ttft.median < 0.01
    assert quiet.itl.p95 < 0.01
    # the same fit against held-out rounds that took 10 % longer
    base = load(2)
    slower = [
        MeasuredRound(
            one.plan,
            tuple(RequestTiming(0.0, r.arrivals_s * 1.1, r.prompt_tokens, 0, r.output_tokens) for r in one.requests),
        )
        if one.plan.held_out
        else one
        for one in base.rounds
    ]
    worse = solve(Observations("http://x/v1", "m", ROUND_TRIP_S, tuple(slower)), chunk_tokens=CHUNK)
    assert worse.itl is not None
    assert worse.itl.median == pytest.approx(1 - 1 / 1.1, rel=0.1)
    assert worse.notes == ()


def test_a_fit_that_misses_what_it_has_not_seen_says_so() -> None:
    rounds = tuple(
        MeasuredRound(
            one.plan,
            tuple(RequestTiming(0.0, r.arrivals_s * 2, r.prompt_tokens, 0, r.output_tokens) for r in one.requests),
        )
        if one.plan.held_out
        else one
        for one in load(1).rounds
    )
    notes = solve(Observations("http://x/v1", "m", ROUND_TRIP_S, rounds), chunk_tokens=CHUNK).notes
    assert len(notes) == 2
    assert notes[0].startswith("times between tokens it has not seen are 50% off")
    # the round trip, which is taken off, did not double
    assert notes[1].startswith("times to the first token it has not seen are 51% off")
    fitted = tuple(one for one in load(2).rounds if not one.plan.held_out)
    unknown = solve(Observations("http://x/v1", "m", ROUND_TRIP_S, fitted), chunk_tokens=CHUNK)
    assert unknown.itl is None
    assert any("its error is unknown" in note for note in unknown.notes)


def test_the_prefill_chunk_is_found_where_it_costs_a_visible_step() -> None:
    assert solve(load(2, chunk=1024)).chunk_tokens == 1024
    whole = solve(load(2, chunk=8192))
    assert whole.chunk_tokens == 4096  # the longest prompt: no chunking seen
    assert whole.is_chunk_inferred


def test_the_curves_of_a_profile_follow_from_the_coefficients() -> None:
    found = solve(load(1), chunk_tokens=CHUNK)
    rows = found.decode_rows()
    assert [row.sequences for row in rows] == [1, 16]
    tokens, us = rows[1].kv[-1]
    assert us == pytest.approx(found.kv_us_per_token.value * 16 * tokens, rel=1e-3)
    knots = found.chunk_knots()
    assert knots[-1].tokens == 4096
    assert knots[-1].us == pytest.approx(found.pair_us.value * 4096 * 4097 / 2, rel=1e-3)
    assert knots[-1].us_per_kv_token == pytest.approx(found.pair_us.value * 4096, rel=1e-3)
    # the chord of c² over a factor r is at most ((r − 1)/(r + 1))² above it: 0.75 % for a fourth of an octave
    sizes, times = [k.tokens for k in knots], [k.us for k in knots]
    for c in range(200, 4096, 37):
        assert np.interp(c, sizes, times) == pytest.approx(found.pair_us.value * c * (c + 1) / 2, rel=0.01)


def test_the_twin_with_the_fitted_profile_serves_as_the_engine_did() -> None:
    architecture = Architecture(
        layers=32, hidden_size=4096, heads=32, kv_heads=8, head_dim=128, intermediate_size=14336, vocab_size=128256
    )
    spec = solve(load(2), chunk_tokens=CHUNK).profile(gpu="h200-sxm", architecture=architecture, source="a test")
    assert msgspec.convert(msgspec.to_builtins(spec), ProfileSpec) == spec
    limits = EngineLimits(max_num_batched_tokens=CHUNK, max_num_seqs=16, async_scheduling=False)
    steps = profile_from(spec, tokens=CHUNK, sequences=16, source="endpoint")
    # four requests a minute apart, whose steps are worked out above; the request and the network are in no step
    prompts, outputs = np.array([20, 300, 1500, 4000]), np.array([50, 50, 50, 50])
    queued = 60.0 * np.arange(4)
    first = queued + np.array([ttft_s(int(p), CHUNK) for p in prompts]) - ROUND_TRIP_S - REQUEST_S
    gaps = [sum(dense_s(1) + KV_S * (p + made) for made in range(1, n)) for p, n in zip(prompts, outputs, strict=True)]
    run = MeasuredRun(prompts, outputs, queued, first, first + np.array(gaps))
    errors = validate(run, steps, limits, kv_blocks=4096, ranks=1).errors
    assert {error.metric: error.mape for error in errors} == pytest.approx({"TTFT": 0, "TPOT": 0, "E2E": 0}, abs=0.02)


def test_the_fit_is_the_same_every_time() -> None:
    observations = load(2)
    assert solve(observations) == solve(observations)


def test_a_dead_peer_with_little_measured_is_unreachable_and_says_how_much() -> None:
    rounds = load(1).rounds[:3]
    with pytest.raises(UnreachableError, match=r"Connection refused \(3 requests answered") as caught:
        solve(Observations("http://x/v1", "m", ROUND_TRIP_S, rounds, stopped="Connection refused"))
    assert caught.value.exit_code == 5


def test_a_dead_peer_with_enough_measured_is_fitted_with_a_note() -> None:
    found = solve(load(1, stopped="Connection refused"), chunk_tokens=CHUNK)
    assert found.notes == ("the load ended early: Connection refused",)


def test_nothing_measured_is_no_fit() -> None:
    with pytest.raises(InputError, match="too little"):
        solve(Observations("http://x/v1", "m", 0.001, ()))


def test_answers_in_one_burst_are_no_fit() -> None:
    rounds = tuple(
        MeasuredRound(
            one.plan, tuple(RequestTiming(0.0, 0.1 + 1e-6 * np.arange(9), r.prompt_tokens, 0, 9) for r in one.requests)
        )
        for one in load(1).rounds
    )
    with pytest.raises(InputError) as caught:
        solve(Observations("http://x/v1", "m", 0.001, rounds))
    assert "one burst" in str(caught.value.fix)


def test_first_tokens_that_do_not_wait_for_their_prompt_are_doubted() -> None:
    rounds = tuple(
        MeasuredRound(
            one.plan,
            tuple(RequestTiming(0.0, 0.02 + 0.01 * np.arange(17), r.prompt_tokens, 0, 17) for r in one.requests),
        )
        for one in load(1).rounds
    )
    found = solve(Observations("http://x/v1", "m", 0.001, rounds))
    assert any("cache in front" in note for note in found.notes)


def test_an_engine_that_serves_one_after_another_is_said_to_queue() -> None:
    rounds = [one for one in load(2).rounds if one.plan.streams == 1]
    serial = [
        MeasuredRound(
            Round(64, 4, 17, False),
            tuple(RequestTiming(0.0, 1.0 + i + 0.01 * np.arange(17), 64, 0, 17) for i in range(4)),
        )
    ]
    found = solve(Observations("http://x/v1", "m", ROUND_TRIP_S, (*rounds, *serial)), chunk_tokens=CHUNK)
    assert found.valid.sequences == 1
    assert any("of 4 requests at once the engine decoded 1 together" in note for note in found.notes)
