"""Plays the example on free ports, and leaves nothing running: an engine, the grid with its cache, a client, a purge.

python play.py GRID      # GRID: a folder that `gridctl init` made; it is applied, served and stopped again
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
GRIDCTL = shutil.which("gridctl") or "gridctl"
QUESTION = "How do I return a parcel?"


def gridctl(*arguments: str, stdin: str = "") -> str:
    done = subprocess.run([GRIDCTL, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        sys.exit(f"gridctl {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def ask(url: str, text: str, **headers: str) -> str:
    """What the cache did with a question: the beginning of the answer's x-gridctl-cache."""
    body = json.dumps({"model": "llama-3.1-8b", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"content-type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return "; ".join(answer.headers["x-gridctl-cache"].split("; ")[:2])


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} GRID   (the folder that gridctl init GRID --example cache made)")
    os.environ["GRIDCTL_STORE"] = os.path.abspath(sys.argv[1])
    manifest = (HERE / "grid.yaml").read_text(encoding="utf-8")
    gridctl("apply", "-f", "-", stdin=manifest)
    engine = subprocess.Popen(
        [GRIDCTL, "-q", "engine", "mock", "--cluster", "paris", "-o", "jsonl"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert engine.stdout is not None
        url = json.loads(engine.stdout.readline())["url"]
        gridctl("apply", "-f", "-", stdin=manifest.replace("http://127.0.0.1:8001", url))
        said = re.search(r"http://[0-9.]+:[0-9]+", gridctl("up", "--detach", "--listen", "127.0.0.1:0", "-o", "json"))
        assert said is not None
        play(said[0])
    finally:
        subprocess.run([GRIDCTL, "-q", "down"], capture_output=True, check=False, timeout=120)
        engine.terminate()
        engine.wait(20)


def play(url: str) -> None:
    """What the clients and the operator do."""
    deadline = time.monotonic() + 60
    while json.loads(gridctl("cache", "status", "-o", "json"))["state"] != "up" and time.monotonic() < deadline:
        time.sleep(0.2)
    print("asked:", ask(url, QUESTION).partition(";")[0])
    while (said := ask(url, "how do I  return a parcel?")).startswith("miss") and time.monotonic() < deadline:
        time.sleep(0.1)  # an answer is kept a moment after it was given
    print("asked again:", said)
    print("not to be kept:", ask(url, QUESTION, **{"cache-control": "no-store"}))
    print("of today:", ask(url, "What is the weather today?"))
    purged = json.loads(
        gridctl("cache", "purge", "--workload", "helpdesk", "--reason", "a new price list", "-o", "json")
    )
    print("forgotten:", purged["entries"], "answer" if purged["entries"] == 1 else "answers")
    print("asked after that:", ask(url, QUESTION).partition(";")[0])


if __name__ == "__main__":
    main()
