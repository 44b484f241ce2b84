"""The outbox: what was written in one turn of the event loop leaves at its end, once for each connection."""

from __future__ import annotations

import asyncio

from gridctl.gateway.outbox import Outbox


class Connection:
    def __init__(self, said: list[str], name: str) -> None:
        self._said, self._name = said, name

    def send(self) -> None:
        self._said.append(self._name)


def test_without_a_loop_everything_is_sent_at_once() -> None:
    said: list[str] = []
    Outbox().add(Connection(said, "a"))
    assert said == ["a"]


def test_what_one_turn_writes_leaves_after_it_and_in_its_order() -> None:
    said: list[str] = []

    async def turn() -> None:
        outbox = Outbox()
        outbox.open(asyncio.get_running_loop())
        for name in "abc":
            outbox.add(Connection(said, name))
        said.append("end of the turn")
        await asyncio.sleep(0)
        outbox.add(Connection(said, "d"))
        said.append("end of the next")
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert said == ["end of the turn", "a", "b", "c", "end of the next", "d"]


def test_who_writes_while_it_is_sent_is_sent_in_the_next_turn() -> None:
    said: list[str] = []

    async def turns() -> None:
        outbox = Outbox()
        outbox.open(asyncio.get_running_loop())

        class Writer(Connection):
            def send(self) -> None:
                super().send()
                outbox.add(Connection(said, "written while sending"))

        outbox.add(Writer(said, "first"))
        await asyncio.sleep(0)
        said.append("turn")
        await asyncio.sleep(0)

    asyncio.run(turns())
    assert said == ["first", "turn", "written while sending"]


def test_engines_get_theirs_before_clients_do() -> None:
    said: list[str] = []

    async def turn() -> None:
        outbox = Outbox()
        outbox.open(asyncio.get_running_loop())
        outbox.add(Connection(said, "answer"))
        outbox.ask(Connection(said, "request"))
        outbox.ask(Connection(said, "another request"))
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert said == ["request", "another request", "answer"]
