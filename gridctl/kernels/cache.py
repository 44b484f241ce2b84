"""Where compiled kernels are kept: a folder per digest of everything that shapes the machine code.

The digest covers the kernels' sources, the versions of Python, numba, LLVM's binding and NumPy, numba's settings and
the processor, so code made from or for anything else is never run, and a folder may be copied between equal machines.
Files appear whole or not at all; a folder is ready when the marker says that all of the replay is in it. A folder
that cannot be written is read; what is not in it is compiled in memory.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

from gridctl.kernels import is_interpreted

KERNEL_ROOMS = ("engine", "grid", "kernels", "replay", "routing")
KERNEL_FILES = (
    "artifacts/planes",
    "artifacts/rounding",
    "broker/prefixes",
    "broker/rows",
    "mockengine/steps",
    "network/matrix",
    "signals/buckets",
    "signals/counting",
    "signals/finished",
    "signals/layout",
    "signals/rows",
    "traces/spans",
)
"""Kernels in other rooms, and what their constants come from; nothing else of those rooms is compiled."""
PACKAGE = Path(__file__).resolve().parent.parent
READY = "ready"
LOCK = "lock"
HARMLESS = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")
"""Settings of numba's that change no code; all others are taken to."""


@functools.cache
def _digest() -> str:
    digest = hashlib.sha256()
    for room in KERNEL_ROOMS:
        for path in sorted((PACKAGE / room).glob("*.py")):
            digest.update(path.read_bytes())
    for name in KERNEL_FILES:
        digest.update((PACKAGE / f"{name}.py").read_bytes())
    settings = sorted(
        f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_") and name not in HARMLESS
    )
    processor = [binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    for text in (sys.version, numba.__version__, llvmlite.__version__, np.__version__, *settings, *processor):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/gridctl/kernels-<digest>`; XDG_CACHE_HOME is ~/.cache unless set."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "gridctl" / f"kernels-{_digest()[:16]}"


def is_warm() -> bool:
    """Whether all of the replay has been compiled for this machine."""
    return is_interpreted() or (cache_folder() / READY).exists()


def mark_warm() -> None:
    """Note that all of the replay is in the cache."""
    with suppress(OSError):
        (cache_folder() / READY).touch()


@contextmanager
def sole_compiler(waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only process that fills the cache; `waiting` is called if another one does so already. The lock ends with
    the process that holds it. Where there are no locks, or no folder, everybody compiles."""
    try:
        import fcntl

        cache_folder().mkdir(parents=True, exist_ok=True)
        file = (cache_folder() / LOCK).open("a")
    except (ImportError, OSError):
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            waiting()
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Locator:
    """Tells numba where code goes and when it is stale."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._source = Path(source).resolve()
        self._is_ours = self._source.is_relative_to(PACKAGE)

    @classmethod
    def from_function(cls, function: Callable[..., Any], source: str) -> _Locator:
        return cls(function, source)

    def ensure_cache_path(self) -> None:
        cache_folder().mkdir(parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> tuple[int, ...]:
        """Of kernels outside the package, which the folder's digest does not cover, when they were written."""
        if self._is_ours:
            return ()
        written = self._source.stat()
        return written.st_mtime_ns, written.st_size

    def get_disambiguator(self) -> str:
        folder = self._source.parent.relative_to(PACKAGE) if self._is_ours else self._source.parent
        return f"{self._line}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Files(IndexDataCacheFile):
    """An entry's list of files, and the files: one for the types of one call.

    numba numbers them as it finds them free. Two processes that keep code for different types at the same moment find
    the same number free, and the next one runs code that takes its floats for integers. Here a file is named by what it
    is for, so whoever loses the list to another process compiles anew at worst."""

    def __init__(self, folder: str, base: str, stamp: tuple[int, ...]) -> None:
        super().__init__(folder, base, stamp)
        self._base = base

    def save(self, key: Any, data: Any) -> None:
        name = f"{self._base}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class KernelCache(FunctionCache):
    """numba's cache of compiled entries, in our folder."""

    _impl_class = _CacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Files(locator.get_cache_path(), self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As numba does it, but for readying its whole compiler, which code that is compiled already does not need, and
        for what it makes of damaged files: the code is compiled anew."""
        try:
            return self._load_overload(sig, target_context)
        except Exception:
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a read-only or full disk: the code is in memory, which is all this process needs
            super().save_overload(sig, data)
