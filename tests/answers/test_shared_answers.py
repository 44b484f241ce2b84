"""Keepers as processes that share answers on a real server: what workers get, and how far orders reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from answer_parts import Bench, KeeperProcess, fresh_of, plan_at, question_of, until, words_of
from shared_parts import Server, answer_to, asked

from gridctl.answers.client import Answers, Found, Question
from gridctl.answers.ordering import order
from gridctl.answers.settings import Rules
from gridctl.answers.shared_record import entry_from, record_of

BUDGET_NS = 5_000_000_000


class Pair:
    """Two keepers that share a server, each with a worker of its own."""

    def __init__(self, server: Server, folder: Path, **cache: object) -> None:
        key = folder / "shared.key"
        key.write_bytes(bytes(range(65, 65 + 32)) + b"\n")
        key.chmod(0o600)
        plan = plan_at(folder / "plan.json", **cache)
        self.keepers = [KeeperProcess(folder / str(number) / "cache", plan) for number in range(2)]
        for keeper in self.keepers:
            keeper.more = ("--shared", server.url(), "--shared-key-file", str(key))
        self.workers: list[Answers] = []

    async def start(self) -> None:
        for keeper in self.keepers:
            keeper.start()
        for keeper in self.keepers:
            keeper.wait_ready()
            self.workers.append(Answers(keeper.folder, keeper.presence, asyncio.get_running_loop()))
        await until(lambda: all(worker.is_up for worker in self.workers), "the greetings")
        await self.agreed()

    async def agreed(self) -> None:
        """Wait until both follow one life of the tier."""
        ends = time.monotonic() + 20.0
        while True:
            told = [(await self.status(number)) for number in (0, 1)]
            if all(one["state"] == "up" for one in told) and len({one["epoch"] for one in told}) == 1:
                return
            assert time.monotonic() < ends, told
            await asyncio.sleep(0.05)

    async def status(self, number: int) -> dict[str, Any]:
        told = await order(self.keepers[number].folder, "status")
        return dict(told["shared"])

    async def look(self, number: int, question: Question) -> Found:
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.workers[number].look(question, found.set_result, BUDGET_NS)
        return await found

    async def give(self, number: int, question: Question, words: str) -> None:
        """Have one keeper keep an engine's answer; wait until the other could fetch it."""
        before = (await self.status(number))["counts"].get("stored", 0)
        worker = self.workers[number]
        worker.keep(question, fresh_of(words, stamp=worker.stamp(), request_id=question.request_id))
        ends = time.monotonic() + 10.0
        while (await self.status(number))["counts"].get("stored", 0) == before:
            assert time.monotonic() < ends, await self.status(number)
            await asyncio.sleep(0.02)

    async def missed(self, number: int, question: Question) -> None:
        """Wait until a gateway has no answer any more, neither its worker nor its keeper."""
        ends = time.monotonic() + 20.0
        while (await self.look(number, question)).kind == "hit" or self.workers[number].exact(question, time.time_ns()):
            assert time.monotonic() < ends, f"gateway {number} still answers"
            await asyncio.sleep(0.02)

    async def order(self, number: int, word: str, **words: object) -> dict[str, Any]:
        return await order(self.keepers[number].folder, word, **words)


def share(work: Callable[[Pair], Awaitable[None]], server: Server, folder: Path, **cache: object) -> None:
    """Have two keepers share a server while some work is done."""
    pair = Pair(server, folder, **cache)

    async def go() -> None:
        try:
            await pair.start()
            await work(pair)
        finally:
            for worker in pair.workers:
                worker.close()
            await asyncio.sleep(0)

    try:
        asyncio.run(go())
    finally:
        for keeper in pair.keepers:
            keeper.close()


def test_an_answer_travels_is_traced_and_is_taken_back_everywhere(server: Server, tmp_path: Path) -> None:
    async def go(pair: Pair) -> None:
        assert [worker.shared_ns for worker in pair.workers] == [1_000_000_000, 1_000_000_000]
        question = asked(request_id="made-for-me", tags=("doc:1",))
        assert (await pair.look(1, question)).kind == "miss"
        await pair.give(0, question, "Paris")
        found = await pair.look(1, asked(request_id="served-to-me", tags=("doc:2",)))
        assert (found.kind, found.reason) == ("hit", "exact")
        assert found.kept is not None
        assert words_of(found.kept.content) == "Paris"
        other = pair.workers[1]
        other.served(asked(request_id="served-to-me"), found.kept)
        await until(lambda: other.exact(question, time.time_ns()), "its being an exact repeat for the worker itself")
        traced = await pair.order(1, "trace", request="made-for-me")
        assert [one["made_for"] for one in traced["entries"]] == ["made-for-me"]
        assert {"tag:doc:1", "tag:doc:2"} <= set(traced["entries"][0]["tags"])
        # By a tag that only the second request gave, ordered where it was asked; and by the tag of the first.
        assert (await pair.order(1, "purge", by="tag", value="doc:2"))["shared"] == "told"
        assert (await pair.look(1, question)).kind == "hit", "the first gateway's answer has no such tag"
        assert (await pair.order(0, "purge", by="tag", value="doc:1"))["shared"] == "told"
        assert (await pair.look(0, question)).kind == "miss"
        await pair.missed(1, question)

    share(go, server, tmp_path, mode="exact")


@pytest.mark.parametrize("by", ["entry", "request", "feedback", "key"])
def test_what_is_said_of_one_answer_reaches_the_gateway_that_made_it(server: Server, tmp_path: Path, by: str) -> None:
    async def go(pair: Pair) -> None:
        question, other = asked(request_id="r1"), asked("something else", request_id="r2")
        await pair.give(0, question, "nonsense")
        await pair.give(0, other, "sense")
        found = await pair.look(1, asked(request_id="r3"))
        assert found.kept is not None
        pair.workers[1].served(asked(request_id="r3"), found.kept)
        await until(lambda: pair.workers[1].exact(question, time.time_ns()), "the entry")
        ends = time.monotonic() + 10.0
        while not (await pair.order(1, "trace", request="r3"))["entries"]:
            assert time.monotonic() < ends
            await asyncio.sleep(0.02)
        if by == "feedback":
            told = await pair.order(1, "feedback", request="r3", wrong=True, user="u1")
            assert told["is_counted"]
        else:
            value = {"entry": str(found.kept.entry), "request": "r3", "key": question.exact.hex()}[by]
            told = await pair.order(1, "purge", by=by, value=value)
            assert told["entries"] == 1
        assert told["shared"] == "told"
        assert "keys" not in told
        assert (await pair.look(1, question)).kind == "miss"
        await pair.missed(0, question)
        assert (await pair.look(1, other)).kind == "hit"

    share(go, server, tmp_path, mode="exact")


def test_a_purge_counts_at_once_even_where_its_order_was_not_read_yet(server: Server, tmp_path: Path) -> None:
    async def go(pair: Pair) -> None:
        for number in range(10):
            question = asked(f"question {number}")
            await pair.give(0, question, "old")
            await pair.order(0, "purge", by="tenant", value="acme")
            assert (await pair.look(1, question)).kind == "miss", number

    share(go, server, tmp_path, mode="exact")


def test_a_stop_by_an_operator_stops_all_gateways_until_one_resumes(server: Server, tmp_path: Path) -> None:
    async def go(pair: Pair) -> None:

        async def is_stopped(number: int) -> bool:
            told = await pair.order(number, "status")
            return bool(told["workloads"]["chat"]["is_stopped"])

        for word, wanted in (("stop", True), ("resume", False)):
            assert (await pair.order(0, word, workload="chat"))["shared"] == "told"
            ends = time.monotonic() + 10.0
            while await is_stopped(1) is not wanted:
                assert time.monotonic() < ends
                await asyncio.sleep(0.05)

    share(go, server, tmp_path)


def test_an_order_is_obeyed_here_and_owed_there_while_the_server_is_gone(server: Server, tmp_path: Path) -> None:
    async def go(pair: Pair) -> None:
        question = asked(tags=("doc:1",))
        await pair.give(0, question, "Paris")
        assert (await pair.look(1, question)).kind == "hit"
        server.kill()
        told = await pair.order(0, "purge", by="tag", value="doc:1")
        assert (told["shared"], told["entries"]) == ("owed", 1)
        assert (await pair.look(0, question)).kind == "miss"
        assert (await pair.look(1, question)).kind == "hit", "it cannot know yet"
        pair.keepers[0].kill()  # what is owed is owed by the next life of the keeper, too
        pair.keepers[0].start()
        server.start()
        await until(lambda: pair.workers[0].is_up, "the keeper's return", 20.0)
        await pair.agreed()
        await pair.missed(1, question)

    share(go, server, tmp_path, mode="exact")


def test_a_server_killed_and_back_in_the_midst_of_looks_costs_hits_and_nothing_else(
    server: Server, tmp_path: Path
) -> None:
    async def go(pair: Pair) -> None:
        questions = [asked(f"question {number}") for number in range(60)]
        for question in questions[:10]:
            await pair.give(0, question, question.text)

        async def one(question: Question) -> str:
            found = await pair.look(1, question)
            if found.kept is not None:
                assert words_of(found.kept.content) == question.text
            return found.kind

        looks = [asyncio.create_task(one(question)) for question in questions[:5] + questions[20:]]
        await asyncio.sleep(0)
        server.kill()
        kinds = await asyncio.gather(*looks, *(one(question) for question in questions))
        assert set(kinds) <= {"hit", "miss"}
        server.start()
        await pair.agreed()
        await pair.give(0, questions[50], questions[50].text)
        assert await one(questions[50]) == "hit"

    share(go, server, tmp_path, mode="exact")


@pytest.mark.parametrize("shared", ["never", "auto"])
def test_a_workload_that_does_not_share_neither_gives_nor_asks(server: Server, tmp_path: Path, shared: str) -> None:
    async def go(pair: Pair) -> None:
        question = asked()
        worker = pair.workers[0]
        worker.keep(question, fresh_of("Paris", stamp=worker.stamp()))
        await until(lambda: worker.exact(question, time.time_ns()), "the answer")
        assert (await pair.look(1, question)).kind == "miss"
        counts = [(await pair.status(number))["counts"] for number in (0, 1)]
        assert not any(one.get(word) for one in counts for word in ("stored", "hits", "misses", "unasked"))
        with server.hands() as hands:
            assert len(hands.keys()) == 2, "the state and the list of orders"

    cache = {"shared": "never"} if shared == "never" else {"personal_data": "allow"}
    share(go, server, tmp_path, mode="exact", **cache)


def test_a_public_answer_goes_to_nobody_before_enough_have_asked_wherever_they_asked(
    server: Server, tmp_path: Path
) -> None:
    async def go(pair: Pair) -> None:
        kinds = []
        for number, (gateway, caller) in enumerate([(0, "a"), (1, "b"), (0, "c"), (1, "d")]):
            question = asked(tenant="shared", user="", request_id=f"r{number}")
            question.tenant, question.user = "acme", caller
            kinds.append((await pair.look(gateway, question)).kind)
            if kinds[-1] == "miss":
                await pair.give(gateway, question, "Paris")
        # Each gateway counts whom it saw itself, and those that an answer from elsewhere names.
        assert kinds[:2] == ["miss", "miss"]
        fifth = asked(tenant="shared", request_id="r5")
        fifth.tenant, fifth.user = "acme", "e"
        assert (await pair.look(1, fifth)).kind == "hit"

    share(go, server, tmp_path, mode="exact", sharing="public", public_after=3)


@pytest.mark.parametrize(("ahead_s", "is_kept"), [(-7_200.0, False), (-30.0, True), (30.0, True), (7_200.0, False)])
def test_an_answer_whose_birth_this_clock_does_not_believe_is_not_taken_in(
    make_bench: Any, ahead_s: float, is_kept: bool
) -> None:
    bench: Bench = make_bench(rules={"chat": Rules(mode="exact")})
    question = question_of("what is the capital of france", mode="exact", ttl_s=3_600.0)
    record = record_of(answer_to(question, "Paris", 1), 1)
    bench.now_ns = record.born - int(ahead_s * 1e9)
    entry = entry_from(record, question, bench.store.next_number(), bench.store.last_purge)
    assert bench.keeper.adopt(entry, bench.now_ns) is is_kept
    assert (bench.look(question).kind == "hit") is is_kept


def test_a_question_that_is_kept_letter_by_letter_is_never_answered_by_meaning(make_bench: Any) -> None:
    """Completions and embeddings of a workload that caches by meaning are asked for because of the others' answers."""
    bench: Bench = make_bench(rules={"chat": Rules(mode="semantic", error_rate=0.5)})
    for number in range(40):
        kept = question_of(f"the very same words {number % 4}", request_id=f"r{number}")
        found = bench.look(kept)
        bench.keep(kept, fresh_of("always this", ticket=found.ticket))
    near = question_of("the very same words again", mode="exact")
    assert (bench.look(near).kind, bench.look(near).reason) == ("miss", "nothing-stored")
    assert bench.look(question_of("the very same words 1", mode="exact")).kind == "hit"


def test_an_answer_from_elsewhere_is_as_bounded_as_any_other(make_bench: Any) -> None:
    bench: Bench = make_bench(rules={"chat": Rules(mode="exact")})
    question = question_of("what is the capital of france", mode="exact", tags=("doc:1",))
    record = record_of(answer_to(question, "Paris", 1), 1)
    bench.now_ns = record.born
    entry = entry_from(record, question, bench.store.next_number(), bench.store.last_purge)
    bench.store.announce("tag:doc:1", 3)
    assert not bench.keeper.adopt(entry, bench.now_ns), "purges with that tag are missing here"
    bench.store.purge("tag:doc:1", 3)
    assert not bench.keeper.adopt(entry, bench.now_ns), "purged since"
    later = entry_from(record, question, bench.store.next_number(), bench.store.last_purge)
    assert bench.keeper.adopt(later, bench.now_ns)
    bench.commit()
    assert bench.look(question).kind == "hit"
