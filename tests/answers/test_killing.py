"""kill -9 of the keeper at random moments under load; a damaged file; a full disk; clocks: nothing wrong is served.

GRIDCTL_KILLS sets how often (6 unless told; 50 is a good evening).
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from answer_parts import KeeperProcess, fresh_of, plan_at, question_of, until, words_of

from gridctl.answers.client import Answers, Found, Kept, Question
from gridctl.answers.database import FILE
from gridctl.answers.ordering import order
from gridctl.errors import GridctlError

KILLS = int(os.environ.get("GRIDCTL_KILLS", "6"))
TENANTS = ("acme", "globex")
TOPICS = ("heater", "lamp", "radio", "kettle", "fan", "oven", "iron")
FORMS = ("how do i reset the {}", "please reset my {}", "reset the {} for me", "can you reset the {}")
TTL_S = 20.0


class Load:
    """One worker's traffic, and what it knows must never come back."""

    def __init__(self, answers: Answers, seed: int) -> None:
        self.answers = answers
        self.draw = random.Random(seed)
        self.handed_in: dict[str, tuple[str, str, int]] = {}  # words → partition, tag, when
        self.purged_ns: dict[str, int] = {}  # tag → what was handed in before this is gone
        self.serial = 0
        self.served = {"exact": 0, "semantic": 0}

    def question(self) -> Question:
        topic = self.draw.choice(TOPICS)
        return question_of(
            self.draw.choice(FORMS).format(topic),
            tenant=self.draw.choice(TENANTS),
            tags=(topic,),
            ttl_s=TTL_S,
            request_id=f"r{self.serial}",
        )

    def check(self, question: Question, kept: Kept) -> None:
        now_ns = time.time_ns()
        partition, tag, handed_ns = self.handed_in[words_of(kept.content)]
        assert partition == question.partition
        assert now_ns - kept.born_unix_ns <= TTL_S * 1e9
        assert kept.born_unix_ns >= handed_ns
        assert handed_ns >= self.purged_ns.get(tag, 0), f"an answer that was purged by {tag} was served"
        self.served[kept.level] += 1
        self.answers.served(question, kept)

    async def ask(self) -> None:
        question = self.question()
        self.serial += 1
        stamp = self.answers.stamp()
        asked_ns = time.time_ns()
        kept = self.answers.exact(question, asked_ns)
        if kept is not None:
            self.check(question, kept)
            return
        waiting: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.answers.look(question, waiting.set_result, 2_000_000_000)
        found = await waiting
        if found.kept is not None:
            self.check(question, found.kept)
        if found.kind != "hit":
            words = f"{question.tags[0]} {question.tenant} {self.serial}"
            self.handed_in[words] = (question.partition, question.tags[0], asked_ns)
            self.answers.keep(question, fresh_of(words, stamp=stamp, ticket=found.ticket))

    async def purge(self, folder: Path) -> None:
        tag = self.draw.choice(TOPICS)
        before_ns = time.time_ns()
        try:
            await order(folder, "purge", by="tag", value=tag)
        except GridctlError:
            return  # killed meanwhile: it may hold or not
        self.purged_ns[tag] = before_ns


def test_killed_at_any_moment_it_comes_back_and_serves_nothing_wrong(keeper_process: KeeperProcess) -> None:
    draw = random.Random(8)

    async def go() -> None:
        answers = Answers(keeper_process.folder, keeper_process.presence, asyncio.get_running_loop())
        load = Load(answers, 9)
        for _ in range(KILLS):
            keeper_process.start()
            await until(lambda: answers.is_up, "the greeting", 30.0)
            ends = time.monotonic() + draw.uniform(0.0, 0.5)
            while time.monotonic() < ends:
                await asyncio.gather(*(load.ask() for _ in range(8)))
                if draw.random() < 0.1:
                    await load.purge(keeper_process.folder)
            killing = asyncio.get_running_loop().run_in_executor(None, keeper_process.kill)
            while not killing.done():  # the worker goes on while it dies
                await load.ask()
            await killing
            await until(lambda: not answers.is_up, "the loss")
            for _ in range(20):
                await load.ask()
        assert load.served["exact"] > 5 * KILLS
        keeper_process.start()
        await until(lambda: answers.is_up, "the greeting", 30.0)
        told = await order(keeper_process.folder, "status")
        assert told["problem"] == "", "no kill left a damaged file"
        answers.close()

    asyncio.run(go())
    assert keeper_process.stop() == 0
    assert not list(keeper_process.folder.glob("*.corrupt-*"))


def test_a_damaged_file_is_set_aside_by_a_process_too_and_workers_follow(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        keeper_process.start()
        answers = Answers(keeper_process.folder, keeper_process.presence, asyncio.get_running_loop())
        await until(lambda: answers.is_up, "the greeting", 30.0)
        question = question_of("how do i reset the heater")
        answers.keep(question, fresh_of("the first answer", stamp=answers.stamp()))
        await until(lambda: answers.exact(question, time.time_ns()), "the answer")
        keeper_process.kill()
        (keeper_process.folder / FILE).write_bytes(b"SQLite format 3\x00" + b"\x07" * 20_000)
        (keeper_process.folder / f"{FILE}-wal").write_bytes(b"\x07" * 5_000)
        await until(lambda: not answers.is_up, "the loss")
        keeper_process.start()
        await until(lambda: answers.is_up, "the greeting", 30.0)
        assert answers.exact(question, time.time_ns()) is None
        told = await order(keeper_process.folder, "status")
        assert "corrupt-1" in told["problem"]
        answers.keep(question, fresh_of("the second answer", stamp=answers.stamp()))
        await until(lambda: answers.exact(question, time.time_ns()), "the new answer")
        kept = answers.exact(question, time.time_ns())
        assert kept is not None
        assert words_of(kept.content) == "the second answer"
        answers.close()

    asyncio.run(go())


def test_on_a_full_disk_it_stops_storing_serves_on_and_says_so(keeper_process: KeeperProcess) -> None:
    """The disk is full for this process when its files may not grow."""

    async def go() -> None:
        keeper_process.start()
        answers = Answers(keeper_process.folder, keeper_process.presence, asyncio.get_running_loop())
        await until(lambda: answers.is_up, "the greeting", 30.0)
        question = question_of("how do i reset the heater")
        answers.keep(question, fresh_of("hold the knob", stamp=answers.stamp()))
        await until(lambda: answers.exact(question, time.time_ns()), "the answer")
        assert keeper_process.process is not None
        pid = keeper_process.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        full = (keeper_process.folder / f"{FILE}-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, unlimited[1]))
        other = question_of("how do i reset the lamp")
        answers.keep(other, fresh_of("x" * 100_000, stamp=answers.stamp()))
        told = await _told(keeper_process.folder, lambda told: not told["is_storing"])
        assert "answers cannot be kept" in told["problem"] or "disk is full" in told["problem"]
        assert answers.exact(other, time.time_ns()) is None
        waiting: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        answers.look(question, waiting.set_result, 2_000_000_000)
        assert (await waiting).kind == "hit"
        assert answers.exact(question, time.time_ns()) is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        ends = time.monotonic() + 15.0
        while answers.exact(other, time.time_ns()) is None:
            assert time.monotonic() < ends, "storing did not go on by itself"
            answers.keep(other, fresh_of("there is room", stamp=answers.stamp()))
            await asyncio.sleep(0.1)
        told = await order(keeper_process.folder, "status")
        assert (told["is_storing"], told["problem"]) == (True, "")
        answers.close()

    asyncio.run(go())


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    words = ["--folder", str(tmp_path / "cache"), "--plan", str(plan_at(tmp_path / "plan.json")), "--presence"]
    words += [str(tmp_path / "presence"), "--listen-fd", "0", "--channel-fd", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "gridctl.answers.process", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


async def _told(folder: Path, is_so) -> dict:
    ends = time.monotonic() + 15.0
    while True:
        told = await order(folder, "status")
        if is_so(told):
            return told
        assert time.monotonic() < ends, told
        await asyncio.sleep(0.02)


if KILLS < 1:
    pytest.skip("GRIDCTL_KILLS is 0", allow_module_level=True)
