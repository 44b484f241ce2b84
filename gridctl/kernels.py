"""How the pure rooms are compiled: one decorator, one cache, and the oracle switch.

`compiled` is numba's `njit` with its machine code kept in the user's cache folder, in a folder named after the
kernels' own source, so that code compiled from older source is never run. With `NUMBA_DISABLE_JIT=1` the same source
runs interpreted, as the oracle. No fastmath, no parallelism: the same inputs give the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

Records: TypeAlias = np.recarray[Any, Any]
"""Rows with named fields, read and written as attributes; to mypy the fields are untyped."""

KERNEL_ROOMS = ("engine", "grid", "routing", "replay")

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def cache_folder() -> Path:
    """Where compiled kernels live: `$XDG_CACHE_HOME/gridctl/kernels-<python>-<digest of the kernels' source>`."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for room in KERNEL_ROOMS:
        for path in sorted((package / room).glob("*.py")):
            digest.update(path.read_bytes())
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    return root / "gridctl" / f"kernels-{version}-{digest.hexdigest()[:16]}"


def is_interpreted() -> bool:
    """Whether the kernels run as plain Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def is_warm() -> bool:
    """Whether this source has been compiled on this machine before."""
    folder = cache_folder()
    return is_interpreted() or (folder.exists() and any(folder.rglob("*.nbc")))


def _use_cache_folder() -> None:
    """Point numba at our cache before it reads its settings; an operator's own setting wins."""
    if "numba" not in sys.modules and "NUMBA_CACHE_DIR" not in os.environ:
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a read-only home: numba then compiles in memory or beside the source
            return
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


_use_cache_folder()

import numba  # noqa: E402  (must follow the cache setting)

_njit: Any = numba.njit  # its signature names the public options only

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,  # kernels allocate nothing, so no reference is counted: half the code, a multiple of the speed
}


def compiled(function: Kernel) -> Kernel:
    """Compile an entry point: a kernel that Python calls."""
    kernel: Kernel = _njit(**_OPTIONS)(function)
    return kernel


def inner(function: Kernel) -> Kernel:
    """Compile a kernel that only kernels call. It gets no Python entry, which for our many-array arguments costs more
    to compile than the kernel itself."""
    kernel: Kernel = _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function)
    return kernel


def fused(function: Kernel) -> Kernel:
    """Compile a kernel into its one or two callers: every separately compiled layer optimises all below it again."""
    kernel: Kernel = _njit(inline="always", **_OPTIONS)(function)
    return kernel
