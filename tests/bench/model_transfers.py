"""What models cost on the wire and in the processor: deltas of a 200 MB base, re-derivation, and a push of 1 GB.

    python tests/bench/model_transfers.py [--oras PYTHON] [--megabytes 200] [--rounds 3] [--only deltas|push]

Debian's docker-registry on loopback. Each variant is packaged, pushed with `--base` and pulled by `gridctl` beside a
site's copy of the base; what moved comes from the pull's own row, and the files pulled must be the files pushed.
Encoding and applying run alone in a process each: CPU seconds (the least of three) and peak resident memory are that
process's.
W4A16 files keep the embedding as it was, in bf16: the fine-tune behind that row left it alone, so the row is of
quantised tensors. Peak memory is the kernel's VmHWM, which no parent's size gets into.
The push runs alternately with `oras` (a Python that has it), a fresh registry for each.
Fails where a share is above its goal: 7 % LoRA merged, 30 % low-rate fine-tune, 1 % W4A16 over W4A16, 0.1 % resharded
and re-derived.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"}
GOALS = {"lora": 7.0, "tuned": 30.0, "w4a16 of tuned": 1.0, "resharded": 0.1, "fp8 re-derived": 0.1}

PEAK = """
def peak():  # MB resident at most, of this process alone
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
"""
ENCODE = """
import json, shutil, sys, time
from pathlib import Path
from gridctl.artifacts.delta import apply, encode
from gridctl.artifacts.package import build
base, target, delta, out = (Path(word) for word in sys.argv[2:])
one, other = build(base), build(target)
expected = {file.name: (file.size, file.digest) for file in other.files}
spent = []
for _ in range(3):  # the first of them compiles or loads what is compiled
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    began = time.process_time()
    encode(one, other, delta) if sys.argv[1] == "encode" else apply(delta, one, expected, out)
    spent.append(time.process_time() - began)
print(json.dumps([sum(file.size for file in other.files) / 1e6 / min(spent), peak()]))
"""
PUSH_OURS = """
import json, sys, time
from pathlib import Path
from gridctl.artifacts.package import build
from gridctl.artifacts.push import push
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient
began = time.perf_counter()
package = build(Path(sys.argv[1]))
with RegistryClient(parse_reference(sys.argv[2])) as client:
    push(package, client)
seconds = time.perf_counter() - began
size = sum(file.size for file in package.files)
print(json.dumps([size / 1e6 / seconds, peak()]))
"""
PUSH_ORAS = """
import json, os, sys, time
import oras.client
os.chdir(sys.argv[1])
names = sorted(name for name in os.listdir(".") if not name.startswith("."))
began = time.perf_counter()
client = oras.client.OrasClient(insecure=True)
client.push(target=sys.argv[2], files=names, disable_path_validation=True)
seconds = time.perf_counter() - began
size = sum(os.path.getsize(name) for name in names)
print(json.dumps([size / 1e6 / seconds, peak()]), file=sys.stderr)
"""


def sibling(name: str) -> ModuleType:
    """A module of the artefacts' tests: they hold the registry and the recipes of the weights."""
    place = REPOSITORY / "tests/artifacts" / f"{name}.py"
    found = importlib.util.spec_from_file_location(f"artifacts_{name}", place)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


WORLD = sibling("conftest")
WEIGHTS = sibling("test_delta")


@contextmanager
def running_registry(root: Path) -> Iterator[str]:
    root.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    registry = WORLD.Registry(root, port)
    registry.start()
    try:
        yield registry.host
    finally:
        registry.stop()


def gridctl(*words: str, at: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gridctl", *words], cwd=at, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"gridctl {' '.join(words)}: {done.stderr}")
    return done.stdout


def alone(code: str, *words: str, python: str = sys.executable) -> tuple[float, float]:
    """The two figures that a process of its own says on its last line."""
    done = subprocess.run(
        [python, "-c", PEAK + code, *words], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    said = (done.stdout if python == sys.executable else done.stderr).strip().splitlines()[-1]
    first, second = json.loads(said)
    return first, second


def drawn(megabytes: int) -> dict[str, np.ndarray]:
    """float32 weights by module, Gaussian rows of different scales; `megabytes` of them as bf16, roughly."""
    draw = np.random.default_rng(42)
    hidden: int = WEIGHTS.HIDDEN
    held = {"model.embed_tokens": draw.standard_normal((8192, hidden), np.float32) * np.float32(0.02)}
    layer_bytes = 2 * sum(rows * columns for rows, columns in WEIGHTS.SHAPES.values())
    for layer in range(max(1, round((megabytes * 1e6 - 2 * 8192 * hidden) / layer_bytes))):
        for name, shape in WEIGHTS.SHAPES.items():
            scale = draw.uniform(0.005, 0.04, (shape[0], 1)).astype(np.float32)
            held[f"model.layers.{layer}.{name}"] = draw.standard_normal(shape, np.float32) * scale
    return held


def merged(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A LoRA of rank 16 merged into q and v."""
    draw = np.random.default_rng(1)
    result = dict(weights)
    for name, numbers in weights.items():
        if name.endswith(("q_proj", "v_proj")):
            down = draw.standard_normal((16, numbers.shape[1]), np.float32) * np.float32(0.01)
            up = draw.standard_normal((numbers.shape[0], 16), np.float32) * np.float32(0.01)
            result[name] = numbers + 2 * up @ down
    return result


def write_model(folder: Path, weights: dict[str, np.ndarray], shards: int = 2, *, reverse: bool = False) -> None:
    names = sorted(weights, reverse=reverse)
    for shard in range(shards):
        held = {
            f"{name}.weight": ("BF16", weights[name].shape, WEIGHTS.bits(weights[name]))
            for name in names[shard::shards]
        }
        WORLD.write_safetensors(folder / f"model-{shard + 1:05}-of-{shards:05}.safetensors", held)
    layers = len({name.split(".")[2] for name in names if ".layers." in name})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": layers}))


def deltas(root: Path, host: str, megabytes: int) -> bool:
    weights = drawn(megabytes)
    write_model(root / "base", weights)
    write_model(root / "lora", merged(weights))
    noisy = {name: WEIGHTS.tuned(numbers, 0.001, index) for index, (name, numbers) in enumerate(weights.items())}
    write_model(root / "tuned", noisy)
    noisy["model.embed_tokens"] = weights["model.embed_tokens"]
    write_model(root / "tuned-layers", noisy)
    write_model(root / "resharded", weights, shards=3, reverse=True)
    del weights, noisy
    for source, out, scheme in (
        ("base", "fp8", "fp8"),
        ("base", "w4", "w4a16"),
        ("tuned-layers", "w4-tuned", "w4a16"),
    ):
        gridctl("model", "optimize", source, "--out", out, "--scheme", scheme, at=root)
    pairs = [
        ("lora", "base", "lora"),
        ("tuned", "base", "tuned"),
        ("resharded", "base", "resharded"),
        ("w4a16 of tuned", "w4", "w4-tuned"),
        ("fp8 re-derived", "base", "fp8"),
    ]
    for name in ("base", "w4"):
        gridctl("model", "package", name, "--out", f"{name}.package", at=root)
        gridctl("model", "push", f"{host}/m:{name}", "--from", f"{name}.package", at=root)
        gridctl("model", "pull", f"{host}/m:{name}", "--out", f"site/{name}", at=root)
    met = True
    print(
        f"{'variant':16} {'MB':>7} {'moved MB':>9} {'share %':>8} {'goal %':>7} {'encode':>7} {'apply':>7}"
        f" {'RSS MB':>11}"
    )
    print(f"{'':16} {'':7} {'':9} {'':8} {'':7} {'MB/CPU-s':>15} {'':>11}")
    for name, base, target in pairs:
        gridctl("model", "package", target, "--out", f"{target}.p", "--base", f"{base}.package", at=root)
        gridctl(
            "model", "push", f"{host}/m:{target}", "--from", f"{target}.p", "--base", f"{base}.package", at=root
        )  # fmt: skip
        words = ("--out", f"site/{target}", "--base", f"site/{base}", "-o", "json")
        row = json.loads(gridctl("model", "pull", f"{host}/m:{target}", *words, at=root))
        for file in (root / target).glob("*.safetensors"):
            assert file.read_bytes() == (root / "site" / target / file.name).read_bytes(), file
        places = (base, target, f"{target}.delta", f"{target}.out")
        encode, encode_rss = alone(ENCODE, "encode", *(str(root / place) for place in places))
        apply, apply_rss = alone(ENCODE, "apply", *(str(root / place) for place in places))
        share = 100 * row["moved_bytes"] / row["bytes"]
        met &= share <= GOALS[name]
        print(
            f"{name:16} {row['bytes'] / 1e6:7.1f} {row['moved_bytes'] / 1e6:9.3f} {share:8.4f} {GOALS[name]:7g}"
            f" {encode:7.0f} {apply:7.0f} {encode_rss:5.0f} {apply_rss:5.0f}",
            flush=True,
        )
    return met


def pushes(root: Path, rounds: int, oras: str | None) -> None:
    source = root / "gigabyte"
    source.mkdir()
    size = 250_000_000
    for index in range(4):
        text = json.dumps({f"t{index}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        with (source / f"model-{index}.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _ in range(10):
                file.write(os.urandom(size // 10))
    (source / "config.json").write_text("{}")
    figures: dict[str, list[tuple[float, float]]] = {}
    for round_ in range(rounds):
        ways = [("gridctl", sys.executable, PUSH_OURS)] + ([("oras", oras, PUSH_ORAS)] if oras else [])
        for name, python, code in ways if round_ % 2 == 0 else reversed(ways):
            with running_registry(root / f"{name}-{round_}") as host:
                figures.setdefault(name, []).append(alone(code, str(source), f"{host}/gigabyte:v1", python=python))
            subprocess.run(["rm", "-rf", str(root / f"{name}-{round_}")], check=True)
    for name, seen in figures.items():
        speeds = sorted(speed for speed, _ in seen)
        print(
            f"push of 1 GB, {name:8} {statistics.median(speeds):6.0f} MB/s ({speeds[0]:.0f} to {speeds[-1]:.0f}),"
            f" hashing included; {max(rss for _, rss in seen):.0f} MB resident"
        )
    if "oras" in figures:
        ratios = sorted(ours[0] / theirs[0] for ours, theirs in zip(figures["gridctl"], figures["oras"], strict=True))
        print(f"of oras' speed: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); goal 0.8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--oras", help="a Python that has oras")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("deltas", "push"))
    given = parser.parse_args()
    began = time.monotonic()
    met = True
    with tempfile.TemporaryDirectory(prefix="gridctl-transfers-") as folder:
        root = Path(folder)
        if given.only != "push":
            with running_registry(root / "registry") as host:
                met = deltas(root, host, given.megabytes)
        if given.only != "deltas":
            pushes(root, given.rounds, given.oras)
    print(f"{time.monotonic() - began:.0f} s")
    raise SystemExit(0 if met else "a share is above its goal")


if __name__ == "__main__":
    main()
