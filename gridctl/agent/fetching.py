"""Fetching: one version from the registry to the site's disk, from what the site holds already where that is less.

Decides what is refused before a byte of weights moves (the manifest, its names, its signature, the architecture, the
disk), and from which version here the new one is made. Moving and verifying is `artifacts.pull`'s. Invariant: what
lies in the folder on its way is used by nobody until `Versions.install` has given it its place.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from gridctl.agent.journal import JournalFile, Transfer
from gridctl.agent.order import KEEP_FREE_SHARE, Order
from gridctl.agent.steps import Reached, unobserved
from gridctl.agent.versions import Versions
from gridctl.artifacts.checkpoint import read_json
from gridctl.artifacts.contents import bytes_digest
from gridctl.artifacts.download import DiskFullError, WrongDigestError, fetch_small
from gridctl.artifacts.manifest import BASE, CONFIG_TYPE, Manifest, layer_names, read_manifest
from gridctl.artifacts.pace import Pace
from gridctl.artifacts.package import Package
from gridctl.artifacts.pull import MAX_CONFIG_BYTES, FileWay, PullReport, UnsignedError, pull, require_signature
from gridctl.artifacts.recipe import Derivation
from gridctl.artifacts.reference import parse_reference
from gridctl.artifacts.registry_client import RegistryBusyError, RegistryClient
from gridctl.errors import GridctlError, InputError, Interrupted, NotFoundError, UnreachableError
from gridctl.rollout.protocol import Fetching, Reason, Wanted
from gridctl.rollout.windows import is_open

SILENCE_S = 30.0
"""Seconds without a byte after which a registry has stalled; thin links are slow, not silent."""
PERCENT = 100.0
METHODS: Mapping[FileWay, str] = {
    "kept": "reference",
    "copied": "reference",
    "blocks": "delta",
    "delta": "delta",
    "rederived": "rederive",
    "whole": "full",
}


class FetchError(GridctlError):
    """A version that did not come. `is_lasting`: trying again changes nothing before somebody does something."""

    exit_code = 5

    def __init__(self, reason: Reason, what: str, *, is_lasting: bool = False) -> None:
        super().__init__(what)
        self.reason: Reason = reason
        self.is_lasting = is_lasting


class Fetch:
    """One transfer, in a thread of its own. Whoever started it asks for its progress, ends it, and takes the result."""

    def __init__(
        self,
        order: Order,
        wanted: Wanted,
        versions: Versions,
        journal: JournalFile,
        derivations: Mapping[str, Derivation],
        *,
        reached: Reached = unobserved,
        now: Callable[[], float] = time.time,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._order = order
        self.wanted = wanted
        self._versions = versions
        self._journal = journal
        self._derivations = derivations
        self._reached = reached
        self._now = now
        self._tell = done
        self._stop = threading.Event()
        rates = [rate for rate in (order.bandwidth_bytes_per_s, wanted.bandwidth_bytes_per_s) if rate and rate > 0]
        self._pace = Pace(min(rates) if rates else None, pause=self._pause)
        self._done = 0
        self._total = max(1, wanted.disk_bytes)
        self._began = time.monotonic()
        self._seconds: float | None = None
        self._lock = threading.Lock()
        self._report: PullReport | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Stop at the next piece; what came is kept."""
        self._stop.set()
        self._pace.stop()

    def wait(self, seconds: float) -> bool:
        """Whether it is over within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether there is a result to take."""
        return self._seconds is not None

    @property
    def progress(self) -> Fetching:
        """How far it is, and how fast on the whole."""
        share = min(1.0, self._done / self._total)
        return Fetching(self.wanted.version.digest, PERCENT * share, self._done / max(0.001, self.seconds))

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    def take(self) -> float:
        """Install what came; the link's bytes per second. Called by the thread that changes versions.

        Raises: FetchError; Interrupted after `end`."""
        model, digest = self.wanted.model, self.wanted.version.digest
        error, report = self._error, self._report
        if report is None and (self._stop.is_set() or isinstance(error, Interrupted)):
            raise Interrupted("the transfer was stopped", where=model)
        try:
            if error is not None or report is None:
                raise error or FetchError("interrupted", "the transfer ended without a result")
            self._versions.install(model, digest)
            self._journal.end(digest)
            self._reached("unjournalled")
        except Exception as wrong:  # whatever a peer's bytes lead to must not end the agent
            raise _failure(wrong) from None
        method: dict[str, int] = {}
        sizes = {file.name: file.size for file in report.package.files}
        for name, way in report.ways.items():
            method[METHODS[way]] = method.get(METHODS[way], 0) + sizes[name]
        self._versions.set(model, self._versions.pointers(model).receiving(report.moved_bytes, method))
        return report.moved_bytes / max(0.001, self.seconds)

    def _run(self) -> None:
        try:
            self._report = self._pulled(self.wanted.model, self.wanted.version.digest)
        except Exception as error:  # the thread ends here: whoever takes the result judges it
            self._error = error
        self._seconds = time.monotonic() - self._began
        self._tell()

    def _pulled(self, model: str, digest: str) -> PullReport:
        stage = self._versions.folder.stage(model, digest)
        with RegistryClient(
            parse_reference(self.wanted.reference),
            parallel=self._order.parallel,
            silence_s=SILENCE_S,
            pause=self._pause,
        ) as client:
            manifest, names = self._checked_manifest(client, digest)
            self._require_space(manifest)
            base = self._base(model, manifest)
            self._journal.begin(Transfer(model, digest, base.digest if base is not None else None))
            self._reached("journalled")
            stage.mkdir(parents=True, exist_ok=True)
            self._versions.link_held(names, stage)
            self._reached("linked")
            held = [layer.size for layer in manifest.layers if self._versions.folder.blob(layer.digest).exists()]
            self._total = max(1, manifest.total_bytes)
            self._advance(sum(held))
            report = pull(
                client, stage, base=base, pace=self._pace, derivations=self._derivations, advance=self._advance
            )
        self._check_config(stage)
        self._reached("pulled")
        return report

    def _checked_manifest(self, client: RegistryClient, digest: str) -> tuple[Manifest, dict[str, str]]:
        where = str(client.reference)
        data = client.manifest()
        if data is None:
            raise NotFoundError("no such artefact", where=where, fix="push the model to this registry")
        if bytes_digest(data) != digest:
            raise WrongDigestError("the registry gives another manifest", where=where)
        manifest = read_manifest(data, where)
        if manifest.config.mediaType != CONFIG_TYPE:
            raise InputError("the artefact is no model", where=where)
        names = layer_names(manifest, where)
        if self.wanted.requires_signature or self._order.requires_signature:
            if self._order.key_pem is None:
                raise UnsignedError("a signature is required, and no release key is pinned here", where=where)
            require_signature(client, digest, self._versions.folder.key)
        config = fetch_small(client, manifest.config, MAX_CONFIG_BYTES)
        self._check_architecture(_architecture(config), "the artefact's config")
        return manifest, dict(zip(names, (layer.digest for layer in manifest.layers), strict=True))

    def _check_config(self, stage: Path) -> None:
        """The artefact's own config is what somebody said of it; config.json is what the engine reads."""
        path = stage / "config.json"
        if path.is_file():
            self._check_architecture(str(read_json(path).get("model_type") or ""), "config.json")

    def _check_architecture(self, found: str, where: str) -> None:
        allowed = self._order.architectures
        if allowed and found and found not in allowed:
            raise FetchError(
                "architecture",
                f"{where} says {found[:80]!r}; this site's engines load {', '.join(allowed)}",
                is_lasting=True,
            )

    def _require_space(self, manifest: Manifest) -> None:
        """Room for the files that are not held, for a delta as large as the largest, and what must stay free."""
        folder = self._versions.folder
        missing = [layer.size for layer in manifest.layers if not folder.blob(layer.digest).exists()]
        needed = sum(missing) + max(missing, default=0)
        free, total = folder.disk()
        kept = self._order.keep_free_bytes
        spare = round(total * KEEP_FREE_SHARE) if kept is None else kept
        if needed + spare > free:
            raise FetchError(
                "disk",
                f"{needed:,} bytes are needed and {spare:,} stay free, but the disk has {free:,} of {total:,} left",
            )

    def _base(self, model: str, manifest: Manifest) -> Package | None:
        """The version the new one was made from, where it is here; else what is served, else what was."""
        whole, pointers = self._versions.whole(model), self._versions.pointers(model)
        served = [version.digest for version in (pointers.committed, pointers.previous) if version is not None]
        for digest in (manifest.annotations.get(BASE), *served, *sorted(whole)):
            if digest in whole:
                return self._versions.package(model, digest)
        return None

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done += count
        if not is_open(self.wanted.windows, self._now()):
            self.end()

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Interrupted("the transfer was stopped", where=self.wanted.model)


def _architecture(config: bytes) -> str:
    import msgspec

    try:
        return str(msgspec.json.decode(config)["config"].get("architecture") or "")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return ""


def _failure(error: Exception) -> FetchError:
    """The word for what went wrong, and whether it will again."""
    if isinstance(error, FetchError):
        return error
    if isinstance(error, OSError):
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return FetchError("disk", f"{error.strerror or error}", is_lasting=not is_full)
    if isinstance(error, DiskFullError):
        return FetchError("disk", error.what)
    if isinstance(error, UnsignedError):
        return FetchError("signature", error.what, is_lasting=True)
    if isinstance(error, WrongDigestError):
        return FetchError("digest", error.what, is_lasting=True)
    if isinstance(error, RegistryBusyError) and "it answers" in error.what:
        return FetchError("registry", error.what)
    if isinstance(error, UnreachableError):
        return FetchError("network", error.what)
    what = error.what if isinstance(error, GridctlError) else f"{type(error).__name__}: {error}"
    return FetchError("registry", what, is_lasting=True)
