"""Presence: which exact questions have a kept answer, as a table in shared memory that every worker reads for itself.

A slot holds 64 bits of an exact key and the number of its entry; open addressing with linear probing, no tombstones
(what follows a removed slot moves up). One process writes, any number read without a lock: the sequence word is odd
while a slot changes, and a reader that saw it odd or changed looks again, then says "absent". So a writer killed in the
middle makes every look absent until the next one begins the table anew. What is found is a hint, never the truth: the
reader takes the entry from the file and compares the whole key. Invariant: at most three quarters of the slots are
used, so a look ends.

Words of the header, 8 bytes each: magic, sequence, slots, used slots, the file's identity, the last purge.
"""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress

from gridctl.errors import InputError, NotFoundError
from gridctl.signals import segment

MAGIC = b"gcanswer"
DEFAULT_SLOTS = 1 << 21
"""Room for 1.5 million entries in 32 MiB."""
FULLEST = 0.75
_HEADER = 8
_SEQUENCE, _SLOTS, _USED, _FILE, _PURGE = 1, 2, 3, 4, 5
_TRIES = 4
_MADV_POPULATE_READ = 22
"""Of Linux since 5.14; older ones refuse it. Source: madvise(2)."""


class Presence:
    """The table. Made by the keeper (`create`), read by workers (`attach`)."""

    def __init__(self, memory: mmap.mmap) -> None:
        slots = int.from_bytes(memory[8 * _SLOTS : 8 * _SLOTS + 8], sys.byteorder)
        if slots < 2 or slots & (slots - 1) or len(memory) != 8 * (_HEADER + 2 * slots):
            memory.close()
            raise InputError("the table of kept answers is not whole", fix="start the orchestrator again: gridctl up")
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        self.slots = slots
        self._mask = slots - 1

    @classmethod
    def create(cls, name: str, file_identity: int, slots: int = DEFAULT_SLOTS) -> Presence:
        """The keeper's table, empty: the one of that name where its size fits, so that workers keep seeing it, else a
        new one. `slots` is rounded up to a power of two. Call `ready` when it is filled."""
        size = 1 << max(4, (slots - 1).bit_length())
        with suppress(NotFoundError, InputError):
            found = cls.attach(name)
            if found.slots == size:
                found._begin_anew(file_identity)
                return found
            found._words[_SEQUENCE] |= 1  # who still reads the old one finds nothing there
            found.close()

        def fill(memory: mmap.mmap) -> None:
            memory[: len(MAGIC)] = MAGIC
            for word, value in ((_SEQUENCE, 1), (_SLOTS, size), (_FILE, file_identity)):
                memory[8 * word : 8 * word + 8] = value.to_bytes(8, sys.byteorder)

        segment.make(name, 8 * (_HEADER + 2 * size), MAGIC, fill)
        return cls.attach(name)

    @classmethod
    def attach(cls, name: str) -> Presence:
        """The table of that name. Raises NotFoundError or InputError."""
        return cls(segment.open_existing(name, MAGIC))

    def __len__(self) -> int:
        return self._words[_USED]

    @property
    def most(self) -> int:
        """Entries that fit."""
        return int(self.slots * FULLEST)

    @property
    def file_identity(self) -> int:
        """Which file the entry numbers belong to."""
        return self._words[_FILE]

    @property
    def purge(self) -> int:
        """The number of the last purge."""
        return self._words[_PURGE]

    def close(self) -> None:
        """Let go of the memory; its name stays."""
        self._words.release()
        self._memory.close()

    def populate(self) -> None:
        """Have the system map all of the table now, where it can: else each first look at a page waits for it."""
        with suppress(OSError, ValueError):
            self._memory.madvise(_MADV_POPULATE_READ)

    def find(self, key: bytes) -> int:
        """The entry kept under a key of 16 bytes, 0 when there is none, or when nothing certain can be said."""
        tag = int.from_bytes(key[:8], "little")
        words = self._words
        first = _HEADER + 2 * (tag & self._mask)
        end = len(words)
        for _ in range(_TRIES):
            before = words[_SEQUENCE]
            if before & 1:
                continue
            place = first
            entry = words[place + 1]
            while entry and words[place] != tag:
                place += 2
                if place == end:
                    place = _HEADER
                if place == first:  # no writer leaves a full table; torn reads can look like one
                    entry = 0
                    break
                entry = words[place + 1]
            if words[_SEQUENCE] == before:
                return entry
        return 0

    def absent(self, key: bytes) -> int | None:
        """The number of the last purge where nothing is kept under a key, None where something may be."""
        words = self._words
        purge = words[_PURGE]
        if not words[_HEADER + 2 * (int.from_bytes(key[:8], "little") & self._mask) + 1] or not self.find(key):
            return purge
        return None

    # ── the keeper's part ──

    def put(self, key: bytes, entry: int) -> bool:
        """Set the entry of a key; False when the table is full."""
        tag = int.from_bytes(key[:8], "little")
        words = self._words
        place = self._place(tag)
        is_new = words[place + 1] == 0
        if is_new and words[_USED] >= self.most:
            return False
        words[_SEQUENCE] += 1
        words[place], words[place + 1] = tag, entry
        words[_USED] += is_new
        words[_SEQUENCE] += 1
        return True

    def remove(self, key: bytes, entry: int) -> bool:
        """Forget a key's entry; False when another entry, or none, is there."""
        words = self._words
        place = self._place(int.from_bytes(key[:8], "little"))
        if words[place + 1] != entry or not entry:
            return False
        words[_SEQUENCE] += 1
        self._close_gap(place)
        words[_USED] -= 1
        words[_SEQUENCE] += 1
        return True

    def set_purge(self, number: int) -> None:
        """Tell the workers that there was a purge; they read which."""
        self._words[_PURGE] = number

    def ready(self) -> None:
        """Let the workers look."""
        if self._words[_SEQUENCE] & 1:
            self._words[_SEQUENCE] += 1

    def unready(self) -> None:
        """Let the workers find nothing."""
        self._words[_SEQUENCE] |= 1

    def _begin_anew(self, file_identity: int) -> None:
        self.unready()
        self._memory[8 * _HEADER :] = bytes(len(self._memory) - 8 * _HEADER)
        self._words[_USED] = 0
        self._words[_PURGE] = 0
        self._words[_FILE] = file_identity

    def _place(self, tag: int) -> int:
        words, end = self._words, len(self._words)
        place = _HEADER + 2 * (tag & self._mask)
        while words[place + 1] and words[place] != tag:
            place += 2
            if place == end:
                place = _HEADER
        return place

    def _close_gap(self, gap: int) -> None:
        """Empty a slot and move up what probed past it (Knuth, The Art of Computer Programming 3, algorithm 6.4R)."""
        words, mask = self._words, self._mask
        hole = (gap - _HEADER) // 2
        slot = hole
        while True:
            slot = (slot + 1) & mask
            place = _HEADER + 2 * slot
            if not words[place + 1]:
                break
            home = words[place] & mask
            if ((slot - home) & mask) >= ((slot - hole) & mask):
                words[_HEADER + 2 * hole] = words[place]
                words[_HEADER + 2 * hole + 1] = words[place + 1]
                hole = slot
        words[_HEADER + 2 * hole] = words[_HEADER + 2 * hole + 1] = 0
