"""The engine: told to load, asked whether it is well, its answers compared. An engine of our own on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentworld import Orchestrator, Pushed, committed_digest, order_for, wanted, work_until

from gridctl.agent.engine import Engine, EngineError
from gridctl.agent.order import Order, Probe
from gridctl.agent.probing import Answered, figures, read_probes
from gridctl.errors import InputError
from gridctl.rollout.protocol import Report, Version

SITE = "fr-paris-01"
PROBES = (Probe(prompt="2 + 2 =", expect="4"), Probe(prompt="the capital of France is"))


class MockEngine:
    """Loads by POST /load, streams completions. `answers` by variant; a variant in `broken` is never well."""

    def __init__(self) -> None:
        self.loads: list[dict[str, str]] = []
        self.answers: dict[str, dict[str, str]] = {}
        self.broken: set[str] = set()
        self.mute: set[str] = set()
        self.is_down = False
        outer = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/health":
                    self._send(503 if outer.is_down or outer.variant in outer.broken else 200, b"")
                else:
                    self._send(200, b'{"data": [{"id": "m"}]}')

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/load":
                    outer.loads.append(body)
                    self._send(200, b"{}")
                    return
                if outer.variant in outer.mute:
                    self._send(500, b"{}")
                    return
                text = outer.answers.get(outer.variant, {}).get(body["prompt"], "Paris and more")
                lines = [f"data: {json.dumps({'choices': [{'text': word}]})}\n\n" for word in text.split(" ")]
                self._send(200, "".join([*lines, "data: [DONE]\n\n"]).encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def variant(self) -> str:
        return self.loads[-1]["variant"] if self.loads else ""

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine() -> Iterator[MockEngine]:
    running = MockEngine()
    running.answers = {"v1": {"2 + 2 =": "4"}, "v2": {"2 + 2 =": "4", "the capital of France is": "Lyon"}}
    yield running
    running.close()


def at_engine(engine: MockEngine, orchestrator: Orchestrator, folder: Path) -> Order:
    return order_for(
        orchestrator, folder, engine_url=engine.url, reload_url=f"{engine.url}/load", probes=PROBES, ready_s=0.5
    )


def last(orchestrator: Orchestrator) -> Report:
    report = orchestrator.last(SITE)
    return report if report is not None else Report(boot_id="none", seq=0)


def test_a_trial_tells_how_much_its_answers_agree_with_the_version_before(
    engine: MockEngine, orchestrator: Orchestrator, models: dict[str, Pushed], tmp_path: Path
) -> None:
    order = at_engine(engine, orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: last(orchestrator).probe.get("match_share") == 1.0, "the committed version's figures")
    orchestrator.wish(SITE, wanted(models["two"], "trial", 2))
    work_until(order, lambda: last(orchestrator).probe.get("match_share") == 0.5, "half of the answers to agree")
    assert last(orchestrator).probe["errors"] == 0.0
    assert last(orchestrator).probe["ttft_ms_p95"] > 0.0
    assert [load["variant"] for load in engine.loads] == ["v1", "v2", "v1"], "and back at the end"
    assert engine.loads[1]["folder"] == str(order.folder / "models/llama" / models["two"].digest[7:])


def test_an_engine_that_never_gets_well_brings_the_old_version_back(
    engine: MockEngine, orchestrator: Orchestrator, models: dict[str, Pushed], tmp_path: Path
) -> None:
    order = at_engine(engine, orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    engine.broken = {"v2"}
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))

    def is_given_up() -> bool:
        actual = last(orchestrator).of("llama")
        told = actual is not None and actual.failed is not None and actual.failed.reason == "engine"
        return told and [load["variant"] for load in engine.loads].count("v2") == 3 and engine.variant == "v1"

    work_until(order, is_given_up, "the way back")
    assert committed_digest(order.folder) == models["one"].digest


def test_probes_that_fail_end_a_trial_for_good(
    engine: MockEngine, orchestrator: Orchestrator, models: dict[str, Pushed], tmp_path: Path
) -> None:
    order = at_engine(engine, orchestrator, tmp_path / "agent")
    engine.mute = {"v2"}
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))

    def is_told() -> bool:
        actual = last(orchestrator).of("llama")
        return actual is not None and actual.failed is not None and actual.failed.reason == "probe"

    said = work_until(order, is_told, "the failure")
    assert [load["variant"] for load in engine.loads] == ["v1", "v2", "v1"]
    assert not any("capital" in line or "2 + 2" in line for line in said), "no prompt is logged"


def test_an_engine_that_fails_during_a_trial_is_brought_back(
    engine: MockEngine, orchestrator: Orchestrator, models: dict[str, Pushed], tmp_path: Path
) -> None:
    order = at_engine(engine, orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    orchestrator.wish(SITE, wanted(models["two"], "trial", 2))

    def breaks() -> bool:
        actual = last(orchestrator).of("llama")
        if actual is not None and actual.trial is not None and actual.failed is None:
            engine.broken = {"v2"}
        return actual is not None and actual.failed is not None and actual.failed.reason == "engine"

    work_until(order, breaks, "the failure")
    assert engine.variant == "v1"


def bare(tmp_path: Path, **fields: Any) -> Order:
    return Order(site="s", url="http://127.0.0.1:1", token_file=tmp_path / "t", folder=tmp_path, hook_s=0.3, **fields)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sh", "-c", "echo out of memory >&2; exit 3"), "ended with 3: out of memory"),
        (("sh", "-c", "sleep 60 & wait"), "took over 0.3 s"),
        (("/no/such/program",), "does not start: No such file"),
    ],
    ids=["fails", "hangs", "missing"],
)
def test_a_reload_command_that_fails_says_how(command: tuple[str, ...], words: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(EngineError, match=words):
        Engine(bare(tmp_path, reload_command=command)).load(
            "m", Version("sha256:" + "a" * 64, "v1", 1), tmp_path, threading.Event()
        )
    assert time.monotonic() - began < 5


def test_a_command_that_talks_without_end_does_not_block(tmp_path: Path) -> None:
    command = ("sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' 'x'; exit 1")
    with pytest.raises(EngineError) as caught:
        Engine(bare(tmp_path, reload_command=command)).load("m", None, None, threading.Event())
    assert len(caught.value.what) < 500


def test_figures_by_hand() -> None:
    answers = [Answered("4", 10.0, 2.0), Answered("Lyon", 30.0, 4.0), Answered(None)]
    probes = (*PROBES, Probe(prompt="x"))
    told = figures(answers, [Answered("5"), Answered("Paris"), Answered("y")], probes)
    assert told == {
        "requests": 3.0,
        "errors": 1.0,
        "ttft_ms_p95": 30.0,
        "tpot_ms_p50": 2.0,
        "match_share": pytest.approx(1 / 3),
    }


@pytest.mark.parametrize(
    "text", ["", "not json", '{"prompt": ""}', '{"prompt": "x", "max_tokens": 0}', '{"prompt": "x", "other": 1}']
)
def test_probes_that_make_no_sense_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match="probes"):
        read_probes(path)
