"""Delta: one model as another that a site already holds, plus what differs.

Decides, for every 4 MiB of every file, the smallest of: the same bytes elsewhere in the base (nothing is sent), the
difference from the base's tensor of the same name (zig-zag planes, zstd level 1), or the bytes themselves. A tensor is
found by name in any file of the base, else by content, so resharding and renaming cost a header. Works block by block:
memory does not grow with the model. A delta needs no trust of its own: every file it makes is checked by the SHA-256
that the target's manifest gives, and nothing is put in place before.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gridctl.artifacts.contents import ModelFile
from gridctl.artifacts.deltaplan import (
    BLOCK_BYTES,
    Changed,
    Copy,
    Fresh,
    Plan,
    Step,
    Told,
    frame_bytes,
    plan_bytes,
    read_plan,
)
from gridctl.artifacts.package import Package
from gridctl.artifacts.planes import dense, gather, join, scatter, sparse, split
from gridctl.artifacts.tensorspans import TensorSpan, pieces, tensor_spans
from gridctl.artifacts.zstandard import compress, decompress
from gridctl.errors import InputError

WORTHWHILE = 0.6
"""A difference below this share of its block is taken without trying the bytes themselves: plain bf16 weights
compress to about 0.68 at best."""

SPARSE = 0.02
"""Below this share of bytes that changed, zstd spends more on the zeros between them than their distances take."""


@dataclass(frozen=True, slots=True)
class DeltaSummary:
    """What a delta came to. `bytes_copied` are not in it, `bytes_changed` and `bytes_fresh` are, compressed."""

    base: str
    target: str
    delta_bytes: int
    target_bytes: int
    bytes_copied: int
    bytes_changed: int
    bytes_fresh: int


def encode(
    base: Package, target: Package, out: Path, *, workers: int = 2, advance: Callable[[int], None] | None = None
) -> DeltaSummary:
    """Write the delta that makes `target` of `base` to `out`, whole or not at all. `advance` hears of target bytes."""
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    told = []
    try:
        with ExitStack() as stack, partial.open("wb") as frames:
            source = _Base(base, stack)
            pool = stack.enter_context(ThreadPoolExecutor(max(1, workers)))
            for file in target.files:
                steps = _steps_of(file, source, pool, 2 * workers, frames.write, advance)
                told.append(Told(file.name, file.size, file.digest, tuple(_coalesced(steps))))
            sources = tuple(Told(file.name, file.size, file.digest) for file in base.files)
            plan = Plan(base.digest, target.digest, sources, tuple(told))
            frames.write(plan_bytes(plan))
            frames.flush()
            os.fsync(frames.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return summary(plan, out.stat().st_size)


def apply(
    delta: Path,
    base: Package,
    expected: Mapping[str, tuple[int, str]],
    out: Path,
    *,
    skip: Collection[str] = (),
    advance: Callable[[int], None] | None = None,
) -> Plan:
    """Make the target's files in folder `out` and return the plan followed.

    `expected` are size and digest of each file by the manifest the caller trusts: the delta's own word is never enough.
    Files named in `skip` are there already.
    Raises: InputError for another base, a damaged delta, or a wrong result, of which nothing is left.
    """
    plan = read_plan(delta)
    _refuse_others(plan, base, expected, str(delta))
    with ExitStack() as stack:
        source = _Base(base, stack)
        frames = stack.enter_context(delta.open("rb"))
        for file in plan.files:
            if file.name in skip:
                frames.seek(frame_bytes(file), os.SEEK_CUR)
                continue
            _make(file, source, frames.read, out, advance)
    return plan


def summary(plan: Plan, delta_bytes: int) -> DeltaSummary:
    """The plan's bytes by method."""
    steps = [step for file in plan.files for step in file.steps]
    return DeltaSummary(
        plan.base,
        plan.target,
        delta_bytes,
        sum(file.size for file in plan.files),
        sum(step.length for step in steps if isinstance(step, Copy)),
        sum(sum(step.frames) for step in steps if isinstance(step, Changed)),
        sum(sum(step.frames) or step.length for step in steps if isinstance(step, Fresh)),
    )


class _Base:
    """The base's files, open, and where its tensors are."""

    def __init__(self, package: Package, stack: ExitStack) -> None:
        self.files = package.files
        self._open = [stack.enter_context(file.path.open("rb", buffering=0)).fileno() for file in package.files]
        self._by_digest = {file.digest: index for index, file in enumerate(package.files)}
        self._lock = threading.Lock()
        self._tensors: dict[str, list[tuple[int, TensorSpan]]] | None = None
        self._by_content: dict[bytes, tuple[int, int]] | None = None

    def whole(self, file: ModelFile) -> int | None:
        """The base's file of the same bytes."""
        return self._by_digest.get(file.digest)

    def read(self, source: int, offset: int, length: int) -> bytes:
        """Bytes of a base file; fewer where the file has shrunk, which the result's digest finds."""
        return os.pread(self._open[source], length, offset)

    def named(self, name: str) -> list[tuple[int, TensorSpan]]:
        """The base's tensors of this name, by file."""
        with self._lock:  # whoever asks while another builds waits for all of it
            if self._tensors is None:
                self._tensors = self._all_tensors()
            return self._tensors.get(name, [])

    def with_content(self, digest: bytes) -> tuple[int, int] | None:
        """File and offset of the block with this SHA-256; the base is read once, when first asked."""
        with self._lock:
            if self._by_content is None:
                self._by_content = self._all_content()
            return self._by_content.get(digest)

    def _all_tensors(self) -> dict[str, list[tuple[int, TensorSpan]]]:
        found: dict[str, list[tuple[int, TensorSpan]]] = {}
        for index, file in enumerate(self.files):
            if is_tensor_file(file):
                for span in tensor_spans(file.path)[1]:
                    found.setdefault(span.name, []).append((index, span))
        return found

    def _all_content(self) -> dict[bytes, tuple[int, int]]:
        found: dict[bytes, tuple[int, int]] = {}
        for index, file in enumerate(self.files):
            for _span, offset, length in pieces(file.path, is_tensor_file(file), BLOCK_BYTES):
                found.setdefault(hashlib.sha256(self.read(index, offset, length)).digest(), (index, offset))
        return found


def is_tensor_file(file: ModelFile) -> bool:
    """Whether the file is cut at tensors."""
    return file.name.endswith(".safetensors")


def _steps_of(
    file: ModelFile,
    base: _Base,
    pool: ThreadPoolExecutor,
    window: int,
    write: Callable[[bytes], int],
    advance: Callable[[int], None] | None,
) -> Iterator[Step]:
    """The steps of one file in order, its frames written as they come; at most `window` blocks are in memory."""
    same = base.whole(file)
    if same is not None:
        if advance is not None:
            advance(file.size)
        yield Copy(same, 0, file.size)
        return
    waiting: deque[Future[tuple[Step, bytes]]] = deque()

    def first() -> Step:
        step, frames = waiting.popleft().result()
        write(frames)
        if advance is not None:
            advance(step.length)
        return step

    with file.path.open("rb", buffering=0) as opened:
        for span, offset, length in pieces(file.path, is_tensor_file(file), BLOCK_BYTES):
            if len(waiting) >= max(1, window):
                yield first()
            waiting.append(pool.submit(_step, os.pread(opened.fileno(), length, offset), span, offset, base))
        while waiting:
            yield first()


def _step(block: bytes, span: TensorSpan | None, offset: int, base: _Base) -> tuple[Step, bytes]:
    """The smallest way to send one block, and its frames."""
    if span is None:
        return _fresh(block, 1)
    inside = offset - span.start
    near: tuple[int, int] | None = None
    for source, other in base.named(span.name):
        if other.dtype == span.dtype and other.length >= inside + len(block):
            near = source, other.start + inside
            break
    if near is None:
        found = base.with_content(hashlib.sha256(block).digest())
        return (Copy(*found, len(block)), b"") if found is not None else _fresh(block, span.width)
    before = base.read(*near, len(block))
    if before == block:
        return Copy(*near, len(block)), b""
    width = span.width if len(block) % span.width == 0 else 1
    planes = split(block, before, width)
    count, listed = sparse(planes, round(SPARSE * len(block)))
    frames = [compress(plane) for plane in listed or planes]
    changed = Changed(*near, len(block), width, tuple(map(len, frames)), count), b"".join(frames)
    if len(changed[1]) <= WORTHWHILE * len(block):
        return changed
    fresh = _fresh(block, width)
    return changed if len(changed[1]) <= len(fresh[1]) else fresh


def _fresh(block: bytes, width: int) -> tuple[Step, bytes]:
    frames = [compress(plane) for plane in scatter(block, width if len(block) % width == 0 else 1)]
    data = b"".join(frames)
    if len(data) >= len(block):
        return Fresh(len(block), ()), block
    return Fresh(len(block), tuple(map(len, frames))), data


def _coalesced(steps: Iterator[Step]) -> Iterator[Step]:
    """Copies that follow one another in the base as one."""
    held: Copy | None = None
    for step in steps:
        if isinstance(step, Copy):
            if held is not None and (held.source, held.offset + held.length) == (step.source, step.offset):
                held = Copy(held.source, held.offset, held.length + step.length)
                continue
            if held is not None:
                yield held
            held = step
            continue
        if held is not None:
            yield held
            held = None
        yield step
    if held is not None:
        yield held


def _refuse_others(plan: Plan, base: Package, expected: Mapping[str, tuple[int, str]], where: str) -> None:
    if plan.base != base.digest:
        raise InputError(
            f"the delta is for base {plan.base[:19]}…, not {base.digest[:19]}…",
            where=where,
            fix="fetch the delta for the base that is here, or the whole model",
        )
    if tuple((told.name, told.size, told.digest) for told in plan.sources) != tuple(
        (file.name, file.size, file.digest) for file in base.files
    ):
        raise InputError("the delta does not know the base's files", where=where, fix="fetch the whole model")
    if {told.name: (told.size, told.digest) for told in plan.files} != dict(expected):
        raise InputError("the delta makes other files than the manifest names", where=where, fix="fetch it again")


def _make(
    file: Told, base: _Base, read: Callable[[int], bytes], out: Path, advance: Callable[[int], None] | None
) -> None:
    """Make one file, checked before it gets its name."""
    path = out / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with partial.open("wb", buffering=0) as opened:
            for step in file.steps:
                for block in _blocks(step, base, read):
                    digest.update(block)
                    opened.write(block)
                    if advance is not None:
                        advance(len(block))
            os.fsync(opened.fileno())
        if f"sha256:{digest.hexdigest()}" != file.digest:
            raise InputError(
                f"{file.name} did not come out as its digest says",
                where=file.name,
                fix="the base is damaged: pull the whole model",
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _blocks(step: Step, base: _Base, read: Callable[[int], bytes]) -> Iterator[bytes]:
    if isinstance(step, Copy):
        for offset in range(0, step.length, BLOCK_BYTES):
            yield base.read(step.source, step.offset + offset, min(BLOCK_BYTES, step.length - offset))
        return
    if isinstance(step, Fresh) and not step.frames:
        yield read(step.length)
        return
    count = step.count if isinstance(step, Changed) else 0
    planes = [decompress(read(size), count or step.length // len(step.frames)) for size in step.frames]
    if isinstance(step, Fresh):
        yield gather(planes)
        return
    before = base.read(step.source, step.offset, step.length)
    if len(before) != step.length:
        raise InputError("a file of the base is shorter than packaged", where="base", fix="pull the whole model")
    yield join(dense(planes, step.length, step.width) if count else planes, before, step.width)
