"""How answers get to the keeper: together, as they came, and only those that are worth it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cache_parts import SECRET, Counts, StandInAnswers, caching_gateway, workload
from gateway_parts import CHAT, Served, scripted_engine, serves, whole
from test_questions import ask, chat

from gridctl.answers.handed import Handed, Kind
from gridctl.gateway import keeping
from gridctl.gateway.keeping import Keeping
from gridctl.gateway.questions import Questions
from gridctl.gateway.terms import Understood, terms_of
from gridctl.signals.finished import Finished

ASKED: dict[str, Any] = {**CHAT, "temperature": 0}
BACKEND = SimpleNamespace(model="tiny", digest="sha256:1")
SAID = json.dumps(
    {"model": "m", "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}]}
).encode()


class Parcels(StandInAnswers):
    """The keeper's end, which keeps what comes as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.parcels: list[tuple[list[Kind], list[Handed]]] = []

    def hand_in(self, kinds: list[Kind], handed: list[Handed]) -> None:
        self.parcels.append((kinds, handed))
        super().hand_in(kinds, handed)


def understood(text: str, **policy: Any) -> Understood:
    terms = terms_of(workload(**policy))
    assert terms is not None
    found = Questions(SECRET).read(ask(), {}, json.dumps(chat(text)).encode(), terms)
    assert isinstance(found, Understood)
    return found


def ended(number: int = 0, took_us: int = 1_000, **fields: Any) -> Finished:
    told: dict[str, Any] = {
        "request_id": f"r{number}", "workload": "chat", "variant": "bf16", "site": "s", "cluster": "c",
        "outcome": "completed", "status": 200, "arrival_ns": 0, "end_ns": took_us * 1_000, "prompt_tokens": 3,
        "output_tokens": 1, "usd": 0.5, "choice": SimpleNamespace(backend=BACKEND), "cache_reason": "absent", **fields,
    }  # fmt: skip
    return Finished(**told)


def kept(work: Callable[[Keeping], None]) -> tuple[Parcels, Counts]:
    answers, counts, errors = Parcels(), Counts(), list[BaseException]()

    async def go() -> None:
        made = Keeping(answers, counts, errors.append)  # type: ignore[arg-type]
        work(made)
        made.hand_in()

    asyncio.run(go())
    assert not errors
    return answers, counts


def test_what_came_together_goes_together_and_its_kinds_once() -> None:
    one, other = understood("one"), understood("other")

    def work(made: Keeping) -> None:
        for number in range(3):
            made.add(one, ended(number), SAID, False, None, 7, True)
        made.add(other, ended(3), SAID, False, None, 8, True)

    answers, counts = kept(work)
    ((kinds, handed),) = answers.parcels
    assert [one.kind for one in handed] == [0, 0, 0, 1]
    assert len(kinds) == 2
    assert [fresh.request_id for _, fresh in answers.handed_in] == ["r0", "r1", "r2", "r3"]
    question, fresh = answers.handed_in[-1]
    assert (question.exact, question.partition, question.text) == (other.exact, other.form.partition, "")
    assert (fresh.content, fresh.model, fresh.digest, fresh.stamp) == (
        b'{"role": "assistant", "content": "yes"}', "tiny", "sha256:1", 8
    )  # fmt: skip
    assert (fresh.site, fresh.cluster, fresh.variant, fresh.ttft_us, fresh.usd) == ("s", "c", "bf16", 1_000.0, 0.5)
    assert counts.of == {"misses": 4, "kept": 4}
    assert counts.reasons == {"absent": 4}


def test_a_text_goes_along_where_it_is_looked_for_by_its_meaning() -> None:
    answers, _ = kept(
        lambda made: made.add(understood("One two", mode="semantic"), ended(), SAID, False, None, 0, True)
    )
    assert answers.handed_in[0][0].text == "One two"


@pytest.mark.parametrize(("said", "ticket", "goes"), [(b"{}", None, False), (SAID, None, True), (b"{}", 5, True)])
def test_what_is_not_complete_stays_here_unless_a_label_is_due(said: bytes, ticket: int | None, goes: bool) -> None:
    answers, counts = kept(lambda made: made.add(understood("a"), ended(), said, False, ticket, 0, True))
    assert bool(answers.parcels) == goes
    assert counts.of["misses"] == 1


def test_a_parcel_is_no_longer_than_a_message_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_BYTES", 3 * len(SAID))
    answers, _ = kept(
        lambda made: [made.add(understood("a"), ended(n), SAID, False, None, 0, True) for n in range(7)] and None
    )
    assert [len(handed) for _, handed in answers.parcels] == [3, 3, 1]


def test_an_answer_too_large_for_the_socket_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LARGEST_BYTES", len(SAID) - 1)
    answers, counts = kept(lambda made: made.add(understood("a"), ended(), SAID, False, None, 0, False))
    assert not answers.parcels
    assert json.loads(answers.handed_in[0][1].content)["content"] == "yes"
    assert counts.of == {"kept": 1}


def test_a_full_parcel_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_TOGETHER", 4)
    seen: list[int] = []

    def work(made: Keeping) -> None:
        for number in range(6):
            made.add(understood("a"), ended(number), SAID, False, None, 0, True)
            seen.append(len(made._waiting))

    kept(work)
    assert seen == [1, 2, 3, 0, 1, 2]


def test_hits_save_what_engines_took_of_late() -> None:
    def work(made: Keeping) -> None:
        assert made.saved_us("chat", False, 50.0) == 0, "nothing is known yet"
        for took_us in (1_000, 2_000):
            made.add(understood("a"), ended(took_us=took_us), SAID, False, None, 0, True)
            made.hand_in()
        assert made.saved_us("chat", False, 50.0) == 1_000  # 1000 + 0.05 · (2000 − 1000) − 50

    kept(work)


def test_where_only_what_is_asked_again_is_kept_an_engine_is_asked_twice() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], admission="second") as cached:
        said = [cached.ask(ASKED).headers["x-gridctl-cache"].partition("; age")[0] for _ in range(4)]
        cached.settled()
    assert said == ["miss; reason=absent"] * 2 + ["hit; level=exact"] * 2
    assert len(engine.requests) == 2
    assert cached.counts.of["kept"] == 1
    assert cached.counts.of["misses"] == 2


def test_what_is_renewed_was_asked_for_again_and_is_kept() -> None:
    answers, _ = kept(
        lambda made: made.add(
            understood("a", admission="second"), ended(cache_reason="again"), SAID, False, None, 0, False
        )
    )
    assert len(answers.handed_in) == 1


def test_by_meaning_everything_is_kept_at_once_for_wordings_never_repeat() -> None:
    with (
        scripted_engine(serves) as engine,
        caching_gateway([engine.url], mode="semantic", admission="second") as cached,
    ):
        cached.ask(ASKED)
        cached.settled()
    assert len(cached.answers.handed_in) == 1


def test_an_answer_the_engine_cut_short_is_not_handed_in() -> None:
    async def script(served: Served) -> None:
        said = {"model": "tiny", "choices": [{"message": {"content": "a"}, "finish_reason": "length"}]}
        served.send(whole(json.dumps(said).encode()))

    with scripted_engine(script) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(ASKED)
        cached.settled()
    assert not cached.answers.handed_in
    assert cached.counts.of == {"misses": 1}
    assert len(engine.requests) == 1
