"""The keeper's process and a worker's client, as they run."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from answer_parts import KeeperProcess, fresh_of, plan_at, question_of, until, words_of

from gridctl.answers.client import Answers, Found, Kept, Question
from gridctl.answers.ordering import order
from gridctl.answers.wire import SOCKET, Hello, connect, frame
from gridctl.errors import InputError, UnreachableError

BUDGET_NS = 5_000_000_000


async def looked(answers: Answers, question: Question, budget_ns: int = BUDGET_NS) -> Found:
    found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
    answers.look(question, found.set_result, budget_ns)
    return await found


def exact_now(answers: Answers, question: Question) -> Kept | None:
    return answers.exact(question, time.time_ns())


async def worker_of(keeper: KeeperProcess) -> Answers:
    answers = Answers(keeper.folder, keeper.presence, asyncio.get_running_loop())
    await until(lambda: answers.is_up, "the greeting")
    return answers


def test_an_answer_kept_by_one_worker_is_an_exact_repeat_for_another(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        one, other = await worker_of(keeper_process), await worker_of(keeper_process)
        question = question_of("what is the capital of france", request_id="r1", tags=("geo",))
        assert exact_now(one, question) is None
        assert (await looked(one, question)).kind == "miss"
        one.keep(question, fresh_of("Paris", stamp=one.stamp(), request_id="r1"))
        await until(lambda: exact_now(other, question), "the answer's way to the other worker")
        kept = exact_now(other, question)
        assert kept is not None
        assert words_of(kept.content) == "Paris"
        other.served(question, kept)
        one.close()
        other.close()
        await until(lambda: True, "")
        traced = {}
        for _ in range(100):
            traced = await order(keeper_process.folder, "trace", request="r1")
            if traced["entries"] and traced["entries"][0]["served"]:
                break
            await asyncio.sleep(0.02)
        assert traced["entries"][0]["served"][0]["level"] == "exact"

    asyncio.run(go())
    assert keeper_process.stop() == 0


def test_a_purge_holds_for_every_worker_from_the_moment_it_is_acknowledged(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        workers = [await worker_of(keeper_process) for _ in range(2)]
        for number, (by, value) in enumerate([("tag", "geo"), ("tenant", "acme"), ("digest", "sha256:1")]):
            question = question_of(f"question {number}", tags=("geo",))
            workers[0].keep(question, fresh_of("Paris", stamp=workers[0].stamp(), digest="sha256:1"))
            await until(lambda question=question: exact_now(workers[1], question), "the answer")
            early = workers[0].stamp()
            await order(keeper_process.folder, "purge", by=by, value=value)
            assert [exact_now(one, question) for one in workers] == [None, None]
            assert (await looked(workers[0], question)).kept is None
            # One that was on its way when the purge came is not taken in.
            late = question_of(f"late question {number}", tags=("geo",))
            workers[0].keep(late, fresh_of("Paris", stamp=early, digest="sha256:1"))
            new = question_of(f"new question {number}", tags=("geo",))
            workers[0].keep(new, fresh_of("Paris", stamp=workers[0].stamp(), digest="sha256:1"))
            await until(lambda new=new: exact_now(workers[1], new), "the answer asked for after the purge")
            assert exact_now(workers[1], late) is None
        for one in workers:
            one.close()

    asyncio.run(go())


def test_without_a_keeper_looks_are_misses_and_it_is_found_again_by_itself(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        answers = Answers(keeper_process.folder, keeper_process.presence, asyncio.get_running_loop())
        question = question_of("what is the capital of france")
        assert (await looked(answers, question)).reason == "keeper-down"
        assert answers.exact(question, time.time_ns()) is None
        answers.keep(question, fresh_of("Paris"))
        assert answers.dropped == 1
        keeper_process.start()
        await until(lambda: answers.is_up, "the first greeting", 20.0)
        answers.keep(question, fresh_of("Paris", stamp=answers.stamp()))
        await until(lambda: exact_now(answers, question), "the answer")
        keeper_process.kill()
        assert exact_now(answers, question) is not None, "exact repeats need no keeper"
        await until(lambda: not answers.is_up, "the loss")
        assert (await looked(answers, question)).reason == "keeper-down"
        keeper_process.start()
        await until(lambda: answers.is_up, "the second greeting", 20.0)
        await until(lambda: exact_now(answers, question), "the answer after the restart")
        answers.close()

    asyncio.run(go())


def test_a_keeper_that_hangs_costs_a_request_its_budget_and_no_more(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        accepted: list[asyncio.StreamWriter] = []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            writer.write(frame(Hello()))

        server = await asyncio.start_unix_server(hang, sock=keeper_process.listener)
        answers = await worker_of(keeper_process)
        began = time.monotonic()
        found = await looked(answers, question_of("anything"), 30_000_000)
        assert (found.kind, found.reason) == ("miss", "keeper-slow")
        assert 0.02 < time.monotonic() - began < 2.0
        told: list[Found] = []
        cancel = answers.look(question_of("anything"), told.append, 30_000_000)
        cancel()
        await asyncio.sleep(0.06)
        assert told == []
        answers.close()
        for writer in accepted:
            writer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(go())


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\x05\x00\x00\x00hello", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64]
)
def test_what_is_no_message_ends_that_connection_and_no_other(keeper_process: KeeperProcess, data: bytes) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        answers = await worker_of(keeper_process)
        bad = connect(keeper_process.folder)
        bad.setblocking(True)
        bad.settimeout(5.0)
        bad.sendall(data)
        bad.shutdown(socket.SHUT_WR)
        received = b""
        while part := bad.recv(4096):
            received += part
        bad.close()
        assert received == frame(Hello())
        assert (await looked(answers, question_of("anything"))).kind == "miss"
        answers.close()

    asyncio.run(go())


def test_orders_that_make_no_sense_are_refused_in_words(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        with pytest.raises(UnreachableError):
            await order(keeper_process.folder, "status", deadline_s=0.2)
        keeper_process.start()
        keeper_process.wait_ready()
        with pytest.raises(InputError, match="purged by 'colour'"):
            await order(keeper_process.folder, "purge", by="colour", value="red")
        with pytest.raises(InputError, match="no order 'dance'"):
            await order(keeper_process.folder, "dance")
        with pytest.raises(InputError):
            await order(keeper_process.folder, "purge", by="tag", value="x" * 10_000)
        with pytest.raises(InputError, match="workload 'no-such'"):
            await order(keeper_process.folder, "stop", workload="no-such")

    asyncio.run(go())


def test_a_new_plan_reaches_the_keeper(keeper_process: KeeperProcess, tmp_path: Path) -> None:
    keeper_process.start()
    keeper_process.wait_ready()
    assert keeper_process.channel is not None
    plan = plan_at(tmp_path / "plan-2.json", error_rate=0.05, judge="text")
    keeper_process.channel.sendall(b'not json\n{"do":"plan","path":"%s"}\n' % str(plan).encode())
    assert b"planned" in keeper_process.channel.recv(4096)
    told = asyncio.run(order(keeper_process.folder, "status"))
    assert told["workloads"]["chat"]["error_rate"] == 0.05
    keeper_process.channel.sendall(b'{"do":"plan","path":"/no/such/plan"}\n')
    assert b"refused" in keeper_process.channel.recv(4096)


def test_a_folder_with_a_very_long_name_can_be_listened_in(tmp_path: Path) -> None:
    keeper = KeeperProcess(tmp_path / ("x" * 120) / "cache", plan_at(tmp_path / "plan.json"))
    try:
        keeper.start()
        keeper.wait_ready()
        assert asyncio.run(order(keeper.folder, "status"))["entries"] == 0
        assert (keeper.folder / SOCKET).stat().st_mode & 0o077 == 0
    finally:
        keeper.close()


@pytest.mark.parametrize("is_together", [True, False], ids=["in one look of its loop", "one after the other"])
def test_a_ticket_that_comes_after_the_answer_was_handed_in_holds_nothing_up(
    keeper_process: KeeperProcess, is_together: bool
) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        answers = await worker_of(keeper_process)
        first = question_of("how do i reset the heater", request_id="first")
        answers.keep(first, fresh_of("hold the knob", stamp=answers.stamp(), request_id="first"))
        await until(lambda: exact_now(answers, first), "the first answer")
        # The keeper stands still for longer than a look may take: the engine answers before it does.
        assert keeper_process.process is not None
        os.kill(keeper_process.process.pid, signal.SIGSTOP)
        try:
            slow = question_of("how do i reset a heater", request_id="slow")
            assert (await looked(answers, slow, 5_000_000)).reason == "keeper-slow"
            if is_together:
                answers.keep(slow, fresh_of("hold the knob", stamp=answers.stamp(), request_id="slow"))
        finally:
            os.kill(keeper_process.process.pid, signal.SIGCONT)
        if not is_together:
            await until(lambda: answers._late, "the late ticket")
            answers.keep(slow, fresh_of("hold the knob", stamp=answers.stamp(), request_id="slow"))
        labels = 0
        for number in range(5):
            question = question_of(f"how do i reset my heater {number}", request_id=f"r{number}")
            found = await looked(answers, question)
            assert found.ticket is not None
            answers.keep(
                question, fresh_of("hold the knob", stamp=answers.stamp(), request_id=f"r{number}", ticket=found.ticket)
            )
        ends = time.monotonic() + 20.0
        while labels < 5:
            assert time.monotonic() < ends, f"{labels} labels were learnt"
            labels = (await order(keeper_process.folder, "status"))["labels"]
            await asyncio.sleep(0.02)
        answers.close()

    asyncio.run(go())
