"""A small grid as a running orchestrator sees it: two sites, three engines, one workload, and clocks that stand."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridctl.health.condition import Condition
from gridctl.health.facts import Facts
from gridctl.health.outcome import Outcome
from gridctl.resources import Cluster, Model, PriceBook, Resource, Site, Workload
from gridctl.signals.board import Board
from gridctl.signals.series import Key, Series

S = 1_000_000_000
NOW_NS = 10_000 * S
PATIENCE_S = 20.0
NOW_UNIX_NS = 1_800_000_000 * S


@dataclass(frozen=True)
class Engine:
    """An engine of a plan."""

    row: int
    site: str
    cluster: str
    replica: int = 0
    model: str = "tiny"
    variant: str = "bf16"

    @property
    def url(self) -> str:
        return f"http://10.0.0.{self.row}:8000"


@dataclass
class Grid:
    """What `facts` is made from; tests change it first."""

    board: Board
    resources: list[Resource]
    engines: list[Engine]
    conditions: dict[int, Condition]
    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)
    series: Series = field(default_factory=Series)
    more: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> Facts:
        return Facts(
            **{
                "grid": "test",
                "now_ns": NOW_NS,
                "now_unix_ns": NOW_UNIX_NS,
                "resources": self.resources,
                "engines": self.engines,
                "conditions": self.conditions,
                "outcomes": self.outcomes,
                "panics": {},
                "suspects": (),
                "board": self.board,
                "series": self.series,
                **self.more,
            }
        )

    def well(self, *rows: int, at_s: float = 9_000) -> None:
        """These engines answered at that second of the monotonic clock."""
        for row in rows:
            self.conditions[row].observe("success", round(at_s * S))

    def out(self, *rows: int, at_s: float = 9_400) -> None:
        """These engines failed three probes in a row, the last at that second."""
        for row in rows:
            self.well(row, at_s=at_s - 100)
            for gap_s in (10, 5, 0):
                self.conditions[row].observe("probe-failed", round((at_s - gap_s) * S), "nothing listens there")

    def served(self, counts: dict[tuple[str, str], tuple[int, int, int]], hours: float = 1.0) -> None:
        """So many good, bad and excluded requests by workload and site in the last hours."""
        end_s = NOW_UNIX_NS / S
        total: dict[Key, tuple[int, int, int]] = {}
        for (workload, site), counted in counts.items():
            for key in (Key(), Key(workload), Key("", site), Key(workload, site)):
                before = total.get(key, (0, 0, 0))
                good, bad, excluded = (old + new for old, new in zip(before, counted, strict=True))
                total[key] = (good, bad, excluded)
        self.series.sample(end_s - hours * 3600, dict.fromkeys(total, (0, 0, 0)))
        self.series.sample(end_s, total)


def site(name: str, country: str, **spec: Any) -> Site:
    return _made(Site, name, {"lat": 48.0, "lon": 2.0, "country": country, "tier": "edge", **spec})


def _made(kind: type[Any], name: str, spec: dict[str, Any]) -> Any:
    import msgspec

    return msgspec.convert({"kind": kind.__name__, "metadata": {"name": name}, "spec": spec}, kind)


@pytest.fixture
def made() -> Callable[[type[Any], str, dict[str, Any]], Any]:
    """Make a resource of a kind."""
    return _made


@pytest.fixture
def grid() -> Iterator[Grid]:
    """Paris with two engines, Oslo with one; nothing known of any of them."""
    urls = ["http://10.0.0.0:8000", "http://10.0.0.1:8000"]
    architecture = {
        "layers": 16,
        "hidden_size": 2048,
        "heads": 32,
        "kv_heads": 8,
        "head_dim": 64,
        "intermediate_size": 8192,
        "vocab_size": 128256,
    }
    resources: list[Resource] = [
        site("paris", "FR", city="Paris"),
        site("oslo", "NO", city="Oslo"),
        _made(
            Cluster,
            "paris-gpu",
            {
                "site": "paris",
                "gpu": "l4",
                "gpus": 2,
                "usd_per_gpu_hour": 0.8,
                "deployments": [{"variant": "tiny/bf16", "replicas": 2, "endpoints": urls}],
            },
        ),
        _made(
            Cluster,
            "oslo-gpu",
            {"site": "oslo", "gpu": "l40s", "gpus": 1, "deployments": [{"variant": "tiny/bf16"}]},
        ),
        _made(Model, "tiny", {"architecture": architecture, "variants": [{"name": "bf16", "quality": 0.6}]}),
        _made(
            Workload,
            "chat",
            {"models": ["tiny"], "attainment": 0.99, "objectives": [{"metric": "ttft_ms", "threshold_ms": 500}]},
        ),
        _made(PriceBook, "default", {"gpu_hour_usd": {"l40s": 1.5}}),
    ]
    engines = [Engine(0, "paris", "paris-gpu"), Engine(1, "paris", "paris-gpu", 1), Engine(2, "oslo", "oslo-gpu")]
    with Board.create(f"gridctl-test-health-{os.getpid()}", workers=1, backends=4, workloads=4) as board:
        yield Grid(board, resources, engines, {engine.row: Condition(now_ns=8_000 * S) for engine in engines})
        board.unlink()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine to its end on each event loop, or fail."""
    factory = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def to_its_end(work: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await work
            finally:
                # What is being closed is closed first: uvloop's own close was seen to wait for it without end.
                await asyncio.sleep(0.01)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(limited())

    return to_its_end


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of `localhost` and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = ["openssl", *options.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
    try:
        subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl is not installed")
    return certificate, key
