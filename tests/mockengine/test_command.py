"""`gridctl engine mock`: what it refuses before it listens, what it prints when it does, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gridctl.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = "rtx-pro-6000.llama-3.1-8b.bf16.tp1"


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `gridctl engine mock …`, in this process."""
    with pytest.raises(SystemExit) as left:
        main(["engine", "mock", *arguments])
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "no engine is described"),
        (("--profile", "nope"), 4, "there is no profile nope"),
        (("--profile", PROFILE, "--gpu", "l4"), 2, "each describe an engine"),
        (("--gpu", "l4"), 2, "--gpu needs a model"),
        (("--gpu", "l4", "--model", "llama-3.1-70b"), 3, "does not fit"),
        (("--gpu", "l4", "--model", "llama-3.1-8b/fp7"), 2, "no format"),
        (("--ttft-ms", "-1"), 2, "outside 0 ms to an hour"),
        (("--ttft-ms", "nan"), 2, "outside 0 ms to an hour"),
        (("--tpot-ms", "1", "--profile", PROFILE), 2, "has no twin"),
        (("--ttft-ms", "1", "--speed", "0"), 2, "cannot pass"),
        (("--ttft-ms", "1", "--listen", "here"), 2, "no address"),
        (("--ttft-ms", "1", "--listen", "unix:/nonexistent/x"), 3, "cannot listen"),
        (("--ttft-ms", "1", "--faults", "boom"), 2, "no fault boom"),
        (("--ttft-ms", "1", "--api-key-env", "GRIDCTL_TEST_UNSET"), 3, "is not set"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_fix(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended, out, err = command(capsys, *arguments)
    assert (ended, out) == (code, "")
    assert said in err
    assert "fix:" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--profile", PROFILE), f"llama-3.1-8b (profile {PROFILE})"),
        (("--gpu", "rtx-pro-6000", "--model", "llama-3.1-8b"), f"llama-3.1-8b (profile {PROFILE})"),
        (("--gpu", "h100-sxm", "--model", "llama-3.1-70b/fp8", "--tensor-parallel", "2"), "a roofline, not measured"),
        (("--ttft-ms", "5", "--model-name", "tiny"), "tiny (5 ms to the first token, 0 ms a token)"),
    ],
)
def test_a_dry_run_says_what_would_be_served(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = command(capsys, *arguments, "--dry-run")
    assert (code, out) == (0, "")
    assert said in err


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, out, err = command(capsys, "--ttft-ms", "1", "--port", port)
    assert (code, out) == (3, "")
    assert port in err


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A mock engine in a process of its own, and what it said when it listened."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    words = [sys.executable, "-m", "gridctl", "-q", "engine", "mock", *arguments, "-o", "jsonl"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_listens_when_it_says_so_and_ends_when_told(number: signal.Signals) -> None:
    with serving("--ttft-ms", "0", "--model-name", "tiny", "--api-key-env", "KEY", KEY="k") as (process, said):
        assert (said["name"], said["model"], said["pid"]) == ("tiny", "tiny", process.pid)
        connection = http.client.HTTPConnection("127.0.0.1", int(said["url"].rsplit(":", 1)[1]), timeout=10)
        body = json.dumps({"prompt": "a", "max_tokens": 3})
        connection.request("POST", "/v1/completions", body, {"authorization": "Bearer k"})
        response = connection.getresponse()
        assert (response.status, json.load(response)["usage"]["completion_tokens"]) == (200, 3)
        connection.close()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_unix_socket_is_made_used_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with serving("--ttft-ms", "0", "--listen", f"unix:{path}") as (process, said):
        assert said["url"] == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        process.terminate()
        assert process.wait(20) == 0
    assert not path.exists()


def test_an_engine_told_to_die_ends_like_one_that_died() -> None:
    with serving("--ttft-ms", "0", "--faults", "die@100ms") as (process, _):
        _, err = process.communicate(timeout=20)
        assert process.returncode == 5
        assert "the engine died" in err
