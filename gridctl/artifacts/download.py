"""Download: one blob from a registry into a file, from where a broken download stopped.

Decides where bytes come from (this disk or the registry) and checks the whole by digest before the file gets its name.
Invariants: no byte is served from a partial file; a partial file is only ever a prefix of the blob, and one that does
not lead to the digest is removed; no more than the promised size is ever written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gridctl.artifacts.blockindex import Segment
from gridctl.artifacts.contents import READ_BYTES
from gridctl.artifacts.manifest import Descriptor
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.registry_client import RegistryBusyError, RegistryClient, read_bounded
from gridctl.errors import InputError, UnreachableError

if TYPE_CHECKING:
    import httpx

TRIES = 6
"""Requests in a row that may bring nothing."""


class DiskFullError(InputError):
    """The disk took no more bytes; what came is kept for the next try."""


class WrongDigestError(InputError):
    """What came is not what its digest says; it was removed."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def fetch_small(client: RegistryClient, blob: Descriptor, limit: int) -> bytes:
    """A small blob, checked. Raises: InputError when it is larger than `limit` bytes or not what its digest says."""
    url = client.path(f"blobs/{blob.digest}")
    if blob.size > limit:
        raise InputError(f"a blob larger than {limit} bytes", where=url, fix="check the reference")
    with client.exchange("GET", url, (200,)) as response:
        data = read_bounded(response, blob.size, url)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != blob.digest:
        raise _corrupt(url)
    return data


def fetch_blob(
    client: RegistryClient,
    blob: Descriptor,
    target: Path,
    partials: Path,
    pace: Pace,
    *,
    parts: Sequence[Segment] = (),
    advance: Callable[[int], None] | None = None,
) -> int:
    """Make `target` the blob and return the bytes that came from the registry.

    `parts` cover the blob from first byte to last; without them all of it comes from the registry. Raises: InputError
    for a wrong digest, UnreachableError when the registry stops delivering; what came by then is kept for the next try.
    """
    partials.mkdir(parents=True, exist_ok=True)
    partial = partials / blob.digest[7:]
    download = _Download(client, blob, partial, pace, advance)
    with partial.open("ab") as file:
        download.resume(file.fileno())
        position = 0
        for part in parts or (Segment(blob.size),):
            download.fill(position, part)
            position += part.length
        os.fsync(file.fileno())
    if download.hexdigest() != blob.digest[7:]:
        partial.unlink()
        raise _corrupt(client.path(f"blobs/{blob.digest}"))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
    return download.received


class _Download:
    """A blob's prefix on disk, growing."""

    def __init__(
        self,
        client: RegistryClient,
        blob: Descriptor,
        partial: Path,
        pace: Pace,
        advance: Callable[[int], None] | None,
    ) -> None:
        self._client = client
        self._blob = blob
        self._partial = partial
        self._pace = pace
        self._advance = advance
        self._digest: _Digest = hashlib.sha256()
        self._file = -1
        self._held = 0
        self.received = 0

    def resume(self, file: int) -> None:
        """Take up what an earlier try left."""
        self._file = file
        with self._partial.open("rb", buffering=0) as held:
            while piece := held.read(READ_BYTES):
                self._digest.update(piece)
                self._held += len(piece)
        if self._held > self._blob.size:
            self._restart()
        if self._advance is not None:
            self._advance(self._held)

    def hexdigest(self) -> str:
        """Of the prefix."""
        return self._digest.hexdigest()

    def fill(self, position: int, part: Segment) -> None:
        """Extend the prefix to the end of this part, which begins at `position` of the blob."""
        end = position + part.length
        failures = 0
        while self._held < end:
            if part.path is not None:
                self._copy(part.path, part.offset + self._held - position, end - self._held)
                continue
            before = self._held
            reason = self._get(end)
            if self._held >= end:
                return
            failures = 0 if self._held > before else failures + 1
            if failures >= TRIES or self._held < position:
                raise RegistryBusyError(
                    f"the registry stops delivering: {reason}", where=self._url, fix="pull again", wait_s=0.0
                )
            self._client.pause(min(30.0, 0.25 * 2**failures))

    @property
    def _url(self) -> str:
        return self._client.path(f"blobs/{self._blob.digest}")

    def _copy(self, path: Path, offset: int, length: int) -> None:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while length > 0:
                piece = file.read(min(READ_BYTES, length))
                if not piece:
                    raise InputError("a file of the base became shorter", where=str(path), fix="pull without --base")
                self._append(piece)
                length -= len(piece)

    def _get(self, end: int) -> str:
        """Ask for the bytes up to `end`; returns why they did not all come."""
        import httpx

        is_whole = self._held == 0 and end == self._blob.size
        headers = {} if is_whole else {"range": f"bytes={self._held}-{end - 1}"}
        try:
            with self._client.exchange("GET", self._url, (200, 206), headers=headers) as response:
                if response.status_code == 200 and self._held:
                    self._restart()  # a registry without ranges begins again at the first byte
                return self._stream(response, end if response.status_code == 206 else self._blob.size)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        except UnreachableError as error:
            return error.what

    def _stream(self, response: httpx.Response, end: int) -> str:
        asked = response.headers.get("content-range", "")
        if response.status_code == 206 and not asked.startswith(f"bytes {self._held}-"):
            raise InputError("the registry gives another range than asked for", where=self._url, fix="use another one")
        for piece in response.iter_raw():
            self._pace.take(len(piece))
            if self._held + len(piece) > end:
                raise InputError("the registry sends more than the blob's size", where=self._url, fix="push it again")
            self.received += len(piece)
            self._append(piece)
        return "the answer is cut short"

    def _append(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(self._file, view) :]
            except OSError as error:
                raise DiskFullError(
                    f"cannot write: {error.strerror}", where=str(self._partial), fix="free space and pull again"
                ) from None
        self._digest.update(piece)
        self._held += len(piece)
        if self._advance is not None:
            self._advance(len(piece))

    def _restart(self) -> None:
        os.ftruncate(self._file, 0)
        self._digest = hashlib.sha256()
        self._held = 0


def _corrupt(url: str) -> WrongDigestError:
    return WrongDigestError(
        "the blob is not what its digest says: refused", where=url, fix="pull again; if it stays so, push it again"
    )
