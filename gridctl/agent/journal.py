"""Journal: what an agent must not forget, whatever ends it.

The last desired state it took, so that it goes on offline; the highest counter it ever saw, so that an older document
is refused for good; which transfers are under way and from which base, so that neither is swept away; whether it ended
in order. Invariant: a counter, once written, never falls, not even with another desired state.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gridctl.agent.folder import write_durably
from gridctl.errors import StoreError
from gridctl.rollout.protocol import Desired

SEQUENCES = 1_000
"""Numbers of reports taken at a time: one write in so many reports instead of one in each."""


class Transfer(msgspec.Struct, frozen=True):
    """A version on its way, and the version it is made from, if any."""

    model: str
    digest: str
    base: str | None = None


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """`key` names the pinned release key, whose counters these are; `highest` is the highest counter seen;
    `is_clean` is True while no agent runs and the last one ended in order."""

    site: str
    key: str = ""
    highest: int = -1
    desired: Desired | None = None
    etag: str = ""
    accepted_unix_s: float = 0.0
    clock_ahead_s: float = 0.0
    next_sequence: int = 0
    is_clean: bool = True
    transfers: tuple[Transfer, ...] = ()

    @property
    def wanted(self) -> frozenset[str]:
        """Digests of the versions that should be on the disk."""
        wishes = self.desired.wanted if self.desired is not None else ()
        return frozenset(wanted.version.digest for wanted in wishes if wanted.mode != "absent")

    @property
    def generation(self) -> int:
        """Of the last desired state taken; 0 before the first."""
        return self.desired.generation if self.desired is not None else 0


class JournalFile:
    """The journal on the disk. Safe among threads."""

    def __init__(self, path: Path, site: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.value = self._read(site)
        self.was_clean = self.value.is_clean
        if self.value.site != site:
            raise StoreError(
                f"the folder belongs to site {self.value.site}",
                where=str(path),
                fix=f"--site {self.value.site}, or another --folder",
            )

    def change(self, **fields: object) -> None:
        """Change fields, on the disk before this returns."""
        with self._lock:
            self._write(fields)

    def take_sequences(self) -> int:
        """The first of the next numbers of reports."""
        with self._lock:
            first = self.value.next_sequence
            self._write({"next_sequence": first + SEQUENCES})
        return first

    def begin(self, transfer: Transfer) -> None:
        """A version is on its way."""
        with self._lock:
            others = tuple(t for t in self.value.transfers if t.digest != transfer.digest)
            self._write({"transfers": (*others, transfer)})

    def end(self, digest: str) -> None:
        """It is there, or not wanted any more."""
        with self._lock:
            left = tuple(t for t in self.value.transfers if t.digest != digest)
            if left != self.value.transfers:
                self._write({"transfers": left})

    def keep_only(self, digests: frozenset[str]) -> None:
        """Forget transfers of other versions: they are here, or nobody wants them any more."""
        with self._lock:
            left = tuple(t for t in self.value.transfers if t.digest in digests)
            if left != self.value.transfers:
                self._write({"transfers": left})

    def _write(self, fields: Mapping[str, object]) -> None:
        changed = msgspec.structs.replace(self.value, **fields)
        write_durably(self._path, msgspec.json.encode(changed))
        self.value = changed

    def _read(self, site: str) -> Journal:
        return read_journal(self._path) or Journal(site=site)


def read_journal(path: Path) -> Journal | None:
    """The journal of a folder; None where no agent has run. Raises: StoreError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Journal)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(
            f"the journal cannot be read: {error}",
            where=str(path),
            fix="restore it; without it an older desired state could not be told from a newer one",
        ) from None
