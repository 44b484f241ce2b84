"""The meter against a recount in plain Python of the same requests; exact objectives; hostile numbers; many workers."""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict

import numpy as np
import pytest

from gridctl.errors import InputError
from gridctl.kernels import is_interpreted
from gridctl.signals import buckets
from gridctl.signals.board import Board
from gridctl.signals.counting import LONGEST_NS
from gridctl.signals.directory import Directory, Objective, WorkloadRow, enrolled
from gridctl.signals.finished import FIELDS, OUTCOMES, REASONS, Finished, verdict
from gridctl.signals.layout import (
    BAD_AT,
    DURATION_EDGES_US,
    E2E,
    ENGINE_WORDS,
    GENAI,
    GENAI_HISTOGRAM_WORDS,
    GENAI_SUM_AT,
    GOOD_AT,
    HISTOGRAM_WORDS,
    MODEL_WORDS,
    REASON_WORDS,
    SUM_AT,
    TOTAL_AT,
    TPOT,
    TTFT,
    TTFT_EDGES_US,
    WITHIN_AT,
    WORKLOAD_WORDS,
)
from gridctl.signals.meter import Meter
from gridctl.signals.totals import read_totals

MS = 1_000_000
S = 1_000_000_000


def answered(ttft: int, gap: int = 10 * MS, tokens: int = 11, **fields: object) -> Finished:
    request = Finished(
        workload="voice",
        model="llama",
        backend=0,
        outcome="completed",
        status=200,
        phase="done",
        arrival_ns=5 * S,
        decided_ns=5 * S + 20_000,
        first_token_ns=5 * S + ttft,
        last_token_ns=5 * S + ttft + gap * (tokens - 1),
        end_ns=5 * S + ttft + gap * (tokens - 1),
        prompt_tokens=800,
        cached_tokens=512,
        output_tokens=tokens,
        attempts=1,
        stream=True,
    )
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def total(board: Board, row: int, name: str) -> int:
    return int(board.meters[:, row * WORKLOAD_WORDS + TOTAL_AT[name]].sum())


def histogram(board: Board, row: int, kind: int) -> np.ndarray:
    at = row * WORKLOAD_WORDS + kind * HISTOGRAM_WORDS
    return board.meters[:, at : at + HISTOGRAM_WORDS].sum(axis=0)


def engine(board: Board, row: int, backend: int) -> list[int]:
    at = board.layout.engines_at + (row * (board.backends + 1) + backend) * ENGINE_WORDS
    return board.meters[:, at : at + ENGINE_WORDS].sum(axis=0).tolist()


def test_bounds_grow_by_the_rule_and_span_a_hundredth_of_a_millisecond_to_ten_minutes() -> None:
    assert buckets.EDGES[0] == 10_000
    assert buckets.EDGES[-2] < 600 * S <= buckets.EDGES[-1]
    for low, high in zip(buckets.EDGES[100:], buckets.EDGES[101:], strict=False):
        assert high / low == pytest.approx(1.01 / 0.99, rel=1e-5)


def test_a_duration_on_a_bound_falls_in_the_cell_that_it_closes() -> None:
    for cell in (0, 1, 17, 400, buckets.OVER - 1):
        assert buckets.cell_of(buckets.EDGES[cell]) == cell
        assert buckets.cell_of(buckets.EDGES[cell] + 1) == cell + 1
    assert buckets.cell_of(0) == 0


def test_every_quantile_of_a_lognormal_is_within_one_percent_of_nearest_rank() -> None:
    draws = np.sort((np.random.default_rng(7).lognormal(math.log(80e6), 1.2, 20_000)).astype(np.int64))
    counts = np.bincount([buckets.cell_of(int(draw)) for draw in draws], minlength=buckets.CELLS)
    for share in (0.001, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0):
        exact = draws[max(1, math.ceil(share * len(draws))) - 1]
        assert buckets.quantile_ns(counts, share) == pytest.approx(exact, rel=0.0101)


def test_quantiles_at_the_ends() -> None:
    counts = np.zeros(buckets.CELLS, np.int64)
    assert buckets.quantile_ns(counts, 0.5) is None
    counts[buckets.cell_of(700 * S)] = 1
    assert buckets.quantile_ns(counts, 0.5) == math.inf
    counts[0] = 3
    assert buckets.quantile_ns(counts, 0.5) == 10_000


def test_at_most_counts_what_is_certain() -> None:
    counts = np.zeros(buckets.CELLS, np.int64)
    counts[[0, 100, 101, buckets.OVER]] = 1, 2, 4, 8
    assert buckets.at_most(counts, buckets.EDGES[100]) == 3
    assert buckets.at_most(counts, buckets.EDGES[101] - 1) == 3
    assert buckets.at_most(counts, buckets.EDGES[101]) == 7
    assert buckets.at_most(counts, 10**15) == 7


def test_how_many_met_an_objective_is_exact_to_the_nanosecond(board: Board, directory: Directory) -> None:
    """Voice promises 500 ms and 200 ms to the first token: neither is a bound of the cells."""
    meter = Meter(board, 0)
    for ttft in (499_999_999, 500_000_000, 500_000_001, 505_000_000, 199_999_999, 200_000_001, 3 * MS):
        meter.finished(answered(ttft))
    counts = histogram(board, 1, TTFT)
    for index, threshold in enumerate((500_000_000, 200_000_000)):
        assert threshold not in buckets.EDGES
        below = int(counts[: buckets.cell_of(threshold)].sum())
        assert below + int(counts[WITHIN_AT + index]) == {500_000_000: 5, 200_000_000: 2}[threshold]


def test_coarse_quantiles_of_a_lognormal_are_within_five_percent_of_nearest_rank() -> None:
    draw = random.Random(4)
    values = sorted(int(draw.lognormvariate(18.0, 1.5)) for _ in range(20_000))
    counts = np.zeros(buckets.COARSE_CELLS, np.int64)
    for value in values:  # the coarse cell whose bounds enclose it, found by looking at every one
        bounds = (buckets.EDGES[cell] for cell in range(0, buckets.OVER, buckets.STEP))
        counts[sum(bound < value for bound in bounds)] += 1
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = values[max(1, math.ceil(share * len(values))) - 1]
        assert buckets.coarse_quantile_ns(counts, share) == pytest.approx(exact, rel=0.05)


def test_ttfts_are_counted_by_engine_to_the_coarse_cell(board: Board, directory: Directory) -> None:
    meter = Meter(board, 0)
    known = [0, *buckets.EDGES[:12], buckets.EDGES[700], buckets.EDGES[-1], buckets.EDGES[-1] + 1]
    for ttft in known:
        meter.finished(answered(ttft, backend=1, workload="nobody"))
        meter.finished(answered(ttft, backend=-1, workload="nobody"))
    shown = [buckets.EDGES[cell] for cell in range(0, buckets.OVER, buckets.STEP)]
    found = read_totals(board).place_ttft([1])
    for place, bound in enumerate(shown):
        assert int(found.counts[: place + 1].sum()) == sum(ttft <= bound for ttft in known)
    assert found.requests == len(known)
    assert found.sum_us == sum((ttft + 500) // 1000 for ttft in known)
    assert read_totals(board).place_ttft([0, 2, -1, 10**6]).requests == 0


def test_tpots_are_counted_by_engine_of_answers_of_several_tokens(board: Board, directory: Directory) -> None:
    meter = Meter(board, 0)
    for first, last, tokens in ((10, 30, 2), (10, 410, 11), (10, 10, 1)):  # 20 ms, 40 ms, and one token has none
        request = answered(10 * 1_000_000, backend=1, workload="nobody")
        request.first_token_ns, request.last_token_ns = (request.arrival_ns + ms * 1_000_000 for ms in (first, last))
        request.end_ns, request.output_tokens = request.last_token_ns, tokens
        meter.finished(request)
    found = read_totals(board).place_tpot([1])
    assert (found.requests, found.sum_us) == (2, 60_000)
    assert found.quantile_ms(0.5) == pytest.approx(20, rel=0.05)
    assert found.quantile_ms(0.99) == pytest.approx(40, rel=0.05)
    assert read_totals(board).place_ttft([1]).requests == 3
    assert read_totals(board).place_tpot([0, 2]).requests == 0


def test_unseen_time_is_part_of_ttft_and_end_to_end_and_not_of_the_time_per_token(
    board: Board, directory: Directory
) -> None:
    """Batch's clients wait 15 ms that the gateway does not see."""
    Meter(board, 0).finished(answered(100 * MS, 20 * MS, 6, workload="batch", predicted_ttft_us=120_000.0))
    assert histogram(board, 2, TTFT)[SUM_AT] == 115_000
    assert histogram(board, 2, TPOT)[SUM_AT] == 20_000
    assert histogram(board, 2, E2E)[SUM_AT] == 215_000
    assert total(board, 2, "ttft_error_us") == 5_000


def _drawn(draw: random.Random) -> Finished:
    outcome = draw.choice(OUTCOMES)
    tokens = draw.choice((0, 1, 2, 17, 400))
    request = answered(
        int(draw.lognormvariate(math.log(100e6), 1.5)),
        int(draw.lognormvariate(math.log(10e6), 1.0)),
        max(1, tokens),
        workload=draw.choice(("voice", "batch", "nobody")),
        model=draw.choice(("llama", "llama/int8", "what")),
        endpoint=draw.choice(("chat", "completions", "embeddings", "messages", "rerank", "new")),
        backend=draw.choice((-1, 0, 1, 2, 7, 8, 1 << 40)),
        outcome=outcome,
        status=draw.choice((200, 200, 400, 429, 503)),
        reason=draw.choice((*REASONS, "unheard-of")),
        phase=draw.choice(("queued", "before-first-byte", "streaming", "done", "odd")),
        output_tokens=tokens,
        usd=draw.random() * 1e-3,
        attempts=draw.choice((0, 1, 2, 3)),
        stream=draw.random() < 0.5,
        is_estimated=draw.random() < 0.2,
        predicted_ttft_us=draw.choice((0.0, 50_000.0)),
        predicted_tpot_us=draw.choice((0.0, 9_000.0)),
        objective_misses=draw.choice(((), (), ("ttft_ms",), ("tpot_ms", "e2e_ms"), ("odd_ms",))),
    )
    if draw.random() < 0.3:
        request.first_token_ns = request.last_token_ns = -1
    return request


def test_counts_of_three_workers_equal_a_recount(board: Board, directory: Directory) -> None:
    draw = random.Random(11)
    requests = [_drawn(draw) for _ in range(3000)]
    meters = [Meter(board, worker) for worker in range(3)]
    for index, request in enumerate(requests):
        meters[index % 3].finished(request)

    row_of = {"voice": 1, "batch": 2, "nobody": 0}
    unseen = {"voice": 0, "batch": 15 * MS, "nobody": 0}
    for workload, row in row_of.items():
        mine = [request for request in requests if request.workload == workload]
        assert total(board, row, "prompt_tokens") == sum(request.prompt_tokens for request in mine)
        assert total(board, row, "cached_tokens") == sum(request.cached_tokens for request in mine)
        assert total(board, row, "output_tokens") == sum(request.output_tokens for request in mine)
        assert total(board, row, "estimated_tokens") == sum(r.output_tokens for r in mine if r.is_estimated)
        assert total(board, row, "nano_usd") == pytest.approx(sum(r.usd for r in mine) * 1e9, abs=len(mine))
        assert total(board, row, "retries") == sum(max(0, request.attempts - 1) for request in mine)
        assert total(board, row, "streams") == sum(request.stream for request in mine)
        for metric in ("ttft_ms", "tpot_ms", "e2e_ms"):
            assert total(board, row, f"missed_{metric}") == sum(metric in r.objective_misses for r in mine)
        ttfts = [
            request.first_token_ns - request.arrival_ns + unseen[workload]
            for request in mine
            if request.first_token_ns >= 0
        ]
        expected = np.bincount([buckets.cell_of(ttft) for ttft in ttfts], minlength=buckets.CELLS)
        assert histogram(board, row, TTFT)[: buckets.CELLS].tolist() == expected.tolist()
        assert histogram(board, row, TTFT)[SUM_AT] == pytest.approx(sum(ttfts) / 1000, abs=len(ttfts))
        whole = [r.end_ns - r.arrival_ns + unseen[workload] for r in mine if r.outcome == "completed"]
        expected = np.bincount([buckets.cell_of(one) for one in whole], minlength=buckets.CELLS)
        assert histogram(board, row, E2E)[: buckets.CELLS].tolist() == expected.tolist()

    for row in (0, 1, 2):
        outcomes: dict[int, Counter[str]] = defaultdict(Counter)
        for request in requests:
            if row_of[request.workload] == row:
                backend = request.backend if 0 <= request.backend < 8 else 8
                outcomes[backend][request.outcome] += 1
                outcomes[backend][verdict(request.outcome, request.status, request.objective_misses)] += 1
        for backend in range(9):
            expected_words = [outcomes[backend][outcome] for outcome in OUTCOMES]
            words = engine(board, row, backend)
            assert words[: len(OUTCOMES)] == expected_words
            assert (words[GOOD_AT], words[BAD_AT]) == (outcomes[backend]["good"], outcomes[backend]["bad"])


def test_reasons_phases_and_endpoints_equal_a_recount(board: Board, directory: Directory) -> None:
    draw = random.Random(5)
    requests = [_drawn(draw) for _ in range(1000)]
    meter = Meter(board, 1)
    for request in requests:
        meter.finished(request)
    words, layout = board.meters[1], board.layout
    for number, outcome in enumerate(OUTCOMES):
        found = words[layout.reasons_at + number * REASON_WORDS :][:REASON_WORDS]
        known = Counter(
            request.reason if request.reason in REASONS else "other"
            for request in requests
            if request.outcome == outcome != "completed"
        )
        assert found[: len(REASONS)].tolist() == [known[reason] for reason in REASONS]
    cancelled = Counter(request.phase for request in requests if request.outcome == "cancelled")
    phases = words[layout.phases_at :][:4].tolist()
    assert phases == [
        cancelled["queued"] + cancelled["odd"],
        cancelled["before-first-byte"],
        cancelled["streaming"],
        cancelled["done"],
    ]
    asked = Counter(request.endpoint for request in requests)
    assert words[layout.endpoints_at :][:9].tolist() == [
        asked["chat"],
        asked["completions"],
        asked["embeddings"],
        asked["messages"],
        0,
        asked["rerank"],
        0,
        0,
        asked["new"],
    ]


def test_genai_histograms_hold_what_is_at_or_under_each_bound(board: Board, directory: Directory) -> None:
    """By hand: 40 ms is a bound of TTFT and a nanosecond more is over it; 145 ms end to end lies in (0.08, 0.16]."""
    meter = Meter(board, 0)
    meter.finished(answered(40 * MS))
    meter.finished(answered(40 * MS + 1, endpoint="messages"))
    meter.finished(answered(40 * MS, endpoint="completions"))
    meter.finished(answered(50 * S, model="llama/int8"))
    chat = board.layout.models_at + 1 * MODEL_WORDS
    kinds = {name: chat + index * GENAI_HISTOGRAM_WORDS for index, name in enumerate(GENAI)}
    words = board.meters[0]
    ttft = words[kinds["ttft"] :][:GENAI_HISTOGRAM_WORDS]
    assert ttft[TTFT_EDGES_US.index(40_000)] == 1
    assert ttft[TTFT_EDGES_US.index(60_000)] == 1
    assert ttft[GENAI_SUM_AT] == 40_000 + 40_001
    assert words[kinds["duration"] + DURATION_EDGES_US.index(160_000)] == 2
    assert words[kinds["input_tokens"] + 5] == 2  # 256 < 800 ≤ 1024 = 4⁵
    assert words[kinds["output_tokens"] + 2] == 2  # 4 < 11 ≤ 16 = 4²
    other = board.layout.models_at + 2 * MODEL_WORDS + 2 * GENAI_HISTOGRAM_WORDS
    assert words[other + len(TTFT_EDGES_US)] == 1  # 50 s is over them all


def test_a_failed_request_is_timed_apart(board: Board, directory: Directory) -> None:
    Meter(board, 0).finished(answered(40 * MS, outcome="failed", status=502, reason="upstream-reset"))
    assert histogram(board, 1, E2E).sum() == 0
    at = board.layout.models_at + 1 * MODEL_WORDS + 1 * GENAI_HISTOGRAM_WORDS
    assert board.meters[0][at : at + 14].sum() == 1


def test_a_worker_in_a_dead_ones_place_goes_on_from_its_counts(board: Board, directory: Directory) -> None:
    Meter(board, 1).finished(answered(5 * MS))
    board.clear(1)
    Meter(Board.attach(board.name), 1).finished(answered(5 * MS))
    assert engine(board, 1, 0)[0] == 2


def test_changed_objectives_count_in_a_new_row_and_the_old_counts_stay(board: Board, directory: Directory) -> None:
    meter = Meter(board, 0)
    meter.finished(answered(150 * MS))
    changed = enrolled(
        directory,
        (WorkloadRow("voice", (Objective("ttft_ms", 100 * MS),)),),
        (),
        (),
        most_workloads=6,
        most_models=64,
    )
    board.write_directory(changed)
    meter.finished(answered(150 * MS))
    meter.refresh()
    meter.finished(answered(100 * MS))
    assert histogram(board, 1, TTFT)[WITHIN_AT : WITHIN_AT + 2].tolist() == [0, 0]
    assert histogram(board, 1, TTFT)[SUM_AT] == 300_000
    assert histogram(board, 3, TTFT)[WITHIN_AT] == 1
    assert histogram(board, 3, TTFT)[SUM_AT] == 100_000


def test_a_directory_that_is_full_counts_the_rest_as_other() -> None:
    names = [WorkloadRow(f"w{number}") for number in range(5)]
    directory = enrolled(Directory(), names, [f"m{n}" for n in range(4)], (), most_workloads=4, most_models=3)
    assert directory.workload_rows() == {"w0": 1, "w1": 2, "w2": 3}
    assert directory.model_rows() == {"m0": 1, "m1": 2}


def test_a_row_once_given_is_never_given_to_another(directory: Directory) -> None:
    later = enrolled(
        directory, (WorkloadRow("new"),), ("new",), ((5, directory.backends[0]),), most_workloads=9, most_models=9
    )
    assert later.workloads[:3] == directory.workloads
    assert later.models[:3] == directory.models
    assert later.backends[:3] == directory.backends
    assert len(later.backends) == 6
    again = enrolled(later, directory.workloads[1:], directory.models, (), most_workloads=9, most_models=9)
    assert again == later


HOSTILE = {
    "tokens beyond 64 bits": {"prompt_tokens": 1 << 70, "output_tokens": 1 << 90, "cached_tokens": -(1 << 80)},
    "negative tokens": {"prompt_tokens": -5, "output_tokens": -1, "cached_tokens": -9},
    "dollars not a number": {"usd": math.nan},
    "endless dollars": {"usd": math.inf, "predicted_ttft_us": math.inf, "predicted_tpot_us": math.nan},
    "a clock gone back": {"arrival_ns": 1 << 62, "decided_ns": -(1 << 62), "end_ns": 0},
    "a clock gone mad": {"arrival_ns": -(1 << 70), "end_ns": 1 << 70, "first_token_ns": 1 << 65},
    "a negative backend": {"backend": -(1 << 66)},
    "tokens that are no numbers": {"prompt_tokens": "12", "output_tokens": 3.5, "cached_tokens": None},
    "many attempts": {"attempts": 1 << 80},
    "strange words": {"outcome": "\x00", "reason": "", "phase": "?", "endpoint": "/etc/passwd", "workload": "é" * 999},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_numbers_are_counted_in_range_and_spoil_no_other_row(
    board: Board, directory: Directory, what: str
) -> None:
    """Twice the longest duration is the most that a sum may grow by; rows of other workers stay untouched."""
    Meter(board, 1).finished(answered(5 * MS, **HOSTILE[what]))
    words = board.meters[1]
    assert words.min() >= -LONGEST_NS
    assert words.max() <= 2 * LONGEST_NS
    assert board.meters[[0, 2]].sum() == 0
    counted = board.meters[1][board.layout.engines_at : board.layout.reasons_at].reshape(-1, ENGINE_WORDS)
    assert counted[:, : len(OUTCOMES)].sum() == 1


@pytest.mark.parametrize("worker", [-1, 3])
def test_a_worker_that_the_board_has_no_room_for_is_refused(board: Board, worker: int) -> None:
    with pytest.raises(InputError, match="only 0 to 2"):
        Meter(board, worker)


@pytest.mark.skipif(is_interpreted(), reason="the cost of compiled code")
def test_counting_a_request_costs_no_more_than_a_few_readings_of_its_fields(board: Board, directory: Directory) -> None:
    meter, request = Meter(board, 0), answered(40 * MS, predicted_ttft_us=1.0, usd=1e-5)

    def cost(action: object) -> float:
        best = float("inf")
        for _ in range(7):
            began = time.process_time()
            for _ in range(2000):
                action()  # type: ignore[operator]
            best = min(best, time.process_time() - began)
        return best

    fields = FIELDS
    assert cost(lambda: meter.finished(request)) < 3 * cost(lambda: [getattr(request, name) for name in fields])
