"""Ledger: each workload's account of promised and served answers, in a file that outlives the keeper to the last event.

Decides what a restart may believe. The file is mapped memory, so what was written stands after kill -9; each record has
two places, written in turn with a checksum, so one torn by the kill leaves the one before it. A verdict is written
before it is told to anyone. Labels that were awaited when the keeper died count as wrong. After the machine itself was
restarted (its boot has another identity) the last writes may be missing, so every account begins a new epoch with no
labels: it serves nothing until new ones come. A file that cannot be read does the same. So a crash makes an account
more careful, never less.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zlib
from pathlib import Path

from gridctl.cache.standing import Standing
from gridctl.errors import StoreError

FILE = "accounts.state"
MOST_WORKLOADS = 1_024
_MAGIC = b"gcledgr1"
_PLACE_BYTES = 256
_HEADER_BYTES = 4_096
_SIZE = _HEADER_BYTES + 2 * _PLACE_BYTES * MOST_WORKLOADS
_HEAD = struct.Struct("<16sQI")
_BODY = struct.Struct("<14d2q2q")


class Ledger:
    """The accounts' file, mapped."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.is_same_boot = False
        self._places: dict[bytes, int] = {}
        self._counts: dict[int, int] = {}
        try:
            self._memory = self._open()
        except OSError as error:
            raise StoreError(
                f"the cache's accounts cannot be kept: {error.strerror}",
                where=str(self.path),
                fix="make room on the disk, and check the folder's owner and permissions",
            ) from error
        self._read_places()

    def close(self) -> None:
        """Write everything to the disk and let go."""
        self._memory.flush()
        self._memory.close()

    def read(self, workload: str) -> Standing | None:
        """The newest whole record of a workload, None when there is none."""
        place = self._places.get(_name(workload))
        if place is None:
            return None
        found = [record for record in (self._record(place, turn) for turn in (0, 1)) if record is not None]
        return max(found, key=lambda record: record[0])[1] if found else None

    def write(self, workload: str, state: Standing) -> bool:
        """Keep a workload's account; False when there is no room for another workload."""
        name = _name(workload)
        place = self._places.get(name)
        if place is None:
            if len(self._places) >= MOST_WORKLOADS:
                return False
            place = self._places[name] = len(self._places)
        count = self._counts.get(place, 0) + 1
        body = _BODY.pack(*(getattr(state, field) for field in Standing.__struct_fields__))
        start = _start(place, count & 1)
        check = zlib.crc32(body, zlib.crc32(name + count.to_bytes(8, "little")))
        self._memory[start : start + _HEAD.size + _BODY.size] = _HEAD.pack(name, count, check) + body
        self._counts[place] = count
        return True

    def sync(self) -> None:
        """Ask the system to write the file to the disk; for the machine's sake, not the process's."""
        self._memory.flush()

    def _open(self) -> mmap.mmap:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            is_whole = os.fstat(descriptor).st_size == _SIZE and os.pread(descriptor, 8, 0) == _MAGIC
            boot = _boot()
            self.is_same_boot = is_whole and os.pread(descriptor, 16, 8) == boot
            if not is_whole:
                os.ftruncate(descriptor, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, _SIZE)
            else:
                os.ftruncate(descriptor, _SIZE)
            memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)
        memory[:24] = _MAGIC + boot
        return memory

    def _read_places(self) -> None:
        for place in range(MOST_WORKLOADS):
            for turn in (0, 1):
                name, count, _ = _HEAD.unpack_from(self._memory, _start(place, turn))
                if count and name not in self._places:
                    self._places[name] = place
                self._counts[place] = max(self._counts.get(place, 0), count if count < 1 << 60 else 0)
        # A record torn so badly that its name is lost leaves a hole; workloads after it keep their places.
        taken = max(self._places.values(), default=-1) + 1
        for hole in set(range(taken)) - set(self._places.values()):
            self._places[b"hole" + hole.to_bytes(12, "little")] = hole

    def _record(self, place: int, turn: int) -> tuple[int, Standing] | None:
        start = _start(place, turn)
        name, count, check = _HEAD.unpack_from(self._memory, start)
        body = self._memory[start + _HEAD.size : start + _HEAD.size + _BODY.size]
        if not count or zlib.crc32(body, zlib.crc32(name + count.to_bytes(8, "little"))) != check:
            return None
        return count, Standing(**dict(zip(Standing.__struct_fields__, _BODY.unpack(body), strict=True)))


def _start(place: int, turn: int) -> int:
    return _HEADER_BYTES + (2 * place + turn) * _PLACE_BYTES


def _name(workload: str) -> bytes:
    return hashlib.sha256(workload.encode("utf-8", "surrogatepass")).digest()[:16]


def _boot() -> bytes:
    """What tells this run of the machine from the one before."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        text = os.urandom(16)  # no such thing here: every start counts as a restart of the machine
    return hashlib.sha256(text).digest()[:16]
