"""The shared tier against a real server: what is shared, what is never believed, and what a bad server costs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from answer_parts import until, words_of
from shared_parts import FIRST_PLACE, KEYS, Gateway, Server, answer_to, asked, gateways, together

from gridctl.answers import shared_record as records
from gridctl.answers import shared_tier
from gridctl.answers.sealing import Sealing
from gridctl.answers.shared_place import derived
from gridctl.answers.shared_record import Record


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways look for orders ten times a second here."""
    monkeypatch.setattr(shared_tier, "POLL_S", 0.1)


def name_of(gateway: Gateway, question: object) -> bytes:
    return records.answer_name(KEYS.prefix, gateway.tier.numbers.epoch, KEYS.names, question)  # type: ignore[arg-type]


def list_of(gateway: Gateway) -> bytes:
    return records.notices_name(KEYS.prefix, gateway.tier.numbers.epoch)


def test_an_answer_of_one_gateway_is_found_by_the_other_and_by_nobody_else(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question = asked()
            assert await other.fetch(question) is None
            await one.give(question, "Paris")
            found = await other.fetch(question)
            assert found is not None
            assert words_of(found.content) == "Paris"
            assert (found.tenant, found.model, found.variant, found.digest) == ("acme", "llama-8b", "fp8", "sha256:1")
            for stranger in (
                asked(tenant="rival"), asked(jurisdiction="us"), asked(variant="int4"), asked(user="u1"),
                asked(workload="mail"), asked("what is the capital of spain"),
            ):  # fmt: skip
                assert await other.fetch(stranger) is None

    asyncio.run(go())


def test_nothing_on_the_server_can_be_read_there_and_everything_has_an_end(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question = asked("a secret of ours", ttl_s=60.0, stale_s=30.0, tags=("doc:4711",))
            await one.give(question, "another secret")
            assert await one.order("purge", "tag:doc:4712")
            with server.hands() as hands:
                names = hands.keys()
                assert len(names) == 3
                held = b"".join(
                    b"".join(hands.lrange(name, 0, -1)) if hands.type(name) == b"list" else hands.get(name)
                    for name in names
                )
                assert 89_000 < hands.pttl(name_of(one, question)) <= 90_000
            for word in (b"secret", b"acme", b"llama", b"4711", b"4712", b"chat"):
                assert word not in held + b"".join(names)
            assert await other.fetch(question) is not None

    asyncio.run(go())


@pytest.mark.parametrize(
    "value", ["tag:doc:1", "tenant:acme", "workload:chat", "model:llama-8b/fp8", "digest:sha256:1"]
)
def test_a_purge_is_one_write_and_holds_for_every_gateway_at_once(server: Server, tmp_path: Path, value: str) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question, late = asked(tags=("doc:1",)), asked("asked before, answered after", tags=("doc:1",))
            await one.give(question, "Paris")
            early = other.place
            assert await other.fetch(question) is not None
            with server.hands() as hands:
                before = hands.info("commandstats").get("cmdstat_rpushx", {"calls": 0})["calls"]
                assert await one.order("purge", value)
                assert hands.info("commandstats")["cmdstat_rpushx"]["calls"] == before + 1
                assert hands.exists(name_of(one, question)), "nothing was looked for and removed"
            assert await other.fetch(question) is None
            assert await one.fetch(question) is None
            assert [notice.value for notice in other.heard] == [value]
            assert one.heard == [], "it has done so already"
            # An engine that was asked before the purge answers after it.
            await other.give(late, "outdated", early)
            assert await one.fetch(late) is None
            await other.give(question, "Paris, still")
            found = await one.fetch(question)
            assert found is not None
            assert words_of(found.content) == "Paris, still"

    asyncio.run(go())


def test_a_wrong_answer_is_taken_back_by_its_key_and_its_neighbours_stay(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            wrong, right = asked("wrong"), asked("right")
            await one.give(wrong, "nonsense")
            await one.give(right, "sense")
            assert await other.order("key", wrong.exact.hex())
            assert await one.fetch(wrong) is None
            assert await one.fetch(right) is not None
            assert [(notice.kind, notice.value) for notice in one.heard] == [("key", wrong.exact.hex())]

    asyncio.run(go())


def test_what_is_owed_is_not_believed_meanwhile_and_told_when_the_server_is_back(
    server: Server, tmp_path: Path
) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question = asked()
            await one.give(question, "Paris")
            one.tier.owe([records.Notice("purge", "tenant:acme")])
            assert await one.fetch(question) is None, "ordered here, whether told or not"
            assert await one.tier.told(5.0)
            server.kill()
            await until(lambda: not one.tier.is_up and not other.tier.is_up, "the loss")
            began = time.monotonic()
            assert not await one.order("purge", "tenant:beta")
            assert time.monotonic() - began < 2.0
            assert one.tier.status()["owed"] == 1
            assert await other.fetch(question) is None
            server.start()
            await together([one, other])
            await until(lambda: "tenant:beta" in [notice.value for notice in other.heard], "the telling")
            assert one.tier.status()["owed"] == 0

    asyncio.run(go())


def test_what_is_owed_outlives_a_kill_of_the_gateway(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        server.kill()
        async with gateways(server, tmp_path, 1, waits=False) as (one,):
            assert not await one.order("purge", "tenant:acme")
        server.start()
        async with gateways(server, tmp_path) as (one, other):
            await until(lambda: [notice.value for notice in other.heard] == ["tenant:acme"], "the telling")
            assert one.tier.status()["owed"] == 0

    asyncio.run(go())


def test_after_a_restart_of_the_server_nothing_comes_back_with_its_data_or_without(tmp_path: Path) -> None:
    async def go(server: Server, *, forgets_last: bool) -> None:
        server.start()
        async with gateways(server, tmp_path) as (one, other):
            question = asked()
            await one.give(question, "Paris")
            with server.hands() as hands:
                hands.save()  # the answer is in the file, the purge that follows is not
                assert await one.order("purge", "tenant:acme")
                if not forgets_last:
                    hands.save()
            epoch = one.tier.numbers.epoch
            server.kill()
            server.start()
            with server.hands() as hands:
                assert hands.exists(name_of(one, question)) or one.tier.numbers.epoch != epoch
            await until(lambda: one.tier.is_up and other.tier.is_up and one.tier.numbers.epoch != epoch, "a new epoch")
            await together([one, other])
            assert await one.fetch(question) is None
            assert await other.fetch(question) is None
            await one.give(question, "Paris again")
            found = await other.fetch(question)
            assert found is not None
            assert words_of(found.content) == "Paris again"
        server.kill()

    for number, forgets_last in enumerate((True, False)):
        folder = tmp_path / f"server-{number}"
        folder.mkdir()
        server = Server(folder, "--dbfilename", "dump.rdb")
        try:
            asyncio.run(go(server, forgets_last=forgets_last))
        finally:
            server.kill()


@pytest.mark.parametrize(
    "harm", ["flush", "lose the list", "lose the state", "cut the list", "forge a notice", "garble the state"]
)
def test_a_server_that_lost_its_orders_begins_anew_and_each_gateway_says_its_own_again(
    server: Server, tmp_path: Path, harm: str
) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question = asked()
            await one.give(question, "Paris")
            assert await one.order("purge", "tenant:acme")
            assert await one.order("purge", "tag:doc:1")
            await until(lambda: len(other.heard) == 2, "the hearing")
            epoch = one.tier.numbers.epoch
            with server.hands() as hands:
                if harm == "flush":
                    hands.flushall()
                elif harm == "lose the list":
                    hands.delete(list_of(one))
                elif harm == "lose the state":
                    hands.delete(records.state_name(KEYS.prefix))
                elif harm == "cut the list":
                    hands.ltrim(list_of(one), 0, 1)
                elif harm == "forge a notice":
                    hands.rpush(list_of(one), b"\x01" + bytes(80))
                else:
                    hands.set(records.state_name(KEYS.prefix), b"\xff" * 40)
            assert await one.fetch(question) is None
            await until(lambda: one.tier.is_up and one.tier.numbers.epoch != epoch, "a new epoch", 20.0)
            await together([one, other])
            await until(lambda: len(other.heard) >= 4, "the saying again")
            assert {notice.value for notice in other.heard[2:]} == {"tenant:acme", "tag:doc:1"}
            assert await other.fetch(question) is None
            await other.give(question, "Paris again")
            assert await one.fetch(question) is not None

    asyncio.run(go())


def test_an_answer_that_was_changed_moved_or_made_by_others_is_none(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            mine, theirs = asked("mine"), asked("mine", tenant="rival")
            await one.give(mine, "of mine")
            await one.give(theirs, "of theirs")
            record = records.record_of(answer_to(mine, "poison", FIRST_PLACE), 1)
            forged = Sealing(derived(bytes(range(1, 33))).sealing).seal(name_of(one, mine), records.encode(record))
            with server.hands() as hands:
                good = hands.get(name_of(one, mine))
                evil = [
                    hands.get(name_of(one, theirs)),  # another tenant's, hung under my name
                    forged,
                    records.encode(record),
                    good[:-1],
                    good + b"\0",
                    good[:60] + bytes([good[60] ^ 1]) + good[61:],
                    b"\x02" + good[1:],
                    b"x",
                ]
                for number, value in enumerate(evil):
                    hands.set(name_of(one, mine), value)
                    assert await other.fetch(mine) is None, number
                assert other.tier.counts["foreign"] == len(evil)
                hands.set(name_of(one, mine), good)
            assert await other.fetch(mine) is not None

    asyncio.run(go())


def test_an_answer_with_a_number_from_the_future_is_not_believed(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            question = asked()
            record = records.record_of(answer_to(question, "tomorrow's", FIRST_PLACE), 1_000)
            sealed = Sealing(KEYS.sealing).seal(name_of(one, question), records.encode(record))
            with server.hands() as hands:
                hands.set(name_of(one, question), sealed)
            assert await other.fetch(question) is None
            assert other.tier.counts["void"] == 1

    asyncio.run(go())


def test_gateways_with_different_keys_never_meet(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        folder = tmp_path / "others"
        folder.mkdir()
        async with (
            gateways(server, tmp_path, 1) as (one,),
            gateways(server, folder, 1, derived(bytes(32)[:8] + bytes(range(32)))) as (other,),
        ):
            question = asked()
            await one.give(question, "Paris")
            assert await other.fetch(question) is None
            assert await one.order("purge", "tenant:acme")
            assert other.heard == []

    asyncio.run(go())


def test_a_slow_server_costs_its_budget_then_nothing_until_it_is_quick_again(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path, 1, budget_ms=20) as (one,):
            question = asked()
            await one.give(question, "Paris")
            with server.hands() as hands:
                hands.client_pause(2500)
            took = []
            for _ in range(8):
                began = time.monotonic()
                assert await one.fetch(question) is None
                took.append(time.monotonic() - began)
            assert min(took) > 0.01
            assert sorted(took)[4] < 0.5
            assert one.tier.is_slow
            before = time.process_time()
            for _ in range(200):
                assert await one.fetch(question) is None
            assert time.process_time() - before < 0.2
            assert one.tier.counts["unasked"] >= 200

            async def is_found() -> bool:
                return await one.fetch(question) is not None

            ends = time.monotonic() + 20.0
            while not await is_found():
                assert time.monotonic() < ends
                await asyncio.sleep(0.02)

    asyncio.run(go())


def test_a_server_that_never_answers_is_a_miss_and_is_hung_up_on(tmp_path: Path) -> None:
    async def go() -> None:
        silent: list[asyncio.StreamWriter] = []
        path = tmp_path / "silent.sock"

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            silent.append(writer)

        listener = await asyncio.start_unix_server(hear, path)
        server = Server(tmp_path)
        server.path = path
        async with gateways(server, tmp_path, 1, waits=False) as (one,):
            await until(lambda: silent, "the calling")
            began = time.monotonic()
            assert await one.fetch(asked()) is None
            assert time.monotonic() - began < 0.9, "it is not waited for: a second is its budget"
            await until(lambda: one.tier.problem, "the giving up", 8.0)
            assert one.tier.status()["state"] == "down"
        for writer in silent:
            writer.close()
        listener.close()
        await listener.wait_closed()

    asyncio.run(go())


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64, b"*-9\r\n", b"$5\r\nhello\r\n" * 9, b""]
)
def test_who_is_no_such_server_is_none(tmp_path: Path, said: bytes) -> None:
    async def go() -> None:
        path = tmp_path / "other.sock"

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(said)
            writer.close()

        listener = await asyncio.start_unix_server(talk, path)
        server = Server(tmp_path)
        server.path = path
        async with gateways(server, tmp_path, 1, waits=False) as (one,):
            await until(lambda: one.tier.problem, "the problem", 8.0)
            assert "own error" not in one.tier.problem
            assert await one.fetch(asked()) is None
        listener.close()
        await listener.wait_closed()

    asyncio.run(go())


def test_a_hundred_megabytes_under_a_name_of_ours_are_not_taken_in(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path, 1) as (one,):
            question = asked()
            with server.hands() as hands:
                hands.setrange(name_of(one, question), 100_000_000, b"x")
                before = hands.info("stats")["total_net_output_bytes"]
                assert await one.fetch(question) is None
                assert hands.info("stats")["total_net_output_bytes"] - before < 2_000_000
            one.tier.offer(answer_to(question, "x" * 2_000_000, one.place))
            assert one.tier.counts["too_large"] == 1
            assert one.tier.status()["waiting"] == 0

    asyncio.run(go())


def test_a_flood_fills_a_bounded_line_and_what_is_over_it_is_counted(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path, 1) as (one,):
            with server.hands() as hands:
                hands.client_pause(400)
            for number in range(3_000):
                one.tier.offer(answer_to(asked(f"question {number}"), "x" * 10_000, one.place))
            assert one.tier.status()["waiting"] <= 1_024
            dropped = one.tier.counts["dropped"]
            assert dropped >= 3_000 - 1_024 - 32
            await until(lambda: one.tier.counts["stored"] + dropped == 3_000, "the writing of the others", 20.0)

    asyncio.run(go())


def test_a_full_server_refuses_answers_and_serves_on(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            kept, refused = asked("kept"), asked("refused")
            await one.give(kept, "Paris")
            with server.hands() as hands:
                hands.config_set("maxmemory", 1)
            one.tier.offer(answer_to(refused, "x" * 1_000, one.place))
            await until(lambda: one.tier.counts["refused"] == 1, "the refusal")
            assert "maxmemory" in one.tier.status()["problem"]
            assert await other.fetch(kept) is not None
            with server.hands() as hands:
                hands.config_set("maxmemory", 0)
            await one.give(refused, "taken")
            assert await other.fetch(refused) is not None
            assert one.tier.status()["problem"] == ""

    asyncio.run(go())


def test_a_replica_and_a_user_without_rights_are_said_to_be_what_they_are(server: Server, tmp_path: Path) -> None:
    async def assert_told(word: str) -> None:
        async with gateways(server, tmp_path, 1, waits=False) as (one,):
            await until(lambda: word in one.tier.problem, f"a problem with {word}", 8.0)

    with server.hands() as hands:
        hands.replicaof("127.0.0.1", 1)
        asyncio.run(assert_told("read only replica"))
        hands.replicaof("NO", "ONE")
        hands.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-info"])
        asyncio.run(assert_told("INFO"))
        hands.acl_setuser("default", enabled=True, passwords=["+secret"], reset_passwords=True)
        asyncio.run(assert_told("uthentication"))


def test_a_gateway_that_was_away_carries_out_what_it_missed_once(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path):
            pass
        async with gateways(server, tmp_path, 1) as (one,):
            assert await one.order("purge", "tag:missed")
            assert await one.order("stop", "chat")
        for _ in range(2):
            async with gateways(server, tmp_path) as (one, other):
                assert one.heard == []
                told = [(notice.kind, notice.value) for notice in other.heard]
                assert told == ([("purge", "tag:missed"), ("stop", "chat")] if _ == 0 else [])

    asyncio.run(go())


def test_of_stops_and_resumes_the_last_one_counts_whoever_says_it_again(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path) as (one, other):
            assert await one.order("stop", "chat")
            await until(lambda: len(other.heard) == 1, "the stop")
            assert await other.order("resume", "chat")
            await until(lambda: len(one.heard) == 1, "the resuming")
            with server.hands() as hands:
                hands.flushall()
            epoch = one.tier.numbers.epoch
            await until(lambda: one.tier.numbers.epoch != epoch and one.tier.numbers.number >= 3, "the saying again")
            await together([one, other])
            assert [notice.kind for notice in one.heard] == ["resume"]
            assert [notice.kind for notice in other.heard] == ["stop"]

    asyncio.run(go())


def test_many_looks_at_once_go_out_together(server: Server, tmp_path: Path) -> None:
    async def go() -> None:
        async with gateways(server, tmp_path, 1) as (one,):
            questions = [asked(f"question {number}") for number in range(200)]
            await one.give(questions[7], "seven")
            with server.hands() as hands:
                before = hands.info("stats")["total_reads_processed"]
                found: list[Record | None] = await asyncio.gather(*(one.fetch(question) for question in questions))
                reads = hands.info("stats")["total_reads_processed"] - before
            assert [number for number, record in enumerate(found) if record is not None] == [7]
            assert reads < 40

    asyncio.run(go())
