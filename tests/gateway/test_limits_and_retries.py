"""How many, how often, and never again."""

from __future__ import annotations

import pytest

from gridctl.broker.refusal import Refusal
from gridctl.errors import InputError
from gridctl.gateway.hedging import HedgeBudget
from gridctl.gateway.limits import Limits, connections_that_fit
from gridctl.gateway.retries import HELD_NS, REFUSED_NS, RetryBudget, Suspects


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


def test_what_is_set_aside_for_engines_is_half_of_the_descriptors_at_most() -> None:
    assert connections_that_fit(16_384, 65_536, 4096) == 16_384
    assert connections_that_fit(16_384, 1024, 4096) == (1024 - 64) // 2
    assert connections_that_fit(16_384, 20_000, 4096) == 20_000 - 64 - 4096
    assert connections_that_fit(16_384, 20_000, 4096) > 10_000
    with pytest.raises(InputError):
        connections_that_fit(16_384, 128, 4096)


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


def test_hedges_that_quiet_times_left_over_do_not_meet_an_outage_all_at_once() -> None:
    budget = HedgeBudget(0.02)
    budget.requests = 1_000_000
    assert sum(budget.take() for _ in range(100)) == 5
    taken = 0
    for _ in range(1000):  # from here on every stream is late
        budget.requests += 1
        taken += budget.take()
    assert taken == 20


def test_a_hedge_that_nobody_could_take_is_not_counted() -> None:
    budget = HedgeBudget(0.5)
    budget.requests = 2
    assert [budget.take(), budget.take()] == [True, False]
    budget.give_back()
    assert (budget.hedged, budget.take(), budget.hedged) == (0, True, 1)


POISON = ("/v1/x", b"poison")
OTHER = ("/v1/x", b"other")
MS = 1_000_000


def _broken(suspects: Suspects, at_ns: int, *, others: bool = False) -> None:
    """Engines 0 and 1 break under the poison, and with `others` under somebody else's request, too."""
    for row in (0, 1):
        suspects.broke(*POISON, row, at_ns)
        if others:
            suspects.broke(*OTHER, row, at_ns)
    suspects.add(*POISON, (0, 1), at_ns)


def _refused(suspects: Suspects, now_ns: int) -> int:
    with pytest.raises(Refusal) as caught:
        suspects.check(*POISON, now_ns)
    assert caught.value.should_retry is (caught.value.status == 503)
    assert (caught.value.retry_after_ms is not None) is (caught.value.status == 503)
    return caught.value.status


def test_what_broke_engines_that_serve_others_before_and_since_is_refused_for_a_minute() -> None:
    suspects = Suspects()
    for row in (0, 1):
        suspects.served(row, 1000 * MS)
    _broken(suspects, 2000 * MS)
    assert _refused(suspects, 2050 * MS) == 503, "nobody has been served since"
    for row in (0, 1):
        suspects.served(row, 2500 * MS)
    assert _refused(suspects, 2600 * MS) == 400
    assert not suspects.check(*OTHER, 2600 * MS)
    assert not suspects.check("/v1/y", b"poison", 2600 * MS)
    assert _refused(suspects, 2000 * MS + REFUSED_NS - 1) == 400
    assert suspects.check(*POISON, 2000 * MS + REFUSED_NS), "then it has another trial"


@pytest.mark.parametrize("others", [False, True])
def test_an_outage_makes_nobody_sure_and_its_victims_are_served_when_it_is_over(others: bool) -> None:
    suspects = Suspects()
    if others:
        suspects.served(0, 1000 * MS)
        suspects.served(1, 1000 * MS)
    _broken(suspects, 2000 * MS, others=others)
    assert _refused(suspects, 2600 * MS) == 503
    back = 2000 * MS + HELD_NS
    suspects.served(0, back)
    suspects.served(1, back)
    assert suspects.check(*POISON, back), "it is tried on one engine"
    assert _refused(suspects, back) == 503, "one at a time"
    suspects.clear(*POISON)
    assert not suspects.check(*POISON, back)
    assert len(suspects) == 0


def test_who_breaks_a_third_engine_while_others_are_served_is_refused() -> None:
    suspects = Suspects()
    _broken(suspects, 2000 * MS)
    suspects.served(2, 3000 * MS)
    assert suspects.check(*POISON, 2000 * MS + HELD_NS)
    suspects.broke(*POISON, 2, 2001 * MS + HELD_NS)
    suspects.add(*POISON, (2,), 2001 * MS + HELD_NS)
    assert _refused(suspects, 2002 * MS + HELD_NS) == 400


def test_who_breaks_a_third_engine_while_nobody_is_served_is_told_to_come_again() -> None:
    suspects = Suspects()
    _broken(suspects, 2000 * MS)
    assert suspects.check(*POISON, 2000 * MS + HELD_NS)
    suspects.broke(*POISON, 2, 2001 * MS + HELD_NS)
    suspects.add(*POISON, (2,), 2001 * MS + HELD_NS)
    assert _refused(suspects, 2002 * MS + HELD_NS) == 503


def test_suspects_are_bounded() -> None:
    suspects = Suspects()
    for number in range(5000):
        suspects.add("/v1/x", b"%d" % number, (0, 1), 0)
    assert len(suspects) <= 1024
