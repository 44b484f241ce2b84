"""A rollout over a real orchestrator and real engines: a canary that breaks its promise goes back by itself, and says
why; and a killed orchestrator goes on where it was.

The sites' agents are played here over the real route: what they report, and their engines, are real; their disks are
not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))

from liveprograms import MockEngine, Orchestrator, gridctl, wait_for
from ports import free_port

from gridctl.control.rollout_messages import RolloutReport, StartRollout
from gridctl.orchestrator.context import home_of
from gridctl.orchestrator.live_client import local_client
from gridctl.orchestrator.rollouts import rollout, rollouts
from gridctl.render.schemas import schema_of
from gridctl.rollout.analysis import Limits
from gridctl.rollout.state import Settings

Starter = Callable[..., Orchestrator]
OLD, NEW = "sha256:" + "0" * 64, "sha256:" + "1" * 64
TPOT_MS = "20"
"""So long, as the times to a first token are, that what a busy machine adds is no multiple of it: rollouts compare
sites by both."""
FAST = ("--ttft-ms", "100", "--tpot-ms", TPOT_MS, "--model-name", "tiny")
SLOW = ("--ttft-ms", "400", "--tpot-ms", TPOT_MS, "--model-name", "tiny")


def taking(ttft_ms: float) -> tuple[str, ...]:
    """Options of an engine that takes so long to the first token."""
    return ("--ttft-ms", f"{ttft_ms:g}", "--tpot-ms", TPOT_MS, "--model-name", "tiny")


class PlayedAgent(threading.Thread):
    """An agent as the orchestrator sees it. `reload` is called with a variant when its engine is to load it."""

    def __init__(self, site: str, url: str, token: str, reload: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.site = site
        self._url = f"{url}/v1/sites/{site}/sync"
        self._token = token
        self._reload = reload
        self._ended = threading.Event()
        self.committed: dict[str, Any] = {"digest": OLD, "variant": "bf16", "counter": 1}
        self.trial: dict[str, Any] | None = None
        self.staged: list[str] = []
        self.generation = 0
        self.served = ["bf16"]

    def run(self) -> None:
        seq = 0
        while not self._ended.wait(0.1):
            seq += 1
            held = {"model": "tiny", "committed": self.committed, "trial": self.trial, "staged": self.staged}
            report = {"boot_id": f"{self.site}-1", "seq": seq, "generation": self.generation, "actual": [held]}
            with contextlib.suppress(OSError):
                self._take(self._post(report))

    def end(self) -> None:
        self._ended.set()
        self.join(10)

    def _post(self, report: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._url, json.dumps(report).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def _take(self, desired: dict[str, Any]) -> None:
        self.generation = desired["generation"]
        for wanted in desired["wanted"]:
            version = wanted["version"]
            if version["digest"] not in (self.committed["digest"], *self.staged):
                self.staged.append(version["digest"])
            elif wanted["mode"] == "trial" and self.trial is None and self.committed["digest"] != version["digest"]:
                self._load(version["variant"])
                self.trial = version
            elif wanted["mode"] == "commit" and self.committed["counter"] != version["counter"]:
                if (self.trial or self.committed)["digest"] != version["digest"]:
                    self._load(version["variant"])
                self.committed, self.trial = version, None

    def _load(self, variant: str) -> None:
        self._reload(variant)
        self.served.append(variant)


class Crowd(threading.Thread):
    """Clients at a site, one request after the other."""

    def __init__(self, url: str, site: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/v1/chat/completions"
        self._headers = {"content-type": "application/json", "x-gridctl-origin": site}
        self._ended = threading.Event()
        self.answers: list[int] = []

    def run(self) -> None:
        body = json.dumps(
            {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": True}
        ).encode()
        while not self._ended.is_set():
            try:
                request = urllib.request.Request(self._url, body, self._headers)
                with urllib.request.urlopen(request, timeout=20) as answer:
                    answer.read()
                    self.answers.append(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    self.answers.append(error.code)
            except OSError:
                time.sleep(0.05)

    def turn_to(self, url: str) -> None:
        """Ask there from now on."""
        self._url = f"{url}/v1/chat/completions"

    def end(self) -> None:
        self._ended.set()
        self.join(30)


class Grid:
    """Three sites, an orchestrator and agents; engines of a site are slow once they serve `slow_variant`."""

    def __init__(
        self,
        folder: Path,
        programs: contextlib.ExitStack,
        orchestrate: Starter,
        slow_variant: str,
        fast: tuple[str, ...] = FAST,
        slow: tuple[str, ...] = SLOW,
        promised_ms: float = 250.0,
        crowds: int = 1,
    ) -> None:
        self._folder = folder
        self._slow = slow_variant
        self._options = fast, slow
        self.sites = ["paris", "lyon", "madrid"]
        self.engines = {site: self._engine(programs, site, "bf16", free_port()) for site in self.sites}
        self._programs = programs
        self.admin = f"http://127.0.0.1:{free_port()}"
        self.options = ("--admin", self.admin.removeprefix("http://"), "--agent-sync", "0.5s")
        self.orchestrator = orchestrate(
            {site: [engine.url] for site, engine in self.engines.items()},
            *self.options,
            algorithm="nearest",
            ttft_ms=promised_ms,
        )
        self.store = self.orchestrator.store
        self._declare_variant()
        self.home = home_of(self.store, "test")
        self.agents = {site: self._agent(site) for site in self.sites}
        self.crowds = [Crowd(self.orchestrator.url, site) for site in self.sites * crowds]
        for thread in (*self.agents.values(), *self.crowds):
            thread.start()
            programs.callback(thread.end)

    def start(self, **settings: Any) -> RolloutReport:
        """Begin a rollout to all sites, one first."""
        wanted = StartRollout(
            name="fp8",
            model="tiny",
            variant="fp8",
            reference="registry.example.com/tiny:v2",
            digest=NEW,
            waves=(("paris",), ("lyon", "madrid")),
            settings=Settings(**({"soak_s": 8.0, "max_unavailable": 0.5, "limits": Limits(min_samples=15)} | settings)),
        )
        with local_client(self.home) as client:
            return client.post("/v1/rollouts", wanted, RolloutReport)

    def variants(self) -> dict[str, str]:
        """What the grid declares of each site."""
        listed = gridctl("cluster", "list", "-o", "json", store=self.store)
        items = json.loads(listed.stdout)["items"]
        return {item["spec"]["site"]: item["spec"]["deployments"][0]["variant"] for item in items}

    def _engine(self, programs: contextlib.ExitStack, site: str, variant: str, port: int) -> MockEngine:
        options = self._options[variant == self._slow]
        engine = MockEngine.start_mock(self._folder / f"{site}-{variant}.log", *options, port=port)
        programs.callback(engine.end)
        return engine

    def _agent(self, site: str) -> PlayedAgent:
        made = gridctl("token", "create", f"agent-{site}", "--role", "agent", "--site", site, store=self.store)
        assert made.returncode == 0, made.stderr

        def reload(variant: str) -> None:
            old = self.engines[site]
            old.kill()
            self.engines[site] = self._engine(self._programs, site, variant, old.port)

        return PlayedAgent(site, self.admin, made.stdout.strip(), reload)

    def _declare_variant(self) -> None:
        shown = gridctl("model", "get", "tiny", "-o", "json", store=self.store)
        model = json.loads(shown.stdout)
        model["spec"]["variants"].append({"name": "fp8", "dtype": "fp8", "quality": 0.5})
        path = self._folder / "variant.json"
        path.write_text(json.dumps(model))
        done = gridctl("apply", "-f", str(path), store=self.store)
        assert done.returncode == 0, done.stderr


def test_a_canary_that_breaks_its_promise_goes_back_by_itself_and_says_why(
    tmp_path: Path, programs: contextlib.ExitStack, orchestrate: Starter
) -> None:
    grid = Grid(tmp_path, programs, orchestrate, slow_variant="fp8")
    wait_for("traffic", lambda: all(len(crowd.answers) > 10 for crowd in grid.crowds), 60)
    grid.start()
    wait_for("the router to learn of the variant", lambda: grid.variants()["paris"] == "tiny/fp8", 60)
    ended = gridctl("rollout", "status", "fp8", "--wait", "-o", "json", store=grid.store, seconds=120)
    assert ended.returncode == 99, ended.stderr
    told = json.loads(ended.stdout)
    assert told["phase"] == "rolled_back", told["because"]
    assert "wave 1 failed its analysis" in told["because"]
    assert "broken promises" in told["because"]
    assert "elsewhere" in told["because"]
    assert told["verdict"]["word"] == "fail"
    wait_for("the router to learn that it is gone", lambda: grid.variants()["paris"] == "tiny/bf16", 60)
    assert grid.agents["paris"].served == ["bf16", "fp8", "bf16"]
    assert grid.agents["paris"].committed["digest"] == OLD
    assert grid.agents["paris"].committed["counter"] > 1
    for site in ("lyon", "madrid"):
        assert grid.agents[site].served == ["bf16"]
        assert grid.agents[site].staged == []
    shown = gridctl("rollout", "history", "fp8", store=grid.store)
    assert "broken promises" in shown.stdout
    events = gridctl("event", "list", "--for", "cluster/paris-gpus", "-o", "wide", store=grid.store)
    assert "site paris serves tiny/fp8, rollout fp8" in events.stdout


def test_a_canary_twice_as_slow_goes_back_though_it_keeps_every_promise(
    tmp_path: Path, programs: contextlib.ExitStack, orchestrate: Starter
) -> None:
    times: dict[str, Any] = {"fast": taking(300), "slow": taking(600), "promised_ms": 10_000.0, "crowds": 4}
    grid = Grid(tmp_path, programs, orchestrate, "fp8", **times)
    wait_for("traffic", lambda: all(len(crowd.answers) > 3 for crowd in grid.crowds), 60)
    grid.start(limits=Limits(min_samples=30, max_ttft_ratio=1.5))
    ended = gridctl("rollout", "status", "fp8", "--wait", "-o", "json", store=grid.store, seconds=120)
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["phase"]) == (99, "rolled_back"), told["because"]
    assert "wave 1 failed its analysis: TTFT p50" in told["because"]
    assert "1.5 are tolerated" in told["because"]
    assert told["max_ttft_ratio"] == 1.5
    checks = {check["what"]: check for check in told["verdict"]["checks"]}
    assert checks["broken promises"]["canary"] == 0.0
    assert checks["TTFT p50"]["canary"] / checks["TTFT p50"]["control"] > 1.5
    (price,) = told["verdict"]["figures"]
    assert price["what"] == "usd_per_mtok"
    assert 0 < price["canary"] < price["control"]  # fp8 reads half the bytes
    schema = schema_of("Rollout")
    assert _schemas().complaints(told, schema, schema) == []
    assert grid.agents["paris"].committed["digest"] == OLD


def test_a_canary_a_twentieth_slower_passes(
    tmp_path: Path, programs: contextlib.ExitStack, orchestrate: Starter
) -> None:
    times: dict[str, Any] = {"fast": taking(300), "slow": taking(315), "promised_ms": 10_000.0, "crowds": 4}
    grid = Grid(tmp_path, programs, orchestrate, "fp8", **times)
    wait_for("traffic", lambda: all(len(crowd.answers) > 3 for crowd in grid.crowds), 60)
    grid.start(limits=Limits(min_samples=30, max_ttft_ratio=1.5))
    wait_for("the second wave", lambda: rollout(grid.home, "fp8").wave == 2 or _phase(grid) == "paused", 90)
    told = gridctl("rollout", "history", "fp8", store=grid.store).stdout
    assert "wave 1 passed" in told, told
    assert "TTFT p95" in told


def test_a_good_version_reaches_every_site_over_a_killed_orchestrator_and_can_be_undone(
    tmp_path: Path, programs: contextlib.ExitStack, orchestrate: Starter
) -> None:
    grid = Grid(tmp_path, programs, orchestrate, slow_variant="none")
    grid.start()
    wait_for("the canary", lambda: _phase(grid) == "baking", 60)
    before = rollout(grid.home, "fp8")
    grid.orchestrator.kill()
    again = Orchestrator.start(tmp_path, grid.store, *grid.options)
    programs.callback(again.end)
    again.wait_until_ready()
    for crowd in grid.crowds:
        crowd.turn_to(again.url)
    after = rollout(grid.home, "fp8")
    assert (after.phase, after.wave, after.digest) == (before.phase, before.wave, before.digest)
    ended = gridctl("rollout", "status", "fp8", "--wait", store=grid.store, seconds=120)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert set(grid.variants().values()) == {"tiny/fp8"}
    assert [agent.served for agent in grid.agents.values()] == [["bf16", "fp8"]] * 3

    for arguments, kind in (
        (("list",), "RolloutList"),
        (("status", "fp8"), "Rollout"),
        (("history", "fp8"), "RolloutHistoryList"),
    ):
        printed = json.loads(gridctl("rollout", *arguments, "-o", "json", store=grid.store).stdout)
        schema = schema_of(kind)
        assert _schemas().complaints(printed, schema, schema) == [], kind
        for output in ("wide", "csv"):
            ran = gridctl("rollout", *arguments, "-o", output, store=grid.store)
            assert (ran.returncode, bool(ran.stdout)) == (0, True), (arguments, output, ran.stderr)

    undone = gridctl("rollout", "undo", "fp8", "--reason", "wrong tokenizer", store=grid.store)
    assert undone.returncode == 0, undone.stderr
    wait_for("every site to be back", lambda: rollout(grid.home, "fp8-undo").phase == "rolled_back", 60)
    wait_for("the router to know", lambda: set(grid.variants().values()) == {"tiny/bf16"}, 30)
    assert [one.phase for one in rollouts(grid.home)] == ["rolled_back", "completed"]
    refused = gridctl("rollout", "undo", "fp8", store=grid.store)
    assert refused.returncode == 3
    assert "came to these sites after" in refused.stderr


@pytest.mark.slow
def test_an_engine_that_does_not_load_the_version_takes_real_agents_back(tmp_path: Path) -> None:
    from agentworld import committed_digest, complaint_of
    from fleet import MODEL, Fleet
    from ociregistry import MISSING, has_registry, running_registry

    if not has_registry():
        pytest.skip(MISSING)
    script = tmp_path / "reload.py"
    script.write_text("import os, sys\nsys.exit(os.environ['GRIDCTL_VARIANT'] == 'tuned')\n")
    (tmp_path / "registry").mkdir()
    with running_registry(tmp_path / "registry") as registry:
        command = (sys.executable, str(script))
        fleet = Fleet(tmp_path, registry, sites=3, mortals=0, reload_command=command)
        try:
            fleet.begin()
            base, tuned, _ = fleet.models()
            fleet.roll_out(base, "base", [fleet.names], 60, lambda: None)
            fleet.start_rollout(tuned, "tuned", [fleet.names[:1], fleet.names[1:]], auto_rollback=True)
            ended = wait_for("the end", lambda: _ended(fleet.ask("GET", "/v1/rollouts/tuned")), 60)
            assert ended["phase"] == "rolled_back"
            assert f"{fleet.names[0]}: engine" in ended["because"]
            for name in fleet.names:
                folder = fleet.orders[name].folder
                assert committed_digest(folder, MODEL) == base.digest
                assert complaint_of(folder) == ""
            phases = [site["phase"] for site in ended["progress"]]
            assert phases == ["reverted", "waiting", "waiting"], "sites of the next wave heard of it"
        finally:
            fleet.close()


def _ended(told: dict[str, Any]) -> dict[str, Any] | None:
    return told if told["phase"] in ("completed", "rolled_back", "stuck", "paused") else None


def _schemas() -> Any:
    """The checker of printed JSON, which stands beside the tests of commands."""
    path = Path(__file__).resolve().parents[1] / "cli" / "test_schemas.py"
    spec = importlib.util.spec_from_file_location("schemas_of_rollouts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _phase(grid: Grid) -> str:
    return rollout(grid.home, "fp8").phase
