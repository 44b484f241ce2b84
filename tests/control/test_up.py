"""`gridctl up` whole: its own workers in front of engines, from the command line to the last byte."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from gridctl.control.folder import LiveFolder
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live_client import local_client
from gridctl.registry import Registry
from gridctl.resources import Cluster, ResourceKey

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@pytest.fixture
def engines() -> Iterator[list[str]]:
    """Two engines of fixed times, and their URLs."""
    command = [sys.executable, "-m", "gridctl", "engine", "mock", "--ttft-ms", "5", "--tpot-ms", "5", "-o", "json"]
    command += ["--model-name", "tiny"]
    begun: list[subprocess.Popen[str]] = []
    try:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        begun += [subprocess.Popen(command, text=True, env=_environment(), **streams) for _ in range(2)]
        yield [_url_of(process) for process in begun]
    finally:
        for process in begun:
            process.kill()
            process.communicate(timeout=PATIENCE_S)


def _url_of(process: subprocess.Popen[str]) -> str:
    """What an engine prints once it listens."""
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        line = process.stdout.readline()
        assert line, f"the engine ended: {text}"
        text += line
    return str(json.loads(text)["url"])


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def gridctl(home: GridHome) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Commands on the grid; whatever they leave running is stopped after the test."""

    def gridctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gridctl", "--store", str(home.folder), *arguments],
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=PATIENCE_S,
            check=False,
        )

    yield gridctl
    gridctl("down", "--now")


def _served_by(urls: list[str]) -> Callable[[Any], Cluster]:
    """Paris' two replicas at these addresses; Oslo has none."""

    def change(cluster: Any) -> Cluster:
        spec = cluster.spec
        if cluster.name != "paris-gpu":
            return msgspec.structs.replace(cluster, spec=msgspec.structs.replace(spec, endpoints=()))
        (deployment,) = spec.deployments
        there = (msgspec.structs.replace(deployment, endpoints=tuple(urls), replicas=max(1, len(urls))),)
        return msgspec.structs.replace(cluster, spec=msgspec.structs.replace(spec, deployments=there))

    return change


def _stream(url: str, tokens: int) -> list[str]:
    """The data lines of one streamed answer."""
    body = {"model": "tiny", "stream": True, "max_tokens": tokens, "messages": [{"role": "user", "content": "hello"}]}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200, answer.read()
        return [line for line in answer.iter_lines() if line.startswith("data: ")]


def test_requests_are_served_through_a_change_of_the_grid_and_an_end(
    home: GridHome, gridctl: Callable[..., Any], engines: list[str], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    with Registry.open(home.database) as registry:
        for name in ("paris-gpu", "oslo-gpu"):
            registry.update(ResourceKey("Cluster", name), _served_by(engines), cause="engines")
    done = gridctl("up", "--detach", "--listen", "127.0.0.1:0", "--record", str(tmp_path / "rec"), "--log-requests")
    assert done.returncode == 0, done.stderr
    url = done.stdout.strip()
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "tiny", "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}]},
        headers={"x-request-id": "first", "authorization": "Bearer anything"},
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 200
    assert answer.headers["x-gridctl-site"] == "fr-paris-01"
    with local_client(home) as client:
        assert client.request("first")["outcome"] == "completed"
        decision = client.route_test(_question())
        assert {one.cluster for one in decision.candidates} == {"paris-gpu"}

        # Streams of half a second each, while the grid loses an engine and gets it back.
        answers: list[list[str]] = []
        streams = [threading.Thread(target=lambda: answers.append(_stream(url, 100))) for _ in range(6)]
        for stream in streams:
            stream.start()
        for urls in (engines[:1], engines):
            before = client.status().generation
            with Registry.open(home.database) as registry:
                registry.update(ResourceKey("Cluster", "paris-gpu"), _served_by(urls), cause="change")
            wait_until(lambda before=before: client.status().generation > before)
        for stream in streams:
            stream.join(timeout=PATIENCE_S)
        assert len(answers) == 6
        assert all(lines[-1] == "data: [DONE]" for lines in answers)
        assert sum('"content"' in line for line in answers[0]) >= 100
        wait_until(lambda: client.status().workers[0].generation == client.status().generation)

    last: list[list[str]] = []
    under_way = threading.Thread(target=lambda: last.append(_stream(url, 100)))
    under_way.start()
    with local_client(home) as client:
        wait_until(lambda: client.status().workers[0].in_flight == 1)
    stopped = gridctl("down")
    assert stopped.returncode == 0, stopped.stderr
    under_way.join(timeout=PATIENCE_S)
    assert last[0][-1] == "data: [DONE]"

    (rows,) = (tmp_path / "rec").rglob("*.jsonl")
    assert len(rows.read_text().splitlines()) == 8
    log = (home.database.parent / "live/log/up.log").read_text()
    assert log.count('"outcome":"completed"') == 8
    assert "hello" not in log
    assert gridctl("status").returncode == 5


def _question() -> Any:
    from gridctl.control.messages import RouteTestMessage

    return RouteTestMessage(workload="chat", origin="fr-paris-01", model="tiny")


def test_a_detached_start_that_fails_says_what_the_process_said(home: GridHome, gridctl: Callable[..., Any]) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = gridctl("up", "--detach", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 3
    assert done.stdout == ""
    assert f"port {port} is taken" in done.stderr


def test_a_key_is_wanted_where_it_is_required_and_refused_once_revoked(
    home: GridHome, gridctl: Callable[..., Any], engines: list[str], wait_until: Callable[..., Any]
) -> None:
    with Registry.open(home.database) as registry:
        for name in ("paris-gpu", "oslo-gpu"):
            registry.update(ResourceKey("Cluster", name), _served_by(engines), cause="engines")
    token = gridctl("token", "create", "shop").stdout.strip()
    done = gridctl("up", "--detach", "--listen", "127.0.0.1:0", "--require-key")
    assert done.returncode == 0, done.stderr
    url = f"{done.stdout.strip()}/v1/models"
    assert httpx.get(url).status_code == 401
    headers = {"authorization": f"Bearer {token}"}
    assert httpx.get(url, headers=headers).status_code == 200
    assert gridctl("token", "revoke", "shop").returncode == 0
    wait_until(lambda: httpx.get(url, headers=headers).status_code == 401)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    certificate, key = folder / f"{name}.cert", folder / f"{name}.key"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return certificate, key


def test_gateway_and_admin_api_show_a_certificate_that_was_renewed_without_a_restart(
    home: GridHome, gridctl: Callable[..., Any], tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    used, renewed = _certificate(tmp_path, "used"), _certificate(tmp_path, "renewed")
    tls = ("--tls-cert", str(used[0]), "--tls-key", str(used[1]))
    done = gridctl("up", "--detach", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", *tls)
    assert done.returncode == 0, done.stderr
    found = LiveFolder(home.database).running()
    assert found is not None
    assert found.admin_url is not None
    places = [("127.0.0.1", int(url.rsplit(":", 1)[1])) for url in (found.data_url, found.admin_url)]
    before, after = (pair[0].read_text() for pair in (used, renewed))
    assert [ssl.get_server_certificate(place, timeout=10) for place in places] == [before, before]
    for new, old in zip(renewed, used, strict=True):
        shutil.copy(new, old)
    for place in places:
        wait_until(lambda place=place: ssl.get_server_certificate(place, timeout=10) == after)


def test_a_key_with_a_quota_is_refused_beyond_it_in_openai_s_shape_and_the_worst_requests_are_told(
    home: GridHome, gridctl: Callable[..., Any], engines: list[str]
) -> None:
    with Registry.open(home.database) as registry:
        for name in ("paris-gpu", "oslo-gpu"):
            registry.update(ResourceKey("Cluster", name), _served_by(engines), cause="engines")
    made = gridctl("token", "create", "trial", "--requests-per-s", "0.05", "-o", "json")
    item = json.loads(made.stdout)
    assert (item["requests_per_s"], item["tokens_per_minute"]) == (0.05, None)
    plain = gridctl("token", "create", "shop").stdout.strip()
    done = gridctl("up", "--detach", "--listen", "127.0.0.1:0", "--require-key", "--workers", "2")
    assert done.returncode == 0, done.stderr
    url = f"{done.stdout.strip()}/v1/chat/completions"
    body = {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
    limited = {"authorization": f"Bearer {item['token']}"}
    # Each on a connection of its own, so that both workers see some.
    answers = [httpx.post(url, json=body, headers=limited) for _ in range(6)]
    assert sorted(answer.status_code for answer in answers) == [200, 429, 429, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 40
    free = [httpx.post(url, json=body, headers={"authorization": f"Bearer {plain}"}) for _ in range(4)]
    assert [answer.status_code for answer in free] == [200] * 4
    served = {answer.headers["x-request-id"] for answer in (*answers, *free) if answer.status_code == 200}
    site = json.loads(gridctl("site", "inspect", "fr-paris-01", "-o", "json").stdout)
    assert {one["request_id"] for one in site["worst"]} == served
    (routed,) = site["routed"]
    assert (routed["recent"], routed["because"]) == (5, {"cheapest": 5})
    assert routed["origins"] == {"": 5}
    text = gridctl("site", "inspect", "fr-paris-01").stdout
    assert "chat: 5 came here lately, 100" in text
    assert "from nowhere known (5)" in " ".join(text.split())
    with local_client(home) as client:
        counted = [line for line in client.metrics().splitlines() if 'reason="quota"' in line]
    assert any('outcome="refused"' in line and line.endswith(" 5") for line in counted), counted
