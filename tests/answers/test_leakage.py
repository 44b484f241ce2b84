"""No answer crosses a wall: random pairs of requests that differ in one thing or several, at both levels."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from answer_parts import Bench, fresh_of, question_of, words_of

from gridctl.answers.question import Question
from gridctl.answers.reading import Reading
from gridctl.answers.settings import Rules
from gridctl.cache.decision import Decider, Verdict
from gridctl.cache.evidence import Evidence

WALLS = {
    "tenant": ("acme", "globex", "initech"),
    "jurisdiction": ("eu", "us"),
    "workload": ("chat", "voice"),
    "variant": ("fp8", "bf16"),
    "user": ("", "ann", "bob"),
}
TOPICS = ("heater", "lamp", "radio", "kettle", "fan")
FORMS = ("how do i reset the {}", "please reset my {}", "reset the {} for me", "can you reset the {}")
Place = tuple[str, ...]


def place_of(draw: random.Random) -> Place:
    return tuple(draw.choice(values) for values in WALLS.values())


def ask(place: Place, text: str, request_id: str) -> Question:
    return question_of(text, request_id=request_id, **dict(zip(WALLS, place, strict=True)))


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_served_only_where_everything_but_the_wording_is_equal(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every place answers in its own words, so an answer says where it belongs. The decision is made as careless as
    can be: whatever is stored nearest is served, so that only the walls keep answers apart."""

    def careless(self: Decider, evidence: Evidence | None, now_ns: int, withheld: str = "") -> Verdict:
        return Verdict("explore" if evidence is None else "serve", "careless", evidence, 0.0, 1.0, 0.0, None)

    monkeypatch.setattr(Decider, "decide", careless)
    draw = random.Random(seed)
    rules = Rules(error_rate=0.4, judge="text")
    bench = Bench(tmp_path / "cache", rules={"chat": rules, "voice": rules}, slots=4096)
    reading = Reading(bench.folder, bench.presence_name)
    hits = {"exact": 0, "semantic": 0, "own": 0}
    kept: set[tuple[Place, bytes]] = set()
    for number in range(900):
        place, topic = place_of(draw), draw.choice(TOPICS)
        question = ask(place, draw.choice(FORMS).format(topic), f"r{number}")
        own = reading.find(question, bench.now_ns)
        if own is not None:
            hits["own"] += 1
            assert (place, own.content) in kept
        found = bench.look(question)
        if found.kept is not None:
            hits[found.kept.level] += 1
            assert (place, found.kept.content) in kept, (place, words_of(found.kept.content))
        if found.ticket is not None or found.kind == "miss":
            fresh = fresh_of(f"{topic} at {' '.join(place)}", ticket=found.ticket)
            if bench.keep(question, fresh) == "kept":
                kept.add((place, fresh.content))
            bench.commit()
    assert hits["exact"] > 20
    assert hits["semantic"] > 200
    assert hits["own"] > 20
    reading.close()
    bench.close()


def test_partitions_made_equal_by_force_still_keep_workloads_and_jurisdictions_apart(tmp_path: Path) -> None:
    """Belt and braces: were two places given one key by mistake, what the entry says of itself decides."""
    bench = Bench(tmp_path / "cache", rules={"chat": Rules(), "voice": Rules()}, slots=256)
    question = question_of("how do i reset the heater")
    bench.keep(question, fresh_of("hold the knob"))
    bench.commit()
    reading = Reading(bench.folder, bench.presence_name)
    assert reading.find(question, bench.now_ns) is not None
    for field, value in (("workload", "voice"), ("jurisdiction", "us"), ("partition", "0" * 64)):
        twin = question_of("how do i reset the heater")
        setattr(twin, field, value)
        assert reading.find(twin, bench.now_ns) is None
        assert bench.look(twin).kept is None
    reading.close()
    bench.close()
