"""Pointers: which versions of a model a site serves, fell back from and tries, as one value.

One file holds all of them, because a commit moves two at once and must not be seen half done. Each change makes a new
value; whoever writes it down replaces the file by a rename. Invariants: a trial never takes the place of the committed
version, so there is always something to go back to; an attempt is counted before the version is loaded, so that one
which takes the machine down is not tried for ever; the counter of what was asked for never falls.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gridctl.errors import StoreError
from gridctl.rollout.protocol import Failure, Version

MAX_ATTEMPTS = 3
"""Loads of one version, under one counter, that may fail."""


class Pointers(msgspec.Struct, frozen=True, kw_only=True):
    """What a site knows of one model. `attempts` are loads of `attempted` that are not known to be good; `highest` is
    the highest counter that was asked for; `method` counts bytes by how they came."""

    committed: Version | None = None
    previous: Version | None = None
    trial: Version | None = None
    attempted: Version | None = None
    attempts: int = 0
    highest: int = 0
    failed: Failure | None = None
    bytes_received: int = 0
    method: dict[str, int] = {}

    @property
    def named(self) -> frozenset[str]:
        """Digests that must stay on the disk."""
        return frozenset(v.digest for v in (self.committed, self.previous, self.trial) if v is not None)

    def role(self, digest: str) -> Literal["committed", "trial", "previous", "staged"]:
        """What a version on the disk is to the site."""
        if self.committed is not None and self.committed.digest == digest:
            return "committed"
        if self.trial is not None and self.trial.digest == digest:
            return "trial"
        return "previous" if self.previous is not None and self.previous.digest == digest else "staged"

    def attempts_of(self, version: Version) -> int:
        """Loads of this version, under this counter, that are not known to be good."""
        return self.attempts if self.attempted == version else 0

    def asked(self, version: Version) -> Pointers:
        """This version was asked for; what failed under lower counters is history."""
        if version.counter <= self.highest:
            return self
        return msgspec.structs.replace(self, highest=version.counter, failed=None)

    def trying(self, version: Version) -> Pointers:
        """About to be loaded."""
        count = self.attempts_of(version) + 1
        return msgspec.structs.replace(self, trial=version, attempted=version, attempts=count)

    def committing(self) -> Pointers:
        """The trial is what the site serves from now on."""
        if self.trial is None:
            return self
        kept = self.previous if self._is_same(self.trial) else self.committed
        return msgspec.structs.replace(
            self, committed=self.trial, previous=kept, trial=None, attempted=None, attempts=0, failed=None
        )

    def renumbered(self, version: Version) -> Pointers:
        """What is committed was released again under another counter: nothing moves."""
        return msgspec.structs.replace(self, committed=version, failed=None)

    def reverted(self, *, is_version_at_fault: bool) -> Pointers:
        """Without the trial. One that ended for another reason than itself gets its attempt back."""
        count = self.attempts if is_version_at_fault else max(0, self.attempts - 1)
        return msgspec.structs.replace(self, trial=None, attempts=count)

    def given_up(self) -> Pointers:
        """What was attempted is not tried again under this counter."""
        return msgspec.structs.replace(self, attempts=MAX_ATTEMPTS)

    def failing(self, failure: Failure | None) -> Pointers:
        """With what went wrong last; None when it went well again."""
        return self if failure == self.failed else msgspec.structs.replace(self, failed=failure)

    def receiving(self, moved: int, method: dict[str, int]) -> Pointers:
        """A version has come, so many bytes over the link."""
        total = dict(self.method)
        for way, count in method.items():
            total[way] = total.get(way, 0) + count
        return msgspec.structs.replace(self, bytes_received=self.bytes_received + moved, method=total)

    def without(self, digests: frozenset[str]) -> Pointers:
        """With nothing that names these versions: they turned out damaged. The previous version takes the place of a
        committed one."""

        def sound(version: Version | None) -> Version | None:
            return None if version is None or version.digest in digests else version

        committed, previous = sound(self.committed), sound(self.previous)
        if committed is None and self.committed is not None:
            committed, previous = previous, None
        return msgspec.structs.replace(self, committed=committed, previous=previous, trial=sound(self.trial))

    def _is_same(self, version: Version) -> bool:
        return self.committed is not None and self.committed.digest == version.digest


def read_pointers(data: bytes, where: str) -> Pointers:
    """Pointers as written down. Raises: StoreError, for a file of a newer gridctl too."""
    try:
        return msgspec.json.decode(data, type=Pointers)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"the pointers cannot be read: {error}", where=where, fix="restore the file, or remove the model's folder"
        ) from None
