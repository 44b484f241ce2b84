"""Push: a package to a registry, with what lets sites fetch little of it.

Decides the order, which is what makes a push safe to break at any moment: blobs, then block indexes, delta and
signature, then the manifest by digest, and the tag last. Whoever resolves the tag finds everything it leads to. A push
that is repeated sends only what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gridctl.artifacts.blockindex import INDEX_ARTIFACT, INDEX_LAYER, build_index, index_tag
from gridctl.artifacts.contents import MARK_FOLDER, file_digest
from gridctl.artifacts.delta import is_tensor_file
from gridctl.artifacts.deltaplan import read_plan
from gridctl.artifacts.manifest import EMPTY, MAX_MANIFEST_BYTES, Descriptor, side_manifest
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.package import Package
from gridctl.artifacts.registry_client import RegistryClient
from gridctl.artifacts.signature import CONFIG, payload, sign, signature_manifest, signature_tag
from gridctl.artifacts.upload import CHUNK_BYTES, Blob, Journal, Way, send_blob
from gridctl.errors import InputError

DELTA_ARTIFACT = "application/vnd.gridctl.delta.v1"
DELTA_LAYER = "application/vnd.gridctl.delta.v1.zstd"
JOURNAL = "uploads.json"
INDEXED_BYTES = 4 << 20
"""Smaller weight files are fetched whole: their index would cost more requests than it saves."""


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did: blobs and bytes by way."""

    digest: str
    blobs: int
    sent_bytes: int
    present_bytes: int
    mounted_bytes: int


def delta_tag(base_digest: str, target_digest: str) -> str:
    """The tag at which the delta from one manifest to another is."""
    return f"delta-{base_digest[7:19]}-{target_digest[7:19]}"


def push(
    package: Package,
    client: RegistryClient,
    *,
    delta: Path | None = None,
    key: Path | None = None,
    mount_from: Sequence[str] = (),
    pace: Pace | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    with_index: bool = True,
    advance: Callable[[int], None] | None = None,
) -> PushReport:
    """Push the package to the client's reference. Raises: InputError, UnreachableError; repeating goes on."""
    journal = Journal(package.folder / MARK_FOLDER / JOURNAL if package.is_stored else None)
    sending = _Sending(client, journal, pace or Pace(None), mount_from, chunk_bytes, advance)
    blobs = {file.digest: Blob(file.digest, file.size, file.path) for file in package.files}
    config = Blob.of(package.config_bytes)
    sending.all([*sorted(blobs.values(), key=lambda blob: -blob.size), config])
    if with_index:
        for file in package.files:
            if is_tensor_file(file) and file.size >= INDEXED_BYTES:
                data = msgspec.json.encode(build_index(file))
                sending.beside(package, Blob.of(data), INDEX_ARTIFACT, INDEX_LAYER, index_tag(file.digest))
    if delta is not None:
        sending.beside(package, _delta_blob(package, delta), DELTA_ARTIFACT, DELTA_LAYER, _tag_of(delta))
    if key is not None:
        _sign(package, sending, key)
    client.put_manifest(package.manifest_bytes, package.digest)
    if not client.reference.digest:
        client.put_manifest(package.manifest_bytes, client.reference.version)
    return sending.report(package.digest)


class _Sending:
    """The blobs of one push."""

    def __init__(
        self,
        client: RegistryClient,
        journal: Journal,
        pace: Pace,
        mount_from: Sequence[str],
        chunk_bytes: int,
        advance: Callable[[int], None] | None,
    ) -> None:
        self.client = client
        self._journal = journal
        self._pace = pace
        self._mount_from = tuple(name for name in mount_from if name != client.reference.repository)
        self._chunk_bytes = chunk_bytes
        self._advance = advance
        self._ways: list[tuple[Way, int]] = []

    def all(self, blobs: Sequence[Blob]) -> None:
        """Send them, several at a time; the first failure stops those under way at their next piece."""
        with ThreadPoolExecutor(self.client.parallel) as pool:
            futures = [pool.submit(self._one, blob) for blob in blobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self._pace.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def beside(self, package: Package, blob: Blob, artifact: str, layer_type: str, tag: str) -> None:
        """Send an artefact about the package."""
        self.all([blob, Blob.of(EMPTY)])
        layer = Descriptor(layer_type, blob.digest, blob.size)
        self.client.put_manifest(side_manifest(artifact, layer, package.descriptor), tag)

    def report(self, digest: str) -> PushReport:
        """What came to pass."""
        total: dict[Way, int] = {"sent": 0, "present": 0, "mounted": 0}
        for way, size in self._ways:
            total[way] += size
        return PushReport(digest, len(self._ways), total["sent"], total["present"], total["mounted"])

    def _one(self, blob: Blob) -> None:
        way = send_blob(
            self.client,
            blob,
            self._journal,
            self._pace,
            mount_from=self._mount_from,
            chunk_bytes=self._chunk_bytes,
            advance=self._advance,
        )
        self._ways.append((way, blob.size))


def _delta_blob(package: Package, delta: Path) -> Blob:
    if read_plan(delta).target != package.digest:
        raise InputError("the delta is not to this package", where=str(delta), fix="make it again")
    return Blob(file_digest(delta), delta.stat().st_size, delta)


def _tag_of(delta: Path) -> str:
    plan = read_plan(delta)
    return delta_tag(plan.base, plan.target)


def _sign(package: Package, sending: _Sending, key: Path) -> None:
    reference = sending.client.reference
    text = payload(package.digest, f"{reference.host}/{reference.repository}")
    data = signature_manifest(text, sign(text, key))
    assert len(data) < MAX_MANIFEST_BYTES
    sending.all([Blob.of(text), Blob.of(CONFIG)])
    sending.client.put_manifest(data, signature_tag(package.digest))
