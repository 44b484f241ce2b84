"""Answers of a public workload go to others only once enough callers asked, and reworded only after their checks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from answer_parts import Bench, fresh_of, question_of

from gridctl.answers.keeper import Keeper
from gridctl.answers.question import Question
from gridctl.answers.reading import Reading
from gridctl.answers.settings import KeeperSettings, Rules, settings_of_plan
from gridctl.answers.sharing import asker_of, askers_of, with_asker
from gridctl.broker.plan import Plan, write_plan
from gridctl.cache.decision import Decider, Verdict
from gridctl.cache.evidence import Evidence
from gridctl.resources import KINDS

PUBLIC = Rules(is_public=True, judge="text", error_rate=0.4)
TEXT = "how do i reset the heater"
ALIKE = "please tell me how do i reset the heater"


def ask(who: str, text: str = TEXT) -> Question:
    """A question of tenant/user in the partition that all tenants share."""
    tenant, _, user = who.partition("/")
    return msgspec.structs.replace(question_of(text, tenant="*"), tenant=tenant, user=user)


def worker_finds(bench: Bench, question: Question) -> bool:
    """What a worker finds by itself, without asking the keeper."""
    bench.commit()
    reading = Reading(bench.folder, bench.presence_name)
    try:
        return reading.find(question, bench.now_ns) is not None
    finally:
        reading.close()


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that serves whatever may be served."""
    explore = Decider._explore

    def decide(self: Decider, evidence: Evidence | None, now_ns: int, withheld: str = "") -> Verdict:
        self._tick(now_ns)
        if evidence is None:
            return Verdict("explore", "nothing-stored", None, 1.0, 1.0, 0.0, None)
        if withheld:
            return explore(self, withheld, evidence, None)
        return Verdict("serve", "careless", evidence, 0.0, 1.0, 0.0, None)

    monkeypatch.setattr(Decider, "decide", decide)


def test_a_public_answer_goes_to_others_once_three_callers_asked_for_it(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    for who, others_may in (("acme/ann", False), ("acme/ann", False), ("acme/bob", False), ("globex/ann", True)):
        bench.keep(ask(who), fresh_of("hold the button"))
        bench.commit()
        assert bench.look(ask(who)).kind == "hit", "who asked may have it again"
        found = bench.look(ask("initech/eve"))
        assert (found.kind, found.reason) == (("hit", "exact") if others_may else ("miss", "few-askers"))
        assert worker_finds(bench, ask("initech/eve")) == others_may
        assert len(bench.presence) == int(others_may), "what others may not have, no table tells of"


def test_an_answer_that_is_not_public_is_found_at_once(bench: Bench) -> None:
    bench.keep(question_of(TEXT), fresh_of("hold the button"))
    assert worker_finds(bench, question_of(TEXT))


def test_what_was_open_is_open_and_what_was_closed_is_closed_after_a_restart(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    for who in ("a/1", "b/1", "c/1"):
        bench.keep(ask(who), fresh_of("hold the button"))
    bench.keep(ask("a/1", "where is my lost parcel"), fresh_of("at the depot"))
    bench.keep(ask("b/1", "where is my lost parcel"), fresh_of("at the depot"))
    bench.commit()
    bench.close()
    bench.open()
    assert worker_finds(bench, ask("d/1"))
    assert not worker_finds(bench, ask("d/1", "where is my lost parcel"))
    bench.keep(ask("c/1", "where is my lost parcel"), fresh_of("at the depot"))
    assert worker_finds(bench, ask("d/1", "where is my lost parcel")), "those who asked before the restart count"


def test_rewordings_of_one_answer_count_together_and_open_each_other(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    words = [TEXT, "reset the heater how do i", "how do i reset the heater please"]
    for who, text in zip(("a/1", "b/1", "c/1"), words, strict=True):
        bench.keep(ask(who, text), fresh_of("hold the button"))
    bench.commit()
    assert len(bench.keeper.shelf.group_of(bench.keeper.shelf.by_exact[ask("a/1").exact])) == 3
    assert all(worker_finds(bench, ask("d/1", text)) for text in words)


@pytest.mark.usefixtures("careless")
def test_a_reworded_question_of_another_gets_nothing_before_its_group_passed_two_checks(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    bench.keep(ask("a/1"), fresh_of("hold the button"))
    assert bench.look(ask("a/1", ALIKE)).kind == "hit", "it is an own answer"
    assert bench.look(ask("d/1", ALIKE)).reason == "few-askers"
    for who in ("b/1", "c/1"):
        bench.keep(ask(who), fresh_of("hold the button"))
    for _ in range(2):
        found = bench.look(ask("d/1", ALIKE))
        assert (found.kind, found.reason, found.kept) == ("explore", "probation", None)
        assert found.ticket is not None
        # The check's answer is the same; it is not kept, so that only the checks can change what follows.
        bench.keep(ask("d/1", ALIKE), fresh_of("hold the button", ticket=found.ticket))
        number = bench.keeper.shelf.by_exact.get(ask("d/1", ALIKE).exact)
        assert number is not None
        bench.keeper.drop(number)
    found = bench.look(ask("d/1", ALIKE))
    assert (found.kind, found.reason) == ("hit", "careless")
    assert found.kept is not None


@pytest.mark.usefixtures("careless")
def test_checks_that_fail_keep_a_group_on_probation(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    for who in ("a/1", "b/1", "c/1"):
        bench.keep(ask(who), fresh_of("send me your password"))
    for _ in range(4):
        found = bench.look(ask("d/1", ALIKE))
        assert found.reason == "probation"
        bench.keep(ask("d/1", ALIKE), fresh_of("hold the button", ticket=found.ticket))
        bench.keeper.drop(bench.keeper.shelf.by_exact[ask("d/1", ALIKE).exact])


def test_other_terms_close_and_open_what_is_kept(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    bench.keep(ask("a/1"), fresh_of("hold the button"))
    bench.keep(ask("b/1"), fresh_of("hold the button"))
    for public_after, is_open in ((2, True), (3, False), (2, True)):
        rules = msgspec.structs.replace(PUBLIC, public_after=public_after)
        bench.commit()
        bench.keeper.follow(KeeperSettings(rules={"chat": rules}))
        assert worker_finds(bench, ask("d/1")) == is_open


def test_callers_are_told_apart_by_tenant_and_key_and_only_as_many_are_kept_as_count() -> None:
    """No two of these are one caller: where the name of one ends and of the other begins is part of it."""
    names = {asker_of(ask(who)) for who in ("ab/c", "a/bc", "abc/", "a/b/c")}
    assert len(names) == 4
    user = ""
    for number in range(9):
        user = with_asker(askers_of(user), f"{number:016x}", 3)
    assert askers_of(user) == tuple(f"{number:016x}" for number in (6, 7, 8))
    assert askers_of(with_asker(askers_of(user), f"{6:016x}", 3)) == tuple(f"{number:016x}" for number in (7, 8, 6))
    assert askers_of(with_asker(askers_of(user), "x", 1)) == ("x",)
    assert askers_of("ann") == ()


def test_one_caller_adds_eight_rewordings_to_a_public_answer_and_no_more(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": PUBLIC})
    for number in range(12):
        bench.keep(ask("a/1", f"{TEXT} {'please ' * number}".strip()), fresh_of("hold the button"))
    first = bench.keeper.shelf.by_exact[ask("a/1").exact]
    assert len(bench.keeper.shelf.group_of(first)) == 8


def test_the_plan_says_what_is_public(tmp_path, make_bench: Callable[..., Bench]) -> None:
    cache = {"mode": "exact", "sharing": "public", "public_after": 5, "probation": 0}
    document = {
        "kind": "Workload", "apiVersion": "gridctl/v1", "metadata": {"name": "chat"},
        "spec": {"objectives": [{"metric": "ttft_ms", "threshold_ms": 500}], "models": ["m"], "cache": cache},
    }  # fmt: skip
    path = tmp_path / "plan.json"
    write_plan(path, Plan(generation=1, resources=(msgspec.convert(document, KINDS["Workload"]),)))
    rules = settings_of_plan(path).rules["chat"]
    assert (rules.is_public, rules.public_after, rules.probation) == (True, 5, 0)
    assert isinstance(make_bench(rules={"chat": rules}).keeper, Keeper)
