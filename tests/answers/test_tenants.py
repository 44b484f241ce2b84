"""What each tenant of a workload got from the cache, and what was judged of it."""

from __future__ import annotations

from collections.abc import Callable

from answer_parts import Bench, fresh_of, question_of

from gridctl.answers.orders import obey
from gridctl.answers.question import Note
from gridctl.answers.settings import Rules


def test_servings_and_judgements_are_counted_by_tenant(make_bench: Callable[..., Bench]) -> None:
    """Every miss of the first hundred questions that has something near it is judged: a's answers all agree, b's never
    do."""
    bench = make_bench(rules={"chat": Rules(error_rate=0.1, judge="text")})
    for tenant in ("a", "b"):
        for number in range(4):
            question = question_of(f"question {number} of {tenant}", tenant=tenant)
            found = bench.look(question)
            words = "always the same" if tenant == "a" else f"answer {number}"
            bench.keep(question, fresh_of(words, ticket=found.ticket))
    again = question_of("question 3 of a", tenant="a")
    kept = bench.look(again).kept
    assert kept is not None
    bench.keeper.noted([Note("r9", kept.entry, "exact", "chat", "a", 0.25)], bench.now_ns)
    bench.commit()
    first, second = obey(bench.keeper, "status", {}, bench.now_ns)["tenants"]
    assert first == {
        "workload": "chat", "tenant": "a", "hits": 1, "semantic_hits": 0, "saved_usd": 0.25, "labels": 3,
        "wrong_labels": 0,
    }  # fmt: skip
    assert (second["tenant"], second["hits"], second["labels"], second["wrong_labels"]) == ("b", 0, 3, 3)
