"""A cache in virtual time: what is there when, by hand."""

from __future__ import annotations

import random
from collections.abc import Hashable

import numpy as np
import pytest

from gridctl.cache.admission import AskedBefore
from gridctl.cache.forecast import exact_of_lengths
from gridctl.cache.memory import DrawnMemory, Memory
from gridctl.cache.population import load_population
from gridctl.cache.rehearsal import NEVER, Asked, CacheRule, Rehearsal

S = 1_000_000_000


def cache(
    capacity_bytes: int = 1 << 30,
    mode: str = "exact",
    ttl_s: float = 100.0,
    seed: int = 1,
    stale_s: float = 0.0,
    admission: str = "first",
) -> Rehearsal:
    tables = dict.fromkeys(range(1000), load_population("questions", "minilm"))

    def remember(partition: Hashable, rate: float) -> Memory:
        return DrawnMemory(tables, rate, random.Random(f"{seed}/{partition}"))

    rule = CacheRule(mode=mode, ttl_s=ttl_s, stale_s=stale_s, error_rate=0.05, admission=admission)  # type: ignore[arg-type]
    rules = {"chat": rule}
    return Rehearsal(rules, capacity_bytes, remember, vector_bytes=1536, seed=seed)


def asked(number: int, text: str, key: int = 1, partition: str = "a", output_tokens: int = 10) -> Asked:
    return Asked(number, partition, "chat", key, text, 10, output_tokens, 0.001)


def test_an_answer_is_there_once_its_engine_has_finished_and_until_its_time_is_over() -> None:
    one = cache()
    assert one.ask(asked(0, "x"), 0, 5 * S).level == "miss"
    joined = one.ask(asked(1, "x"), 2 * S, NEVER)
    assert (joined.level, joined.leader) == ("joined", 0)
    assert one.ask(asked(2, "x"), 5 * S, NEVER).level == "exact"
    assert one.ask(asked(3, "x"), 94 * S, NEVER).level == "exact"  # 100 s, less a tenth at most, after 5 s
    assert one.ask(asked(4, "x"), 116 * S, 120 * S).level == "miss"
    assert one.expired == 1


def test_past_its_time_an_answer_is_served_while_one_engine_is_asked_for_it_anew() -> None:
    """Born at 1 s, fresh until 91 s at the earliest and 101 s at the latest, gone 50 s after that."""
    one = cache(stale_s=50.0)
    one.ask(asked(0, "x"), 0, S)
    assert one.ask(asked(1, "x"), 90 * S, NEVER).level == "exact"
    assert one.ask(asked(2, "x"), 102 * S, NEVER).level == "exact"  # no engine would answer
    assert one.ask(asked(3, "x", key=2), 103 * S, 105 * S)[:2] == ("stale", True)
    assert one.ask(asked(4, "x"), 104 * S, 106 * S).level == "exact"  # it is under way
    fresh = one.ask(asked(5, "x", key=2), 106 * S, 107 * S)
    assert (fresh.level, fresh.is_wrong) == ("exact", False)  # the answer of 105 s
    assert len(one) == 1
    assert one.ask(asked(6, "x"), 260 * S, 261 * S).level == "miss"


def test_an_answer_renewed_in_meaning_joins_the_group_it_came_from() -> None:
    one = cache(mode="semantic", stale_s=50.0)
    one.ask(asked(0, "x"), 0, S)
    assert one.ask(asked(1, "x"), 110 * S, 111 * S).level == "stale"
    one.advance(112 * S)
    assert len(one) == 1
    assert one.ask(asked(2, "x"), 113 * S, NEVER).level == "exact"


def test_by_second_admission_an_answer_is_kept_when_it_is_asked_for_again() -> None:
    one = cache(admission="second")
    assert [one.ask(asked(row, "x"), 10 * row * S, (10 * row + 1) * S).level for row in range(3)] == [
        "miss", "miss", "exact",
    ]  # fmt: skip
    assert one.ask(asked(3, "y"), 30 * S, 31 * S).level == "miss"
    assert one.ask(asked(4, "y", partition="b"), 40 * S, 41 * S).level == "miss"  # behind another wall
    assert len(one) == 1
    assert one.ask(asked(5, "x"), 200 * S, 201 * S).level == "miss"  # its time is over
    assert one.ask(asked(6, "x"), 202 * S, NEVER).level == "exact"  # asked before, so kept at once


def test_by_second_admission_those_who_ask_at_once_still_share_an_answer() -> None:
    one = cache(admission="second")
    assert one.ask(asked(0, "x"), 0, 5 * S).level == "miss"
    assert one.ask(asked(1, "x"), S, NEVER).level == "joined"
    assert one.ask(asked(2, "x"), 6 * S, 7 * S).level == "miss"


def test_where_meaning_counts_answers_are_kept_at_once_whatever_the_admission() -> None:
    one = cache(mode="semantic", admission="second")
    one.ask(asked(0, "x"), 0, S)
    assert one.ask(asked(1, "x"), 2 * S, NEVER).level == "exact"


def test_questions_of_the_last_generation_and_this_one_are_known() -> None:
    door = AskedBefore(most=3)
    keys = [bytes([number]) * 16 for number in range(10)]
    assert [door.note(key) for key in keys[:4]] == [False] * 4
    assert door.note(keys[0]), "of the elder generation"
    assert door.note(keys[3])
    for key in keys[4:9]:
        door.note(key)
    assert not door.note(keys[1]), "two generations ago"


def test_an_audited_hit_goes_out_and_its_judgement_and_answer_come_later() -> None:
    """Keys are asked for by turns, each time in other words: among thousands of requests some hits are checked."""
    one = cache(mode="semantic", ttl_s=1e6)
    got = [one.ask(asked(row, f"text {row}", key=row % 8), row * S, row * S + S // 2) for row in range(4000)]
    audits = [row for row, each in enumerate(got) if each.level == "audit"]
    served = sum(each.level == "semantic" for each in got)
    assert audits
    assert 0.005 < len(audits) / (served + len(audits)) < 0.1
    assert all(got[row].looked and got[row].leader == -1 for row in audits)
    decider = one.deciders["chat"]
    one.advance(5000 * S)
    assert decider.awaited == 0  # every audit was judged
    assert decider.account.served <= served + len(audits)
    assert len(one) == 4000 - served  # what an engine answered is kept, audits' answers too


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    one = cache()
    assert one.ask(asked(0, "x"), 0, NEVER).level == "miss"
    assert one.ask(asked(1, "x"), S, 2 * S).level == "miss"
    assert one.ask(asked(2, "x"), 3 * S, NEVER).level == "exact"


def test_nothing_crosses_a_partition() -> None:
    one = cache()
    one.ask(asked(0, "x", partition="a"), 0, S)
    assert one.ask(asked(1, "x", partition="b"), 2 * S, 3 * S).level == "miss"


def test_a_repeat_with_another_right_answer_is_a_wrong_hit() -> None:
    one = cache()
    one.ask(asked(0, "x", key=1), 0, S)
    got = one.ask(asked(1, "x", key=2), 2 * S, NEVER)
    assert (got.level, got.is_wrong) == ("exact", True)
    assert not one.ask(asked(2, "x", key=-1), 2 * S, NEVER).is_wrong


def test_a_full_cache_forgets_and_stays_within_its_bytes() -> None:
    """256 bytes of bookkeeping and 4 × 20 tokens: 336 bytes an answer, so 1,000 bytes hold two."""
    one = cache(1000)
    for number in range(6):
        one.ask(asked(number, f"text {number}"), number * S, number * S + 1)
    one.advance(10 * S)
    assert one.used_bytes <= 1000
    assert len(one) == 2
    assert one.evicted == 4


def test_a_workload_without_a_rule_bypasses() -> None:
    stranger = Asked(0, "a", "other", 1, "x", 10, 10)
    assert cache().ask(stranger, 0, S).level == "bypass"


@pytest.mark.parametrize("seed", [1, 2])
def test_the_promise_is_kept_in_drawn_streams_and_the_same_seed_draws_the_same(seed: int) -> None:
    def levels() -> list[tuple[str, bool]]:
        one, coin = cache(mode="semantic", ttl_s=1e6, seed=seed), random.Random(seed)
        found = []
        for number in range(2500):
            got = one.ask(asked(number, str(number), key=coin.randrange(60)), number * S, number * S + 1)
            found.append((got.level, got.is_wrong))
        return found

    first = levels()
    served = [is_wrong for level, is_wrong in first if level == "semantic"]
    assert len(served) > 250
    assert sum(served) <= 0.05 * len(first)
    assert levels() == first


def test_verbatim_repeats_stay_within_a_partition_a_key_and_a_length() -> None:
    keys, lengths = np.repeat(np.arange(50), 40), np.full(2000, 7)
    walls = ["a", "b"] * 1000
    exact = exact_of_lengths(walls, keys, lengths, 1)
    first: dict[Hashable, int] = {}
    for number, one in enumerate(exact):
        leader = first.setdefault(one, number)
        assert (keys[leader], walls[leader]) == (keys[number], walls[number])
    assert len(first) < 400  # one text of each key and partition would be 100
