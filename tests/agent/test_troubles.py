"""What goes wrong around an agent: it says so by the right word, keeps what it serves, and goes on when it can."""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from agentworld import (
    TOKEN,
    Orchestrator,
    Pushed,
    Registry,
    committed_digest,
    complaint_of,
    make_model,
    order_for,
    push_model,
    wanted,
    work_until,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gridctl.agent import fetching
from gridctl.artifacts.manifest import CONFIG_TYPE, FILEPATH, MANIFEST_TYPE, TITLE
from gridctl.errors import InputError
from gridctl.rollout.protocol import Failure, Wanted

SITE = "fr-paris-01"
Models = dict[str, Pushed]


def failed(orchestrator: Orchestrator, model: str = "llama") -> Failure | None:
    report = orchestrator.last(SITE)
    actual = report.of(model) if report is not None else None
    return actual.failed if actual is not None else None


def fails_with(orchestrator: Orchestrator, reason: str) -> Callable[[], bool]:
    def holds() -> bool:
        failure = failed(orchestrator)
        return failure is not None and failure.reason == reason

    return holds


@contextmanager
def registry_in_front(registry: Registry, spoil: Callable[[Any], bool]) -> Iterator[str]:
    """A registry that passes requests on to the real one, unless `spoil` has answered them; its host."""

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if spoil(self):
                return
            line = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=10)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            line.request("GET", self.path, headers=headers)
            answer = line.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name in ("content-type", "content-range", "docker-content-digest"):
                if answer.headers.get(name):
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            line.close()

        def log_message(self, *_words: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pass)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def at(host: str, pushed: Pushed) -> Pushed:
    return Pushed(f"{host}/{pushed.reference.partition('/')[2]}", pushed.digest, pushed.total_bytes, pushed.files)


def refuse(request: Any, status: int, **headers: str) -> bool:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("content-length", "0")
    request.end_headers()
    return True


# ── the registry ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_registry_that_asks_for_patience_gets_it(
    registry: Registry, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    left = [(429, {"retry_after": "1"}), (503, {}), (500, {})]
    began = time.monotonic()

    def spoil(request: Any) -> bool:
        if left and "/blobs/" in request.path:
            status, headers = left.pop(0)
            return refuse(request, status, **headers)
        return False

    with registry_in_front(registry, spoil) as host:
        orchestrator.wish(SITE, wanted(at(host, models["one"]), "commit", 1))
        order = order_for(orchestrator, tmp_path / "agent")
        work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    assert not left
    assert time.monotonic() - began >= 1.0, "Retry-After is kept"


def test_a_registry_that_stalls_is_given_up_and_tried_again(
    registry: Registry, orchestrator: Orchestrator, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SILENCE_S", 0.2)
    stalled = 0

    def spoil(request: Any) -> bool:
        nonlocal stalled
        if "/blobs/" in request.path and stalled < 3:
            stalled += 1
            request.send_response(200)
            request.send_header("content-length", "100")
            request.end_headers()
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.6)
            request.close_connection = True
            return True
        return False

    with registry_in_front(registry, spoil) as host:
        orchestrator.wish(SITE, wanted(at(host, models["one"]), "commit", 1))
        order = order_for(orchestrator, tmp_path / "agent")
        work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    assert complaint_of(order.folder) == ""


def test_a_blob_that_is_not_what_its_digest_says_is_refused(
    registry: Registry, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    pushed = push_model(registry, "bad/blob", make_model(tmp_path / "model", seed=20), tmp_path)
    blob = registry.blob_file(pushed.files["model-00001-of-00002.safetensors"])
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    orchestrator.wish(SITE, wanted(pushed, "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent")
    work_until(order, fails_with(orchestrator, "digest"), "the refusal")
    assert committed_digest(order.folder) is None
    assert not (order.folder / "models/llama" / pushed.digest[7:]).exists()


def test_another_manifest_than_asked_for_is_refused(
    registry: Registry, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    other = httpx.get(
        f"http://{registry.host}/v2/m/llama/manifests/{models['three'].digest}",
        headers={"accept": MANIFEST_TYPE},
        trust_env=False,
    ).content

    def spoil(request: Any) -> bool:
        if "/manifests/" not in request.path:
            return False
        request.send_response(200)
        request.send_header("content-length", str(len(other)))
        request.end_headers()
        request.wfile.write(other)
        return True

    with registry_in_front(registry, spoil) as host:
        orchestrator.wish(SITE, wanted(at(host, models["one"]), "commit", 1))
        order = order_for(orchestrator, tmp_path / "agent")
        work_until(order, lambda: failed(orchestrator) is not None, "the refusal")
    assert committed_digest(order.folder) is None


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ".gridctl/manifest.json", "a\\b", "x\x00y"])
def test_names_that_would_leave_the_folder_are_refused(
    name: str, registry: Registry, orchestrator: Orchestrator, tmp_path: Path
) -> None:
    pushed = push_by_hand(registry, name)
    orchestrator.wish(SITE, wanted(pushed, "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent")
    work_until(order, fails_with(orchestrator, "registry"), "the refusal")
    failure = failed(orchestrator)
    assert failure is not None
    assert "could leave the model's folder" in failure.detail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", "agent.token"]


def push_by_hand(registry: Registry, name: str) -> Pushed:
    """An artefact whose one layer has this name, as no honest tool writes it."""
    url = f"http://{registry.host}/v2/bad/names"
    digests = []
    for data in (b"pwned", b'{"config":{},"descriptor":{},"modelfs":{"type":"layers","diffIds":[]}}'):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = httpx.post(f"{url}/blobs/uploads/", trust_env=False).headers["location"]
        assert httpx.put(httpx.URL(place).copy_merge_params({"digest": digest}), content=data, trust_env=False)
        digests.append((digest, len(data)))
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digests[1][0], "size": digests[1][1]},
        "layers": [
            {
                "mediaType": "application/vnd.cncf.model.weight.v1.raw",
                "digest": digests[0][0],
                "size": digests[0][1],
                "annotations": {FILEPATH: name, TITLE: name},
            }
        ],
    }
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    done = httpx.put(
        f"{url}/manifests/{digest}", content=data, headers={"content-type": MANIFEST_TYPE}, trust_env=False
    )
    assert done.status_code == 201
    return Pushed(f"{registry.host}/bad/names@{digest}", digest, 5, {})


def test_a_symbolic_link_in_the_folder_on_its_way_is_refused(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    outside = tmp_path / "outside"
    outside.write_text("mine")
    orchestrator.wish(SITE)
    work_until(order, lambda: len(orchestrator.statuses) > 0, "a sync")
    stage = order.folder / "staging/llama" / models["one"].digest[7:]
    journal = json.loads((order.folder / "journal.json").read_text())
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    journal["transfers"] = [{"model": "llama", "digest": models["one"].digest, "base": None}]
    journal["desired"] = json.loads(msgspec.json.encode(orchestrator.desired(SITE)))
    (order.folder / "journal.json").write_text(json.dumps(journal))
    stage.mkdir(parents=True)
    (stage / "config.json").symlink_to(outside)
    work_until(order, lambda: failed(orchestrator) is not None, "the refusal")
    assert outside.read_text() == "mine"
    assert committed_digest(order.folder) is None


# ── what is wanted ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unsigned_model_is_refused_where_a_signature_is_required(
    registry: Registry, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1, requires_signature=True))
    order = order_for(orchestrator, tmp_path / "agent")
    work_until(order, fails_with(orchestrator, "signature"), "the refusal")
    assert committed_digest(order.folder) is None
    assert not any((order.folder / "blobs/sha256").iterdir())


def test_a_model_signed_by_the_pinned_key_is_taken_and_by_another_is_not(registry: Registry, tmp_path: Path) -> None:
    keys = {name: Ed25519PrivateKey.generate() for name in ("ours", "theirs")}
    pushed = {}
    for number, (name, key) in enumerate(keys.items()):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        folder = make_model(tmp_path / name, seed=30 + number)
        pushed[name] = push_model(registry, "signed/llama", folder, tmp_path, key=path)
    orchestrator = Orchestrator(keys["ours"])
    try:
        order = order_for(orchestrator, tmp_path / "agent", requires_signature=True)
        orchestrator.wish(SITE, wanted(pushed["theirs"], "commit", 1))
        work_until(order, fails_with(orchestrator, "signature"), "the refusal")
        assert committed_digest(order.folder) is None
        orchestrator.wish(SITE, wanted(pushed["ours"], "commit", 2))
        work_until(order, lambda: committed_digest(order.folder) == pushed["ours"].digest, "the commit")
    finally:
        orchestrator.close()


def test_an_architecture_that_the_site_does_not_load_is_refused_before_a_weight_moves(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent", architectures=("qwen3",))
    work_until(order, fails_with(orchestrator, "architecture"), "the refusal")
    failure = failed(orchestrator)
    assert failure is not None
    assert "llama" in failure.detail
    assert "qwen3" in failure.detail
    assert not any((order.folder / "staging").rglob("*.safetensors"))


def test_a_full_disk_is_told_with_its_numbers_and_serves_on(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    full = order_for(orchestrator, tmp_path / "agent", keep_free_bytes=1 << 60)
    orchestrator.wish(SITE, wanted(models["three"], "commit", 2))
    work_until(full, fails_with(orchestrator, "disk"), "the refusal")
    failure = failed(orchestrator)
    assert failure is not None
    assert f"{1 << 60:,}" in failure.detail
    assert committed_digest(order.folder) == models["one"].digest
    work_until(order, lambda: committed_digest(order.folder) == models["three"].digest, "room")


def test_a_disk_that_fills_during_a_transfer_is_told_and_tried_again(
    orchestrator: Orchestrator, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    write, full = os.write, [True]

    def refusing(descriptor: int, data: Any) -> int:
        if full[0] and "staging" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr("gridctl.artifacts.download.os.write", refusing)
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent")

    def seen() -> bool:
        if fails_with(orchestrator, "disk")():
            full[0] = False
        return committed_digest(order.folder) == models["one"].digest

    work_until(order, seen, "room")
    assert not full[0], "it was told first"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"reference": "registry.example.com/m/llama:v2"}, "digest"),
        ({"reference": "not a reference"}, "reference"),
        ({"model": "../../etc"}, "name"),
        ({"model": "A B"}, "name"),
    ],
    ids=["tag", "no-reference", "traversal", "blanks"],
)
def test_a_wish_that_makes_no_sense_is_told_and_the_others_are_followed(
    change: dict[str, str], word: str, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    odd = msgspec.structs.replace(wanted(models["three"], "commit", 1, model="other"), **change)
    orchestrator.wish(SITE, odd, wanted(models["one"], "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent")

    def told() -> bool:
        report = orchestrator.last(SITE)
        return report is not None and any(word in error for error in report.errors)

    work_until(order, lambda: told() and committed_digest(order.folder) == models["one"].digest, "both")
    assert sorted(path.name for path in (order.folder / "models").iterdir()) == ["llama"]


# ── the orchestrator ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_revoked_token_changes_nothing_and_a_new_one_needs_no_restart(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    orchestrator.tokens = {"another"}
    orchestrator.next_sync_s = 0.02
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))

    def renew() -> bool:
        if orchestrator.statuses.count(401) >= 1 and TOKEN in order.token_file.read_text():
            assert committed_digest(order.folder) == models["one"].digest
            order.token_file.write_text("another\n")
        return committed_digest(order.folder) == models["two"].digest

    said = work_until(order, renew, "the new token to be used")
    assert any("does not accept the token" in line for line in said)
    assert not any(TOKEN in line or "another" in line for line in said)


def test_retry_after_of_the_orchestrator_is_kept(orchestrator: Orchestrator, models: Models, tmp_path: Path) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.refusals = [(429, {"retry-after": "1"})]
    orchestrator.wish(SITE)
    work_until(order, lambda: len(orchestrator.statuses) >= 2, "the second sync")
    assert orchestrator.asked_at[1] - orchestrator.asked_at[0] >= 0.8


def test_an_older_desired_state_is_refused_for_good(orchestrator: Orchestrator, models: Models, tmp_path: Path) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.counter = 50
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    work_until(order, lambda: committed_digest(order.folder) == models["one"].digest, "the commit")
    orchestrator.counter = 20
    orchestrator.wish(SITE, wanted(models["two"], "commit", 2))
    count = len(orchestrator.statuses)
    said = work_until(order, lambda: len(orchestrator.statuses) > count + 1, "a refusal")
    assert any("older (counter 21)" in line for line in said)
    assert committed_digest(order.folder) == models["one"].digest


@pytest.mark.parametrize("way", ["unsigned", "by another key", "changed afterwards", "for another site", "expired"])
def test_a_desired_state_that_cannot_be_trusted_is_refused(
    way: str, orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    other = Orchestrator()
    replace = msgspec.structs.replace

    def longer(wishes: tuple[Wanted, ...]) -> tuple[Wanted, ...]:
        return tuple(replace(one, mode="commit") for one in wishes)

    orchestrator.spoil = {
        "unsigned": lambda desired: replace(desired, signature=""),
        "by another key": lambda desired: other.key.sign(desired),
        "changed afterwards": lambda desired: replace(desired, wanted=longer(desired.wanted)),
        "for another site": lambda desired: orchestrator.key.sign(replace(desired, site="de-berlin-01")),
        "expired": lambda desired: orchestrator.key.sign(replace(desired, expires_unix_s=time.time() - 1)),
    }[way]
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE, wanted(models["one"], "stage", 1))
    try:
        said = work_until(order, lambda: len(orchestrator.statuses) > 1, "syncs")
    finally:
        other.close()
    assert any("the desired state is refused" in line for line in said)
    assert not (order.folder / "models/llama").exists()


def test_a_wrong_clock_is_told_and_does_not_expire_what_is_wanted(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    orchestrator.clock_ahead_s = -86_400.0
    orchestrator.life_s = 600.0
    orchestrator.wish(SITE, wanted(models["one"], "commit", 1))
    order = order_for(orchestrator, tmp_path / "agent")

    def told() -> bool:
        report = orchestrator.last(SITE)
        return report is not None and any("-86400 s" in error for error in report.errors)

    work_until(order, lambda: told() and committed_digest(order.folder) is not None, "the commit")
    assert committed_digest(order.folder) == models["one"].digest


def test_another_release_key_than_the_pinned_one_is_refused(
    orchestrator: Orchestrator, models: Models, tmp_path: Path
) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE)
    work_until(order, lambda: len(orchestrator.statuses) > 0, "a sync")
    other = Orchestrator()
    try:
        with pytest.raises(InputError, match="another release key is pinned"):
            work_until(order_for(other, tmp_path / "agent"), lambda: False, "nothing", seconds=3)
    finally:
        other.close()


def test_a_folder_of_another_site_is_refused(orchestrator: Orchestrator, tmp_path: Path) -> None:
    order = order_for(orchestrator, tmp_path / "agent")
    orchestrator.wish(SITE)
    work_until(order, lambda: len(orchestrator.statuses) > 0, "a sync")
    with pytest.raises(InputError, match="belongs to site fr-paris-01"):
        work_until(
            order_for(orchestrator, tmp_path / "agent", site="de-berlin-01"), lambda: False, "nothing", seconds=3
        )
