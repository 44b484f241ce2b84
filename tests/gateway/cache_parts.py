"""A gateway with a cache whose keeper is a dictionary: what is kept is what the test says, or what was handed in."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway_parts import Answer, Gateway, Served, StandInBroker, read_answer, request, running_gateway

from gridctl.answers.handed import Handed, Kind, opened
from gridctl.answers.question import Found, Fresh, Kept, Question
from gridctl.broker.ask import Ask
from gridctl.broker.plan import Plan
from gridctl.cache.cacheable import refusal_of
from gridctl.gateway.caching import Caching
from gridctl.resources import Metadata, Objective, Workload, WorkloadSpec
from gridctl.resources.workload import CachePolicy

SECRET = b"s" * 32
BORN = 1_700_000_000_000_000_000


@dataclass
class StandInAnswers:
    """The worker's side of the kept answers. `found` is what a look finds; None: it never answers within its budget."""

    kept: dict[bytes, Kept] = field(default_factory=dict)
    found: Found | None = field(default_factory=lambda: Found("miss", "nothing-stored"))
    handed_in: list[tuple[Question, Fresh]] = field(default_factory=list)
    abandoned: list[int] = field(default_factory=list)
    served_entries: list[int] = field(default_factory=list)
    looks: list[Question] = field(default_factory=list)
    cancelled: int = 0
    keeps: bool = True
    is_closed: bool = False
    shared_ns: int = 0

    def stamp(self) -> int:
        return 7

    def close(self) -> None:
        self.is_closed = True

    def exact(self, question: Question, now_unix_ns: int) -> Kept | None:
        kept = self.kept.get(question.exact)
        if kept is not None and kept.age == "stale" and not question.stale_s:
            return None
        return kept

    def look(self, question: Question, then: Callable[[Found], None], budget_ns: int) -> Callable[[], None]:
        self.looks.append(question)
        loop = asyncio.get_running_loop()
        if self.found is None:
            handle: Any = loop.call_later(budget_ns / 1e9, then, Found("miss", "keeper-slow"))
        else:
            handle = loop.call_soon(then, self.found)

        def cancel() -> None:
            self.cancelled += 1
            handle.cancel()

        return cancel

    def keep(self, question: Question, fresh: Fresh) -> None:
        self.handed_in.append((question, fresh))
        if self.keeps:
            self.kept[question.exact] = kept_answer(
                fresh.content,
                model=fresh.model,
                prompt_tokens=fresh.prompt_tokens,
                output_tokens=fresh.output_tokens,
            )

    def absent(self, exact: bytes) -> int | None:
        return None if exact in self.kept else self.stamp()

    def hand_in(self, kinds: list[Kind], handed: list[Handed]) -> None:
        for one in handed:
            question, fresh = opened(kinds, one)
            if refusal_of(fresh.finish_reason, fresh.status, fresh.content, fresh.has_tool_call) is None:
                self.keep(question, fresh)

    def abandon(self, question: Question, ticket: int) -> None:
        self.abandoned.append(ticket)

    def served(self, question: Question, kept: Kept) -> None:
        self.served_entries.append(kept.entry)


def kept_answer(content: bytes = b'{"role":"assistant","content":"kept words"}', **fields: Any) -> Kept:
    told: dict[str, Any] = {
        "entry": 1, "level": "exact", "finish_reason": "stop", "model": "tiny", "variant": "bf16", "prompt_tokens": 12,
        "output_tokens": 2, "age": "fresh", "similarity": None, "bound": None, "saved_usd": 0.25, "born_unix_ns": BORN,
    }  # fmt: skip
    return Kept(content=content, **{**told, **fields})


class Counts:
    """The counters, in a dictionary."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def refresh(self) -> None:
        return

    def add(self, workload: str, name: str, amount: int = 1) -> None:
        self.of[name] += amount

    def reason(self, word: str, amount: int = 1) -> None:
        self.reasons[word] += amount


def workload(**policy: Any) -> Workload:
    """`chat` with a cache; any temperature will do unless said."""
    spec = WorkloadSpec(
        objectives=(Objective(metric="ttft_ms", threshold_ms=1000.0),),
        models=("tiny",),
        cache=CachePolicy(**{"mode": "exact", "max_temperature": 1.0, **policy}),
    )
    return Workload(metadata=Metadata(name="chat"), spec=spec)


@dataclass
class CachingGateway:
    """A gateway and its cache."""

    gateway: Gateway
    answers: StandInAnswers
    counts: Counts
    caching: Caching
    errors: list[BaseException]

    def ask(self, body: dict[str, Any], more: bytes = b"", path: str = "/v1/chat/completions") -> Answer:
        with self.gateway.connect() as connection:
            connection.sendall(request(body, path, more=more))
            return read_answer(connection)

    def send(self, body: dict[str, Any]) -> socket.socket:
        connection = self.gateway.connect()
        connection.sendall(request(body))
        return connection

    def settled(self) -> None:
        self.gateway.settled()
        assert not self.errors, self.errors


@contextmanager
def caching_gateway(urls: Sequence[str], **policy: Any) -> Iterator[CachingGateway]:
    with running_gateway(urls) as gateway:
        answers, counts, errors = StandInAnswers(), Counts(), list[BaseException]()
        understand = StandInBroker.ask
        endpoints = {
            "/v1/chat/completions": "chat", "/v1/completions": "completions", "/v1/embeddings": "embeddings",
            "/v1/messages": "messages", "/v1/responses": "responses",
        }  # fmt: skip

        def ask(head: Any, body: bytes, now_ns: int) -> Ask:
            found = understand(gateway.broker, head, body, now_ns)
            found.endpoint, found.tenant = endpoints.get(head.path, "rerank"), tenant_of(head)
            found.jurisdiction = "EU"
            return found

        gateway.broker.ask = ask  # type: ignore[method-assign]
        plan = Plan(generation=1, resources=(workload(**policy),))

        async def make() -> Caching:
            made = Caching(gateway.serving, answers, SECRET, counts, plan, errors.append)  # type: ignore[arg-type]
            made.keeping.after_s = 0.0
            gateway.serving.caching = made
            return made

        caching = gateway.call(make())
        yield CachingGateway(gateway, answers, counts, caching, errors)
        assert not errors, errors


def tenant_of(head: Any) -> str:
    return str(head.headers.get(b"x-tenant", b"default").decode())


def gated(gate: threading.Event, script: Callable[[Served], Any]) -> Callable[[Served], Any]:
    """An engine that answers once the gate is open."""

    async def answer(served: Served) -> None:
        while not gate.is_set():
            await asyncio.sleep(0.002)
        await script(served)

    return answer
