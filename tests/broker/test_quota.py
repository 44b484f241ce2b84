"""Quotas of keys: what fits passes, what does not is refused with when it will, over all workers together."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from livegrids import Request, broker_of, chat, grid

from gridctl.broker.keys import digest_of
from gridctl.broker.plan import Key, Plan, Settings
from gridctl.broker.quota import Quotas, make_quota_file
from gridctl.broker.refusal import Refusal
from gridctl.errors import InputError, StoreError
from gridctl.gateway.ending import outcome_of_refusal
from gridctl.units import NS_PER_MS, NS_PER_S

START = 1_000 * NS_PER_S


def key(**given: object) -> Key:
    return Key(digest=digest_of("secret"), name="shop", tenant="acme", row=3, **given)  # type: ignore[arg-type]


def quotas_of(one: Key, *, worker: int = 0, path: Path | None = None, workers: int = 1) -> Quotas:
    quotas = Quotas(worker)
    file = None if path is None else str(path)
    quotas.adopt(Plan(generation=1, resources=(), keys=(one,), settings=Settings(workers=workers, quota_file=file)))
    return quotas


def wait_ms(quotas: Quotas, at_ns: int, tokens: int = 1) -> int | None:
    """How long the refusal says to wait; None when the request passed."""
    try:
        quotas.take("shop", tokens, at_ns)
    except Refusal as caught:
        refusal = caught
    else:
        return None
    assert (refusal.status, refusal.reason, refusal.code) == (429, "quota", "rate_limit_exceeded")
    assert refusal.type == "rate_limit_error"
    return refusal.retry_after_ms


def test_so_many_requests_a_second_pass_and_the_next_one_hears_when_to_come() -> None:
    quotas = quotas_of(key(requests_per_s=4.0))
    assert [wait_ms(quotas, START) for _ in range(4)] == [None] * 4
    # The window slides: a quarter second into the next one, three of the four still count.
    assert wait_ms(quotas, START) == 1250
    assert wait_ms(quotas, START + 1240 * NS_PER_MS) == 10
    assert wait_ms(quotas, START + 1250 * NS_PER_MS) is None
    assert wait_ms(quotas, START + 1250 * NS_PER_MS) == 250


def test_fewer_than_one_a_second_are_counted_over_as_long_as_one_takes() -> None:
    quotas = quotas_of(key(requests_per_s=0.1))
    assert wait_ms(quotas, START) is None
    assert wait_ms(quotas, START + 5 * NS_PER_S) == 15_000  # by the sliding window the first one fades until 20 s
    assert wait_ms(quotas, START + 20 * NS_PER_S) is None


def test_tokens_are_counted_a_minute_and_a_refused_request_takes_none() -> None:
    quotas = quotas_of(key(tokens_per_minute=1000))
    begin = 60 * NS_PER_S * 100
    assert wait_ms(quotas, begin, 600) is None
    assert wait_ms(quotas, begin, 500) == 70_000  # at 70 s 600 · (1 − 10/60) = 500 are left of it
    assert wait_ms(quotas, begin, 400) is None
    with pytest.raises(Refusal, match="it never fits") as caught:
        quotas.take("shop", 1001, begin + 500 * NS_PER_S)
    assert (caught.value.should_retry, caught.value.retry_after_ms) == (False, None)


def test_both_limits_hold_and_what_one_refuses_the_other_does_not_count() -> None:
    quotas = quotas_of(key(requests_per_s=2.0, tokens_per_minute=100))
    assert wait_ms(quotas, START, 90) is None
    assert wait_ms(quotas, START, 20) is not None  # tokens
    assert wait_ms(quotas, START, 10) is None
    assert wait_ms(quotas, START, 0) is not None  # requests


def test_workers_share_a_quota_and_none_counts_in_another_s_words(tmp_path: Path) -> None:
    path = tmp_path / "quota.bin"
    make_quota_file(path, 3)
    assert path.stat().st_mode & 0o777 == 0o600
    workers = [quotas_of(key(requests_per_s=6.0), worker=number, path=path, workers=3) for number in range(3)]
    for worker in workers:
        assert wait_ms(worker, START) is None
        assert wait_ms(worker, START) is None
    assert all(wait_ms(worker, START) is not None for worker in workers)
    make_quota_file(path, 1)  # of the next orchestrator, while these still serve
    assert all(wait_ms(worker, START) is not None for worker in workers)
    assert wait_ms(quotas_of(key(requests_per_s=6.0), path=path), START) is None


def test_a_worker_that_is_started_anew_finds_what_was_counted(tmp_path: Path) -> None:
    path = tmp_path / "quota.bin"
    make_quota_file(path, 2)
    assert wait_ms(quotas_of(key(requests_per_s=1.0), worker=0, path=path, workers=2), START) is None
    again = quotas_of(key(requests_per_s=1.0), worker=0, path=path, workers=2)
    assert wait_ms(again, START) is not None
    again = quotas_of(key(requests_per_s=1.0), worker=1, path=path, workers=2)
    assert wait_ms(again, START) is not None


def test_a_plan_keeps_counts_and_a_key_without_a_limit_or_another_key_is_free() -> None:
    quotas = quotas_of(key(requests_per_s=1.0))
    assert wait_ms(quotas, START) is None
    plan = Plan(generation=2, resources=(), keys=(key(requests_per_s=2.0),))
    quotas.adopt(plan)
    assert wait_ms(quotas, START) is None
    assert wait_ms(quotas, START) is not None
    quotas.adopt(msgspec.structs.replace(plan, keys=(key(),)))
    assert [wait_ms(quotas, START) for _ in range(5)] == [None] * 5
    quotas.take("another", 10**9, START)


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=200), st.integers(1, 20))
def test_in_no_window_of_two_seconds_do_more_pass_than_two_and_a_bit_allow(gaps_ms: list[int], most: int) -> None:
    """The weighted window lets at most its limit pass in a bucket, whatever comes."""
    quotas = quotas_of(key(requests_per_s=float(most)))
    at_ns, passed = START, []
    for gap_ms in gaps_ms:
        at_ns += gap_ms * NS_PER_MS // 10
        if wait_ms(quotas, at_ns) is None:
            passed.append(at_ns)
    for begin in passed:
        assert sum(begin <= one < begin + NS_PER_S for one in passed) <= 2 * most
    by_second: dict[int, int] = {}
    for one in passed:
        by_second[one // NS_PER_S] = by_second.get(one // NS_PER_S, 0) + 1
    assert max(by_second.values()) <= most


@given(st.integers(0, 999), st.integers(1, 9))
def test_who_comes_when_it_was_told_to_is_served(into_ms: int, most: int) -> None:
    quotas = quotas_of(key(requests_per_s=float(most)))
    at_ns = START + into_ms * NS_PER_MS
    for _ in range(most):
        assert wait_ms(quotas, at_ns) is None
    told = wait_ms(quotas, at_ns)
    assert told is not None
    assert told > 0
    assert wait_ms(quotas, at_ns + told * NS_PER_MS) is None


def test_a_request_over_the_quota_is_refused_before_anything_is_decided_and_counts_as_refused() -> None:
    broker, board = broker_of(grid(), keys=[key(requests_per_s=1.0)], anonymous=False)
    head = Request({b"authorization": b"Bearer secret"})
    broker.ask(head, chat(), START)
    with pytest.raises(Refusal) as caught:
        broker.ask(head, chat(), START)
    assert caught.value.reason == "quota"
    assert outcome_of_refusal(caught.value) == "refused"
    assert "the key shop: 1 requests a second" in caught.value.message
    assert int(board.slots["requests"].sum()) == 0


def test_a_file_that_is_missing_or_too_short_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be shared"):
        quotas_of(key(), path=tmp_path / "none", workers=1)
    make_quota_file(tmp_path / "one", 1)
    with pytest.raises(InputError, match="cannot be shared"):
        quotas_of(key(), path=tmp_path / "one", workers=2)
    with pytest.raises(StoreError):
        make_quota_file(tmp_path / "no" / "folder", 1)
