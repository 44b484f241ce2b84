"""Plays the whole example on free ports, and leaves nothing running: two engines, the grid in front, a client, a load.

    python play.py GRID      # GRID: a folder that `gridctl init` made; it is applied, served and stopped again

What it does is in the README, command by command; here every port is a free one, so that it runs anywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GRIDCTL = shutil.which("gridctl") or "gridctl"


def gridctl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run([GRIDCTL, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        sys.exit(f"gridctl {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def engine(cluster: str) -> tuple[subprocess.Popen[str], str]:
    """A mock engine of a cluster, and where it listens."""
    process = subprocess.Popen(
        [GRIDCTL, "-q", "engine", "mock", "--cluster", cluster, "-o", "jsonl"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


def mean_tpot(run: str) -> float:
    """Milliseconds a token, over the requests of a run that were answered."""
    rows = [json.loads(line) for line in gridctl("replay", "requests", run, "-o", "jsonl").splitlines()]
    times = [row["tpot_ms"] for row in rows if row["tpot_ms"] is not None]
    return sum(times) / len(times)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} GRID   (the folder that gridctl init GRID --example live made)")
    os.environ["GRIDCTL_STORE"] = os.path.abspath(sys.argv[1])
    manifest = (HERE / "grid.yaml").read_text(encoding="utf-8")
    gridctl("apply", "-f", "-", stdin=manifest)
    engines = []
    try:
        for cluster, port in (("paris", 8001), ("frankfurt", 8002)):
            process, url = engine(cluster)
            engines.append(process)
            manifest = manifest.replace(f"http://127.0.0.1:{port}", url)
        gridctl("apply", "-f", "-", stdin=manifest)
        said = gridctl("up", "--detach", "--listen", "127.0.0.1:0", "-o", "json")
        url = re.search(r"http://[0-9.]+:[0-9]+", said)
        assert url is not None, said
        serve(url[0])
    finally:
        subprocess.run([GRIDCTL, "-q", "down"], capture_output=True, check=False, timeout=120)
        for process in engines:
            process.terminate()
            process.wait(20)


def serve(url: str) -> None:
    """What a user of the grid does."""
    asked = subprocess.run(
        [sys.executable, HERE / "client.py", url], capture_output=True, text=True, check=True, timeout=120
    )
    print("asked one question:", len(asked.stdout.splitlines()[0].split()), "words came back")
    trace = str(HERE / "trace.jsonl")
    gridctl("replay", "run", trace, "--name", "twin", "--no-centralized", "--replace")
    # A machine with busy processors sends late, which voids a run (exit code 3) and keeps it.
    arguments = ["replay", "run", trace, "--live", url, "--name", "live", "--replace"]
    subprocess.run([GRIDCTL, *arguments], capture_output=True, check=False, timeout=120)
    info = json.loads(gridctl("run", "get", "live", "-o", "json"))
    print(f"{info['completed']} of {info['requests']} requests answered")
    twin, live = mean_tpot("twin"), mean_tpot("live")
    print(
        "time per token as the twin says:", "yes" if abs(live / twin - 1) < 0.15 else f"no, {twin:.1f} and {live:.1f}"
    )


if __name__ == "__main__":
    main()
