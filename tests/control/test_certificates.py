"""TLS certificates that are renewed on the disk: taken up without a restart, by contexts that serve; never half."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from gridctl.control.certificates import Certificates
from gridctl.control.order import Tls, server_context

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificates")


def make(folder: Path, name: str) -> Tls:
    """A certificate of that name and its key, in files that are put in place one after the other, as renewals do."""
    drafts = folder / f"{name}.cert", folder / f"{name}.key"
    subprocess.run(
        [str(OPENSSL), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
         "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", drafts[1], "-out",
         drafts[0]],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return Tls(*drafts)


def put(new: Tls, at: Tls) -> None:
    shutil.copy(new.key, at.key)
    shutil.copy(new.certificate, at.certificate)


def served(context: ssl.SSLContext) -> bytes:
    """The certificate that a server with this context shows, as DER."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(theirs, server_side=True) as server:
            server.recv(1)

    server = threading.Thread(target=serve)
    server.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with client.wrap_socket(ours) as connection:
        shown = connection.getpeercert(binary_form=True)
        connection.send(b"x")
    server.join(10)
    assert shown is not None
    return shown


def der(tls: Tls) -> bytes:
    return ssl.PEM_cert_to_DER_cert(tls.certificate.read_text())


def test_a_renewed_pair_is_served_from_the_next_look_on_and_workers_hear_of_it(tmp_path: Path) -> None:
    used = make(tmp_path, "used")
    first, second = der(used), make(tmp_path, "second")
    said: list[str] = []
    told: list[int] = []
    certificates = Certificates(used, lambda: told.append(1), said.append)
    context = server_context(used)
    certificates.use(context)
    assert not certificates.look()
    assert served(context) == first
    put(second, used)
    assert certificates.look()
    assert served(context) == der(second)
    assert (told, len(said)) == ([1], 1)
    assert not certificates.look()


def test_a_certificate_without_its_key_changes_nothing_and_is_said_once(tmp_path: Path) -> None:
    used = make(tmp_path, "used")
    first, second = der(used), make(tmp_path, "second")
    said: list[str] = []
    certificates = Certificates(used, lambda: pytest.fail("no worker may hear of it"), said.append)
    context = server_context(used)
    certificates.use(context)
    shutil.copy(second.certificate, used.certificate)
    assert not certificates.look()
    assert not certificates.look()
    used.key.write_text("garbage")
    assert not certificates.look()
    used.key.unlink()
    assert not certificates.look()
    assert served(context) == first
    assert len(said) == 3
    assert all("the one before stays" in one for one in said)
