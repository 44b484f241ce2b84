"""A fleet: many sites' agents behind thin links, a real registry, a real orchestrator, and what kills them.

Agents live as asyncio tasks in a few forked processes; those that are to die have a process each. Links are shaped by a
proxy in front of the registry, which counts what crosses it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent"))

from agentworld import Nursery, Pushed, complaint_of, make_model, push_model
from livegrid import ARCHITECTURE, GPU, document
from liveprograms import Orchestrator, apply_grid
from ociregistry import Registry
from ports import free_port

from gridctl.agent.order import Order
from gridctl.artifacts.recipe import Recipe
from gridctl.artifacts.rederivation import make_variant
from gridctl.orchestrator.context import current_grid
from gridctl.registry.keys import WantedKey

MODEL = "tiny"
VARIANTS = ("base", "tuned", "fp8")
Look = Callable[[], object]


class ThinLinks:
    """A proxy to the registry, as a process of its own: see `thinlinks.py`."""

    def __init__(self, target_port: int, bytes_per_s: float, delay_s: float) -> None:
        program = str(Path(__file__).with_name("thinlinks.py"))
        self._process = subprocess.Popen(
            [sys.executable, program, str(target_port), str(bytes_per_s), str(delay_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = self._told()

    @property
    def carried(self) -> int:
        """Bytes that have crossed it towards the sites."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._told()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(10)
        self._process.stdin.close()
        self._process.stdout.close()

    def _told(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@dataclass
class Figures:
    """What a rollout took."""

    name: str
    naive_bytes: int
    carried_bytes: int
    seconds: float
    deaths: int = 0
    looks: int = 0


@dataclass
class Fleet:
    """Start it with `begin`; end it with `close`."""

    root: Path
    registry: Registry
    sites: int
    mortals: int
    sync: str = "500ms"
    rows: int = 256
    link_bytes_per_s: float = 2e6
    reload_command: tuple[str, ...] = ()
    links: ThinLinks | None = None
    orchestrator: Orchestrator | None = None
    nursery: Nursery | None = None
    orders: dict[str, Order] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)
    admin_port: int = 0
    complaints: list[str] = field(default_factory=list)
    looks: int = 0

    @property
    def names(self) -> list[str]:
        return [f"site-{number:03}" for number in range(self.sites)]

    def begin(self) -> None:
        self.links = ThinLinks(self.registry.port, self.link_bytes_per_s, 0.02)
        manifests = self.root / "manifests"
        manifests.mkdir(parents=True)
        (manifests / "grid.yaml").write_text("---\n".join(json.dumps(one) + "\n" for one in self._documents()))
        store = self.root / "store"
        apply_grid(store, manifests)
        tokens = {}
        with current_grid(str(store)).open_registry() as grid:
            for name in self.names:
                wanted = WantedKey(name=f"agent-{name}", role="agent", site=name)
                tokens[name] = grid.create_key(wanted, cause="test")[1]
        self.admin_port = free_port()
        self.start_orchestrator()
        pem = self.ask("GET", "/v1/release-key")["pem"]
        for name, token in tokens.items():
            path = self.root / "tokens" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(token)
            self.orders[name] = Order(
                site=name,
                url=f"http://127.0.0.1:{self.admin_port}",
                token_file=path,
                folder=self.root / "sites" / name,
                key_pem=pem,
                reload_command=self.reload_command,
                interval_s=0.5,
                retry_s=0.2,
                parallel=1,
                keep_free_bytes=0,
            )
        self.nursery = Nursery()
        steady = self.names[self.mortals :]
        for start in range(0, len(steady), 30):
            self._start(*steady[start : start + 30])
        for name in self.names[: self.mortals]:
            self._start(name)

    def close(self) -> None:
        if self.nursery is not None:
            self.nursery.close()
        if self.orchestrator is not None:
            self.orchestrator.end()
        if self.links is not None:
            self.links.close()

    def start_orchestrator(self) -> None:
        store = self.root / "store"
        self.orchestrator = Orchestrator.start(
            self.root, store, "--admin", f"127.0.0.1:{self.admin_port}", "--agent-sync", self.sync
        )
        self.orchestrator.wait_until_ready()

    def kill_orchestrator(self) -> None:
        assert self.orchestrator is not None
        self.orchestrator.kill()

    def push(self, folder: Path, base: Path | None = None, recipe: str | None = None) -> Pushed:
        """To the registry itself; the reference is by the thin links."""
        assert self.links is not None
        pushed = push_model(self.registry, f"fleet/{MODEL}", folder, self.root, base=base, recipe=recipe)
        reference = f"127.0.0.1:{self.links.port}/fleet/{MODEL}@{pushed.digest}"
        return Pushed(reference, pushed.digest, pushed.total_bytes, pushed.files)

    def models(self) -> tuple[Pushed, Pushed, Pushed]:
        """A base; a variant of it with the numbers of one file of two changed; the base in FP8, with its recipe."""
        base = make_model(self.root / "base", seed=1, rows=self.rows)
        tuned = make_model(self.root / "tuned", seed=1, rows=self.rows, moved=1e-4)
        quantised = self.root / "fp8"
        quantised.mkdir()
        make_variant(base, quantised, {"scheme": "fp8"})
        recipe = Recipe("optimize", 1, {"scheme": "fp8"}).text
        return self.push(base), self.push(tuned, base), self.push(quantised, base, recipe)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The admin API, by its socket."""
        assert self.orchestrator is not None
        told = json.loads((self.orchestrator.live_folder / "control.json").read_text())
        transport = httpx.HTTPTransport(uds=told["admin"].removeprefix("unix:"))
        with httpx.Client(transport=transport, base_url="http://orchestrator", timeout=30) as client:
            answer = client.request(method, path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def roll_out(self, pushed: Pushed, variant: str, waves: list[list[str]], seconds: float, trouble: Look) -> Figures:
        """A rollout to its end, every wave promoted by hand (there is no traffic to judge by). `trouble` is called
        again and again meanwhile."""
        assert self.links is not None
        before, began = self.links.carried, time.monotonic()
        self.start_rollout(pushed, variant, waves, max_unreachable=1.0, max_failed=1.0, auto_rollback=False)
        deadline = time.monotonic() + seconds
        told: dict[str, Any] = {}
        while told.get("phase") != "completed":
            assert time.monotonic() < deadline, f"not completed: {json.dumps(told)[:3000]}"
            trouble()
            self.look_at(random.choice(self.names))
            try:
                told = self.ask("GET", f"/v1/rollouts/{variant}")
                if told["phase"] in ("baking", "paused"):
                    self.ask("POST", f"/v1/rollouts/{variant}/promote", {"reason": "of this test"})
            except (OSError, httpx.TransportError, ValueError):
                pass  # it is dead just now
            time.sleep(0.02)
        return Figures(variant, pushed.total_bytes * self.sites, self.links.carried - before, time.monotonic() - began)

    def start_rollout(self, pushed: Pushed, variant: str, waves: list[list[str]], **settings: Any) -> None:
        """Begin one that soaks for a day."""
        body = {
            "name": variant,
            "model": MODEL,
            "variant": variant,
            "reference": pushed.reference,
            "digest": pushed.digest,
            "disk_bytes": pushed.total_bytes,
            "waves": waves,
            "settings": {"soak_s": 86_400.0, "max_unavailable": 0.5, **settings},
        }
        self.ask("POST", "/v1/rollouts", body)

    def look_at(self, name: str) -> None:
        """Whether the site's pointers lead to whole versions at this moment. Looked twice: a commit may pass by."""
        folder = self.orders[name].folder
        self.looks += 1
        complaint = _complaint(folder) and _complaint(folder)
        if complaint:
            self.complaints.append(f"{name}: {complaint}")

    def kill_agent(self, name: str) -> None:
        assert self.nursery is not None
        process = self.processes.pop(name)
        self.nursery.kill(process)
        self.nursery.wait(process)

    def restart_agent(self, name: str) -> None:
        self._start(name)

    def _start(self, *names: str) -> None:
        assert self.nursery is not None
        process = self.nursery.start(*(self.orders[name] for name in names))
        if len(names) == 1:
            self.processes[names[0]] = process

    def _documents(self) -> list[dict[str, Any]]:
        variants = [{"name": name, "quality": 0.5} for name in VARIANTS]
        documents = [
            document("Model", MODEL, {"architecture": ARCHITECTURE, "variants": variants}),
            document("PriceBook", "default", {"gpu_hour_usd": {GPU: 1.69}, "egress_usd_per_gb": 0.005}),
            document("Policy", "default", {"algorithm": "grid"}),
            document(
                "Workload",
                "chat",
                {
                    "objectives": [{"metric": "ttft_ms", "threshold_ms": 5000, "percentile": 99}],
                    "models": [MODEL],
                    "access_rtt_ms": 1,
                },
            ),
        ]
        for number, name in enumerate(self.names):
            place = {"lat": 40 + number / 100, "lon": 2.0, "country": "FR", "tier": "edge"}
            deployment: dict[str, Any] = {"variant": f"{MODEL}/base", "replicas": 1}
            if number == 0:
                deployment["endpoints"] = ["http://127.0.0.1:9"]
            cluster = {"site": name, "gpu": GPU, "gpus": 1, "deployments": [deployment]}
            documents += [document("Site", name, place), document("Cluster", f"{name}-gpus", cluster)]
        return documents


def _complaint(folder: Path) -> str:
    try:
        return complaint_of(folder)
    except FileNotFoundError:  # a commit passed by while we looked
        return "" if not folder.exists() else "gone while looked at"


class Deaths:
    """Kills mortal agents at random moments and starts them again; and the orchestrator, once."""

    def __init__(self, fleet: Fleet, seed: int, per_agent: int = 1, every_s: float = 0.3) -> None:
        self._fleet = fleet
        self._draw = random.Random(seed)
        self._left = [name for name in fleet.names[: fleet.mortals] for _ in range(per_agent)]
        self._draw.shuffle(self._left)
        self._next = 0.0
        self._every = every_s
        self._dead: list[tuple[float, str]] = []
        self._orchestrator_at: float | None = time.monotonic() + self._draw.uniform(1.0, 3.0)
        self.agents = 0
        self.orchestrators = 0

    def __call__(self) -> None:
        now = time.monotonic()
        for at, name in [dead for dead in self._dead if dead[0] <= now]:
            self._dead.remove((at, name))
            self._fleet.restart_agent(name)
        if self._left and now >= self._next:
            self._next = now + self._draw.uniform(0, 2 * self._every)
            name = self._left[-1]
            if name in self._fleet.processes:
                self._left.pop()
                self._fleet.kill_agent(name)
                self.agents += 1
                self._dead.append((now + self._draw.uniform(0.1, 1.0), name))
        if self._orchestrator_at is not None and now >= self._orchestrator_at:
            self._orchestrator_at = None
            self._fleet.kill_orchestrator()
            self.orchestrators += 1
            self._fleet.start_orchestrator()

    def end(self) -> None:
        """Start whoever is dead."""
        for _, name in self._dead:
            self._fleet.restart_agent(name)
        self._dead.clear()
