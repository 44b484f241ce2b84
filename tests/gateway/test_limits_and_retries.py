"""How many, how often, and never again."""

from __future__ import annotations

import pytest

from gridctl.broker.refusal import Refusal
from gridctl.errors import InputError
from gridctl.gateway.limits import Limits, connections_that_fit
from gridctl.gateway.retries import REFUSED_NS, HedgeBudget, RetryBudget, Suspects


def test_an_address_has_its_own_cap_and_gives_back_what_it_used() -> None:
    limits = Limits(100, 2)
    assert [limits.enter("a"), limits.enter("a"), limits.enter("a"), limits.enter("b")] == [True, True, False, True]
    limits.leave("a")
    limits.leave("a")
    assert limits.enter("a")
    for _ in range(2):
        limits.leave("a")
    limits.leave("b")
    assert limits.connections == 0


def test_two_descriptors_are_reckoned_for_each_connection() -> None:
    assert connections_that_fit(16_384, 65_536) == 16_384
    assert connections_that_fit(16_384, 1024) == (1024 - 64) // 2
    with pytest.raises(InputError):
        connections_that_fit(16_384, 128)


def test_retries_are_a_fifth_of_the_requests_in_flight_but_at_least_three() -> None:
    budget = RetryBudget(0.2, 3)
    assert [budget.take(4) for _ in range(4)] == [True, True, True, False]
    assert budget.take(20)
    assert not budget.take(20)
    budget.give_back()
    assert budget.take(20)


def test_hedges_are_two_in_a_hundred_requests() -> None:
    budget = HedgeBudget(0.02)
    taken = 0
    for _ in range(1000):
        budget.requests += 1
        taken += budget.take()
    assert taken == 20


def test_a_suspect_is_refused_for_its_time_and_nothing_else_is() -> None:
    suspects = Suspects()
    suspects.add("/v1/x", b"poison", 0)
    with pytest.raises(Refusal) as caught:
        suspects.check("/v1/x", b"poison", 1)
    assert caught.value.status == 400
    assert caught.value.should_retry is False
    suspects.check("/v1/x", b"other", 1)
    suspects.check("/v1/y", b"poison", 1)
    suspects.check("/v1/x", b"poison", REFUSED_NS + 1)
    assert len(suspects) == 0


def test_suspects_are_bounded() -> None:
    suspects = Suspects()
    for number in range(5000):
        suspects.add("/v1/x", b"%d" % number, 0)
    assert len(suspects) <= 1024
