"""Board: the memory that the processes of one orchestrator share: engines, loads, heartbeats, meters, the directory.

    header · engines (B,) SCRAPED · slots (W, B) SLOT · heartbeats (W,) HEARTBEAT · meters (W, words) · directory

The control process creates it and writes engines and directory; worker W writes its own slots, heartbeat and meter;
everybody reads everything, without locks. What a reader needs of one moment (an engine's scraped words, the directory)
is guarded by a sequence number, odd while it is written. Knows nothing of routing, holds no clock.
"""

from __future__ import annotations

import mmap
from types import TracebackType
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.kernels import Records
from gridctl.signals import segment
from gridctl.signals.directory import Directory, from_bytes, to_bytes
from gridctl.signals.layout import Layout
from gridctl.signals.rows import (
    ALL_TRAFFIC_PPM,
    HEARTBEAT,
    NOT_REPORTED,
    PASSING,
    SCRAPED,
    SCRAPED_AT,
    SCRAPED_WORDS,
    SLOT,
    WORD_BYTES,
)

MAGIC = b"gridctl\x00"
_BARE_MAGIC = MAGIC.rstrip(b"\x00")
NAME_PREFIX = "gridctl-"
"""Of boards that lie among other programs' shared memory: of these, those left behind are removed."""
VERSION = 3
"""Of everything in here: rows, layout, words. A board of another version is refused."""
HEADER = np.dtype(
    [("magic", "S8")]
    + [(name, np.int64) for name in ("version", "workers", "backends", "workloads", "total_bytes")]
    + [(name, np.int64) for name in ("directory_sequence", "directory_bytes", "directory_check")]
)
PAGE = 4096
DIRECTORY_BYTES = 1 << 19
ROW_ATTEMPTS = 100
DIRECTORY_ATTEMPTS = 10_000
"""Reads of something being written before its writer is taken for dead half-way."""
MOST_WORKERS, MOST_BACKENDS, MOST_WORKLOADS = 256, 65_536, 1_024

_MARKED = tuple(name for name in SCRAPED.names[1 : SCRAPED_AT["check"]]) if SCRAPED.names else ()
"""The scraped words that belong together."""


class Scraped(NamedTuple):
    """What is known of an engine by its own report; NOT_REPORTED in place of what it does not say."""

    scrape_ns: int = 0
    period_ns: int = 0
    running: int = NOT_REPORTED
    waiting: int = NOT_REPORTED
    kv_used_tokens: int = NOT_REPORTED
    kv_capacity_tokens: int = NOT_REPORTED
    prefix_hit_ppm: int = NOT_REPORTED
    telemetry_state: int = 0
    prompt_tokens: int = NOT_REPORTED
    output_tokens: int = NOT_REPORTED


assert Scraped._fields == _MARKED


class Board:
    """The shared memory, seen as arrays. Make one with `create` or `attach`."""

    def __init__(self, name: str, memory: mmap.mmap) -> None:
        """Over memory that has a header; raises InputError for a header that does not fit this program."""
        self.name = name
        self._memory = memory
        self._header: Records = np.frombuffer(memory, HEADER, 1).view(np.recarray)
        header = self._header[0]
        if header.version != VERSION or header.total_bytes != len(memory):
            raise InputError(
                f"the board is of version {int(header.version)}; this program reads version {VERSION}",
                where=str(segment.path_of(name)),
                fix="restart the orchestrator: gridctl down; gridctl up",
            )
        self.workers, self.backends = int(header.workers), int(header.backends)
        self.layout = Layout(self.backends, int(header.workloads))
        places = _places(self.workers, self.backends, self.layout)
        self.engines: Records = self._rows(SCRAPED, places.engines, self.backends)
        slots = self._rows(SLOT, places.slots, self.workers * self.backends)
        self.slots: Records = slots.reshape(self.workers, self.backends).view(np.recarray)
        self.heartbeats: Records = self._rows(HEARTBEAT, places.heartbeats, self.workers)
        self.meters: NDArray[np.int64] = np.frombuffer(
            memory, np.int64, self.workers * self.layout.words, places.meters
        ).reshape(self.workers, self.layout.words)
        self._directory_at = places.directory
        self._whole: dict[int, Scraped] = {}
        # The first three words of a slot are what `loads` adds up.
        self._loads = self.slots.view(np.ndarray).view(np.int64).reshape(self.workers, self.backends, -1)[:, :, :3]

    @classmethod
    def create(cls, name: str, workers: int, backends: int = 1024, workloads: int = 32) -> Board:
        """A new board in place of an older one of that name. `workloads` counts rows: one is every other's, and a
        workload takes a further one whenever its objectives change."""
        for what, count, most in (
            ("workers", workers, MOST_WORKERS),
            ("engines", backends, MOST_BACKENDS),
            ("workloads", workloads, MOST_WORKLOADS),
        ):
            if not 1 <= count <= most:
                raise InputError(f"a board holds 1 to {most} {what}, not {count}", where="board")
        layout = Layout(backends, workloads)
        size = _places(workers, backends, layout).size
        header = np.zeros(1, HEADER)
        header["magic"], header["version"], header["total_bytes"] = MAGIC, VERSION, size
        header["workers"], header["backends"], header["workloads"] = workers, backends, workloads
        made: list[Board] = []

        def fill(memory: mmap.mmap) -> None:
            memory[: header.nbytes] = header.tobytes()
            board = cls(name, memory)
            board.engines.admit_ppm = ALL_TRAFFIC_PPM
            for row in range(backends):
                board.report(row, Scraped())
            made.append(board)

        segment.remove_orphans(NAME_PREFIX, _BARE_MAGIC)
        segment.make(name, size, _BARE_MAGIC, fill)
        return made[0]

    @classmethod
    def attach(cls, name: str) -> Board:
        """The board of that name. Raises NotFoundError, or InputError for a file that is not this program's board."""
        memory = segment.open_existing(name, _BARE_MAGIC)
        if len(memory) < PAGE:
            raise InputError("the board is cut short", where=str(segment.path_of(name)), fix="gridctl up")
        return cls(name, memory)

    def _rows(self, dtype: np.dtype[np.void], offset: int, count: int) -> Records:
        return np.frombuffer(self._memory, dtype, count, offset).view(np.recarray)

    # ── loads ──

    def slot_words(self, worker: int) -> memoryview:
        """A worker's slots as int64 words, the fastest to count in: `words[row * SLOT_WORDS + SLOT_AT[field]]`."""
        return memoryview(self.slots[worker].view(np.ndarray).view(np.int64).reshape(-1))

    def loads(self, out: NDArray[np.int64]) -> NDArray[np.int64]:
        """In flight, pending tokens and KV tokens of the first n engines, over all workers, into `out` (n, 3)."""
        return np.add.reduce(self._loads[:, : len(out)], axis=0, out=out)

    def clear(self, worker: int) -> None:
        """Forget what a dead worker had in flight, and its heartbeat; what it counted remains."""
        for field in PASSING:
            self.slots[worker][field] = 0
        self.heartbeats[worker] = np.zeros((), HEARTBEAT)[()]

    def beat(self, worker: int, now_ns: int, **fields: int) -> None:
        """Say that the worker lives; `fields` are of HEARTBEAT."""
        row = self.heartbeats[worker]
        for name, value in fields.items():
            row[name] = value
        row["beat_ns"] = now_ns

    # ── engines ──

    def report(self, row: int, scraped: Scraped) -> None:
        """Write what an engine reported, as of one moment. Only the control process may."""
        words = self.engines[row]
        sequence = int(words["sequence"]) | 1
        words["sequence"] = sequence
        for name, value in zip(_MARKED, scraped, strict=True):
            words[name] = value
        words["check"] = _checked(scraped)
        words["sequence"] = sequence + 1

    def scraped(self, row: int) -> Scraped:
        """What an engine reported, as of one moment: its last report that this process can read whole."""
        words = self.engines.view(np.ndarray).view(np.int64)
        place = row * SCRAPED_WORDS
        for _ in range(ROW_ATTEMPTS):
            copy = words[place : place + SCRAPED_WORDS].tolist()
            scraped = Scraped(*copy[1 : SCRAPED_AT["check"]])
            if copy[0] % 2 == 0 and copy[SCRAPED_AT["check"]] == _checked(scraped):
                self._whole[row] = scraped
                return scraped
        return self._whole.get(row, Scraped())

    def set_health(self, row: int, health: int, admit_ppm: int) -> None:
        """Write whether an engine may get traffic, and which share. Only the control process may."""
        self.engines[row]["health"] = health
        self.engines[row]["admit_ppm"] = admit_ppm

    def note_probe(self, row: int, at_ns: int, *, passed: bool) -> None:
        """Write when a probe of an engine ended, and how. Only the control process may."""
        self.engines[row]["probe_passed_ns" if passed else "probe_failed_ns"] = at_ns

    # ── directory ──

    def directory(self) -> Directory:
        """The names of the rows, as of one moment."""
        header = self._header[0]
        for _ in range(DIRECTORY_ATTEMPTS):
            before, size = int(header.directory_sequence), int(header.directory_bytes)
            content = bytes(self._memory[self._directory_at : self._directory_at + size])
            is_whole = before % 2 == 0 and before == int(header.directory_sequence)
            if is_whole and crc32(content) == int(header.directory_check):
                return from_bytes(content)
        raise InputError(
            "the directory of the board stayed half written",
            where=str(segment.path_of(self.name)),
            fix="restart the orchestrator: gridctl down; gridctl up",
        )

    def write_directory(self, directory: Directory) -> None:
        """Replace the names of the rows. Only the control process may."""
        content = to_bytes(directory)
        if len(content) > DIRECTORY_BYTES:
            raise InputError(
                f"names of workloads, models and engines take {len(content)} bytes, a board holds {DIRECTORY_BYTES}",
                where="board",
                fix="use shorter names, or fewer engines",
            )
        header = self._header[0]
        sequence = int(header.directory_sequence) | 1
        header.directory_sequence = sequence
        self._memory[self._directory_at : self._directory_at + len(content)] = content
        header.directory_bytes, header.directory_check = len(content), crc32(content)
        header.directory_sequence = sequence + 1

    # ── life ──

    def close(self) -> None:
        """Let go of the memory; rows taken from the board before keep it mapped until they are gone."""
        for name in ("engines", "slots", "heartbeats", "meters", "_header", "_loads"):
            self.__dict__.pop(name, None)
        try:
            self._memory.close()
        except BufferError:  # somebody still holds rows: the last to go closes it
            return

    def unlink(self) -> None:
        """Take the name away, so that nobody attaches any more."""
        segment.unlink(self.name)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Places(NamedTuple):
    """Bytes at which the parts begin, and how many there are in all."""

    engines: int
    slots: int
    heartbeats: int
    meters: int
    directory: int
    size: int


def _places(workers: int, backends: int, layout: Layout) -> _Places:
    engines = PAGE
    slots = engines + backends * SCRAPED.itemsize
    heartbeats = slots + workers * backends * SLOT.itemsize
    meters = heartbeats + workers * HEARTBEAT.itemsize
    directory = meters + workers * layout.words * WORD_BYTES
    size = -(-(directory + DIRECTORY_BYTES) // PAGE) * PAGE
    return _Places(engines, slots, heartbeats, meters, directory, size)


def _checked(scraped: Scraped) -> int:
    return sum(scraped) & 0x7FFF_FFFF_FFFF_FFFF
