"""The registry client against a scripted server: authentication, redirects, patience, and what it never does."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gridctl.artifacts.credentials import Credential, credential_for, read_challenge
from gridctl.artifacts.download import fetch_blob
from gridctl.artifacts.manifest import Descriptor
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryClient, retry_after_s
from gridctl.artifacts.upload import Blob, Journal, send_blob
from gridctl.errors import InputError, UnreachableError, UsageError

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[str, str, dict[str, str], bytes], Answer]


class Peer:
    """A server on loopback that answers by a script and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: Script = lambda *_: (404, {}, b"")
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        peer = self

        class Exchange(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                peer.asked.append((self.command, self.path, headers))
                status, told, data = peer.script(self.command, self.path, headers, body)
                self.send_response(status)
                told = {"content-length": str(len(data)), **told}
                for name, value in told.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                if int(told["content-length"]) != len(data):
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def peers() -> Iterator[Callable[[], Peer]]:
    made: list[Peer] = []

    def make() -> Peer:
        made.append(Peer())
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def client_of(peer: Peer, waits: list[float] | None = None, **options: object) -> RegistryClient:
    pause = (lambda _s: None) if waits is None else waits.append
    return RegistryClient(parse_reference(f"{peer.host}/m"), pause=pause, **options)  # type: ignore[arg-type]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_bearer_token_is_fetched_with_the_scope_and_used_again(peers: Callable[[], Peer]) -> None:
    peer = peers()

    def script(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if path.startswith("/token"):
            assert "scope=repository%3Am%3Apull" in path
            assert headers["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
            return 200, {}, json.dumps({"token": "T", "expires_in": 300}).encode()
        if headers.get("authorization") == "Bearer T":
            return 200, {}, b""
        realm = f'Bearer realm="http://{peer.host}/token",service="s",scope="repository:m:pull"'
        return 401, {"www-authenticate": realm}, b""

    peer.script = script
    with client_of(peer, credential=Credential("me", "secret")) as client:
        assert client.has_blob(digest_of(b"a"))
        assert client.has_blob(digest_of(b"b"))
    assert [path.partition("?")[0] for _, path, _ in peer.asked].count("/token") == 1


def test_authorization_stays_behind_at_a_redirect_to_another_host(peers: Callable[[], Peer], tmp_path: Path) -> None:
    registry, storage = peers(), peers()
    data = b"weights" * 1000
    storage.script = lambda *_: (200, {}, data)

    def script(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if "authorization" not in headers:
            return 401, {"www-authenticate": "Basic realm=x"}, b""
        return 307, {"location": f"http://{storage.host}/object?signed=1"}, b""

    registry.script = script
    blob = Descriptor("", digest_of(data), len(data))
    with client_of(registry, credential=Credential("me", "secret")) as client:
        fetch_blob(client, blob, tmp_path / "out", tmp_path / "partial", Pace(None))
    assert (tmp_path / "out").read_bytes() == data
    assert all("authorization" not in headers for _, _, headers in storage.asked)


def test_a_busy_registry_is_asked_again_when_it_says(peers: Callable[[], Peer]) -> None:
    peer = peers()
    answers = [(429, {"retry-after": "7"}, b""), (503, {"retry-after": "3"}, b""), (200, {}, b"")]
    peer.script = lambda *_: answers.pop(0)
    waits: list[float] = []
    with client_of(peer, waits) as client:
        assert client.has_blob(digest_of(b"a"))
    assert len(waits) == 2
    assert waits[0] >= 7
    assert waits[1] >= 3


def test_a_registry_that_is_broken_is_given_up(peers: Callable[[], Peer]) -> None:
    peer = peers()
    peer.script = lambda *_: (502, {}, b"")
    with client_of(peer, attempts=3) as client, pytest.raises(UnreachableError, match="502"):
        client.has_blob(digest_of(b"a"))
    assert len(peer.asked) == 3


def test_a_registry_that_stalls_is_given_up(peers: Callable[[], Peer]) -> None:
    peer = peers()
    held = threading.Event()

    def script(*_: object) -> Answer:
        held.wait(5)
        return 200, {}, b""

    peer.script = script
    with client_of(peer, attempts=2, silence_s=0.1) as client, pytest.raises(UnreachableError):
        client.has_blob(digest_of(b"a"))
    held.set()


def test_a_refused_token_names_the_way_in_and_never_the_secret(peers: Callable[[], Peer]) -> None:
    peer = peers()
    peer.script = lambda *_: (401, {"www-authenticate": "Basic realm=x"}, b"")
    with client_of(peer, credential=Credential("me", "hunter2")) as client, pytest.raises(InputError) as raised:
        client.has_blob(digest_of(b"a"))
    assert "docker login" in str(raised.value.fix)
    assert "hunter2" not in repr(vars(raised.value)) + repr(Credential("me", "hunter2"))


def test_an_answer_that_breaks_off_is_taken_up_where_it_broke(peers: Callable[[], Peer], tmp_path: Path) -> None:
    peer = peers()
    data = bytes(range(256)) * 4000

    def script(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        asked = headers.get("range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        part = data[start : start + 300_000]
        told = {"content-length": str(len(data) - start)}
        if asked:
            told["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return (206 if asked else 200), told, part

    peer.script = script
    blob = Descriptor("", digest_of(data), len(data))
    with client_of(peer) as client:
        moved = fetch_blob(client, blob, tmp_path / "out", tmp_path / "partial", Pace(None))
    assert (tmp_path / "out").read_bytes() == data
    assert moved == len(data)


def test_endless_data_is_cut(peers: Callable[[], Peer], tmp_path: Path) -> None:
    peer = peers()
    peer.script = lambda *_: (200, {}, bytes(100_000))
    blob = Descriptor("", digest_of(bytes(10)), 10)
    with client_of(peer) as client, pytest.raises(InputError, match="more than"):
        fetch_blob(client, blob, tmp_path / "out", tmp_path / "partial", Pace(None))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10


def test_a_lost_answer_to_the_last_put_is_no_second_upload(peers: Callable[[], Peer]) -> None:
    peer = peers()
    held: dict[str, bytes] = {}

    def script(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "HEAD":
            return (200 if held else 404), {}, b""
        if method == "POST":
            return 202, {"location": "/v2/m/blobs/uploads/1"}, b""
        held["blob"] = body
        return 504, {}, b""  # a proxy lost the answer

    peer.script = script
    with client_of(peer) as client:
        assert send_blob(client, Blob.of(b"weights"), Journal(None), Pace(None)) == "sent"
    assert [method for method, _, _ in peer.asked].count("PUT") == 1
    assert held["blob"] == b"weights"


def test_chunks_begin_where_the_registry_says_it_is(peers: Callable[[], Peer]) -> None:
    peer = peers()
    data = bytes(range(250)) * 40
    held = bytearray()
    broken: list[int] = []

    def script(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        told = {"location": "/v2/m/blobs/uploads/1", "range": f"0-{max(0, len(held) - 1)}"}
        if method == "HEAD":
            return 404, {}, b""
        if method == "POST":
            return 202, told, b""
        if method == "GET":
            return 204, told, b""
        if method == "PATCH":
            assert headers["content-range"] == f"{len(held)}-{len(held) + len(body) - 1}"
            if not broken and held:
                broken.append(len(held))
                held.extend(body[:700])  # half a chunk arrives, and no answer
                return 500, {}, b""
            held.extend(body)
            return 202, {**told, "range": f"0-{len(held) - 1}"}, b""
        return 201, {}, b""

    peer.script = script
    with client_of(peer) as client:
        send_blob(client, Blob.of(data), Journal(None), Pace(None), chunk_bytes=3000)
    assert bytes(held) == data
    assert broken == [3000]


def test_retry_after_may_be_a_date_and_never_stops_us_for_long() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:30 GMT", 1445412500.0) == 10.0
    assert retry_after_s("99999", 0.0) == 60.0
    assert retry_after_s("soon", 0.0) == retry_after_s("nan", 0.0) == retry_after_s("-4", 0.0) == 0.0


def test_the_challenge_of_a_mount_asks_for_both_repositories() -> None:
    found = read_challenge('Bearer realm="https://a/t",service="r",scope="repository:a:pull,push repository:b:pull"')
    assert found.scope.split() == ["repository:a:pull,push", "repository:b:pull"]


def test_docker_s_own_files_say_who_we_are(tmp_path: Path) -> None:
    packed = base64.b64encode(b"me:a:b").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": packed}}}))
    found = credential_for("r.example", {"DOCKER_CONFIG": str(tmp_path)})
    assert found == Credential("me", "a:b")
    assert credential_for("other.example", {"DOCKER_CONFIG": str(tmp_path)}) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="docker"):
        credential_for("r.example", {"DOCKER_CONFIG": str(tmp_path)})


def test_a_cap_holds_over_time() -> None:
    now = [0.0]
    pace = Pace(1000.0, clock=lambda: now[0], pause=lambda s: now.__setitem__(0, now[0] + s))
    for _ in range(100):
        pace.take(100)
    assert 9.7 <= now[0] <= 10.0, "10,000 bytes at 1,000 a second, less the first burst"


@pytest.mark.parametrize(
    ("text", "scheme", "repository", "version"),
    [
        ("localhost:5000/a/b:v1", "http", "a/b", "v1"),
        ("r.example/a", "https", "a", "latest"),
        ("[::1]:5000/a:x", "http", "a", "x"),
        ("http://10.0.0.1/a@sha256:" + "0" * 64, "http", "a", "sha256:" + "0" * 64),
    ],
)
def test_references_are_read(text: str, scheme: str, repository: str, version: str) -> None:
    found = parse_reference(text)
    assert (found.scheme, found.repository, found.version) == (scheme, repository, version)


@pytest.mark.parametrize("text", ["", "a", "r.example/A", "r/../x", "u:p@r.example/a", "ftp://r/a", "r/a@sha256:0"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)
