"""The whole rule on real prompts whose right answers are known, with the built-in embedder, from an empty store."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from gridctl.cache.decision import Decider, DecisionSettings
from gridctl.cache.embedders import embed, open_embedder
from gridctl.cache.evidence import weigh
from gridctl.cache.groups import AnswerGroups
from gridctl.cache.model import WrongModel

REQUESTS = 1_800


def test_the_promise_is_kept_on_banking_questions_and_something_is_served(semantic_folder: Path) -> None:
    with gzip.open(semantic_folder / "stream.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["answer_key"].startswith("bank")][:REQUESTS]
    vectors = embed(open_embedder("hashed"), [row["prompt"] for row in rows])
    groups = AnswerGroups(vectors.shape[1])
    decider = Decider("bank", DecisionSettings(error_rate=0.05), WrongModel(), 7)
    answers: dict[int, str] = {}
    served = wrong = 0
    for place, row in enumerate(rows):
        right, text = row["answer_key"], row["prompt"]
        evidence = weigh(text, vectors[place], groups)
        verdict = decider.decide(evidence, place)
        if evidence is not None and verdict.kind == "serve":
            served += 1
            wrong += answers[evidence.group] != right
            assert wrong <= 0.05 * (place + 1)
            continue
        equal = None
        if evidence is not None:
            if verdict.ticket is not None:
                decider.label(verdict.ticket, answers[evidence.group] != right, place)
            equal = next((group for group in evidence.judged if answers[group] == right), None)
        if equal is None:
            answers[groups.found(text, vectors[place])[0]] = right
        else:
            groups.alias(equal, text, vectors[place])
    assert served > 0.1 * REQUESTS
    assert wrong <= decider.account.bound * REQUESTS
