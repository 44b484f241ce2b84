"""What becomes of looks and answers, without sockets."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from answer_parts import Bench, fresh_of, question_of, words_of

from gridctl.answers.orders import obey
from gridctl.answers.question import Note
from gridctl.answers.settings import Rules
from gridctl.errors import InputError

HOUR_NS = 3_600_000_000_000


def teach(bench: Bench, topics: int = 120) -> Counter[str]:
    """Ask about many topics in a few wordings, with an answer of its own each, as an engine would answer; how often
    each kind of find came. What is served must be right."""
    forms = ("how do i reset the {}", "please reset my {}", "reset the {} for me", "can you reset the {}")
    kinds: Counter[str] = Counter()
    for number in range(topics):
        topic = f"device{number} kind{number * 7}"
        for form in forms:
            question = question_of(form.format(topic))
            found = bench.look(question)
            kinds[found.kind] += 1
            if found.kept is not None:
                assert words_of(found.kept.content) == f"answer for {topic}"
            if found.ticket is not None or found.kind == "miss":
                bench.keep(question, fresh_of(f"answer for {topic}", ticket=found.ticket))
    return kinds


def test_the_same_question_gets_the_same_bytes(bench: Bench) -> None:
    question = question_of("What is the capital of France?")
    fresh = fresh_of("Paris")
    assert bench.look(question).kind == "miss"
    assert bench.keep(question, fresh) == "kept"
    found = bench.look(question_of("  what is the CAPITAL of france? "))
    assert found.kind == "hit"
    assert found.kept is not None
    assert (found.kept.level, found.kept.content) == ("exact", fresh.content)


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"finish_reason": "length"}, "incomplete"),
        ({"finish_reason": "content_filter"}, "refused"),
        ({"status": 500}, "failed"),
        ({"has_tool_call": True}, "tools"),
    ],
)
def test_only_whole_answers_of_our_own_engines_are_kept(bench: Bench, more: dict[str, object], outcome: str) -> None:
    question = question_of("What is the capital of France?")
    assert bench.keep(question, fresh_of("Par", **more)) == outcome
    assert bench.look(question).kind == "miss"


def test_a_workload_learns_to_serve_by_meaning_and_audited_answers_are_booked(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(rules={"chat": Rules(error_rate=0.1, judge="text")}, slots=4096)
    kinds = teach(bench)
    assert kinds["hit"] > 20
    assert kinds["audit"] > 0
    standing = bench.keeper.deciders.standing("chat")
    assert standing["served_by_meaning"] == kinds["hit"] + kinds["audit"]
    assert standing["labels_awaited"] == 0


def test_what_has_expired_is_not_served_by_either_level(bench: Bench) -> None:
    question = question_of("What is the capital of France?", ttl_s=100.0, stale_s=50.0)
    bench.keep(question, fresh_of("Paris"))
    ages = []
    for seconds in (0, 80, 149, 151):
        bench.now_ns += seconds * 10**9 - (bench.now_ns - 1_790_000_000_000_000_000)
        found = bench.look(question)
        ages.append(found.kept.age if found.kept is not None else None)
    # The lifetime is 90 to 100 s, and stale 50 s more.
    assert ages[0] == "fresh"
    assert ages[1] == "fresh"
    assert ages[2] in ("stale", None)
    assert ages[3] is None
    assert len(bench.keeper.shelf) == 0, "and is removed when it is come upon"


def test_a_question_may_want_younger_answers_than_were_stored(bench: Bench) -> None:
    bench.keep(question_of("What is the capital of France?", ttl_s=3600.0), fresh_of("Paris"))
    bench.now_ns += 60 * 10**9
    assert bench.look(question_of("What is the capital of France?", ttl_s=10.0)).kind == "miss"
    assert bench.look(question_of("What is the capital of France?", ttl_s=3600.0)).kind == "hit"


def test_a_clock_that_runs_backwards_serves_no_more_than_one_that_stands(bench: Bench) -> None:
    question = question_of("What is the capital of France?", ttl_s=100.0)
    bench.keep(question, fresh_of("Paris"))
    bench.now_ns -= 30 * 10**9
    assert bench.look(question).kind == "hit", "half a minute is how clocks are set right"
    bench.now_ns -= HOUR_NS
    assert bench.look(question).kind == "miss", "an answer from the far future has no age to believe"


@pytest.mark.parametrize(
    ("by", "value"),
    [("tag", "prices"), ("tenant", "acme"), ("workload", "chat"), ("model", "llama-8b/fp8"), ("digest", "sha256:1")],
)
def test_a_purge_by_tag_is_in_force_at_once_and_for_answers_on_their_way(bench: Bench, by: str, value: str) -> None:
    question = question_of("What does it cost?", tags=("prices",))
    other = question_of("What does that cost?", tags=("prices",))
    bench.keep(question, fresh_of("5 euros", digest="sha256:1"))
    bench.commit()
    on_its_way = bench.store.last_purge
    assert obey(bench.keeper, "purge", {"by": by, "value": value}, bench.now_ns)["entries"] == 1
    assert bench.look(question).kind != "hit"
    assert bench.keep(other, fresh_of("6 euros", stamp=on_its_way, digest="sha256:1")) == "purged-meanwhile"
    assert bench.keep(question, fresh_of("7 euros", digest="sha256:1")) == "kept"
    assert bench.look(question).kind == "hit"


def test_a_dry_run_purges_nothing(bench: Bench) -> None:
    question = question_of("What does it cost?", tags=("prices",))
    bench.keep(question, fresh_of("5 euros"))
    told = obey(bench.keeper, "purge", {"by": "tag", "value": "prices", "dry_run": True}, bench.now_ns)
    assert told["entries"] == 1
    assert bench.look(question).kind == "hit"


def test_what_a_request_was_served_can_be_traced_and_purged_with_its_group(bench: Bench) -> None:
    first = question_of("how do i reset the heater", request_id="r1")
    alias = question_of("please reset my heater", request_id="r2")
    bench.keep(first, fresh_of("hold the knob", request_id="r1"))
    bench.keep(alias, fresh_of("hold the knob", request_id="r2"))
    entry = bench.look(first).kept
    assert entry is not None
    bench.keeper.noted([Note("r3", entry.entry, "exact", "chat", "acme", 0.001)], bench.now_ns)
    bench.commit()
    traced = obey(bench.keeper, "trace", {"request": "r3"}, bench.now_ns)["entries"]
    assert traced[0]["made_for"] == "r1"
    assert traced[0]["served"][0]["request"] == "r3"
    assert len(traced[0]["group"]) == 2
    assert obey(bench.keeper, "purge", {"by": "request", "value": "r3"}, bench.now_ns)["entries"] == 2
    assert bench.look(first).kind == "miss"
    assert bench.look(alias).kind == "miss"


def test_a_wrong_answer_that_a_user_reports_goes_with_its_group_and_praise_changes_nothing(bench: Bench) -> None:
    question = question_of("how do i reset the heater", request_id="r1")
    bench.keep(question, fresh_of("hold the knob"))
    kept = bench.look(question).kept
    assert kept is not None
    bench.keeper.noted([Note("r1", kept.entry, "exact", "chat", "acme", 0.0)], bench.now_ns)
    bench.commit()
    said = obey(bench.keeper, "feedback", {"request": "r1", "wrong": False}, bench.now_ns)
    assert not said["is_counted"]
    assert bench.look(question).kind == "hit"
    said = obey(bench.keeper, "feedback", {"request": "r1", "wrong": True, "user": "ann"}, bench.now_ns)
    assert said["is_counted"]
    assert said["entries"] == 1
    assert bench.look(question).kind == "miss"
    with pytest.raises(InputError):
        obey(bench.keeper, "feedback", {"request": "never", "wrong": True}, bench.now_ns)


def test_a_stopped_workload_serves_exact_repeats_only(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": Rules(error_rate=0.1, judge="text")}, slots=4096)
    teach(bench)
    obey(bench.keeper, "stop", {}, bench.now_ns)
    kinds = {bench.look(question_of(f"would you reset the device{n} kind{n * 7} please")).kind for n in range(60)}
    assert kinds <= {"explore", "miss"}
    assert bench.look(question_of("how do i reset the device0 kind0")).kind == "hit"
    bench.close()
    bench.open()
    assert bench.keeper.deciders.standing("chat")["is_stopped"], "a restart does not start it again"
    obey(bench.keeper, "resume", {"workload": "chat"}, bench.now_ns)
    assert not bench.keeper.deciders.standing("chat")["is_stopped"]


def test_when_the_engines_change_their_minds_the_promise_is_still_kept(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": Rules(error_rate=0.02, judge="text")}, slots=4096)
    teach(bench, 200)
    before = bench.keeper.deciders.standing("chat")
    # From now on the engines answer differently: what is kept is wrong, and only audits can tell.
    for number in range(200):
        question = question_of(f"reset the device{number} kind{number * 7} for me now")
        found = bench.look(question)
        if found.ticket is not None:
            bench.keep(question, fresh_of(f"another answer {number}", ticket=found.ticket))
    after = bench.keeper.deciders.standing("chat")
    assert after["served_by_meaning"] - before["served_by_meaning"] <= 0.02 * after["requests"]  # type: ignore[operator]


def test_a_workload_is_stopped_when_more_is_known_to_be_wrong_than_promised(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(rules={"chat": Rules(error_rate=0.01, judge="text")})
    for number in range(20):
        question = question_of(f"question {number}", request_id=f"r{number}")
        bench.keep(question, fresh_of(f"answer {number}"))
        kept = bench.look(question).kept
        assert kept is not None
        bench.keeper.noted([Note(f"r{number}", kept.entry, "exact", "chat", "acme", 0.0)], bench.now_ns)
    bench.commit()
    assert bench.keeper.deciders.stop_broken() == []
    for number in range(4):
        obey(bench.keeper, "feedback", {"request": f"r{number}", "wrong": True, "user": f"u{number}"}, bench.now_ns)
    assert bench.keeper.deciders.stop_broken() == ["chat"]
    assert bench.keeper.deciders.standing("chat")["is_stopped"]


def test_entries_go_by_worth_when_room_is_needed_and_an_alias_before_its_founder(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench(rules={"chat": Rules(judge="text")}, capacity_bytes=60_000, slots=1024)
    for number in range(60):
        bench.keep(question_of(f"how do i reset the gadget{number}"), fresh_of(f"answer {number} " + "x" * 300))
    assert bench.keeper.shelf.room.used_bytes <= 60_000
    assert 0 < len(bench.keeper.shelf) < 60
    bench.commit()
    assert len(bench.store.entries()) == len(bench.keeper.shelf)
    assert len(bench.presence) == len(bench.keeper.shelf)


def test_a_full_table_makes_room_too(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": Rules(mode="exact")}, slots=64)
    for number in range(200):
        bench.keep(question_of(f"question {number}"), fresh_of(f"answer {number}"))
        bench.commit()
    assert len(bench.presence) <= bench.presence.most
    assert len(bench.keeper.shelf) == len(bench.presence)
    assert bench.look(question_of("question 199")).kind == "hit"


def test_everything_is_there_again_after_a_restart(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(rules={"chat": Rules(error_rate=0.1, judge="text")}, slots=4096)
    teach(bench)
    bench.commit()
    before = bench.keeper
    groups, entries, labels = before.shelf.groups, len(before.shelf), before.deciders.labels
    spent = bench.ledger.read("chat")
    bench.close()
    bench.open()
    after = bench.keeper
    assert (after.shelf.groups, len(after.shelf), after.deciders.labels) == (groups, entries, labels)
    assert spent is not None
    resumed = after.deciders.standing("chat")
    assert resumed["served_by_meaning"] == spent.served
    reasons = {bench.look(question_of(f"would you reset the device{number} please")).reason for number in range(5)}
    assert "learning" not in reasons, "the model is there, too"


def test_hostile_questions_change_nothing(bench: Bench) -> None:
    bad = [
        msgspec.structs.replace(question_of("a"), exact=b"short"),
        msgspec.structs.replace(question_of("b"), partition="zz"),
        msgspec.structs.replace(question_of("c"), ttl_s=float("nan")),
        msgspec.structs.replace(question_of("d"), ttl_s=-1.0),
        msgspec.structs.replace(question_of("e"), workload="no such"),
        msgspec.structs.replace(question_of("f"), text="x" * 100_000),
    ]
    for question in bad:
        assert bench.look(question).kept is None
        bench.keep(question, fresh_of("something"))
        assert bench.look(question).kept is None
    bench.commit()


def test_two_keys_made_to_collide_in_the_table_do_not_share_an_answer(bench: Bench) -> None:
    question = question_of("What is the capital of France?")
    bench.keep(question, fresh_of("Paris"))
    bench.commit()
    twin = msgspec.structs.replace(question_of("Something else"), exact=question.exact[:8] + b"otherend")
    assert bench.presence.find(twin.exact) != 0, "the table sees only the first half"
    assert bench.look(twin).kept is None


def test_real_questions_are_answered_within_the_promise(
    make_bench: Callable[..., Bench], semantic_folder: Path
) -> None:
    with gzip.open(semantic_folder / "stream.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["answer_key"].startswith("bank")][:1_500]
    bench = make_bench(rules={"chat": Rules(error_rate=0.05, judge="text")}, slots=8192)
    bench.learn(*(row["prompt"] for row in rows))
    hits = wrong = 0
    for place, row in enumerate(rows):
        question = question_of(row["prompt"])
        found = bench.look(question)
        if found.kept is not None:
            hits += 1
            wrong += words_of(found.kept.content) != row["answer_key"]
        if found.ticket is not None or found.kind == "miss":
            bench.keep(question, fresh_of(row["answer_key"], ticket=found.ticket))
        assert wrong <= 0.05 * (place + 1)
    assert hits > 0.1 * len(rows)
