"""The voice-burst experiment: four GPUs in one place or in four, the same calls, the same router.

Runs gridctl commands in one process, so that the engine loads once, and prints three tables. Every number is a field of
`gridctl tokenomics -o json`. Takes no options; needs gridctl and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from gridctl.cli.main import main

CITIES = {"a": (40.71, -74.01), "b": (38.91, -77.04), "c": (39.95, -75.17), "d": (42.36, -71.06)}
EVEN = (25, 25, 25, 25)
SKEWS = (EVEN, (40, 20, 20, 20), (55, 15, 15, 15))
HUB_RTT_MS = (40, 80, 120, 160)
OVERHEAD_MS = (200, 250, 300)
CALM_RPS, BURST_RPS = 60, 120


class Result(NamedTuple):
    """What one replay came to."""

    good_share: float
    tok_s: float
    usd_per_mtok: float | None

    @property
    def text(self) -> str:
        dollars = "-" if self.usd_per_mtok is None else f"{self.usd_per_mtok:.2f}"
        return f"{self.good_share:7.1%} {self.tok_s:8,.0f} {dollars:>6}"


def gridctl(*arguments: str) -> str:
    """Run one command; return what it prints."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main(["--quiet", *arguments])
    except SystemExit as done:
        if done.code:
            sys.exit(done.code)
    return out.getvalue()


class Experiment:
    """One grid, rearranged between replays."""

    def __init__(self, folder: Path) -> None:
        self.grid = folder / "voice"
        self.store = ("--store", str(self.grid))
        gridctl("init", str(self.grid), "--example", "voice-burst")
        gridctl("apply", "-f", str(self.grid), *self.store)
        self.voice = json.loads(gridctl("workload", "get", "voice-agent", "-o", "json", *self.store))

    def replay(self, rps: int, *, skew: tuple[int, ...] = EVEN, hub_rtt_ms: int = 0, policy: str = "default") -> Result:
        """All GPUs at the hub when it has a round trip, else one in each city."""
        moved = [cluster(city, "hub" if hub_rtt_ms else f"city-{city}") for city in CITIES]
        self.apply(moved + [link(city, hub_rtt_ms) for city in CITIES if hub_rtt_ms])
        trace = self.trace(rps, skew)
        run = ("--name", "run", "--replace", "--no-centralized", "--policy", policy)
        gridctl("replay", "run", trace, *run, *self.store)
        total = json.loads(gridctl("tokenomics", "run", "-o", "json", *self.store))["total"]
        return Result(total["attainment"], total["goodput_tok_s"], total["usd_per_mtok_goodput"])

    def trace(self, rps: int, skew: tuple[int, ...]) -> str:
        """A minute of calls, from the cities in proportion to `skew`; arrivals and lengths do not depend on it."""
        path = self.grid / f"calls-{rps}-{'-'.join(map(str, skew))}.jsonl.gz"
        if not path.exists():
            self.apply([site(city, share) for city, share in zip(CITIES, skew, strict=True)])
            shape = ("--duration", "60s", "--rate", str(rps), "--seed", "7")
            gridctl("trace", "generate", str(path), *shape, *self.store)
        return str(path)

    def overhead(self, milliseconds: int) -> None:
        """Change what speech recognition, synthesis and end-of-speech detection leave of the 500 ms."""
        self.voice["spec"]["overhead_ms"] = milliseconds
        self.apply([{key: self.voice[key] for key in ("apiVersion", "kind", "metadata", "spec")}])

    def apply(self, documents: list[dict[str, object]]) -> None:
        path = self.grid / "arrangement.json"
        path.write_text(json.dumps(documents), encoding="utf-8")
        gridctl("apply", "-f", str(path), *self.store)


def resource(kind: str, name: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": "gridctl/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def cluster(city: str, at: str) -> dict[str, object]:
    deployments = [{"variant": "llama-3.1-8b/fp8"}]
    return resource("Cluster", f"voice-{city}", site=at, gpu="rtx-pro-6000", gpus=1, deployments=deployments)


def link(city: str, rtt_ms: int) -> dict[str, object]:
    return resource("Link", f"{city}-hub", source=f"city-{city}", target="hub", rtt_ms=rtt_ms)


def site(city: str, share: int) -> dict[str, object]:
    lat, lon = CITIES[city]
    return resource("Site", f"city-{city}", lat=lat, lon=lon, country="US", tier="edge", population=share)


def compare(rtt_ms: int, hub: Result, grid: Result) -> None:
    gain = f"{grid.tok_s / hub.tok_s - 1:+.1%}" if hub.tok_s else "-"
    saving = f"{1 - grid.usd_per_mtok / hub.usd_per_mtok:.1%}" if hub.usd_per_mtok and grid.usd_per_mtok else "-"
    print(f"{rtt_ms:5} ms  {hub.text}  {grid.text}  {gain:>7}  {saving:>6}")


def against_the_hub(experiment: Experiment, rps: int, overhead_ms: int) -> None:
    """Even demand: what four places gain over one."""
    experiment.overhead(overhead_ms)
    grid = experiment.replay(rps)
    print(f"{rps} calls/s, {overhead_ms} ms of the 500 taken by speech recognition, synthesis and detection")
    print(" hub RTT  hub good    tok/s    $/M  grid good   tok/s    $/M     gain  saving")
    for rtt_ms in HUB_RTT_MS:
        compare(rtt_ms, experiment.replay(rps, hub_rtt_ms=rtt_ms), grid)
    print()


def spill_over(experiment: Experiment) -> None:
    """Skewed demand: what is lost when every city serves its own, and what spill-over wins back."""
    experiment.overhead(250)
    print(f"{BURST_RPS} calls/s, one GPU in each city: good tokens a second, and their share of the top right figure")
    print(" demand       nearest, never refuses  nearest GPU only  any GPU (spill-over)")
    balanced = experiment.replay(BURST_RPS).tok_s
    for skew in SKEWS:
        cells = [experiment.replay(BURST_RPS, skew=skew, policy=policy) for policy in ("nearest", "local", "default")]
        texts = [f"{cell.tok_s:,.0f} {cell.tok_s / balanced:6.1%}" for cell in cells]
        print(f" {'/'.join(map(str, skew))}{texts[0]:>24}{texts[1]:>18}{texts[2]:>22}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="voice-burst-") as scratch:
        os.environ["XDG_CONFIG_HOME"] = scratch  # the grid is temporary: it must not become anybody's context
        voice_burst = Experiment(Path(scratch))
        against_the_hub(voice_burst, CALM_RPS, 250)
        for milliseconds in OVERHEAD_MS:
            against_the_hub(voice_burst, BURST_RPS, milliseconds)
        spill_over(voice_burst)
