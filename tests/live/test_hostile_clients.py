"""What hostile and broken clients send to a real `gridctl up`: each gets a well-formed refusal or a closed connection,
the engine sees nothing of it, and everybody else is served as before.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from livegrid import write_grid
from liveprograms import MockEngine, Orchestrator, Starter, apply_grid, descendants, gridctl

GOOD = json.dumps({"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}).encode()
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: grid\r\nContent-Type: application/json\r\n"
SMUGGLED = b"POST /v1/completions HTTP/1.1\r\nHost: grid\r\nContent-Length: 26\r\n\r\n" + b'{"model":"tiny","prompt":1}'
EMPTY = b"\r\nHost: grid\r\nContent-Length: 0\r\n\r\n"
PATIENCE_S = 12.0


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def posted(body: bytes, headers: bytes = b"") -> bytes:
    """A chat request with that body, its length, and more headers."""
    return CHAT + headers + length(body) + b"\r\n" + body


def deep(levels: int) -> bytes:
    return GOOD[:-1] + b',"metadata":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


WRONG: dict[str, tuple[bytes, tuple[int, ...]]] = {
    # name: bytes, statuses that will do; () means that a closed connection will, too
    "two lengths": (CHAT + length(GOOD) + b"Content-Length: 3\r\n\r\n" + GOOD + SMUGGLED, (400,)),
    "two equal lengths": (CHAT + length(GOOD) * 2 + b"\r\n" + GOOD + SMUGGLED, (400,)),
    "length and chunked": (CHAT + length(GOOD) + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, (400,)),
    "gzip, chunked": (CHAT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, (400, 501)),
    "chunked twice": (CHAT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "signed length": (CHAT + b"Content-Length: +5\r\n\r\nhello", (400,)),
    "negative length": (CHAT + b"Content-Length: -5\r\n\r\nhello", (400,)),
    "length list": (CHAT + b"Content-Length: 5, 5\r\n\r\nhello", (400,)),
    "hex chunk with junk": (CHAT + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", (400,)),
    "overflowing chunk": (CHAT + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello\r\n", (400, 413)),
    "chunk without an end": (CHAT + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", (400,)),
    "folded header": (posted(GOOD, b"X-A: 1\r\n 2\r\n"), (400,)),
    "bare line feed": (CHAT.replace(b"\r\n", b"\n") + b"\n" + GOOD, (400,)),
    "bare carriage return": (posted(GOOD, b"X-A: 1\rX-B: 2\r\n"), (400,)),
    "space before colon": (CHAT + b"Content-Length : 5\r\n\r\nhello", (400,)),
    "NUL in a value": (posted(GOOD, b"X-A: a\0b\r\n"), (400,)),
    "no host": (CHAT.replace(b"Host: grid\r\n", b"") + length(GOOD) + b"\r\n" + GOOD, (400,)),
    "two hosts": (posted(GOOD, b"Host: other\r\n"), (400,)),
    "a request id that ends the line": (posted(GOOD, b"X-Request-Id: a\r\rSet-Cookie: x=1\r\n"), (400,)),
    "an absolute URL elsewhere": (b"POST http://169.254.169.254/latest HTTP/1.1" + EMPTY, (400, 404)),
    "CONNECT": (b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: grid\r\n\r\n", (400, 404, 405)),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 404, 405, 505)),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 64 + b"\r\n\r\n", (400,)),
    "head of 40 KiB": (CHAT + b"X-A: " + b"a" * 40_960 + b"\r\n\r\n", (400, 431)),
    "1,000 headers": (CHAT + b"".join(b"X-%d: 1\r\n" % n for n in range(1000)) + b"\r\n", (400, 431)),
    "target of 20 KiB": (b"POST /" + b"a" * 20_480 + b" HTTP/1.1" + EMPTY, (400, 414, 431)),
    "a body that is said to be a gigabyte": (CHAT + b"Content-Length: 1073741824\r\n\r\n{", (413,)),
    "no JSON": (posted(b"{nope"), (400,)),
    "JSON with two models": (posted(b'{"model":"tiny","model":"x"}'), (400, 404)),
    "invalid UTF-8": (posted(b'{"model":"\xff\xfe"}'), (400,)),
    "a list": (posted(b"[1]"), (400,)),
    "nested 100,000 deep": (posted(deep(100_000)), (400,)),
    "prompt embeddings": (posted(GOOD[:-1] + b',"prompt_embeds":"gASV"}'), (400,)),
    "unknown model": (posted(GOOD.replace(b"tiny", b"none")), (404,)),
    "unknown path": (CHAT.replace(b"chat/completions", b"nothing") + length(GOOD) + b"\r\n" + GOOD, (404,)),
    "wrong method": (CHAT.replace(b"POST", b"PUT") + length(GOOD) + b"\r\n" + GOOD, (405,)),
    "an origin nobody knows": (posted(GOOD, b"X-Gridctl-Origin: mars\r\n"), (400,)),
}  # fmt: skip


def sent(port: int, data: bytes, patience_s: float = PATIENCE_S) -> bytes:
    """Everything that comes back until the connection is closed or nothing comes any more."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
        came = b""
        client.settimeout(1.0)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                piece = client.recv(65_536)
            except TimeoutError:
                if came:
                    break
                continue
            except OSError:
                break
            if not piece:
                break
            came += piece
        return came


def refusal(answer: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the one answer there is; it is well-formed and there is no second one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 "), answer[:200]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    assert len(body) == int(headers[b"content-length"]), answer[:400]
    assert b"x-request-id" in headers
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(lines[0].split()[1]), error


@pytest.fixture
def served(orchestrate: Starter, tmp_path: Path, programs: contextlib.ExitStack) -> tuple[Orchestrator, MockEngine]:
    """An orchestrator before one engine."""
    engine = MockEngine.start_mock(tmp_path / "e.log", "--ttft-ms", "5", "--tpot-ms", "1", "--model-name", "tiny")
    programs.callback(engine.end)
    return orchestrate({"paris": [engine.url]}, "--default-origin", "paris"), engine


def state(engine: MockEngine) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{engine.url}/mock/state").json()
    return told


def good(orchestrator: Orchestrator) -> None:
    answer = httpx.post(f"{orchestrator.url}/v1/chat/completions", content=GOOD)
    assert answer.status_code == 200, answer.text


def until(what: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def test_what_is_wrong_is_refused_in_good_form_and_no_engine_sees_it(
    served: tuple[Orchestrator, MockEngine],
) -> None:
    orchestrator, engine = served
    good(orchestrator)
    workers = descendants(orchestrator.pid)
    before = state(engine)["counters"]
    found: dict[str, str] = {}
    for name, (data, statuses) in WRONG.items():
        status, _ = refusal(sent(orchestrator.port, data))
        if status not in statuses:
            found[name] = f"{status}, not {statuses}"
    assert not found
    after = state(engine)["counters"]
    assert after["requests"] == before["requests"], "an engine saw a request that was refused, or a smuggled one"
    good(orchestrator)
    assert descendants(orchestrator.pid) == workers, "a worker died of it"


def test_clients_that_leave_at_any_stage_or_crawl_leave_nothing_behind(
    served: tuple[Orchestrator, MockEngine],
) -> None:
    orchestrator, engine = served
    long = json.dumps({"model": "tiny", "max_tokens": 5000, "stream": True,
                       "messages": [{"role": "user", "content": "hello"}]}).encode()  # fmt: skip
    whole = CHAT + length(long) + b"\r\n" + long
    stages = [b"", b"P", CHAT[:40], CHAT, CHAT + length(long) + b"\r\n", whole[:-10], whole]
    for data in stages:
        for abruptly in (False, True):
            with socket.create_connection(("127.0.0.1", orchestrator.port), timeout=5) as client:
                if abruptly:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(data)
    with socket.create_connection(("127.0.0.1", orchestrator.port), timeout=10) as client:
        client.sendall(whole)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")  # and leaves in the middle of the stream
    crawling = [socket.create_connection(("127.0.0.1", orchestrator.port), timeout=5) for _ in range(20)]
    began = time.monotonic()
    try:
        for number in range(min(14, len(CHAT))):
            for client in crawling:
                with contextlib.suppress(OSError):
                    client.send(CHAT[number : number + 1])
            good(orchestrator)
            time.sleep(1.0)  # one byte a second is the case under test
        for client in crawling:
            client.settimeout(5)
            with contextlib.suppress(ConnectionError):
                answer = client.recv(4096)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 408 "), answer
        assert time.monotonic() - began < 40
    finally:
        for client in crawling:
            client.close()
    until(lambda: state(engine)["gauges"]["running"] == 0)
    worker = orchestrator.ask("status")["workers"][0]
    until(lambda: orchestrator.ask("status")["workers"][0]["in_flight"] == 0)
    assert worker["state"] == "ready"
    good(orchestrator)


def test_an_engine_s_address_can_be_neither_the_gateway_itself_nor_a_metadata_service(
    served: tuple[Orchestrator, MockEngine], tmp_path: Path
) -> None:
    orchestrator, _ = served
    manifests = tmp_path / "bad"
    manifests.mkdir()
    own = f"http://localhost:{orchestrator.port}"
    for url in (own, "http://169.254.169.254/latest", "http://[fe80::1]:80", "http://2852039166"):
        write_grid(manifests / "grid.yaml", {"paris": [url]})
        apply_grid(orchestrator.store, manifests)
        until(lambda url=url: url in str(orchestrator.ask("status")["problem"]))
        good(orchestrator)  # the last plan that could be served still is
    write_grid(manifests / "grid.yaml", {"paris": ["http://user@127.0.0.1:9"]})
    done = gridctl("apply", "-f", str(manifests), store=orchestrator.store)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    good(orchestrator)
