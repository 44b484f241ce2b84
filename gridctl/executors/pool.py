"""Pool: jobs in, results out, in the order they come; the promise that every executor keeps.

Decides nothing about what a job does. The promise: a job that ends is returned exactly once under its number; a worker
that is lost costs its job another try, `RETRIES` times; a job that raises ends the pool with that error, because it
would raise again; closing ends every worker. So results depend on the jobs alone, never on who ran them or when.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, TypeVar, get_args

from gridctl.errors import UnreachableError, UsageError, did_you_mean

ExecutorName = Literal["local", "ray"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)
RETRIES = 2
"""How often a job is tried again after its worker was lost: once is an accident, three times is the job's own doing."""

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)
Advanced = Callable[[int], None]
Function = Callable[[Shared, Job, Advanced], Result]
"""Does a job: `function(shared, job, advanced)`. A name another process can import, not a closure."""


class Pool(Protocol[Result_co]):
    """Jobs on their way."""

    def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Result_co]]:
        """Number and result of each job as it ends. `advanced(number, amount)` hears what a job says of its progress,
        where the executor carries it; a job that is tried again says it again."""
        ...

    def close(self) -> None:
        """End every worker, and forget what is not done."""
        ...


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def running(
    executor: str,
    function: Function[Shared, Job, Result],
    shared: Shared,
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    own: int = 0,
) -> Iterator[Pool[Result]]:
    """A pool at work on `jobs`, on `workers` at a time (default: all there are).

    `own` of them are left to the caller until it asks for results. Raises UsageError for an unknown executor or no
    worker, UnreachableError when the executor cannot be had.
    """
    if executor not in EXECUTORS:
        near = did_you_mean(executor, EXECUTORS)
        raise UsageError(
            f"there is no executor {executor!r}",
            where="--executor",
            fix=f"did you mean {near}?" if near else f"one of: {', '.join(EXECUTORS)}",
        )
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers do no job", where="--jobs", fix="--jobs 1 or more")
    pool: Pool[Result]
    if executor == "local":
        from gridctl.executors.local import LocalPool

        pool = LocalPool(function, shared, jobs, workers or cores(), own)
    else:
        from gridctl.executors.cluster import ClusterPool

        pool = ClusterPool(function, shared, jobs, workers)
    try:
        yield pool
    finally:
        pool.close()


def lost(number: int, why: str) -> UnreachableError:
    """A job's workers were lost as often as is borne."""
    return UnreachableError(
        f"job {number + 1} lost its worker {RETRIES + 1} times, last by {why}",
        where="executor",
        fix="each worker holds a whole replay in memory: give fewer --jobs, or look for what kills them",
    )
