"""A variant made: the plan carried out into a hidden folder beside the target, renamed when all of it is there.

The hidden folder's journal names the tensors whose bytes are on the disk, so the same command goes on where it was
stopped, however it was. Invariant: the target appears whole or not at all, and its bytes depend on the source and the
request alone: not on threads, block size, or how often it was stopped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gridctl.artifacts.blocks import BLOCK_ELEMENTS, Target, blocks_of
from gridctl.artifacts.checkpoint import CONFIG, INDEX, Checkpoint
from gridctl.artifacts.record import REPORT, TensorError, report, told
from gridctl.artifacts.rounding import Sums
from gridctl.artifacts.safetensors import Mapped
from gridctl.artifacts.variant import Request, ShardPlan, Step, VariantPlan
from gridctl.errors import ConflictError, InputError, Interrupted

JOURNAL = "journal.jsonl"
SYNC_BYTES = 256 << 20
"""Written between two entries of the journal at most, by more than a tensor."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was made."""

    folder: Path
    errors: tuple[TensorError, ...]
    bytes_in: int
    bytes_out: int
    resumed: int


def partial_folder(out: Path) -> Path:
    """Where the variant is made before it is whole."""
    return out.parent / f".{out.name}.partial"


def optimize(
    source: Checkpoint,
    plan: VariantPlan,
    request: Request,
    out: Path,
    *,
    threads: int = 1,
    block_elements: int = BLOCK_ELEMENTS,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> Optimized:
    """Make the variant at `out`. `advance` hears of source bytes done.

    Raises: InputError (weights that are not finite, a full disk, a target that exists), Interrupted (what is done is
    kept), ConflictError when another process makes it."""
    if out.exists() or out.is_symlink():
        raise InputError("the target exists already", where=str(out), fix="remove it, or give another --out")
    folder = partial_folder(out)
    if folder.is_symlink():
        raise InputError("a symbolic link is where the variant is made", where=str(folder), fix="remove it")
    begun = {"source": source.digest(), "request": told(request), "files": [s.name for s in plan.shards]}
    try:
        with _journal(folder, begun) as (journal, done):
            _room(folder, plan, bool(done))
            resumed = len(done)
            _carry_out(source, plan, folder, journal, done, threads, block_elements, advance)
            errors = tuple(TensorError(name, *values) for name, values in sorted(done.items()) if values[2] >= 0)
            _write_rest(source, plan, request, folder, errors)
        (folder / JOURNAL).unlink()
        folder.rename(out)
        _sync_folder(out.parent)
    except ConflictError:
        raise  # the folder is another process's
    except InputError:
        shutil.rmtree(folder, ignore_errors=True)  # weights that cannot be changed will not be the next time either
        raise
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what is done is kept", where=str(folder), fix="the same command goes on from here"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror}", where=str(folder), fix="free space: the same command then goes on"
        ) from None
    return Optimized(out, errors, source.total_bytes, plan.total_size, resumed)


@contextmanager
def _journal(folder: Path, begun: dict[str, Any]) -> Iterator[tuple[IO[str], dict[str, tuple[int, int, float]]]]:
    """The journal, locked, and what an earlier run of the same request left: bytes in and out and error by tensor."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    with path.open("a+", encoding="utf-8") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError("another process is making this", where=str(folder), fix="wait for it") from None
        journal.seek(0)
        first, *rest = journal.read().splitlines() or [""]
        done: dict[str, tuple[int, int, float]] = {}
        if first != json.dumps(begun, sort_keys=True):
            for child in folder.iterdir():
                if child.name != JOURNAL:
                    child.unlink()
            journal.truncate(0)
            journal.write(json.dumps(begun, sort_keys=True) + "\n")
            _sync(journal)
        else:
            done = _entries(rest)
            journal.write("\n")  # a line that was cut off stays alone
        yield journal, done


def _entries(lines: list[str]) -> dict[str, tuple[int, int, float]]:
    done = {}
    for line in lines:
        try:
            name, bytes_in, bytes_out, error = json.loads(line)
        except ValueError:
            continue  # cut off by whatever ended that run
        done[name] = (bytes_in, bytes_out, error)
    return done


def _carry_out(
    source: Checkpoint,
    plan: VariantPlan,
    folder: Path,
    journal: IO[str],
    done: dict[str, tuple[int, int, float]],
    threads: int,
    block_elements: int,
    advance: Callable[[int], None],
) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for shard in plan.shards:
            mapped = Mapped(source.shards[shard.name])
            descriptor = _opened(folder / shard.name, shard)
            pending: list[Step] = []
            unsynced = 0
            try:
                for step in shard.steps:
                    if step.source.name not in done:
                        sums = _blocks(pool, step, mapped, Target(descriptor, shard.places), threads, block_elements)
                        written = sum(output.size for output in step.outputs)
                        done[step.source.name] = (step.source.size, written, -1.0 if step.is_copy else _error(sums))
                        mapped.forget(step.source.start, step.source.end)
                        pending.append(step)
                        unsynced += written
                        if unsynced >= SYNC_BYTES:
                            _record(descriptor, journal, pending, done)
                            unsynced = 0
                    advance(step.source.size)
            finally:
                _record(descriptor, journal, pending, done)
                os.close(descriptor)


def _opened(path: Path, shard: ShardPlan) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    os.ftruncate(descriptor, shard.file_bytes)
    os.pwrite(descriptor, shard.head, 0)
    return descriptor


def _blocks(
    pool: ThreadPoolExecutor, step: Step, mapped: Mapped, target: Target, threads: int, block_elements: int
) -> list[Sums]:
    """Carry out a step; sums of its blocks in order. Few blocks wait at a time, so memory stays bounded."""
    waiting: deque[Future[Sums]] = deque()
    sums: list[Sums] = []
    try:
        for block in blocks_of(step, mapped, target, block_elements):
            if threads == 1:
                sums.append(block())
                continue
            waiting.append(pool.submit(block))
            if len(waiting) > 2 * threads:
                sums.append(waiting.popleft().result())
        sums.extend(future.result() for future in waiting)
    finally:
        for future in waiting:
            future.cancel()
    return sums


def _error(sums: list[Sums]) -> float:
    """Rows are added one after the other, so the size of blocks changes nothing. An empty or zero matrix has none."""
    energy = math.fsum(float(row[0]) for block in sums for row in block)
    lost = math.fsum(float(row[1]) for block in sums for row in block)
    return math.sqrt(lost / energy) if energy > 0 else 0.0


def _record(descriptor: int, journal: IO[str], pending: list[Step], done: dict[str, tuple[int, int, float]]) -> None:
    """Name the tensors in the journal once their bytes are on the disk."""
    if pending:
        os.fsync(descriptor)
        for step in pending:
            journal.write(json.dumps([step.source.name, *done[step.source.name]]) + "\n")
        _sync(journal)
        pending.clear()


def _write_rest(
    source: Checkpoint, plan: VariantPlan, request: Request, folder: Path, errors: tuple[TensorError, ...]
) -> None:
    """Configuration, index, the files that go along, and the report."""
    for name in source.companions:
        shutil.copyfile(source.folder / name, folder / name)
    _dump(folder / CONFIG, plan.config)
    if source.index_name or request.scheme:
        index = {"metadata": {"total_size": plan.total_size}, "weight_map": plan.weight_map}
        _dump(folder / (source.index_name or INDEX), index)
    _dump(folder / REPORT, report(source, plan, request, errors))
    for name in (*source.companions, CONFIG, REPORT):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _dump(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True), encoding="utf-8")


def _room(folder: Path, plan: VariantPlan, is_resumed: bool) -> None:
    needed = sum(shard.file_bytes for shard in plan.shards)
    free = shutil.disk_usage(folder).free
    if not is_resumed and free < needed:
        raise InputError(f"{needed:,} bytes are needed and {free:,} are free", where=str(folder), fix="free space")


def _sync(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
