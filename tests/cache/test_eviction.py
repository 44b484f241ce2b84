"""Eviction against a plain model of the rules, and freshness and purges by hand."""

from __future__ import annotations

import random

import pytest

from gridctl.cache.eviction import Store
from gridctl.cache.freshness import Age, Lifetime, Purges
from gridctl.errors import InputError
from gridctl.units import NS_PER_S


class Plain:
    """The documented rules with lists, scanned in full."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.small, self.main, self.ghosts, self.age, self.turn = capacity, [], [], [], 0.0, 0

    def find(self, name: str) -> dict[str, float] | None:
        return next((one for one in self.small + self.main if one["name"] == name), None)

    def used(self, queue: list) -> int:
        return sum(one["bytes"] for one in queue)

    def rank(self, one: dict) -> None:
        self.turn += 1
        one["turn"] = self.turn
        one["h"] = self.age + max(1, one["hits"]) * one["usd"] / one["bytes"]

    def hit(self, name: str) -> None:
        one = self.find(name)
        if one is not None:
            one["hits"] += 1
            if one in self.main:
                self.rank(one)

    def admit(self, name: str, size: int, usd: float) -> list[str]:
        if size > self.capacity:
            return [name]
        held = self.find(name)
        for queue in (self.small, self.main):
            if held in queue:
                queue.remove(held)
        one = {"name": name, "bytes": size, "usd": usd, "hits": 0}
        if name in self.ghosts or size > self.capacity // 10:
            if name in self.ghosts:
                self.ghosts.remove(name)
            self.main.append(one)
            self.rank(one)
        else:
            self.small.append(one)
        gone = []
        while self.used(self.small) + self.used(self.main) > self.capacity:
            if self.small and (self.used(self.small) > self.capacity // 10 or not self.main):
                first = self.small.pop(0)
                if first["hits"]:
                    self.main.append(first)
                    self.rank(first)
                    continue
                self.ghosts.append(first["name"])
                gone.append(first["name"])
                del self.ghosts[: max(0, len(self.ghosts) - max(64, len(self.small) + len(self.main)))]
            else:
                least = min(self.main, key=lambda held: (held["h"], held["turn"]))
                self.main.remove(least)
                self.age = least["h"]
                gone.append(least["name"])
        return gone


@pytest.mark.parametrize("seed", range(6))
def test_the_store_does_what_the_plain_rules_do(seed: int) -> None:
    draw, store, plain = random.Random(seed), Store(1000), Plain(1000)
    for _ in range(1500):
        name = f"k{min(int(draw.paretovariate(0.7)), 400)}"
        if name in store:
            store.hit(name)
            plain.hit(name)
        else:
            size, usd = draw.randrange(1, 130), draw.random()
            assert store.admit(name, size, usd) == plain.admit(name, size, usd)
        assert store.used_bytes <= 1000
        assert len(store) == len(plain.small) + len(plain.main)


def test_an_answer_worth_more_for_its_bytes_outlives_one_that_is_hit_as_often() -> None:
    store = Store(100)
    for name, usd in (("cheap", 0.1), ("dear", 5.0)):
        store.admit(name, 45, usd)
        store.hit(name)
    assert store.admit("new", 20, 1.0) == ["cheap"]


def test_wrong_answers_lose_value() -> None:
    store = Store(100)
    for name, correct in (("right", 1.0), ("doubtful", 0.0)):
        store.admit(name, 45, 1.0)
        for _ in range(5):
            store.hit(name, correct)
    assert store.admit("new", 20, 5.0) == ["doubtful"]


def test_what_cannot_fit_goes_at_once_and_what_has_no_size_is_refused() -> None:
    store = Store(100)
    assert store.admit("huge", 101, 1.0) == ["huge"]
    for size, usd in ((0, 1.0), (10, -1.0), (10, float("nan"))):
        with pytest.raises(InputError):
            store.admit("odd", size, usd)
    with pytest.raises(InputError):
        Store(0)
    assert len(store) == 0


def test_a_purged_name_frees_its_bytes_wherever_it_was() -> None:
    store = Store(1000)
    store.admit("small", 50, 1.0)
    store.admit("main", 500, 1.0)
    assert store.remove("small")
    assert store.remove("main")
    assert not store.remove("main")
    assert store.used_bytes == 0
    assert store.admit("a", 600, 1.0) + store.admit("b", 400, 1.0) == []


@pytest.mark.parametrize(
    ("seconds", "age"), [(0, "fresh"), (9.9, "fresh"), (10, "stale"), (14.9, "stale"), (15, "gone"), (-5, "fresh")]
)
def test_fresh_then_stale_then_gone(seconds: float, age: str) -> None:
    lifetime = Lifetime(ttl_s=10.0, stale_s=5.0)
    born = 100 * NS_PER_S
    assert lifetime.age(born, born + int(seconds * NS_PER_S)) == age


def test_jitter_stretches_by_a_tenth_and_no_more() -> None:
    lifetime = Lifetime(ttl_s=10.0)
    assert lifetime.age(0, int(10.9 * NS_PER_S), 1.0) is Age.FRESH
    assert lifetime.age(0, 11 * NS_PER_S, 5.0) is Age.GONE
    assert lifetime.age(0, 9 * NS_PER_S, -1.0) is Age.GONE


def test_in_an_emergency_older_answers_serve() -> None:
    lifetime = Lifetime(ttl_s=10.0, stale_s=5.0, stale_if_error_s=100.0)
    assert lifetime.age(0, 60 * NS_PER_S) is Age.GONE
    assert lifetime.age(0, 60 * NS_PER_S, is_emergency=True) is Age.STALE


def test_a_time_to_live_of_zero_keeps_nothing() -> None:
    assert Lifetime(ttl_s=0.0).age(5, 5) is Age.GONE


def test_a_purge_ends_what_was_born_before_it_and_nothing_else() -> None:
    purges = Purges()
    before, other = purges.stamp(["doc:1", "model:a"]), purges.stamp(["doc:2"])
    assert purges.purge("doc:1") == 1
    assert not purges.is_valid(before)
    assert purges.is_valid(other)
    assert purges.is_valid(purges.stamp(["doc:1"]))


def test_a_purge_while_the_engine_answers_counts() -> None:
    purges = Purges()
    stamp = purges.stamp(["doc:1"])
    purges.purge("doc:1")
    assert not purges.is_valid(stamp)


def test_a_site_that_missed_a_purge_serves_nothing_under_the_tag_until_it_has_it() -> None:
    home, site = Purges(), Purges()
    stamp = site.stamp(["doc:1"])
    number = home.purge("doc:1")
    site.announce("doc:1", number)
    assert site.missing() == {"doc:1": 1}
    assert not site.is_valid(stamp)
    assert not site.is_valid(site.stamp(["doc:1"]))
    assert site.receive("doc:1", number)
    assert not site.receive("doc:1", number)
    assert site.missing() == {}
    assert not site.is_valid(stamp)
    assert site.is_valid(site.stamp(["doc:1"]))


def test_purges_that_arrive_in_another_order_end_the_same() -> None:
    one, other = Purges(), Purges()
    for number in (1, 2, 3):
        one.receive("t", number)
    for number in (3, 1, 2, 3):
        other.receive("t", number)
    assert one.stamp(["t"]) == other.stamp(["t"])
