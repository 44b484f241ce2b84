"""health, top and site inspect: of a grid that nobody serves, and of an orchestrator that answers what a test says."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridctl.health.burn import Alarm, Budget
from gridctl.health.reports import (
    Affected,
    Attainment,
    Counts,
    EngineHealth,
    Happened,
    HealthReport,
    ProbeRecord,
    Problem,
    Routed,
    SiteCluster,
    SiteReport,
    TopFrame,
    TopRow,
)

NOW = 1_800_000_000_000_000_000
FORMATS = ("table", "wide", "json", "jsonl", "yaml", "csv", "markdown", "name")

PROBLEM = Problem(
    severity="ticket",
    kind="ejected",
    about="cluster/oslo-gpu",
    what="oslo-gpu at no-oslo-01 gets no traffic",
    cause="3 probes in a row failed: nothing listens there",
    since_unix_ns=NOW - 250_000_000_000,
    affects=Affected(workloads=("chat",), sites=("no-oslo-01",), engines=1, traffic_share=0.3),
    do="gridctl site inspect no-oslo-01",
    next="tried again in 20 s",
)
ALARM = Alarm(
    severity="page",
    long_s=3600.0,
    short_s=300.0,
    threshold=14.4,
    long_burn=None,
    short_burn=2.0,
    bad=0,
    valid=10,
    requests_to_judge=35,
    verdict="insufficient-data",
    why="10 of the 35 requests it takes in 1 h",
)
BUDGET = Budget(
    name="chat",
    target=0.99,
    period_s=2_592_000.0,
    covered_s=60.0,
    valid=10,
    bad=0,
    attained=1.0,
    spent_share=0.0,
    left_share=1.0,
    burn=None,
    empty_in_s=None,
    verdict="insufficient-data",
    severity=None,
    alarms=(ALARM,),
)
ENGINE = EngineHealth(
    row=0,
    cluster="oslo-gpu",
    replica=0,
    model="tiny",
    variant="bf16",
    url="http://10.0.0.1:8000",
    state="ejected",
    since_unix_ns=NOW - 250_000_000_000,
    cause="3 probes in a row failed: nothing listens there",
    next="tried again in 20 s",
    admit_share=0.0,
    is_flapping=False,
    ejections=1,
    in_flight=0,
    requests=7,
    failures=1,
    telemetry_state="fresh",
    telemetry_age_s=0.4,
    running=1,
    waiting=None,
    kv_share=0.25,
    prefix_hit_share=None,
    probes=(ProbeRecord(at_unix_ns=NOW, cause="refused", detail="nothing listens there", latency_ms=0.4),),
)
SITE = SiteReport(
    name="no-oslo-01",
    at_unix_ns=NOW,
    is_live=True,
    tier="core",
    city="Oslo",
    country="NO",
    jurisdiction=None,
    declared_state="active",
    state="ejected",
    cause="oslo-gpu: 3 probes in a row failed",
    since_unix_ns=NOW - 250_000_000_000,
    next="tried again in 20 s",
    requests=7,
    traffic_share=0.3,
    clusters=(SiteCluster(name="oslo-gpu", state="active", gpu="l40s", gpus=4, variants=("tiny/bf16",), engines=1),),
    engines=(ENGINE,),
    routed=(
        Routed(
            workload="chat",
            requests=7,
            share=0.3,
            target=0.99,
            attainments=(Attainment(window_s=300.0, covered_s=60.0, valid=7, bad=0, attained=1.0),) * 3,
            goes_to="fr-paris-01",
            why="cheapest",
        ),
    ),
    events=(
        Happened(
            at_unix_ns=NOW,
            actor="ada",
            action="updated",
            about="cluster/oslo-gpu",
            cause="apply",
            fields=("spec.gpus",),
            is_here=True,
        ),
    ),
    problems=(PROBLEM,),
)
ROW = TopRow(
    name="chat",
    requests_per_s=12.5,
    in_flight=None,
    ttft_p50_ms=80.0,
    ttft_p99_ms=410.0,
    good_share=0.99,
    target=0.99,
    failed_per_s=0.0,
    output_tokens_per_s=800.0,
    usd_per_hour=1.2,
    gpu_usd_per_hour=None,
    state=None,
)


def health(**changed: Any) -> HealthReport:
    fields = {
        "grid": "prod",
        "at_unix_ns": NOW,
        "is_live": True,
        "verdict": "attention",
        "headline": "one engine is out",
        "problems": (PROBLEM,),
        "counts": Counts(engines={"healthy": 2, "ejected": 1}, sites={"healthy": 1}),
        "budgets": (BUDGET,),
    }
    return HealthReport(**{**fields, **changed})


def frame(by: Any) -> TopFrame:
    names = {"workload": ("chat", "voice"), "site": ("no-oslo-01",), "cluster": ("oslo-gpu",)}[by]
    rows = tuple(
        msgspec.structs.replace(ROW, name=name, state=None if by == "workload" else "healthy") for name in names
    )
    total = msgspec.structs.replace(ROW, name="*", in_flight=3)
    return TopFrame(at_unix_ns=NOW, window_s=10.0, by=by, engines=3, engines_available=2, rows=rows, total=total)


def _schemas() -> Any:
    path = Path(__file__).with_name("test_schemas.py")
    spec = importlib.util.spec_from_file_location("schemas_of_commands", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hold = _schemas().hold


@pytest.fixture
def served(shell: Callable) -> Iterator[Callable]:
    """A shell whose context `prod` is an orchestrator that answers with this file's reports; `answers` changes them."""
    answers: dict[str, Any] = {"/v1/health": health(), "/v1/sites/no-oslo-01": SITE}

    class Admin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            found = re.search(r"by=(\w+)", query)
            body = frame(found[1] if found else "workload") if path == "/v1/top" else answers.get(path)
            content = b"{}" if body is None else msgspec.json.encode(body)
            self.send_response(404 if body is None else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Admin)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    added = shell("context", "add", "prod", "--url", f"http://127.0.0.1:{server.server_port}")
    assert added.code == 0, added.err
    shell.answers = answers
    yield shell
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_grid_that_nobody_serves_is_unknown_and_says_how_to_start(grid: Callable) -> None:
    ran = grid("health")
    assert ran.code == 0
    assert ran.out.startswith("grid grid: UNKNOWN  no orchestrator runs, and no cluster has an endpoint")
    assert "gridctl up --detach" in ran.err
    assert grid("health", "--exit-code").code == 10
    found = hold(grid("health", "-o", "json").out, "Health")
    assert (found["is_live"], found["verdict"], found["budgets"]) == (False, "unknown", [])


def test_what_an_operator_took_out_is_told_with_the_command_that_brings_it_back(grid: Callable) -> None:
    grid("site", "cordon", "no-oslo-01", "--reason", "power")
    found = hold(grid("health", "-o", "json").out, "Health")
    assert [(one["severity"], one["about"], one["do"]) for one in found["problems"]] == [
        ("page", "workload/chat", "gridctl cluster uncordon oslo-gpu"),
        ("info", "site/no-oslo-01", "gridctl site uncordon no-oslo-01"),
    ]


def test_a_site_that_nobody_serves_is_what_is_declared_and_what_changed(grid: Callable) -> None:
    ran = grid("site", "inspect", "no-oslo-01")
    assert ran.code == 0
    assert "oslo-gpu: 4 × l40s, tiny/bf16 (no endpoint)" in ran.out
    assert "no orchestrator runs" in ran.err
    found = hold(grid("site", "inspect", "no-oslo-01", "-o", "json").out, "SiteInspection")
    assert found["events"]
    missing = grid("site", "inspect", "no-oslo-2")
    assert (missing.code, missing.out) == (4, "")
    assert "did you mean no-oslo-01?" in missing.err


@pytest.mark.parametrize("arguments", [("top",), ("top", "--once", "-o", "json")])
def test_the_load_of_what_does_not_run_is_unreachable(grid: Callable, arguments: tuple[str, ...]) -> None:
    ran = grid(*arguments)
    assert (ran.code, ran.out) == (5, "")
    assert "gridctl up --detach" in ran.err


def test_watching_needs_a_terminal(grid: Callable) -> None:
    ran = grid("health", "--watch")
    assert (ran.code, ran.out) == (2, "")
    assert "--watch needs a terminal" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [("top", "--by", "planet"), ("top", "--window", "0"), ("top", "--sort", "luck"), ("health", "--interval", "nan")],
)
def test_values_that_make_no_sense_are_usage_errors(grid: Callable, arguments: tuple[str, ...]) -> None:
    ran = grid(*arguments)
    assert (ran.code, ran.out) == (2, "")


def test_a_running_orchestrator_is_asked_and_its_words_are_printed(served: Callable) -> None:
    ran = served("health")
    assert (ran.code, ran.err) == (0, "")
    assert "do       gridctl site inspect no-oslo-01" in ran.out
    assert "insufficient-data" in ran.out
    assert served("health", "--exit-code").code == 10
    served.answers["/v1/health"] = health(verdict="ok", problems=())
    assert served("health", "--exit-code").code == 0


def test_what_is_printed_as_json_keeps_its_schema(served: Callable) -> None:
    assert hold(served("health", "-o", "json").out, "Health")["problems"][0]["kind"] == "ejected"
    site = hold(served("site", "inspect", "no-oslo-01", "-o", "json").out, "SiteInspection")
    assert site["engines"][0]["probes"][0]["cause"] == "refused"
    assert hold(served("top", "-o", "json").out, "Top")["total"]["in_flight"] == 3


@pytest.mark.parametrize(
    "arguments", [("health",), ("site", "inspect", "no-oslo-01"), ("top",), ("top", "--by", "site")]
)
def test_every_format_prints_something(served: Callable, arguments: tuple[str, ...]) -> None:
    for output in FORMATS:
        ran = served(*arguments, "-o", output)
        assert (ran.code, ran.err) == (0, ""), output
        assert ran.out, output
    names = served(*arguments, "-o", "name").out.splitlines()
    expected = {"health": "cluster/oslo-gpu", "site": "oslo-gpu/0", "top": "chat"}[arguments[0]]
    assert names[0] == (expected if "--by" not in arguments else "no-oslo-01")
    lines = served(*arguments, "-o", "jsonl").out.splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_the_last_probe_and_the_promise_are_on_a_site_s_screen(served: Callable) -> None:
    out = served("site", "inspect", "no-oslo-01").out
    assert "EJECTED for 4.2 min" in out
    assert "refused 0 ms" in out
    assert "100.0% of 7" in out
    assert "probes of oslo-gpu/0  x  last failure 0 s ago: nothing listens there" in out


class Terminal:
    """A command on a terminal of 80 columns and 24 lines."""

    def __init__(self, shell: Any, *arguments: str) -> None:
        import fcntl

        self._main, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {key: value for key, value in shell.environment.items() if key not in ("COLUMNS", "LINES", "CI")}
        self._before = termios.tcgetattr(child)
        self._child = child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gridctl", *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=shell.folder,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        self.shown = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read(0.1)

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """The exit code; the terminal must be as it was."""
        deadline = time.monotonic() + 20
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read(0.05)
        self._read(0.05)
        assert termios.tcgetattr(self._child)[3] == self._before[3]
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._child)
        os.close(self._main)

    def _read(self, timeout_s: float) -> None:
        if select.select([self._main], [], [], timeout_s)[0]:
            self.shown += os.read(self._main, 65536).decode(errors="replace")


@pytest.fixture
def terminal(served: Any) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(served, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_top_stays_on_a_terminal_heeds_keys_and_leaves_it_as_it_was(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("top", "--interval", "60")
    screen.wait_for("12.5 req/s")
    screen.wait_for("q quit")
    screen.type("s")
    screen.wait_for("no-oslo-01")
    screen.type("\x1b[A")  # an arrow is no escape
    screen.type("c")
    screen.wait_for("oslo-gpu")
    screen.type("q")
    assert screen.end() == 0
    assert screen.shown.rstrip().endswith(("\x1b[?1049l", "\x1b[?25h"))  # the alternate screen is left


def test_watching_health_ends_with_ctrl_c_and_without_fault(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("health", "--watch", "--interval", "0.5")
    screen.wait_for("ATTENTION")
    screen.interrupt()
    assert screen.end() == 0
