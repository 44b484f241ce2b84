"""Verdicts: none without a record; labels late, withheld, reordered or twice; users that lie, clocks that go back."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gridctl.cache.decision import REPORTS_PER_USER, Decider, DecisionSettings
from gridctl.cache.evidence import FEATURES, Evidence, weigh
from gridctl.cache.groups import ALIASES_PER_USER, AnswerGroups
from gridctl.cache.model import WrongModel
from gridctl.errors import InputError

SECOND = 1_000_000_000


def evidence(draw: np.random.Generator, is_wrong: bool) -> Evidence:
    """Features of which the first alone tells, with some overlap."""
    features = draw.normal(size=len(FEATURES))
    features[0] = draw.normal(3.0 if not is_wrong else -3.0, 1.0)
    return Evidence(0, 0, 0.9, features, (0,))


def play(
    decider: Decider, requests: int, *, wrong_share: float = 0.4, seed: int = 3, mode: str = "at once"
) -> tuple[int, int]:
    """Answers served and wrong ones among them. `mode`: when labels come, and which."""
    draw = np.random.default_rng(seed)
    served = wrong = 0
    waiting: list[tuple[int, bool]] = []
    for number in range(requests):
        is_wrong = bool(draw.random() < wrong_share)
        now_ns = number * SECOND
        verdict = decider.decide(evidence(draw, is_wrong), now_ns)
        if verdict.kind == "serve":
            served += 1
            wrong += is_wrong
        elif verdict.ticket is not None:
            waiting.append((verdict.ticket, is_wrong))
        if mode == "at once" or (mode == "late" and len(waiting) >= 40):
            if mode == "late":
                draw.shuffle(waiting)
            for ticket, label in waiting:
                decider.label(ticket, label, now_ns)
            waiting.clear()
        elif mode == "only right":
            for ticket, label in waiting:
                if not label:
                    decider.label(ticket, label, now_ns)
            waiting.clear()
    return served, wrong


def decider(seed: int = 1, **settings: float) -> Decider:
    return Decider("chat", DecisionSettings(error_rate=0.02, **settings), WrongModel(), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["at once", "late"])
def test_a_good_model_serves_and_keeps_the_promise(mode: str) -> None:
    served, wrong = play(decider(), 3000, mode=mode)
    assert served > 900  # 60 % of 3,000 could be right
    assert wrong <= 0.02 * 3000


def test_without_labels_nothing_is_ever_served() -> None:
    assert play(decider(), 2000, mode="never") == (0, 0)


def test_withholding_the_labels_that_say_wrong_gains_nothing() -> None:
    """What is overdue counts as wrong, so less is served than with all labels."""
    honest = decider(overdue_ns=60 * SECOND)
    cheated = decider(overdue_ns=60 * SECOND)
    served_honestly, _ = play(honest, 2000)
    served, wrong = play(cheated, 2000, mode="only right")
    assert served <= served_honestly
    assert wrong <= 0.02 * 2000


def test_a_label_that_overtakes_waits_for_the_earlier_one() -> None:
    one = decider()
    draw = np.random.default_rng(1)
    first = one.decide(evidence(draw, False), 0).ticket
    second = one.decide(evidence(draw, False), 0).ticket
    assert first is not None
    assert second is not None
    assert one.label(second, False, 0)
    assert one.awaited == 2
    assert one.label(first, True, 0)
    assert one.awaited == 0


def test_a_label_counts_once_and_an_unknown_one_never() -> None:
    one = decider()
    ticket = one.decide(evidence(np.random.default_rng(1), False), 0).ticket
    assert ticket is not None
    assert one.label(ticket, False, 0)
    assert not one.label(ticket, True, 0)
    assert not one.label(999, True, 0)


def test_a_clock_that_runs_backwards_makes_nothing_overdue() -> None:
    one = decider(overdue_ns=SECOND)
    ticket = one.decide(evidence(np.random.default_rng(1), False), 10 * SECOND).ticket
    one.exact(2 * SECOND)
    one.exact(10 * SECOND)
    assert ticket is not None
    assert one.awaited == 1
    one.exact(12 * SECOND)
    assert one.awaited == 0
    assert not one.label(ticket, False, 12 * SECOND)


def test_the_same_seed_gives_the_same_verdicts() -> None:
    assert play(decider(seed=4), 1200) == play(decider(seed=4), 1200)


def test_audits_stay_within_their_budget() -> None:
    one = decider(audit_budget=0.02, least_audit=0.001, most_audit=1.0, early_audits=1e9)
    draw = np.random.default_rng(3)
    audits = 0
    for number in range(2500):
        is_wrong = bool(draw.random() < 0.4)
        verdict = one.decide(evidence(draw, is_wrong), number)
        audits += verdict.kind == "audit"
        if verdict.ticket is not None:
            one.label(verdict.ticket, is_wrong, number)
    assert 0 < audits <= 0.02 * 2500 + 10


def test_a_stopped_decider_explores() -> None:
    one = decider()
    play(one, 1500)
    one.is_stopped = True
    draw = np.random.default_rng(9)
    assert {one.decide(evidence(draw, False), 0).kind for _ in range(50)} == {"explore"}


def test_a_candidate_that_is_withheld_is_judged_but_never_served() -> None:
    one = decider()
    play(one, 1500)
    draw = np.random.default_rng(9)
    kinds = {one.decide(evidence(draw, False), 0).kind for _ in range(50)}
    verdicts = [one.decide(evidence(draw, False), 0, "probation") for _ in range(50)]
    assert "serve" in kinds
    assert {(verdict.kind, verdict.reason) for verdict in verdicts} == {("explore", "probation")}
    assert all(verdict.ticket is not None for verdict in verdicts)


def test_a_wording_that_has_gone_makes_room_for_another_of_its_user(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(24)
    number, _ = groups.found("first", rows[0])
    entries = [groups.alias(number, f"a {place}", rows[place], "eve") for place in range(ALIASES_PER_USER)]
    assert groups.alias(number, "one more", rows[40], "eve") is None
    assert entries[3] is not None
    assert groups.drop_alias(entries[3])
    assert groups.alias(number, "one more", rows[40], "eve") is not None
    assert groups.alias(number, "and one", rows[41], "eve") is None


def test_reports_drop_the_group_and_worsen_the_record_a_few_times_for_each_user(rows: NDArray[np.float32]) -> None:
    one, groups = decider(), AnswerGroups(24)
    numbers = [groups.found(f"prompt {place}", rows[place])[0] for place in range(REPORTS_PER_USER + 1)]
    before = one.account.factor
    assert [one.report("mallory", groups, number) for number in numbers] == [True] * REPORTS_PER_USER + [False]
    assert len(groups) == 1
    assert one.account.factor > before


@pytest.mark.parametrize(
    "settings",
    [{"error_rate": 0.0}, {"error_rate": 1.0}, {"least_audit": 0.0}, {"least_audit": 0.5}, {"judge_share": 1.5},
     {"audit_divisor": 0.0}],
)  # fmt: skip
def test_settings_that_keep_no_promise_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(InputError):
        DecisionSettings(**settings)  # type: ignore[arg-type]


def test_evidence_is_finite_for_any_text(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(24)
    assert weigh("anything", rows[0], groups) is None
    texts = ["", "1e999 999999999999999999999999", "\ud800", "a" * 100_000, "1.2.3.4:5", "٣ ٤", "{}[]<>", "don’t"]
    for place, text in enumerate(texts):
        groups.found(text, rows[place])
    for place, text in enumerate(texts):
        found = weigh(text, rows[place + 20], groups)
        assert found is not None
        assert found.features.shape == (len(FEATURES),)
        assert np.isfinite(found.features).all()


def test_the_candidate_is_the_group_with_most_weight_near_not_the_single_nearest() -> None:
    """Weights e^(25 Δ): one prompt at cosine 0.90 against three at 0.89 weighs 1 to 3 · e^−0.25 = 2.34."""
    groups = AnswerGroups(4)

    def at(cosine: float, axis: int) -> NDArray[np.float32]:
        row = np.zeros(4, np.float32)
        row[0], row[axis] = cosine, np.sqrt(1.0 - cosine * cosine)
        return row

    lone, _ = groups.found("lone", at(0.90, 1))
    crowd, _ = groups.found("crowd", at(0.89, 2))
    groups.alias(crowd, "crowd two", at(0.89, 3))
    groups.alias(crowd, "crowd three", -at(-0.89, 2))
    found = weigh("asked", at(1.0, 1), groups)
    assert found is not None
    assert (found.group, found.judged) == (crowd, (crowd, lone))
    assert found.features[FEATURES.index("margin")] == pytest.approx(-0.01, abs=1e-6)
    assert found.features[FEATURES.index("near_share")] == pytest.approx(2.336 / 3.336, abs=1e-3)
    # The crowd's middle: (2.67, 0, 0.456) / 2.7087, of which the first is 0.9857; the lone one's is its own 0.90.
    assert found.features[FEATURES.index("centre_cosine")] == pytest.approx(0.9857, abs=1e-4)
    assert found.features[FEATURES.index("centre_margin")] == pytest.approx(0.0857, abs=1e-4)
    assert found.features[FEATURES.index("centre_margin_by_size")] == pytest.approx(0.0857 * np.log(4.0), abs=2e-4)


def test_the_middle_of_a_group_is_the_mean_of_the_prompts_it_has_whatever_came_and_went(
    rows: NDArray[np.float32],
) -> None:
    groups, draw = AnswerGroups(24), np.random.default_rng(4)
    number, founder = groups.found("first", rows[0])
    kept = {founder: rows[0]}
    for place in range(1, 200):
        if len(kept) > 1 and draw.random() < 0.45:
            going = int(draw.choice(sorted(kept)))
            assert groups.drop_alias(going)
            del kept[going]
        else:
            alias = groups.alias(number, f"prompt {place}", rows[place])
            assert alias is not None
            kept[alias] = rows[place]
        found = groups.centre_cosine(number, rows[250])
        if len(kept) == 1:
            assert found is None
        else:
            mean = np.mean(list(kept.values()), 0, dtype=np.float64)
            assert found == pytest.approx(float(mean @ rows[250]) / np.linalg.norm(mean), abs=1e-5)


def test_a_user_surrounds_no_answer_with_prompts_of_his_own(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(24)
    number, _ = groups.found("first", rows[0], "anna")
    added = [groups.alias(number, f"near {place}", rows[place], "mallory") for place in range(1, ALIASES_PER_USER + 4)]
    assert sum(entry is not None for entry in added) == ALIASES_PER_USER
    assert groups.alias(number, "another", rows[50], "berta") is not None


def test_groups_and_entries_that_go_are_found_no_more(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(24)
    number, founder = groups.found("first", rows[0])
    other, _ = groups.found("second", rows[1])
    alias = groups.alias(number, "first again", rows[2])
    assert alias is not None
    assert groups.drop_alias(alias)
    assert groups.drop_alias(founder)
    assert number not in groups
    assert groups.alias(number, "late", rows[3]) is None
    assert [near.group for near in groups.neighbours(rows[0])] == [other]
    assert groups.drop(other) == 1
    assert groups.neighbours(rows[0]) == []
    assert not groups.drop_alias(99)
    assert groups.drop(99) == 0


def test_a_vector_of_another_shape_leaves_no_half_made_group(rows: NDArray[np.float32]) -> None:
    groups = AnswerGroups(24)
    for bad in (rows[0][:10], np.full(24, np.nan, np.float32), np.zeros(24, np.float32)):
        with pytest.raises(InputError):
            groups.found("text", bad)
    assert len(groups) == 0
    assert groups.neighbours(rows[0]) == []
