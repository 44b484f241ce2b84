"""Upload: blobs to a registry, whatever breaks on the way.

Decides how a blob gets there: it may be there already, be mounted from another repository, go in one request, or in
chunks. Invariants: after any error the registry is asked how much it holds before another byte is sent (some registries
append a repeated chunk without a word); a blob counts as sent only when the registry has confirmed its digest. What
chunks have reached is noted in a journal, so a killed push goes on where the registry is.

Source: OCI distribution specification 1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from gridctl.artifacts.contents import READ_BYTES, bytes_digest, write_whole
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.registry_client import COMMIT_S, RegistryBusyError, RegistryClient
from gridctl.errors import InputError, NotFoundError

CHUNK_BYTES = 64 << 20
RESTARTS = 3
"""Sessions tried for one blob: registries forget them when they restart."""
TRIES = 6
"""Chunks in a row that may fail without one that succeeds."""

Way = Literal["present", "mounted", "sent"]


@dataclass(frozen=True, slots=True)
class Blob:
    """What to send: a file, or bytes at hand."""

    digest: str
    size: int
    path: Path | None = None
    data: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Bytes at hand as a blob."""
        return cls(bytes_digest(data), len(data), None, data)

    def read(self, offset: int, length: int) -> Iterable[bytes]:
        """Bytes from `offset`, piece by piece."""
        if self.path is None:
            yield self.data[offset : offset + length]
            return
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length > 0:
                piece = file.read(min(READ_BYTES, length))
                if not piece:
                    raise InputError(
                        "the file became shorter while it was sent", where=str(self.path), fix="package it again"
                    )
                length -= len(piece)
                yield piece


class Journal:
    """Upload sessions that a killed push left behind, by registry, repository and digest."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._sessions: dict[str, str] = {}
        if path is not None and path.is_file():
            try:
                self._sessions = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
            except msgspec.DecodeError:
                self._sessions = {}

    def session(self, key: str) -> str | None:
        """The address at which the upload goes on."""
        return self._sessions.get(key)

    def note(self, key: str, address: str | None) -> None:
        """Keep or, with None, forget a session."""
        with self._lock:
            if address is None:
                if self._sessions.pop(key, None) is None:
                    return
            else:
                self._sessions[key] = address
            if self._path is not None:
                write_whole(self._path, msgspec.json.encode(self._sessions))


def send_blob(
    client: RegistryClient,
    blob: Blob,
    journal: Journal,
    pace: Pace,
    *,
    mount_from: Sequence[str] = (),
    chunk_bytes: int = CHUNK_BYTES,
    advance: Callable[[int], None] | None = None,
) -> Way:
    """Have the registry hold the blob. Raises: InputError when it is not what its digest says, UnreachableError."""
    if client.has_blob(blob.digest):
        return "present"
    key = f"{client.reference.origin}/{client.reference.repository} {blob.digest}"
    address = journal.session(key)
    for repository in mount_from if address is None else ():
        address = _mounted(client, blob.digest, repository)
        if address is None:
            return "mounted"
    upload = _Upload(client, blob, journal, key, pace, chunk_bytes, advance)
    for _ in range(RESTARTS):
        if upload.run(address):
            return "sent"
        address = None
    raise RegistryBusyError(
        "the registry keeps forgetting the upload", where=key, fix="run the command again", wait_s=0.0
    )


def _mounted(client: RegistryClient, digest: str, repository: str) -> str | None:
    """None when the blob was mounted; else the session that the registry opened in its place."""
    query = f"blobs/uploads/?mount={digest}&from={repository}"
    with client.exchange("POST", client.path(query), (201, 202), body=b"") as response:
        return None if response.status_code == 201 else _location(response.url, response.headers)


class _Upload:
    """One blob on its way."""

    def __init__(
        self,
        client: RegistryClient,
        blob: Blob,
        journal: Journal,
        key: str,
        pace: Pace,
        chunk_bytes: int,
        advance: Callable[[int], None] | None,
    ) -> None:
        self._client = client
        self._blob = blob
        self._journal = journal
        self._key = key
        self._pace = pace
        self._chunk = chunk_bytes
        self._advance = advance

    def run(self, address: str | None) -> bool:
        """Send in one session, a new one unless `address` is given; False when the registry has lost it."""
        offset = 0
        if address is None:
            address = self._begin()
        else:
            found = self._held(address)
            if found is None:
                self._journal.note(self._key, None)
                return False
            address, offset = found
        failures = 0
        while True:
            try:
                if offset >= self._blob.size or (self._blob.size <= self._chunk and offset == 0):
                    self._commit(address, offset)
                    return True
                address, offset = self._patch(address, offset)
                self._journal.note(self._key, address)
                failures = 0
            except (RegistryBusyError, NotFoundError) as error:
                failures += 1
                if failures >= TRIES:
                    raise
                if isinstance(error, RegistryBusyError):
                    self._client.pause(error.wait_s)
                if self._client.has_blob(self._blob.digest):  # the answer was lost, not the blob
                    self._journal.note(self._key, None)
                    return True
                found = self._held(address)
                if found is None:
                    self._journal.note(self._key, None)
                    return False
                address, offset = found

    def _begin(self) -> str:
        with self._client.exchange("POST", self._client.path("blobs/uploads/"), (202,), body=b"") as response:
            floor = response.headers.get("oci-chunk-min-length", "")
            if floor.isdigit():
                self._chunk = max(self._chunk, int(floor))
            return _location(response.url, response.headers)

    def _held(self, address: str) -> tuple[str, int] | None:
        """Where to go on and from which byte; None when the registry does not know the session."""
        try:
            with self._client.exchange("GET", address, (204, 404, 400)) as response:
                if response.status_code != 204:
                    return None
                held = _held_bytes(response.headers.get("range", ""))
                return (_location(response.url, response.headers), held) if held <= self._blob.size else None
        except NotFoundError:
            return None

    def _patch(self, address: str, offset: int) -> tuple[str, int]:
        length = min(self._chunk, self._blob.size - offset)
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(length),
            "content-range": f"{offset}-{offset + length - 1}",
        }
        body = self._body(offset, length)
        with self._client.exchange("PATCH", address, (202, 416), headers=headers, body=body, attempts=1) as response:
            if response.status_code == 416:
                raise RegistryBusyError(
                    "the registry holds other bytes", where=address, fix="run the command again", wait_s=0.0
                )
            return _location(response.url, response.headers), offset + length

    def _commit(self, address: str, offset: int) -> None:
        import httpx

        url = str(httpx.URL(address).copy_merge_params({"digest": self._blob.digest}))
        length = self._blob.size - offset
        headers = {"content-type": "application/octet-stream", "content-length": str(length)}
        body = self._body(offset, length) if length else b""
        try:
            with self._client.exchange(
                "PUT", url, (201, 204), headers=headers, body=body, silence_s=COMMIT_S, attempts=1
            ):
                self._journal.note(self._key, None)
        except InputError as error:
            self._journal.note(self._key, None)
            where = str(self._blob.path or self._blob.digest)
            raise InputError(error.what, where=where, fix="the file changed since: package it again") from None

    def _body(self, offset: int, length: int) -> Callable[[], Iterable[bytes]]:
        def stream() -> Iterable[bytes]:
            for piece in self._blob.read(offset, length):
                self._pace.take(len(piece))
                yield piece
                if self._advance is not None:
                    self._advance(len(piece))

        return stream


def _location(url: object, headers: object) -> str:
    import httpx

    assert isinstance(url, httpx.URL)
    assert isinstance(headers, httpx.Headers)
    location = headers.get("location", "")
    if not location:
        raise InputError("the registry does not say where the upload goes on", where=str(url), fix="use another one")
    return str(url.join(location))


def _held_bytes(header: str) -> int:
    """Bytes held by a `Range: 0-b`; `0-0` is how registries say none, because we never send a chunk of one byte."""
    last = header.removeprefix("bytes=").partition("-")[2]
    if not last.isdigit() or last == "0":
        return 0
    return int(last) + 1
