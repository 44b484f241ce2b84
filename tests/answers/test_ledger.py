"""Accounts that outlive the keeper: torn records, another boot, and a crash that can only make them more careful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridctl.answers.ledger import FILE, Ledger
from gridctl.cache.decision import Decider, DecisionSettings
from gridctl.cache.evidence import FEATURES, Evidence
from gridctl.cache.model import WrongModel
from gridctl.cache.standing import Standing


def standing_of(requests: int, **more: object) -> Standing:
    fields: dict[str, object] = {
        "error_rate": 0.01, "confidence": 0.95, "requests": requests, "served": 3, "spent": 0.5, "wrong": 1,
        "predicted": 2.5, "next_wrong": 0, "next_predicted": 0, "certificate": 3.0, "counter": 0.1, "audits": 2,
        "known_wrong": 0, "awaited_predicted": 0.25, "epoch": 2, "next_ticket": 40, "awaited": 5, "is_stopped": 0,
        **more,
    }  # fmt: skip
    return Standing(**fields)  # type: ignore[arg-type]


def test_the_newest_record_comes_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for requests in range(1, 6):
        ledger.write("chat", standing_of(requests))
        ledger.write("voice", standing_of(10 * requests))
    del ledger._memory  # as if the process had been killed: nothing is flushed
    again = Ledger(tmp_path)
    assert again.is_same_boot
    assert again.read("chat") == standing_of(5)
    assert again.read("voice") == standing_of(50)
    assert again.read("other") is None
    again.close()


def test_a_torn_record_leaves_the_one_before_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for requests in (1, 2, 3):
        ledger.write("chat", standing_of(requests))
    ledger.close()
    data = bytearray((tmp_path / FILE).read_bytes())
    place = data.rindex(b"\x00\x00\x00\x00\x00\x00\x08@")  # 3.0 as it is written: the newest record's requests
    data[place] ^= 1
    (tmp_path / FILE).write_bytes(data)
    again = Ledger(tmp_path)
    found = again.read("chat")
    assert found is not None
    assert found.requests in (1, 2)
    again.close()


def test_another_boot_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    ledger.write("chat", standing_of(5))
    ledger.close()
    monkeypatch.setattr("gridctl.answers.ledger._boot", lambda: b"another boot's16")
    again = Ledger(tmp_path)
    assert not again.is_same_boot
    assert again.read("chat") == standing_of(5)
    again.close()


def decider_with_history(labels: int = 400) -> tuple[Decider, WrongModel]:
    model = WrongModel()
    decider = Decider("chat", DecisionSettings(error_rate=0.05, serves_audits=True), model, 3)
    draw = np.random.default_rng(4)
    for now_ns in range(labels):
        verdict = decider.decide(evidence_of(draw.normal(size=len(FEATURES))), now_ns)
        if verdict.ticket is not None:
            decider.label(verdict.ticket, False, now_ns)
    return decider, model


def evidence_of(features: np.ndarray) -> Evidence:
    return Evidence(0, 0, float(features[0]), features, (0,))


def test_a_resumed_account_knows_all_that_was_served_and_counts_awaited_labels_as_wrong() -> None:
    decider, model = decider_with_history()
    near = evidence_of(np.zeros(len(FEATURES)))
    awaited = 0
    for now_ns in range(300):
        verdict = decider.decide(near, 1_000 + now_ns)
        awaited += verdict.ticket is not None and verdict.predicted <= decider.account.highest
    assert decider.account.served > 0
    assert awaited > 0
    kept = decider.standing()
    assert kept.awaited == awaited
    again = Decider("chat", decider.settings, model, 99)
    again.resume(kept)
    assert again.account.spent == decider.account.spent
    assert again.account.requests == decider.account.requests
    assert again.account.record[0] == decider.account.record[0] + awaited
    assert again.account.bound >= decider.account.bound
    first = again.decide(near, 5_000)
    assert first.ticket is None or first.ticket > kept.next_ticket, "no ticket of the time before is given again"


@pytest.mark.parametrize("case", ["another boot", "another promise"])
def test_where_the_last_events_may_be_missing_nothing_is_served_until_labels_come(case: str) -> None:
    decider, model = decider_with_history()
    kept = decider.standing()
    settings = DecisionSettings(error_rate=0.02) if case == "another promise" else decider.settings
    again = Decider("chat", settings, model, 5)
    again.resume(kept, is_whole=case != "another boot")
    assert again.account.epoch == kept.epoch + 1
    assert again.account.alpha < decider.account.alpha
    near = evidence_of(np.zeros(len(FEATURES)))
    assert all(again.decide(near, now_ns).kind == "explore" for now_ns in range(30))


def test_an_abandoned_label_counts_as_wrong_at_once_and_lets_the_later_ones_through() -> None:
    decider, _ = decider_with_history()
    near = evidence_of(np.zeros(len(FEATURES)))
    tickets = [
        verdict.ticket
        for verdict in (decider.decide(near, 1_000) for _ in range(600))
        if verdict.ticket is not None and verdict.predicted <= decider.account.highest
    ]
    wrong = decider.account.record[0]
    assert decider.label(tickets[1], False, 1_001)
    before = decider.awaited
    assert decider.abandon(tickets[0], 1_001)
    assert decider.awaited == before - 2
    assert decider.account.record[0] == wrong + 1
    assert not decider.abandon(tickets[0], 1_001)
