"""The gateways that the bench compares, each started in front of the same eight mock engines and pinned to one core.

Each side runs as its own documentation says, one worker, logging of requests off where that is a switch; nothing of
what it does by default is turned off.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from loopback.tools import BenchError, Engines, Process, free_port

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = "bench"
CITIES = (
    ("fr-paris-01", 48.86, 2.35, "FR"),
    ("de-frankfurt-01", 50.11, 8.68, "DE"),
    ("nl-amsterdam-01", 52.37, 4.90, "NL"),
    ("gb-london-01", 51.51, -0.13, "GB"),
    ("es-madrid-01", 40.42, -3.70, "ES"),
    ("it-milan-01", 45.46, 9.19, "IT"),
    ("pl-warsaw-01", 52.23, 21.01, "PL"),
    ("se-stockholm-01", 59.33, 18.06, "SE"),
)


@dataclass
class Side:
    """A gateway under test: where it listens and what it is. A slow one gets longer steps, to finish anything."""

    name: str
    port: int
    process: Process | None
    bearer: str | None = None
    is_slow: bool = False

    def head(self, body: bytes) -> bytes:
        """A request of one chat completion, for the steps that speak to the socket themselves."""
        key = f"authorization: Bearer {self.bearer}\r\n" if self.bearer else ""
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n{key}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def wait_until_it_answers(self, seconds: float) -> None:
        """Until a chat completion comes back with status 200."""
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16})
        deadline, said = time.monotonic() + seconds, "nothing"
        while time.monotonic() < deadline:
            if self.process is not None and not self.process.is_alive:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                    connection.sendall(self.head(body.encode()))
                    said = connection.recv(4096).decode(errors="replace")
            except OSError as error:
                said = str(error)
            if said.startswith("HTTP/1.1 200"):
                return
            time.sleep(0.1)
        log = self.process.log.read_text(errors="replace")[-2000:] if self.process else ""
        raise BenchError(f"{self.name} does not answer: {said[:500]}\n{log}")


def start_gridctl(folder: Path, engines: Engines, core: int, compiled: str | None = None) -> Side:
    """`gridctl up`, one worker: eight clusters at eight sites, metrics, SLA accounting and recording on.

    This tree's, or the one with a compiled data path that is installed for the Python `compiled`."""
    folder = folder / ("compiled" if compiled else "plain")
    grid = folder / "grid"
    grid.mkdir(parents=True)
    write_grid(grid / "grid.yaml", engines.urls())
    python, store = [compiled or sys.executable, "-P", "-m", "gridctl"], str(folder / "store")
    environment = {"XDG_CONFIG_HOME": str(folder / "config"), "PYTHONPATH": "" if compiled else str(REPOSITORY)}
    environment["PYTHONSAFEPATH"] = "1"  # of two trees, the one that is meant
    for words in (["init", store], ["--store", store, "apply", "-f", str(grid)]):
        done = Process.start([*python, *words], core, folder / "apply.log", environment)
        if done.popen.wait(60):
            raise BenchError(f"gridctl {words[0]} failed:\n{done.log.read_text()}")
    port = free_port()
    words = ["--store", store, "up", "--listen", f"127.0.0.1:{port}", "--workers", "1"]
    words += ["--record", str(folder / "recording")]
    process = Process.start([*python, *words], core, folder / "gridctl.log", environment)
    return _answering(Side("gridctl compiled" if compiled else "gridctl", port, process), 90)


def start_sglang(folder: Path, engines: Engines, core: int, python: str, policy: str) -> Side:
    """SGLang's router with one of its policies; `cache_aware` is its default."""
    port = free_port()
    command = [python, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--policy", policy, "--log-level", "error", "--prometheus-port", str(free_port())]
    process = Process.start([*command, "--worker-urls", *engines.urls()], core, folder / f"sglang-{policy}.log")
    return _answering(Side(f"sglang-router {policy}", port, process), 90)


def start_litellm(folder: Path, engines: Engines, core: int, python: str) -> Side:
    """LiteLLM's proxy with eight deployments of one model, its default routing."""
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    parameters = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in engines.urls()
    ]
    config = folder / "litellm.yaml"  # JSON is YAML
    config.write_text(json.dumps({"model_list": parameters, "general_settings": {"master_key": key}}))
    command = [
        str(Path(python).parent / "litellm"),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    process = Process.start([*command, "--telemetry", "False"], core, folder / "litellm.log", environment)
    return _answering(Side("LiteLLM proxy", port, process, bearer=key, is_slow=True), 120)


def _answering(side: Side, seconds: float) -> Side:
    """The side once it answers; one that does not is ended."""
    try:
        side.wait_until_it_answers(seconds)
    except BaseException:
        if side.process is not None:
            side.process.stop()
        raise
    return side


def write_grid(path: Path, urls: list[str]) -> None:
    """Manifests of one model served by one cluster at each of as many sites as there are engines."""
    model: dict[str, object] = {
        "architecture": {
            "layers": 16,
            "hidden_size": 2048,
            "heads": 32,
            "kv_heads": 8,
            "head_dim": 64,
            "intermediate_size": 8192,
            "vocab_size": 128256,
            "tied_embeddings": True,
        },
        "variants": [{"name": "bf16", "dtype": "bf16", "quality": 0.5}],
    }
    objectives = [
        {"metric": "ttft_ms", "threshold_ms": 1000, "percentile": 99},
        {"metric": "e2e_ms", "threshold_ms": 10000, "percentile": 99},
    ]
    documents = [
        _document("Model", MODEL, model),
        _document("PriceBook", "default", {"gpu_hour_usd": {"rtx-pro-6000": 1.69}, "egress_usd_per_gb": 0.005}),
        _document("Policy", "default", {"algorithm": "grid"}),
        _document("Workload", "chat", {"objectives": objectives, "models": [MODEL], "access_rtt_ms": 5}),
    ]
    for (site, lat, lon, country), url in zip(CITIES, urls, strict=True):
        documents.append(_document("Site", site, {"lat": lat, "lon": lon, "country": country, "tier": "edge"}))
        deployment: dict[str, object] = {"variant": f"{MODEL}/bf16", "endpoints": [url]}
        spec: dict[str, object] = {"site": site, "gpu": "rtx-pro-6000", "gpus": 1, "deployments": [deployment]}
        documents.append(_document("Cluster", f"{site}-gpus", spec))
    path.write_text("---\n".join(json.dumps(document) + "\n" for document in documents))


def _document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "gridctl/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
