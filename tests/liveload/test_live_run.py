"""A trace sent to an endpoint is a run like a replay's, and says of itself all that a reader must know."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from liveparts import in_thread

from gridctl.accounts.clock import client_clock
from gridctl.accounts.facts import RunInfo
from gridctl.accounts.pairing import unpaired
from gridctl.accounts.rows import OUTCOMES, REASONS, Run
from gridctl.errors import InputError, Interrupted, NotFoundError, UnreachableError
from gridctl.liveload.heard import Limits
from gridctl.liveload.target import target_of
from gridctl.manifest import parse_manifest
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.engine import Manner
from gridctl.mockengine.faults import parse_faults
from gridctl.mockengine.plain import PlainPace
from gridctl.mockengine.server import Address, MockServer
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.inputs import inputs_item, load_inputs
from gridctl.orchestrator.liveloading import LiveOrder, plan_load, replay_live
from gridctl.orchestrator.replaying import Listener, Order, replay_trace
from gridctl.orchestrator.runs import load_info, load_run
from gridctl.registry import Registry
from gridctl.traces.reader import open_traffic

REPOSITORY = Path(__file__).resolve().parents[2]
GRID = b"""\
apiVersion: gridctl/v1
kind: Site
metadata: {name: fr-paris-01}
spec: {lat: 48.86, lon: 2.35, country: FR, tier: edge, city: Paris}
---
apiVersion: gridctl/v1
kind: Cluster
metadata: {name: paris}
spec: {site: fr-paris-01, gpu: rtx-pro-6000, gpus: 1, deployments: [{variant: llama-3.1-8b/bf16}]}
---
apiVersion: gridctl/v1
kind: Model
metadata: {name: llama-3.1-8b}
spec:
  architecture: {layers: 32, hidden_size: 4096, heads: 32, kv_heads: 8, head_dim: 128, intermediate_size: 14336,
                 vocab_size: 128256}
  variants: [{name: bf16, quality: 0.6}]
---
apiVersion: gridctl/v1
kind: Workload
metadata: {name: chat}
spec: {models: [llama-3.1-8b], access_rtt_ms: 0, objectives: [{metric: ttft_ms, threshold_ms: 60000}]}
"""
MODEL = "llama-3.1-8b"
NEAR = {"tpot_ms": 0.10, "ttft_ms": 0.25}
"""On an idle machine both lie within 1 %; what is left is for machines that are not."""
TRIES = 4
"""Whatever else a machine does takes a live run away from its twin; one of so many is left alone."""


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    """A grid of one engine, on disk."""
    made = home_of(tmp_path / "grid", "test")
    made.runs.mkdir(parents=True)
    with Registry.open(made.database, create=True) as registry:
        registry.apply([one.resource for one in parse_manifest(GRID, name="grid.yaml")], cause="test")
    return made


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trace: `count` requests, `gap_ms` apart, from Paris."""

    def write(count: int, gap_ms: float = 5.0, **columns: Any) -> Path:
        draw = random.Random(5)
        path = tmp_path / "trace.jsonl"
        rows = []
        for number in range(count):
            row = {"timestamp": number * gap_ms, "input_length": draw.randrange(600, 900),
                   "output_length": draw.randrange(4, 25), "origin": "fr-paris-01", "workload": "chat", "tenant": "t",
                   **columns}  # fmt: skip
            rows.append(json.dumps(row))
        path.write_text("\n".join([json.dumps({"gridctl_trace": "v1"}), *rows]) + "\n")
        return path

    return write


@contextmanager
def plain_engine(
    ttft_ms: float = 5.0, tpot_ms: float = 1.0, *, faults: str = "", **manner: Any
) -> Iterator[MockServer]:
    """A mock engine of fixed times in a thread of its own."""

    async def start() -> tuple[MockServer, Callable[[], None]]:
        loop = asyncio.get_running_loop()
        pace = PlainPace(loop, ttft_ms, tpot_ms, Clock(1.0))
        server = MockServer(Address(), pace, Manner(manner.pop("model", MODEL), **manner), parse_faults(faults))
        await server.start()
        return server, server.close

    with in_thread(start) as server:
        yield server


def send(
    home: GridHome,
    path: Path,
    url: str,
    *,
    key: str | None = None,
    limits: Limits | None = None,
    distance: bool = True,
    advanced: Callable[[int], None] = lambda count: None,
    name: str = "live",
) -> RunInfo:
    order = Order(name, with_centralized=False)
    live = LiveOrder(order, target_of(url, key), limits or Limits(), adds_distance=distance)
    return replay_live(home, open_traffic(str(path)), live, lambda text: None, advanced)


def test_the_twin_and_the_engine_that_follows_it_agree(home: GridHome, trace: Callable[..., Path]) -> None:
    path = trace(60, 50.0)
    replay_trace(home, open_traffic(str(path)), Order("twin", with_centralized=False), Listener())
    command = [sys.executable, "-m", "gridctl", "engine", "mock", "--cluster", "paris", "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "GRIDCTL_STORE": str(home.folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as engine:
        try:
            assert engine.stdout is not None
            text = b""
            while not text.rstrip().endswith(b"}"):
                line = engine.stdout.readline()
                assert line, engine.communicate()[1].decode()
                text += line
            said = json.loads(text)
            assert said["kind"] == "MockEngine"
            assert said["model"] == MODEL
            assert said["source"] == "rtx-pro-6000.llama-3.1-8b.bf16.tp1"
            lives = []
            while not lives or (len(lives) < TRIES and not agree(load_run("twin", home), lives[-1])):
                send(home, path, said["url"], name=f"live-{len(lives)}")
                lives.append(load_run(f"live-{len(lives)}", home))
            engine.send_signal(signal.SIGINT)
            assert engine.wait(20) == 0, "Ctrl-C is how a server is stopped"
        finally:
            if engine.poll() is None:
                engine.kill()
    twin = load_run("twin", home)
    for live in lives:
        assert unpaired(twin, live) == "", "the very same requests"
        assert live.rows.engine.tolist() == twin.rows.engine.tolist()
        assert live.rows.cached_tokens.tolist() == twin.rows.cached_tokens.tolist()
    assert agree(twin, lives[-1]), [[usual(run, metric) for metric in NEAR] for run in (twin, *lives)]


def agree(twin: Run, live: Run) -> bool:
    return all(usual(live, metric) == pytest.approx(usual(twin, metric), rel=rel) for metric, rel in NEAR.items())


def usual(run: Run, metric: str) -> float:
    """The median: a machine that stands still for a moment makes a few requests late by any amount."""
    clock = client_clock(run)
    served = clock.served & (clock.has_tpot if metric == "tpot_ms" else True)
    return statistics.median(clock.times_ns(metric)[served].tolist())  # type: ignore[arg-type]


def test_a_live_run_keeps_what_it_was_made_from_as_a_replay_does(home: GridHome, trace: Callable[..., Path]) -> None:
    path = trace(10)
    replay_trace(home, open_traffic(str(path)), Order("twin", with_centralized=False), Listener())
    with plain_engine() as server:
        send(home, path, server.url, distance=False)
    twin, live = load_inputs("twin", home), load_inputs("live", home)
    assert live.header.trace_digest == twin.header.trace_digest, "the very same trace"
    assert live.resources == twin.resources
    said = live.header.live
    assert said is not None
    assert (said.url, said.network, said.max_connections) == (server.url, "measured", 4096)
    assert isinstance(said.prompt_seed, int), "so that its prompts can be made again"
    assert twin.header.live is None
    item = inputs_item("live", live)
    assert (item["policy"], item["requests"]) == ("live", 10)
    shown = subprocess.run(
        [sys.executable, "-m", "gridctl", "--store", str(home.folder), "run", "get", "live", "--inputs"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=60,
    )  # fmt: skip
    assert server.url in shown.stdout


def test_a_live_run_says_what_it_is(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine() as server:
        info = send(home, trace(20), server.url)
    assert (info.live, info.policy, info.requests, info.completed) == (server.url, "live", 20, 20)
    assert load_info("live", home) == info
    notes = "\n".join(info.notes)
    assert f"live: {server.url}, over at 20" in notes
    assert "s of machine time" in notes
    assert "generator lag: p50" in notes
    assert "network: the modelled round trip" in notes
    assert "cost unknown: 20 answers" in notes
    run = load_run("live", home)
    assert set(run.rows.engine.tolist()) == {0}, "the one engine of the model"
    assert (run.rows.compute_ns >= 5_000_000).all()
    assert (run.rows.rtt_ns == run.rows.rtt_ns[0]).all()
    assert run.rows.rtt_ns[0] > 0
    assert run.rows.input_tokens.tolist() == open_traffic(str(trace(20))).whole().input_tokens.tolist()


def test_the_network_may_be_what_is_measured(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine() as server:
        send(home, trace(5), server.url, distance=False)
    assert load_run("live", home).rows.rtt_ns.tolist() == [0] * 5


def test_refused_and_broken_requests_are_rows_with_their_reason(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine(faults="status=503*0.25,reset*0.2") as server:
        info = send(home, trace(40), server.url)
    run = load_run("live", home)
    words = [
        (OUTCOMES[o], REASONS[r]) for o, r in zip(run.rows.outcome.tolist(), run.rows.reason.tolist(), strict=True)
    ]
    assert words.count(("rejected", "outage")) == info.rejected == 10
    assert words.count(("failed", "broken")) == info.failed
    assert info.failed > 0
    assert info.completed + info.rejected + info.failed == 40
    assert any("10 not answered: 503 told to fail" in text for text in info.notes)


def test_nobody_there_and_nothing_saved(home: GridHome, trace: Callable[..., Path]) -> None:
    with pytest.raises(UnreachableError):
        send(home, trace(3), "http://127.0.0.1:1")
    with plain_engine(faults="garbage@0.0") as server, pytest.raises(UnreachableError):
        send(home, trace(3), server.url)
    assert home.open_runs().list() == []


def test_an_endpoint_that_dies_under_way_keeps_what_came(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine(faults="die@600ms") as server:
        info = send(home, trace(100, 10.0), server.url)
    assert 0 < info.completed < 100
    assert info.failed == 100 - info.completed


def test_a_key_that_is_missing_or_wrong_is_told(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine(api_key="right") as server:
        with pytest.raises(InputError, match="asks for a key"):
            send(home, trace(3), server.url)
        with pytest.raises(InputError, match="does not take the key"):
            send(home, trace(3), server.url, key="wrong")
        assert send(home, trace(3), server.url, key="right").completed == 3


def test_a_model_that_is_not_served_is_told_before_anything_is_sent(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine(model="other") as server:
        with pytest.raises(NotFoundError, match="serves no llama"):
            send(home, trace(3, model=MODEL), server.url)
        assert server.engine.counters.requests == 0


def test_a_person_who_stops_it_keeps_what_came(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine() as server:
        # When the progress reaches a few answers, so that it is the load that gets the signal.
        interrupt = iter([*[lambda: None] * 9, lambda: os.kill(os.getpid(), signal.SIGINT)])
        with pytest.raises(Interrupted, match="kept as run live") as caught:
            send(home, trace(400, 50.0), server.url, advanced=lambda count: next(interrupt, lambda: None)())
    kept = load_run("live", home)
    assert 0 < len(kept.rows) < 400
    assert f"stopped after {len(kept.rows)} of 400" in caught.value.what
    assert (np.diff(kept.rows.arrival_ns) > 0).all()
    assert any("stopped by hand" in text for text in kept.info.notes)


def test_a_generator_that_was_late_voids_the_run_and_keeps_it(home: GridHome, trace: Callable[..., Path]) -> None:
    # One connection and answers of 50 ms: the tenth of ten requests at once waits 450 ms; 600 are not allowed to.
    with plain_engine(ttft_ms=150.0, tpot_ms=0.0) as server, pytest.raises(InputError, match="void") as caught:
        send(home, trace(10, 0.0), server.url, limits=Limits(connections=1))
    assert caught.value.exit_code == 3
    info = load_info("live", home)
    assert info.completed == 10
    assert any(text.startswith("void: the generator was late: chat ttft_ms p99") for text in info.notes)


def test_a_plan_sends_no_completion(home: GridHome, trace: Callable[..., Path]) -> None:
    with plain_engine() as server:
        order = LiveOrder(Order("live", with_centralized=False), target_of(server.url), Limits())
        plan = plan_load(home, open_traffic(str(trace(30, 10.0, session=4))), order, lambda text: None)
        assert server.engine.counters.requests == 0
    assert (len(plan.trace), plan.duration_s, plan.turns, plan.served) == (30, 0.29, 29, (MODEL,))
    assert home.open_runs().list() == []
