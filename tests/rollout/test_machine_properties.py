"""What holds of a rollout whatever happens: sites that fail, fall silent and come back, reports that are late, doubled
and reordered, operators at any moment, and an orchestrator that is killed between any two events.

The sites are simulated here, apart from the code under test, as agents that take the whole desired state each time.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.errors import ConflictError
from gridctl.rollout.analysis import Limits, Verdict
from gridctl.rollout.protocol import Actual, Failure, Report, Version, Wanted
from gridctl.rollout.state import (
    TERMINAL,
    VERBS,
    AnalysisResult,
    Operated,
    Restarted,
    Rollout,
    Settings,
    SiteProgress,
    Timer,
    WindowChanged,
)
from gridctl.rollout.store import RolloutStore

MODEL = "m"
NEW = "sha256:" + "1" * 64
OLD = "sha256:" + "0" * 64
LEASE_S = 60.0


class SimulatedSite:
    """A site's agent: what it holds, and what it does when told."""

    def __init__(self, name: str, draw: random.Random, has_old: bool) -> None:
        self.name = name
        self.draw = draw
        self.boot = 0
        self.seq = 0
        self.generation = 0
        self.highest = 0
        self.heard_s = 0.0
        self.committed = Version(OLD, "bf16", 1) if has_old else None
        self.first = self.committed
        self.trial: Version | None = None
        self.staged: set[str] = set()
        self.failed: Failure | None = None
        self.served: set[str] = {OLD} if has_old else set()

    def lapse(self, now_s: float) -> None:
        """A trial whose lease is over is given up."""
        if self.trial is not None and now_s - self.heard_s > LEASE_S:
            self.failed, self.trial = Failure(self.trial.digest, "lease", ""), None

    def take(self, generation: int, wanted: tuple[Wanted, ...], now_s: float) -> None:
        """Take the desired state, and do something about it, or nothing, or die."""
        self.heard_s = now_s
        if generation < self.generation:
            return
        if generation > self.generation:
            self.failed = None
        self.generation = generation
        for one in wanted:
            assert one.version.counter >= self.highest, "a counter went back"
            self.highest = one.version.counter
            self._pursue(one)

    def _pursue(self, wanted: Wanted) -> None:
        digest, chance = wanted.version.digest, self.draw.random()
        if chance < 0.1:
            self.boot, self.seq, self.trial = self.boot + 1, 0, None  # killed: a trial does not outlive it
            return
        if wanted.mode == "absent":
            if self.trial is not None and self.trial.digest == digest:
                self.trial = None
            if self.committed is not None and self.committed.digest == digest:
                self.committed = None
            self.staged.discard(digest)
            return
        if self.failed is not None:
            return
        held = digest in self.staged or (self.committed is not None and self.committed.digest == digest)
        if not held:
            if chance < 0.2:
                self.failed = Failure(digest, self.draw.choice(["disk", "network", "registry"]), "")
            elif chance < 0.7:
                self.staged.add(digest)
        elif wanted.mode == "commit":
            self.trial = None
            self.committed = wanted.version
        elif wanted.mode == "trial" and (self.committed is None or self.committed.digest != digest):
            if chance < 0.25:
                self.trial = None
                self.failed = Failure(digest, self.draw.choice(["engine", "probe", "lease", "interrupted"]), "")
            else:
                self.trial = wanted.version

    def says(self, now_s: float) -> Report:
        """Its next report."""
        self.lapse(now_s)
        self.seq += 1
        held = Actual(
            model=MODEL,
            committed=self.committed,
            trial=self.trial,
            staged=tuple(sorted(self.staged)),
            failed=self.failed,
        )
        return Report(boot_id=f"{self.name}-{self.boot}", seq=self.seq, generation=self.generation, actual=(held,))


class World:
    """A rollout over simulated sites, driven by a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.folder = folder
        self.now_s = 1_000.0
        self.store = RolloutStore.open(folder)
        count = self.draw.randint(1, 9)
        self.sites = {f"s{number}": SimulatedSite(f"s{number}", self.draw, number % 4 != 3) for number in range(count)}
        waves = self.draw.randint(1, min(3, count))
        self.share = self.draw.choice([0.1, 0.34, 0.5])
        progress = {
            name: SiteProgress(site=name, wave=min(number, waves - 1), group="ab"[number % 2])
            for number, name in enumerate(self.sites)
        }
        made = Rollout(
            name="r",
            model=MODEL,
            reference="h/m@" + NEW,
            version=Version(NEW, "fp8", 0),
            waves=waves,
            sites=progress,
            created_by="test",
            settings=Settings(
                soak_s=30.0,
                max_unavailable=self.share,
                max_unreachable=self.draw.choice([0.0, 0.5]),
                max_failed=self.draw.choice([0.0, 0.5]),
                unreachable_after_s=LEASE_S,
                stuck_after_s=300.0,
                auto_rollback=self.draw.random() < 0.7,
                limits=Limits(min_samples=10),
            ),
        )
        self.store.create(made, self.now_s)
        self.late: list[tuple[str, Report]] = []
        self.was: Rollout = self.store.get("r")
        self.cause = ""

    @property
    def rollout(self) -> Rollout:
        return self.store.get("r")

    def happen(self) -> None:
        """Something happens."""
        self.now_s += self.draw.choice([0.1, 1.0, 10.0, 40.0])
        getattr(self, self.draw.choice([*["sync"] * 12, "analyse", "time", "late_report", "other"]))()
        self.assert_promises()

    def sync(self) -> None:
        site = self.draw.choice(list(self.sites.values()))
        report = site.says(self.now_s)
        fate = self.draw.random()
        if fate < 0.15:
            self.late.append((site.name, report))  # will come late
            return
        self.cause = "report"
        assert self.store.report(site.name, report, self.now_s)
        if fate < 0.25:
            assert not self.store.report(site.name, report, self.now_s), "a doubled report was listened to"
        if fate < 0.9:  # else the answer is lost
            site.take(self.store.site_generation(site.name), self.store.wanted(site.name), self.now_s)

    def late_report(self) -> None:
        if self.late:
            name, report = self.late.pop(self.draw.randrange(len(self.late)))
            site = self.sites[name]
            before = self.rollout
            heard = self.store.known_site(name)
            self.cause = "report"
            taken = self.store.report(name, report, self.now_s)
            newest = heard is None or (heard.report.boot_id, heard.report.seq) < (report.boot_id, report.seq)
            if heard is not None and heard.report.boot_id == f"{name}-{site.boot}":
                assert taken == newest or report.boot_id != heard.report.boot_id
            if not taken:
                assert self.rollout == before

    def analyse(self) -> None:
        rollout = self.rollout
        samples = self.draw.choice([0, 5, 10, 50])
        word = self.draw.choice(["pass", "pass", "fail", "inconclusive"]) if samples >= 10 else "inconclusive"
        wave, since_s = rollout.wave, rollout.since_s
        if self.draw.random() < 0.2:
            wave, since_s = wave - 1, since_s - 5  # of a wave that is over
        if self.draw.random() < 0.1:
            word, samples = "pass", 0  # what no analysis says
        self.cause = f"analysis {word} {samples} {wave == rollout.wave}"
        self.store.happen(
            "r", AnalysisResult(wave, since_s, Verdict(word=word, because="", samples=samples)), self.now_s
        )

    def time(self) -> None:
        self.cause = "time"
        self.store.happen("r", Timer(self.store.heard_s()), self.now_s)

    def other(self) -> None:
        chance = self.draw.random()
        if chance < 0.4:
            self.store.close()  # as kill -9: what was committed is there
            self.store = RolloutStore.open(self.folder)
            assert self.rollout == self.was, "a restart changed something"
            self.cause = "restart"
            self.store.happen("r", Restarted(), self.now_s)
        elif chance < 0.6:
            self.cause = "window"
            self.store.happen("r", WindowChanged(self.draw.random() < 0.7), self.now_s)
        else:
            often = ("resume", "resume", "resume", "promote", "pause")
            verb = self.draw.choice(often if self.draw.random() < 0.95 else VERBS)
            self.cause = verb
            try:
                self.store.happen("r", Operated(verb, "test"), self.now_s)
            except ConflictError:
                self.cause = "refused"

    def assert_promises(self) -> None:
        """What must hold at any moment."""
        rollout, was = self.rollout, self.was
        for site in self.sites.values():
            site.lapse(self.now_s)
        if was.phase in TERMINAL:
            assert rollout.phase == was.phase, "what was over is not"
        assert rollout.generation >= was.generation
        if rollout.wave > was.wave:
            assert rollout.wave == was.wave + 1
            assert was.phase == "baking" or self.cause == "promote"
            assert self.cause == "promote" or self.cause.startswith("analysis pass"), self.cause
            assert self.cause == "promote" or int(self.cause.split()[2]) >= 10, "passed without samples"
            assert self.cause == "promote" or self.now_s - was.since_s >= 30.0
        if rollout.phase == "completed" and was.phase != "completed":
            assert self.cause == "promote" or self.cause.startswith("analysis pass"), self.cause
            assert "pass 0" not in self.cause
        self._assert_of_trials(rollout)
        self._assert_of_sites(rollout)
        self.was = rollout

    def _assert_of_trials(self, rollout: Rollout) -> None:
        """Of the sites as they really are, and as they are thought to be."""
        of_wave = Counter(site.wave for site in rollout.sites.values())
        of_group = Counter(site.group for site in rollout.sites.values())
        for trying in (
            [site for site in rollout.sites.values() if site.is_in_trial and not rollout.is_over],
            [rollout.sites[name] for name, site in self.sites.items() if site.trial is not None],
        ):
            for share, of, in_trial in (
                (self.share, of_wave, Counter(site.wave for site in trying)),
                (self.share, of_group, Counter(site.group for site in trying)),
            ):
                for key, count in in_trial.items():
                    if rollout.phase not in ("completed", "aborted", "rolling_back", "rolled_back", "stuck"):
                        assert count <= max(1, int(share * of[key] + 1e-9)), (self.cause, key, count)

    def _assert_of_sites(self, rollout: Rollout) -> None:
        for name, site in self.sites.items():
            wanted = self.store.wanted(name)
            assert len(wanted) <= 1
            progress = rollout.sites[name]
            if progress.wave > rollout.wave:
                assert not wanted, "a site was told of a wave to come"
                assert site.committed == site.first
            for one in wanted:
                if one.version.digest == OLD:
                    assert site.first is not None, "sent back to what it never had"
                    assert one.version.counter > rollout.version.counter
                assert one.mode != "absent" or progress.before is None
            if site.first is not None:
                assert site.committed is not None, "a site was left with nothing"


@given(seed=st.integers(0, 10**9))
@settings(max_examples=60, deadline=None)
def test_a_rollout_keeps_its_promises_whatever_happens(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        for _ in range(120):
            world.happen()
        world.assert_promises()
        world.store.close()


@given(seed=st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_once_troubles_end_every_site_ends_on_the_new_version_or_on_what_it_had(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), seed)
        for _ in range(60):
            world.happen()
        _calm(world)
        for _ in range(400):
            if world.rollout.is_over and _has_settled(world):
                break
            _quiet_round(world)
        assert world.rollout.is_over, (world.rollout.phase, world.rollout.because)
        assert _has_settled(world), [(one.name, one.committed, one.trial) for one in world.sites.values()]
        if world.rollout.phase == "completed":
            ends = {site.committed.digest if site.committed else "" for site in world.sites.values()}
            left = {one.phase for one in world.rollout.sites.values()} - {"committed"}
            assert ends == {NEW} or left
        if world.rollout.phase == "rolled_back":
            assert all(
                site.committed is None if site.first is None else site.committed.digest == OLD
                for site in world.sites.values()
            )
        world.store.close()


def _calm(world: World) -> None:
    """From now on nothing fails and nobody interferes."""
    world.late.clear()
    calm = random.Random(1)
    calm.random = lambda: 0.5  # type: ignore[method-assign]
    for site in world.sites.values():
        site.draw = calm


def _quiet_round(world: World) -> None:
    world.now_s += 31.0
    for site in world.sites.values():
        world.store.report(site.name, site.says(world.now_s), world.now_s)
        site.take(world.store.site_generation(site.name), world.store.wanted(site.name), world.now_s)
    rollout = world.rollout
    if rollout.phase == "paused":
        world.store.happen("r", WindowChanged(is_open=True), world.now_s)
    if world.rollout.phase == "paused":
        world.store.happen("r", Operated("resume", "test"), world.now_s)
    if world.rollout.phase == "planned":
        world.store.happen("r", WindowChanged(is_open=True), world.now_s)
    world.store.happen("r", Timer(world.store.heard_s()), world.now_s)
    rollout = world.rollout
    if rollout.phase == "baking":
        verdict = Verdict(word="pass", because="", samples=50)
        world.store.happen("r", AnalysisResult(rollout.wave, rollout.since_s, verdict), world.now_s)


def _has_settled(world: World) -> bool:
    return all(site.trial is None for site in world.sites.values())


def test_a_store_that_was_lost_still_counts_upwards(tmp_path: Path) -> None:
    world = World(tmp_path / "one" if (tmp_path / "one").mkdir() is None else tmp_path, 3)
    first = world.rollout.version.counter
    world.store.close()
    (tmp_path / "two").mkdir()
    again = RolloutStore.open(tmp_path / "two")
    made = again.create(msgspec.structs.replace(world.rollout, name="r2"), world.now_s + 100.0)
    assert made.version.counter > first
    again.close()


def test_another_process_that_wrote_meanwhile_is_noticed(tmp_path: Path) -> None:
    world = World(tmp_path, 5)
    other = RolloutStore.open(tmp_path)
    other.happen("r", Operated("pause", "other"), world.now_s)
    with pytest.raises(ConflictError, match="changed by another process"):
        world.store.happen("r", Operated("pause", "test"), world.now_s)
    other.close()
    world.store.close()
