"""Accepting: on any kind of socket, without descriptors, and over TLS."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from gateway_parts import (
    ANSWER,
    CHAT,
    STREAMED,
    StandInBoard,
    StandInBroker,
    StandInMeter,
    in_thread,
    plan_of,
    read_answer,
    request,
    running_gateway,
    scripted_engine,
    serves,
)

from gridctl.gateway.deadlines import Deadlines
from gridctl.gateway.server import Server
from gridctl.gateway.serving import Serving


class NoDescriptors:
    """A listener of a process that has no descriptor left."""

    family = socket.AF_INET

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.tried = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)

    def accept(self) -> tuple[socket.socket, object]:
        self.tried += 1
        if self.tried == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


def serving_of(urls: list[str]) -> Serving:
    plan = plan_of(urls)
    return Serving(
        plan, StandInBroker(plan), StandInMeter(), StandInBoard(), 0, Deadlines(time.monotonic_ns())  # type: ignore[arg-type]
    )  # fmt: skip


def test_without_descriptors_accepting_pauses_and_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    listener = NoDescriptors(socket.create_server(("127.0.0.1", 0)))
    with scripted_engine(serves) as engine, in_thread() as loop:

        async def start() -> Server:
            server = Server(serving_of([engine.url]), [listener])  # type: ignore[list-item]
            server.start()
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
        with socket.create_connection(listener._listener.getsockname(), timeout=5) as connection:
            connection.sendall(request(CHAT))
            assert read_answer(connection).json == ANSWER
        asyncio.run_coroutine_threadsafe(server.closed(), loop).result(5)
    assert listener.tried >= 2
    assert server.pauses >= 1
    assert "ulimit -n" in capfd.readouterr().err


def test_a_unix_socket_serves_as_well(tmp_path: Path) -> None:
    path = str(tmp_path / "data.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    with scripted_engine(serves) as engine, in_thread() as loop:

        async def start() -> Server:
            server = Server(serving_of([engine.url]), [listener])
            server.start()
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(request(CHAT) + request(STREAMED))
            held = bytearray()
            assert read_answer(connection, held).json == ANSWER
            assert read_answer(connection, held).body.endswith(b"data: [DONE]\n\n")
        asyncio.run_coroutine_threadsafe(server.closed(), loop).result(5)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_over_tls_the_same_is_served_and_nonsense_is_turned_away(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, key)
    theirs = ssl.create_default_context(cafile=str(certificate))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with scripted_engine(serves) as engine, in_thread() as loop:

        async def start() -> Server:
            server = Server(serving_of([engine.url]), [listener], context=ours)
            server.start()
            return server

        server = asyncio.run_coroutine_threadsafe(start(), loop).result(5)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            plain.sendall(request(CHAT))
            try:
                assert b"HTTP/1.1 200" not in plain.recv(4096)
            except ConnectionError:
                plain.close()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            theirs.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            connection.sendall(request(CHAT) + request(STREAMED))
            held = bytearray()
            assert read_answer(connection, held).json == ANSWER
            assert read_answer(connection, held).body.endswith(b"data: [DONE]\n\n")
        asyncio.run_coroutine_threadsafe(server.closed(), loop).result(5)


def test_hundreds_of_idle_connections_cost_kilobytes_each() -> None:
    import tracemalloc

    with scripted_engine(serves) as engine, running_gateway([engine.url]) as gateway:
        tracemalloc.start()
        connections = [gateway.connect() for _ in range(300)]
        for connection in connections:
            connection.sendall(request(CHAT))
            assert read_answer(connection).status == 200
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gateway.meter.rows.clear()
        assert size / 300 < 30_000  # the clients' sockets and the meter's rows of this test among it
        for connection in connections:
            connection.close()


def test_a_request_that_has_ended_is_freed_at_once_and_not_by_the_collector() -> None:
    import gc

    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.exchange import Exchange

    with scripted_engine(serves) as engine, running_gateway([engine.url]) as gateway:
        gc.collect()
        gc.disable()
        try:
            with gateway.connect() as connection:
                held = bytearray()
                for _ in range(20):
                    connection.sendall(request(CHAT) + request(STREAMED) + request(b"{"))
                    for _ in range(3):
                        read_answer(connection, held)
                gateway.settled()
                left = [one for one in gc.get_objects() if isinstance(one, Exchange | Attempt)]
        finally:
            gc.enable()
    assert len(left) <= 2
