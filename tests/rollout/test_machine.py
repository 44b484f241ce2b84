"""The machine, step by step: what each kind of event does to a small rollout."""

from __future__ import annotations

from typing import Any

import msgspec

from gridctl.rollout.analysis import Limits, Verdict
from gridctl.rollout.machine import refusal, step
from gridctl.rollout.protocol import Actual, Failure, Version
from gridctl.rollout.state import (
    AnalysisResult,
    Event,
    Instruct,
    Instruction,
    Operated,
    Restarted,
    Rollout,
    Settings,
    SiteProgress,
    SiteReported,
    Timer,
    WindowChanged,
)
from gridctl.rollout.undoing import undo_of

NEW, OLD = "sha256:" + "1" * 64, "sha256:" + "0" * 64
WAS = Version(OLD, "bf16", 7)


class Play:
    """A rollout and a clock."""

    def __init__(self, *waves: tuple[str, ...], **settings: Any) -> None:
        sites = {name: SiteProgress(site=name, wave=wave) for wave, names in enumerate(waves) for name in names}
        asked = {"soak_s": 60.0, "limits": Limits(min_samples=10)} | settings
        self.now_s = 1000.0
        self.generation = 100
        self.told: list[Instruction] = []
        self.rollout = Rollout(
            name="r",
            model="m",
            reference="host/m:v2",
            version=Version(NEW, "fp8", 100),
            waves=len(waves),
            sites=sites,
            settings=Settings(**asked),
            created_s=1000.0,
        )

    def happens(self, event: Event, after_s: float = 1.0) -> list[Instruction]:
        self.now_s += after_s
        self.generation += 1
        before = self.rollout
        self.rollout, told = step(before, event, self.now_s, self.generation)
        self.told = list(told)
        return self.told

    def says(self, site: str, *, generation: int | None = None, healthy: bool = True, **held: Any) -> list[Instruction]:
        actual = Actual(model="m", **({"committed": WAS} | held))
        return self.happens(SiteReported(site, actual, self.generation if generation is None else generation, healthy))

    def modes(self) -> dict[str, str]:
        return {one.site: one.wanted.mode for one in self.told if isinstance(one, Instruct)}

    def bakes(self, *sites: str) -> None:
        """Bring these sites to serve the version."""
        for site in sites:
            self.says(site)
        for site in sites:
            self.says(site, staged=(NEW,))
        for site in sites:
            self.says(site, staged=(NEW,), trial=self.rollout.version)
            self.says(site, committed=self.rollout.version)

    def judged(self, word: str, samples: int = 50, after_s: float = 61.0) -> list[Instruction]:
        verdict = Verdict(word=word, because="because", samples=samples)  # type: ignore[arg-type]
        return self.happens(AnalysisResult(self.rollout.wave, self.rollout.since_s, verdict), after_s)


def test_a_site_is_told_to_stage_then_to_try_then_to_commit() -> None:
    play = Play(("a",))
    play.says("a")
    assert play.modes() == {"a": "stage"}
    play.says("a", staged=(NEW,))
    assert play.modes() == {"a": "trial"}
    play.says("a", trial=play.rollout.version, healthy=False)
    assert play.told == []
    play.says("a", trial=play.rollout.version)
    assert play.modes() == {"a": "commit"}
    play.says("a", committed=play.rollout.version)
    assert play.rollout.phase == "baking"
    play.judged("pass")
    assert play.rollout.phase == "completed"


def test_a_wave_passes_only_after_its_soak() -> None:
    play = Play(("a",), ("b",))
    play.bakes("a")
    play.judged("pass", after_s=30.0)
    assert (play.rollout.phase, play.rollout.wave) == ("baking", 0)
    play.judged("pass", after_s=30.0)
    assert (play.rollout.phase, play.rollout.wave) == ("distributing", 1)


def test_an_analysis_of_an_earlier_wave_or_an_earlier_soak_says_nothing() -> None:
    play = Play(("a",), ("b",))
    play.bakes("a")
    fail = Verdict(word="fail", because="", samples=50)
    late = AnalysisResult(1, play.rollout.since_s, fail)
    before = play.rollout
    play.happens(late, 61.0)
    play.happens(AnalysisResult(0, play.rollout.since_s - 1, fail), 1.0)
    assert play.rollout is before


def test_a_report_from_before_the_instruction_says_nothing_of_it() -> None:
    play = Play(("a",))
    play.says("a")
    told_at = play.generation
    play.says("a", failed=Failure(NEW, "disk"), generation=told_at - 1)
    assert play.rollout.sites["a"].phase == "waiting"
    play.says("a", failed=Failure(NEW, "disk", "3 GB are missing"), generation=told_at)
    assert play.rollout.phase == "paused"
    assert "a: disk (3 GB are missing)" in play.rollout.because


def test_a_link_that_breaks_during_a_trial_is_not_the_versions_fault() -> None:
    play = Play(("a",))
    play.says("a")
    play.says("a", staged=(NEW,))
    play.says("a", staged=(NEW,), failed=Failure(NEW, "lease"))
    assert (play.rollout.phase, play.modes()) == ("activating", {"a": "stage"})
    play.says("a", staged=(NEW,))
    assert play.modes() == {"a": "trial"}
    play.says("a", staged=(NEW,), failed=Failure(NEW, "probe", "3 of 10 answers as before"))
    assert play.rollout.phase == "rolling_back"
    assert "probe" in play.rollout.because


def test_a_failed_trial_takes_everybody_back_to_what_they_had() -> None:
    play = Play(("a",), ("b", "c"), max_unavailable=1.0)
    play.bakes("a")
    play.judged("pass")
    for site in "bc":
        play.says(site)
        play.says(site, staged=(NEW,))
    play.says("b", staged=(NEW,), failed=Failure(NEW, "engine", "out of memory"))
    assert play.rollout.phase == "rolling_back"
    wanted = {one.site: one.wanted for one in play.told if isinstance(one, Instruct)}
    assert {site: (one.mode, one.version.digest) for site, one in wanted.items()} == dict.fromkeys(
        "abc", ("commit", OLD)
    )
    assert all(one.version.counter == play.generation > 100 for one in wanted.values())
    assert wanted["a"].reference == f"host/m@{OLD}"
    for site in "abc":
        play.says(site, committed=Version(OLD, "bf16", play.generation))
    assert (play.rollout.phase, "out of memory" in play.rollout.because) == ("rolled_back", True)


def test_a_site_that_had_nothing_before_is_told_to_hold_nothing() -> None:
    play = Play(("a",))
    play.says("a", committed=None)
    play.says("a", committed=None, staged=(NEW,))
    play.says("a", committed=None, staged=(NEW,), failed=Failure(NEW, "engine"))
    assert play.modes() == {"a": "absent"}
    play.says("a", committed=None)
    assert play.rollout.phase == "rolled_back"


def test_sites_that_hold_the_version_already_are_left_alone() -> None:
    play = Play(("a", "b"))
    play.says("a", committed=Version(NEW, "fp8", 3))
    play.says("b")
    assert "a" not in {one.site for one in play.told} or play.modes().get("a") == "stage"
    play.happens(Operated("undo", "me"))
    assert all(one.site != "a" for one in play.told)


def test_too_many_sites_away_pause_and_a_few_are_left_behind_and_brought_along() -> None:
    play = Play(("a", "b"), ("c",), max_unreachable=0.5)
    play.says("a")
    play.says("a", staged=(NEW,))
    play.happens(Timer({"a": 2000.0, "b": 1000.0, "c": 2000.0}), 200.0)
    assert play.rollout.sites["b"].unreachable_since_s == 1000.0
    assert play.rollout.phase == "activating"
    play.says("a", staged=(NEW,), trial=play.rollout.version)
    play.says("a", committed=play.rollout.version)
    assert play.rollout.phase == "baking"
    play.says("b")
    play.says("b", staged=(NEW,))
    assert play.modes() == {"b": "trial"}

    strict = Play(("a", "b"), max_unreachable=0.0)
    strict.says("a")
    strict.happens(Timer({"a": 2000.0, "b": 1000.0}), 200.0)
    assert strict.rollout.phase == "paused"
    assert "1 of 2 sites of wave 1 cannot be reached: b" in strict.rollout.because


def test_hours_pause_and_go_on_by_themselves_but_not_over_an_operator() -> None:
    play = Play(("a",))
    play.says("a")
    play.happens(WindowChanged(is_open=False))
    assert play.rollout.phase == "paused"
    play.happens(WindowChanged(is_open=True))
    assert play.rollout.phase == "distributing"
    play.happens(Operated("pause", "me"))
    play.happens(WindowChanged(is_open=False))
    play.happens(WindowChanged(is_open=True))
    assert (play.rollout.phase, play.rollout.because) == ("paused", "pause by me")


def test_while_it_is_paused_nobody_is_told_anything_new() -> None:
    play = Play(("a",))
    play.says("a")
    play.happens(Operated("pause", "me"))
    assert play.says("a", staged=(NEW,)) == []
    play.happens(Operated("resume", "me"))
    assert play.modes() == {"a": "trial"}


def test_without_auto_rollback_a_failure_waits_for_a_person() -> None:
    play = Play(("a",), auto_rollback=False)
    play.bakes("a")
    assert play.judged("fail", after_s=5.0) == []
    assert play.rollout.phase == "paused"
    play.happens(Operated("promote", "me", "known"))
    assert (play.rollout.phase, play.rollout.because) == ("completed", "promote by me: known")


def test_a_restart_bakes_anew() -> None:
    play = Play(("a",))
    play.bakes("a")
    play.happens(Restarted(), 50.0)
    play.judged("pass", after_s=30.0)
    assert play.rollout.phase == "baking"
    play.judged("pass", after_s=31.0)
    assert play.rollout.phase == "completed"


def test_an_abort_keeps_who_has_it_and_takes_nobody_further() -> None:
    play = Play(("a",), ("b", "c"))
    play.bakes("a")
    play.judged("pass")
    play.says("b")
    play.happens(Operated("abort", "me"))
    assert play.rollout.phase == "aborted"
    assert {one.site for one in play.told} == {"b", "c"}
    undo = undo_of(play.rollout, "r-undo", "me")
    assert set(undo.sites) == {"a"}
    back = step(undo, Operated("undo", "me"), play.now_s, play.generation + 1)
    assert [one.wanted.version.digest for one in back.instructions if isinstance(one, Instruct)] == [OLD]


def test_what_cannot_be_done_is_refused_in_words() -> None:
    play = Play(("a",))
    assert refusal(play.rollout, "resume") == "it is not paused but planned"
    assert refusal(play.rollout, "promote") == "there is nothing to promote while it is planned"
    play.bakes("a")
    play.judged("pass")
    assert refusal(play.rollout, "pause") == "it is completed already"


def test_a_jurisdiction_shares_its_cap_and_a_site_keeps_its_own() -> None:
    """Three sites of the wave in the EU share 90: 30 each. Alone in GB, c could have 90 but for its own cap of 50."""
    play = Play(("a", "b", "x", "c"), ("d",), region_bytes_per_s=90, bandwidth_bytes_per_s=50)
    groups = {"a": "EU", "b": "EU", "x": "EU", "c": "GB", "d": "EU"}
    sites = {name: msgspec.structs.replace(site, group=groups[name]) for name, site in play.rollout.sites.items()}
    play.rollout = msgspec.structs.replace(play.rollout, sites=sites)
    told = play.happens(Timer({}))
    caps = {one.site: one.wanted.bandwidth_bytes_per_s for one in told if isinstance(one, Instruct)}
    assert caps == {"a": 30, "b": 30, "x": 30, "c": 50}
