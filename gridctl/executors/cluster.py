"""An existing Ray cluster: the one RAY_ADDRESS names, else one that is started here for the time of the pool.

One started here listens on loopback only, has no dashboard, reports no usage and bounds its object store. Every task
gets the shared value in parts and builds it once per worker process, with arrays of its own: Ray's are
read-only, which compiled code tells apart. Ray itself tries a task again whose worker is lost.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, cast

import numpy as np

from gridctl import __version__
from gridctl.errors import InputError, UnreachableError
from gridctl.executors.attempt import Answer, Refused, attempt, unwrap
from gridctl.executors.pool import RETRIES, Function, Job, Result, Shared, cores, lost
from gridctl.executors.shared import packed, unpacked

ADDRESS = "RAY_ADDRESS"
ONLY_HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's own switch for a node that others may join: 0 makes it listen on loopback, on every system."""
CONNECT_S = 5.0
STORE_BYTES = 128 << 20
"""Least object store of a cluster started here; Ray refuses less than 75 MiB."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

_built: dict[str, object] = {}  # in a worker process: the shared value of the pool it works for


class ClusterPool(Generic[Shared, Job, Result]):
    """The jobs, as tasks of a Ray cluster. See `pool.Pool`."""

    def __init__(
        self, function: Function[Shared, Job, Result], shared: Shared, jobs: Sequence[Job], workers: int | None
    ) -> None:
        ray = self._ray = _ray()
        frame, arrays = packed(shared)
        self._pending: dict[Any, int] = {}
        self._open(workers, sum(array.nbytes for array in arrays))
        try:
            stored = ray.put((frame, [array.reshape(-1).view(np.uint8) for array in arrays]))
            task: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
            self._task = partial(task.remote, __version__, os.urandom(16).hex(), stored, function)
            self._waiting = iter(enumerate(jobs))
            for _ in range(workers or len(jobs)):
                self._submit()
        except BaseException:
            self.close()
            raise

    def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Result]]:
        errors = importlib.import_module("ray.exceptions")
        while self._pending:
            (ready,), _ = self._ray.wait(list(self._pending), num_returns=1)
            number = self._pending.pop(ready)
            try:
                answer: Answer[Result] = self._ray.get(ready)
            except errors.RayError as error:
                raise lost(number, type(error).__name__) from None
            self._submit()
            yield number, unwrap(answer)

    def close(self) -> None:
        for pending in self._pending:
            with contextlib.suppress(Exception):  # a cluster that is gone has cancelled it already
                self._ray.cancel(pending, force=True)
        self._ray.shutdown()

    def _submit(self) -> None:
        """Send the next job, if there is one."""
        for number, job in self._waiting:
            self._pending[self._task(job)] = number
            return

    def _open(self, workers: int | None, shared_bytes: int) -> None:
        """Connect to the cluster there is, else start one. Raises UnreachableError."""
        address = os.environ.get(ADDRESS)
        wanted: dict[str, Any] = {"address": address}
        if not address:
            wanted = {
                "address": "local",
                "num_cpus": workers or cores(),
                "include_dashboard": False,
                "object_store_memory": max(STORE_BYTES, 2 * shared_bytes),
            }
        else:
            _knock(address)
        try:
            self._ray.init(**wanted, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray has no one type for "not there"
            raise _unreachable(address, error) from None


def _knock(address: str) -> None:
    """Connect once to the address: Ray itself tries for minutes. Raises UnreachableError."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not (host and port.isdecimal()):  # such as `auto`, which Ray looks up by itself
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str | None, error: Exception) -> UnreachableError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnreachableError(
        f"the Ray cluster cannot be reached: {reason}",
        where=f"{ADDRESS}={address}" if address else "Ray on this machine",
        fix=f"check the address, or unset {ADDRESS} to start one here; --executor local needs none",
    )


def _ray() -> Any:
    """The library, told to keep to itself before it is imported. Raises InputError with the command that installs."""
    here = {} if os.environ.get(ADDRESS) else {ONLY_HERE: "0"}
    for name, value in (QUIET | here).items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            f"--executor ray needs Ray: {error}", where="--executor", fix="pip install 'gridctl[ray]'"
        ) from None


def _run(
    version: str, key: str, stored: tuple[object, list[Any]], function: Function[Shared, Job, Result], job: Job
) -> Answer[Result]:
    """A task: one job, on the worker's own copy of the shared value."""
    if version != __version__:
        return Refused(
            InputError(
                f"the cluster runs gridctl {__version__}, this machine {version}: results could differ",
                where="--executor ray",
                fix=f"install gridctl {version} on the cluster's machines",
            )
        )
    if key not in _built:
        _built.clear()
        frame, arrays = stored
        _built[key] = unpacked(frame, [bytearray(array) for array in arrays])
    return attempt(function, cast(Shared, _built[key]), job, lambda amount: None)
