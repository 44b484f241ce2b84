"""How the pure rooms are compiled: one decorator, one cache, and the oracle switch.

A kernel is a plain function over numbers, record arrays and named tuples of arrays. Compiled, it is numba's, put
together by `linking`, handed its named tuples by `bundles` and kept by `cache`. With `NUMBA_DISABLE_JIT=1` the same
source runs interpreted, as the oracle. No fastmath, no parallelism: the same inputs give the same bits on every
machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np

Records: TypeAlias = np.recarray[Any, Any]
"""Rows with named fields, read and written as attributes; to mypy the fields are untyped."""

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def is_interpreted() -> bool:
    """Whether the kernels run as plain Python."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,  # kernels allocate nothing, so no reference is counted: half the code, a multiple of the speed
    "no_cfunc_wrapper": True,  # nobody calls by C pointer
}


def compiled(function: Kernel) -> Kernel:
    """Compile an entry: a kernel that Python calls. Each entry compiles every kernel it reaches, so keep them few."""
    return _kernel(function, is_kept=True)


def inner(function: Kernel) -> Kernel:
    """Mark a kernel that only kernels call: it costs its lowering, once, whoever calls it."""
    return _kernel(function, is_kept=False)


def fused(function: Kernel) -> Kernel:
    """Mark a kernel that is part of its callers' thought. LLVM decides what is inlined, knowing every caller."""
    return _kernel(function, is_kept=False)


def direct(entry: Kernel, *like: Any) -> Kernel:
    """An entry's code for arguments of exactly the types of `like`, compiled or loaded now.

    A call does not look at its arguments' types, which for a named tuple of arrays costs several times what a small
    kernel does. Whoever calls it answers for the types: others are read as if they were these."""
    if is_interpreted():
        return entry
    dispatcher: Any = entry
    code: Kernel = dispatcher.compile(tuple(dispatcher.typeof_pyval(argument) for argument in like))
    return code


def _kernel(function: Kernel, *, is_kept: bool) -> Kernel:
    """The function, callable from Python and from kernels; what Python calls is kept in the cache if `is_kept`."""
    if is_interpreted():
        return function
    import numba

    from gridctl.kernels.bundles import pass_by_reference
    from gridctl.kernels.cache import KernelCache
    from gridctl.kernels.linking import EntryCompiler, InnerCompiler, call_from_kernels

    njit: Any = numba.njit  # its signature names the public options only
    pass_by_reference(function)
    entry = njit(pipeline_class=EntryCompiler, **_OPTIONS)(function)
    if is_kept:
        entry._cache = KernelCache(function)
    call_from_kernels(entry, lambda: njit(pipeline_class=InnerCompiler, no_cpython_wrapper=True, **_OPTIONS)(function))
    kernel: Kernel = entry
    return kernel
