"""Gates held against runs small enough to count by hand: what passes, what fails, and what is neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.accounts.drawn import Drawn
from gridctl.accounts.gate_report import GateResult, NamedGate, overall
from gridctl.accounts.gating import Baseline, Subject, hold_gate
from gridctl.accounts.intervals import Ensemble
from gridctl.accounts.measures import Measures
from gridctl.accounts.percentiles import proves
from gridctl.accounts.rows import Run
from gridctl.accounts.summary import summarize
from gridctl.resources.gate_expression import parse_gate

MakeRun = Callable[..., Run]


def held(run: Run, text: str, baseline: Run | float | None = None, draws: Sequence[Run] = ()) -> GateResult:
    """The outcome of one gate; `baseline` is a run of the same requests, or a number from elsewhere."""
    against = None
    if isinstance(baseline, Run):
        other = Measures(baseline)
        against = Baseline("before", lambda metric, scope: other.reading(metric, scope).value, other)
    elif baseline is not None:
        against = Baseline("report.json", lambda metric, scope: baseline)
    drawn = None
    if draws:
        summaries = tuple(summarize(draw, draw=number, seed=number) for number, draw in enumerate(draws, start=1))
        drawn = Drawn(Ensemble(asked=len(draws) + 1, drawn=("jitter",), draws=summaries))
    return hold_gate(NamedGate("g", parse_gate(text), "gates.yaml", 3), Subject(Measures(run), drawn), against)


def served(ttft_ms: float, **columns: object) -> dict[str, object]:
    return {"queue_ms": ttft_ms, "engine": 0, "input_tokens": 100, "output_tokens": 1, **columns}


@pytest.fixture
def tens(make_run: MakeRun, make_engine: Callable) -> Run:
    """Ten requests of 10, 20, … 100 ms to their first token, on one GPU at $36 an hour for 100 s: one dollar."""
    requests = [served(10.0 * number, gpu_ns=10 * 10**9) for number in range(1, 11)]
    return make_run(requests, engines=[make_engine(gpus=1, usd_per_gpu_hour=36.0)], window_s=100.0)


@pytest.mark.parametrize(
    ("text", "outcome", "actual", "off_by"),
    [
        # Nearest rank: the 5th of ten values is the median, the 10th the p95.
        ("ttft_ms.p50 <= 50 allow undecided", "pass", 50.0, 0.0),
        ("ttft_ms.p50 < 50 allow undecided", "fail", 50.0, 0.0),
        ("ttft_ms.p95 < 90 allow undecided", "fail", 100.0, 10.0),
        ("ttft_ms.mean <= 55 allow undecided", "pass", 55.0, 0.0),
        ("queue_ms.p90 > 80ms allow undecided", "pass", 90.0, 10.0),
        # 100 s at $36 an hour is a dollar, busy all the time; 1,000 prompt and 10 answer tokens.
        ("usd <= $1.5", "pass", 1.0, -0.5),
        ("usd < $0.75", "fail", 1.0, 0.25),
        ("gpu_idle_usd <= 0", "pass", 0.0, 0.0),
        ("usd_per_mtok_output < $99999", "fail", 100_000.0, 1.0),
        ("usd_per_mtok > 990 ", "pass", 1e6 / 1010, 1e6 / 1010 - 990),
        ("throughput_rps >= 0.1", "pass", 0.1, 0.0),
        ("requests >= 10", "pass", 10.0, 0.0),
        ("requests > 10", "fail", 10.0, 0.0),
        ("gpus >= 1", "pass", 1.0, 0.0),
        # Nobody was refused: of this run that is certain, and nothing else is claimed by a share of 0.
        ("rejected_share <= 0", "pass", 0.0, 0.0),
        ("availability >= 100%", "pass", 1.0, 0.0),
    ],
)
def test_hand_computed_gates(tens: Run, text: str, outcome: str, actual: float, off_by: float) -> None:
    result = held(tens, text)
    assert (result.outcome, result.actual, result.off_by) == (outcome, pytest.approx(actual), pytest.approx(off_by))
    assert (result.samples, result.unserved) == (10, 0)
    assert (result.file, result.line) == ("gates.yaml", 3)


def test_ten_requests_prove_nothing_about_a_percentile_and_say_how_many_it_takes(tens: Run) -> None:
    """59 requests without a miss prove a p95 at 95 %: 0.95^59 = 4.8 %."""
    result = held(tens, "ttft_ms.p95 < 200")
    assert (result.outcome, result.reason, result.needed) == ("error", "too-few-samples", 59)
    assert "10 requests are too few: it takes 59" in result.message
    allowed = held(tens, "ttft_ms.p95 < 200 allow undecided")
    assert (allowed.outcome, allowed.allowed_undecided) == ("pass", True)


@pytest.mark.parametrize(
    ("late", "outcome", "reason"),
    [
        (0, "pass", ""),  # 300 requests without a miss prove a p99; 299 are enough
        (1, "error", "undecided"),  # with one miss it takes 473
        (3, "error", "undecided"),  # exactly 1 %: on the right side, and not proved
        (4, "error", "undecided"),  # on the wrong side, by fewer than five misses
        (6, "fail", "missed"),
    ],
)
def test_a_percentile_has_three_outcomes(make_run: MakeRun, late: int, outcome: str, reason: str) -> None:
    run = make_run([served(600.0 if number < late else 100.0) for number in range(300)])
    result = held(run, "ttft_ms.p99 <= 500")
    assert (result.outcome, result.reason) == (outcome, reason)
    assert proves(300, late, 0.99) == (outcome == "pass")


@pytest.mark.parametrize(("bad", "outcome"), [(0, "pass"), (2, "error"), (10, "fail")])
@pytest.mark.parametrize("text", ["attainment >= 99%", "rejected_share <= 1%", "availability > 98.9%"])
def test_a_share_has_three_outcomes_from_above_and_from_below(
    make_run: MakeRun, text: str, bad: int, outcome: str
) -> None:
    refused = {"outcome": "rejected", "reason": "infeasible", "engine": -1}
    run = make_run([refused if number < bad else served(100.0) for number in range(300)])
    assert held(run, text).outcome == outcome


def test_refused_requests_are_in_no_time_and_the_result_says_how_many(make_run: MakeRun) -> None:
    requests = [served(100.0)] * 300 + [{"outcome": "rejected", "reason": "infeasible", "engine": -1}] * 7
    result = held(make_run(requests), "ttft_ms.p99 < 200")
    assert (result.outcome, result.samples, result.unserved) == ("pass", 300, 7)


def test_a_scope_that_is_not_there_or_holds_nobody_is_an_error_even_where_undecided_is_allowed(
    make_run: MakeRun, make_workload: Callable
) -> None:
    specs = {"voice": make_workload(("ttft_ms", 500.0)), "batch": make_workload(("e2e_ms", 9e5))}
    run = make_run([served(100.0)] * 300, workloads=specs)
    unknown = held(run, "attainment >= 99% where workload=voic allow undecided")
    assert (unknown.outcome, unknown.reason, unknown.fix) == ("error", "scope", "did you mean voice?")
    empty = held(run, "rejected_share <= 0 where workload=batch allow undecided")
    assert (empty.outcome, empty.reason) == ("error", "scope")
    assert "no request of run base has workload batch" in empty.message
    nobody = held(make_run([]), "rejected_share <= 0")
    assert (nobody.outcome, nobody.reason) == ("error", "scope")


def test_a_number_that_does_not_exist_is_an_error(make_run: MakeRun) -> None:
    """Answers of one token have no time per token."""
    result = held(make_run([served(100.0)] * 400), "tpot_ms.p50 < 10")
    assert (result.outcome, result.reason) == ("error", "no-number")


def test_scopes_narrow_by_request_and_by_engine(make_run: MakeRun, make_engine: Callable) -> None:
    engines = [make_engine(site="paris", tier="edge"), make_engine(site="oslo", model="big", variant="bf16")]
    requests = [served(50.0, engine=0, tenant=0)] * 300 + [served(400.0, engine=1, tenant=1, origin=1)] * 300
    run = make_run(requests, engines=engines, tenants=("a", "b"), regions=("EU", "NA"))
    for scope in (
        "site=paris",
        "tier=edge",
        "tenant=a",
        "region=EU",
        "origin=eu",
        "variant=m/fp8",
        "site=paris, tenant=a",
    ):
        result = held(run, f"ttft_ms.p99 < 100 where {scope}")
        assert (result.outcome, result.samples) == ("pass", 300), scope
    assert held(run, "ttft_ms.p99 < 100 where model=big").outcome == "fail"
    assert held(run, "ttft_ms.p99 < 100 where site=paris, tenant=b").reason == "scope"


def test_promises_are_counted_by_status(make_run: MakeRun, make_workload: Callable) -> None:
    """300 good requests prove the objective and 99 % attainment; 99.9 % availability takes 2,995."""
    run = make_run([served(100.0)] * 300, workloads={"voice": make_workload(("ttft_ms", 500.0), availability=0.999)})
    assert held(run, "promises_met >= 2").actual == 2
    assert held(run, "promises_undecided <= 0").outcome == "fail"
    assert held(run, "promises_missed <= 0").outcome == "pass"
    assert held(run, "promises_missed <= 0 where site=s").reason in ("no-promise", "scope")


def test_attained_and_budget_count_by_hand(make_run: MakeRun, make_workload: Callable) -> None:
    """Of 400 requests 8 are late and 4 refused; 99 % allows 4 bad ones: three times the budget."""
    specs = {"voice": make_workload(("ttft_ms", 500.0), ("tpot_ms", 50.0))}
    refused = {"outcome": "rejected", "reason": "infeasible", "engine": -1}
    requests = [served(600.0)] * 8 + [refused] * 4 + [served(100.0)] * 388
    run = make_run(requests, workloads=specs)
    assert held(run, "attained.ttft_ms >= 90%").actual == pytest.approx(388 / 400)
    assert held(run, "attained.tpot_ms >= 1% allow undecided").samples == 4  # one-token answers have none
    assert held(run, "burn > 2 allow undecided").actual == pytest.approx(3.0)
    assert held(run, "budget_left_share >= -200% allow undecided").actual == pytest.approx(-2.0)


def slower(run: Run, make_run: MakeRun, by_ms: Sequence[float]) -> Run:
    """The same requests, each so much later."""
    requests = [served(float(run.rows.queue_ns[i]) / 1e6 + by_ms[i]) for i in range(len(run.rows))]
    return make_run(requests, name="after")


def test_a_baseline_of_the_same_requests_needs_no_margin_for_what_both_share(make_run: MakeRun) -> None:
    """Times between 1 ms and 1 s, all 4 % later: within 5 % of the baseline beyond doubt, though the p95 of another
    600 such requests would be off by more than that."""
    values = np.random.default_rng(7).lognormal(4, 1, 600)
    before = make_run([served(float(value)) for value in values])
    after = make_run([served(float(value) * 1.04) for value in values], name="after")
    for metric in ("ttft_ms.p50", "ttft_ms.p95", "ttft_ms.mean"):
        assert held(after, f"{metric} <= baseline * 1.05", before).outcome == "pass"
        assert held(after, f"{metric} <= baseline * 1.03", before).outcome == "fail"
    same = held(before, "ttft_ms.p95 <= baseline", before)
    assert (same.outcome, same.low, same.high) == ("pass", 0.0, 0.0)
    assert held(before, "ttft_ms.p95 < baseline", before).outcome == "fail"


def test_a_difference_within_chance_is_undecided(make_run: MakeRun) -> None:
    """Every request moves by ±50 ms at random: whether the mean moved depends on the stretch looked at."""
    source = np.random.default_rng(3)
    values = source.lognormal(5, 0.5, 900)
    before = make_run([served(float(value) + 60) for value in values])
    shift = np.where(np.arange(900) % 2 == 0, 50.0, -50.0)
    after = slower(before, make_run, list(source.permutation(shift)))
    result = held(after, "ttft_ms.mean <= baseline", before)
    assert (result.outcome, result.reason) == ("error", "undecided")
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0 < result.high


def test_a_baseline_elsewhere_is_a_fixed_number(make_run: MakeRun) -> None:
    run = make_run([served(100.0)] * 300)
    result = held(run, "ttft_ms.p99 <= baseline * 1.05", 99.0)
    assert (result.outcome, result.expected, result.baseline) == ("pass", pytest.approx(103.95), 99.0)
    missing = held(run, "ttft_ms.p99 <= baseline")
    assert (missing.outcome, missing.reason) == ("error", "no-baseline")
    assert "--baseline" in missing.fix


def test_gates_over_draws_count_the_draws_in_which_they_hold(make_run: MakeRun, make_engine: Callable) -> None:
    """Draw k of ten takes 10·k ms: nine of ten are at 90 ms or less."""
    engines = [make_engine()]
    run = make_run([served(50.0)] * 300, engines=engines)
    draws = [make_run([served(10.0 * number)] * 300, engines=engines) for number in range(1, 11)]
    most = held(run, "ttft_ms.p99 <= 90 in 90% of draws", draws=draws)
    assert (most.outcome, most.draws_held, most.draws) == ("pass", 9, 10)
    assert held(run, "ttft_ms.p99 <= 90 in all draws", draws=draws).outcome == "fail"
    assert held(run, "ttft_ms.p99 <= 100 in all draws", draws=draws).outcome == "pass"
    few = held(run, "ttft_ms.p99 <= 90 in 90% of draws", draws=draws[:5])
    assert (few.outcome, few.reason) == ("error", "no-draws")
    assert held(run, "ttft_ms.p99 <= 90 in all draws").reason == "no-draws"
    assert held(run, "queue_ms.p99 <= 90 in all draws", draws=draws).reason == "no-draws"


def test_ten_draws_on_both_sides_leave_a_gate_undecided(make_run: MakeRun, make_engine: Callable) -> None:
    """The run proves its own p99; the draws, which see more than its requests, do not."""
    engines = [make_engine()]
    run = make_run([served(50.0)] * 300, engines=engines)
    draws = [make_run([served(10.0 * number)] * 300, engines=engines) for number in range(1, 11)]
    assert held(run, "ttft_ms.p99 <= 60").outcome == "pass"
    undecided = held(run, "ttft_ms.p99 <= 60", draws=draws)
    assert (undecided.outcome, undecided.decided_by) == ("error", "draws")
    assert held(run, "ttft_ms.p99 <= 101", draws=draws).outcome == "pass"


def test_errors_outweigh_failures_and_nothing_at_all_is_an_error(tens: Run) -> None:
    passed, failed = held(tens, "usd < 2"), held(tens, "usd < 0.5")
    broken = held(tens, "usd < 2 where site=nowhere")
    assert overall((passed,)) == "pass"
    assert overall((passed, failed)) == "fail"
    assert overall((failed, broken, passed)) == "error"
    assert overall(()) == "error"


@given(st.integers(1, 900), st.integers(0, 40), st.sampled_from(("p50", "p90", "p99")))
def test_no_gate_passes_that_its_requests_do_not_prove(n: int, late: int, percentile: str) -> None:
    """False passes are bounded by the exact binomial test, whatever the sizes: recounted here from the definition."""
    from math import comb

    from gridctl.accounts.evidence import Claim, _by_count  # the rule itself, without a run around it

    late = min(late, n)
    share = float(percentile.removeprefix("p")) / 100
    claim = Claim(f"ttft_ms.{percentile}", "<=", 500.0, {})
    rank = -(-n * int(share * 100) // 100)
    value = 100.0 if n - late >= rank else 600.0
    found = _by_count(claim, n, late, share, value).finding
    tail = sum(comb(n, k) * (1 - share) ** k * share ** (n - k) for k in range(late + 1))
    if found == "proved":
        assert tail <= 0.05 + 1e-9
    if tail <= 0.05 - 1e-9 and value <= 500:
        assert found == "proved"
