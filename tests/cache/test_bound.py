"""The bound: its arithmetic by hand, and how often it fails in drawn streams where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gridctl.cache.account import REQUESTS_PER_EPOCH, Account
from gridctl.cache.bound import FLOOR, log_evidence, most_spendable, most_wrong
from gridctl.cache.certificate import Certificate
from gridctl.errors import InputError

ETAS = {0.06: 0.05, 0.16: 0.12, 0.4: 0.25, 0.8: 0.28, 1.3: 0.18, 2.3: 0.12}  # with their weights in the mixture
RATIOS = (0.006, 0.02, 0.06, 0.2, 0.6, 1.8)


def plain_evidence(wrong_served: float, served: float, wrong: float, predicted: float) -> float:
    """The mixture as the docstring writes it, term by term, least over a fine range of factors."""
    lowest = math.inf
    for factor in [0.0, *np.geomspace(0.01, 1000.0, 3000)]:
        terms = [
            math.log(weight / len(RATIOS))
            + eta * wrong_served
            - factor * (math.exp(eta) - 1.0) * served
            + factor * (1.0 - math.exp(-eta * ratio)) * predicted
            - eta * ratio * wrong
            for eta, weight in ETAS.items()
            for ratio in RATIOS
        ]
        top = max(terms)
        lowest = min(lowest, top + math.log(sum(math.exp(term - top) for term in terms)))
    return lowest


@pytest.mark.parametrize("record", [(10.0, 4.0, 6.0, 5.0), (30.0, 13.0, 90.0, 80.0), (3.0, 0.5, 0.0, 2.0)])
def test_the_evidence_is_the_written_mixture_at_its_least(record: tuple[float, float, float, float]) -> None:
    assert log_evidence(*record) == pytest.approx(plain_evidence(*record), abs=2e-3)


def test_spendable_and_wrong_are_two_readings_of_one_bound() -> None:
    spent = most_spendable(30.0, 90.0, 80.0, 0.05)
    assert most_wrong(spent, 90.0, 80.0, 0.05) == pytest.approx(30.0, rel=1e-3)


def test_more_wrong_labels_leave_less_to_spend_and_more_labels_leave_more() -> None:
    base = most_spendable(30.0, 20.0, 20.0, 0.05)
    assert most_spendable(30.0, 40.0, 20.0, 0.05) < base < most_spendable(30.0, 20.0, 40.0, 0.05)
    assert most_spendable(30.0, 20.0, 20.0, 0.01) < base < most_spendable(60.0, 20.0, 20.0, 0.05)


def test_without_labels_no_more_is_served_than_may_be_wrong() -> None:
    assert most_spendable(30.0, 0.0, 0.0, 0.05) < 30 * FLOOR
    assert most_wrong(5.0, 0.0, 0.0, 0.05) == math.inf


def test_so_few_requests_afford_nothing() -> None:
    """The mixture cannot reach 1/α while e^(2.3 L) < 20, whatever the labels: L = 1.30."""
    assert most_spendable(math.log(20.0) / 2.3, 0.0, 1e6, 0.05) == 0.0


def test_weights_of_the_mixture_sum_to_one() -> None:
    """Nothing served, no labels: the mixture is 1."""
    assert log_evidence(0.0, 0.0, 0.0, 0.0) == pytest.approx(0.0, abs=1e-12)


def test_many_labels_forbid_nothing() -> None:
    """A record of ten times as many labels with the same factor affords at least as much."""
    few, many = most_spendable(12.0, 60.0, 60.0, 0.05), most_spendable(12.0, 600.0, 600.0, 0.05)
    assert 0.0 < few <= many * 1.1


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="cannot be kept"):
        Account(rate)
    with pytest.raises(InputError, match="cannot be kept"):
        Account(0.01, rate)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_promise_holds_in_drawn_streams_whatever_the_models_error(factor: float) -> None:
    """Wrong with `factor` times the predicted chance. Serving greedily, the promise may fail at any moment in at most
    5 % of streams; 30 streams fail more than 5 times with probability under 1 % then (binomial)."""
    failures = 0
    for seed in range(30):
        draw = np.random.default_rng(seed)
        account, wrong, failed = Account(0.04), 0, False
        for predicted in draw.choice([0.002, 0.01, 0.03, 0.1, 0.24], 800):
            account.arrived()
            is_wrong = bool(draw.random() < factor * predicted)
            if draw.random() > 0.1 and account.affords(predicted):
                account.serve(predicted)
                wrong += is_wrong
                failed = failed or wrong > 0.04 * account.requests
            else:
                account.learn(predicted, is_wrong)
        failures += failed
    assert failures <= 5


def test_a_model_that_suits_earns_more_than_one_that_is_too_bold() -> None:
    served = []
    for factor in (0.5, 4.0):
        draw = np.random.default_rng(1)
        account = Account(0.02)
        for predicted in draw.choice([0.002, 0.01, 0.03, 0.1], 2000):
            account.arrived()
            if draw.random() > 0.2 and account.affords(predicted):
                account.serve(predicted)
            else:
                account.learn(predicted, bool(draw.random() < factor * predicted))
        served.append(account.served)
    assert served[0] > 1.5 * served[1]


def test_an_epoch_turns_with_the_labels_of_its_second_half() -> None:
    account = Account(0.05)
    for number in range(REQUESTS_PER_EPOCH + 1):
        account.arrived()
        if number % 1000 == 0:
            account.learn(0.1, False)
    assert account.requests == 1
    assert account.alpha == pytest.approx(0.05 * 0.25 * 6.0 / math.pi**2)
    assert account.factor == pytest.approx(1.0 / (1.0 + 26 * 0.1))  # requests 25,001 … 49,001 and 50,001


@pytest.mark.parametrize("predicted", [math.nan, math.inf, 0.51, 1.0])
def test_what_is_too_risky_is_never_affordable(predicted: float) -> None:
    account = Account(0.5)
    for _ in range(5000):
        account.arrived()
        account.learn(0.2, False)
    assert account.affords(0.2)
    assert not account.affords(predicted)


def test_the_certificate_covers_what_was_served_wrong_however_candidates_are_chosen() -> None:
    """An adversary sends wrong candidates until the sum looks best for him; still covered in 95 % of 300 streams."""
    failures = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        certificate, served = Certificate(0.1), 0
        for _ in range(400):
            probability = float(draw.choice([0.1, 0.3]))
            if draw.random() < probability:
                certificate.audited(probability, True)
            else:
                served += 1
            if served > certificate.most:
                failures += 1
                break
    assert failures <= 26  # binomial(300, 0.05): more with probability under 0.5 %


def test_the_certificates_factor_has_mean_one() -> None:
    eta, audit = -0.7 * math.log1p(-0.1), 0.25
    before = Certificate(0.1)
    after = Certificate(0.1)
    after.audited(audit, True)
    gain = (after.most - before.most) * eta
    assert (1.0 - audit) * math.exp(eta) + audit * math.exp(-gain) == pytest.approx(1.0)


def test_an_audit_that_was_too_rare_is_our_own_mistake() -> None:
    with pytest.raises(InputError, match="less than"):
        Certificate(0.1).audited(0.05, False)


def test_labels_that_were_predicted_to_be_surely_right_add_nothing_to_the_record() -> None:
    account = Account(0.05)
    for _ in range(1000):
        account.learn(0.0, False)
    assert account.factor == 1.0
    account.learn(0.0, True)
    assert account.factor == 2.0


def test_the_epochs_share_what_may_fail() -> None:
    """0.75 of 5 % for the first, 6 / (π² k²) of the rest for each after it, summed over a thousand epochs."""
    account, total = Account(0.05), 0.0
    for epoch in range(1, 1001):
        account.resume(epoch, 0, 0, 0.0, (0.0, 0.0, 0.0, 0.0))
        total += account.alpha
    assert 0.0499 < total <= 0.05


def test_limits_worked_out_ahead_are_those_of_the_wrong_labels_that_come() -> None:
    """Another thread works out what holds after 30 wrong labels of 300, and after one and two more; the third one's is
    worked out when it has come, from all labels there are then."""
    account = Account(0.05)
    for _ in range(2_000):
        account.arrived()
    for place in range(300):
        account.learn(0.1, place % 10 == 0)
    account.refreshes_itself = False
    copy = account.copy()
    copy.work_out(ahead=2)
    account.learn(0.1, True)  # while the other thread is at work
    assert account.adopt(copy)
    for came, predicted in ((1, 30.0), (2, 30.0), (3, 30.3)):
        limit = most_spendable(100.0, 30.0 + came, predicted, account.alpha)
        account.spent = limit - 0.101
        assert account.affords(0.1)
        account.spent = limit - 0.099
        assert not account.affords(0.1)
        account.learn(0.1, True)


def test_limits_are_not_taken_from_before_more_wrong_labels_than_they_reach_to_or_another_epoch() -> None:
    account = Account(0.05)
    for _ in range(2_000):
        account.arrived()
        account.learn(0.1, False)
    copy = account.copy()
    copy.work_out(ahead=1)
    account.learn(0.1, True)
    account.learn(0.1, True)
    assert not account.adopt(copy)
    late = account.copy()
    late.work_out(ahead=1)
    account.resume(2, 0, 0, 0.0, (0.0, 0.0, 0.0, 0.0))
    assert not account.adopt(late)
    assert not account.affords(0.01)
