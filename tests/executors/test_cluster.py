"""A real Ray cluster of this machine: what local processes give, a killed worker costs a try, only loopback listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gridctl.errors import InputError, UnreachableError
from gridctl.executors import cluster
from gridctl.executors.attempt import Done, Refused
from gridctl.executors.pool import RETRIES, running
from gridctl.executors.shared import packed

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
"""127.0.0.1, the same within IPv6, and ::1, as /proc/net/tcp writes them."""


@pytest.mark.slow
def test_a_real_cluster_gives_what_this_machine_gives_though_a_worker_is_killed(tmp_path: Path) -> None:
    for name in ("pids", "never"):
        os.mkfifo(tmp_path / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GRIDCTL_"))}
    done = subprocess.run(
        [sys.executable, str(HERE / "rayed.py")],
        env={**kept, "PARKED_IN": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == 1
    assert found["same"] is True
    assert found["seeds"] == [2, 3, 4]
    assert found["addresses"]
    assert set(found["addresses"]) <= set(LOOPBACK)


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError) as raised:
        cluster._ray()
    assert raised.value.fix == "pip install 'gridctl[ray]'"


def test_a_cluster_that_runs_another_gridctl_is_refused() -> None:
    answer = cluster._run("0.0.0", "key", packed(1), _echo, 7)
    assert isinstance(answer, Refused)
    assert "this machine 0.0.0" in answer.error.what


def test_a_worker_builds_the_shared_value_once_per_pool() -> None:
    from gridctl import __version__

    first = cluster._run(__version__, "one", packed([1]), _echo, 7)
    again = cluster._run(__version__, "one", ("not read again", []), _echo, 8)
    other = cluster._run(__version__, "two", packed([2]), _echo, 9)
    assert (first, again, other) == (Done(([1], 7)), Done(([1], 8)), Done(([2], 9)))


def _echo(shared: object, job: object, advanced: object) -> tuple[object, object]:
    return shared, job


class _Lossy:
    """A library whose cluster loses every worker."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def init(self, **wanted: object) -> None:
        self.calls.append("init")

    def put(self, value: object) -> object:
        return value

    def remote(self, **options: object) -> Any:
        assert options == {"num_cpus": 1, "max_retries": RETRIES}
        return lambda function: SimpleNamespace(remote=lambda *arguments: arguments[-1])

    def wait(self, pending: list[object], num_returns: int) -> tuple[list[object], list[object]]:
        return pending[:1], pending[1:]

    def get(self, ready: object) -> None:
        import ray.exceptions

        raise ray.exceptions.WorkerCrashedError

    def cancel(self, pending: object, force: bool) -> None:
        self.calls.append(f"cancel {pending}")

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def test_a_job_whose_workers_are_lost_again_and_again_is_given_up_and_the_others_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = _Lossy()
    monkeypatch.setattr(cluster, "_ray", lambda: library)
    with pytest.raises(UnreachableError) as raised, running("ray", _echo, 1, ["a", "b", "c"], workers=2) as pool:
        list(pool.results(lambda number, amount: None))
    assert raised.value.what == "job 1 lost its worker 3 times, last by WorkerCrashedError"
    assert library.calls == ["init", "cancel b", "shutdown"]


class _Absent:
    """A library whose cluster is not there."""

    def init(self, **wanted: object) -> None:
        self.wanted = wanted
        raise ConnectionError("could not connect\nmore")

    def put(self, value: object) -> None:
        raise AssertionError("nothing is sent to a cluster that is not there")


@pytest.mark.parametrize("address", ["auto", None])
def test_a_cluster_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.setattr(cluster, "_ray", _Absent)
    if address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UnreachableError) as raised:
        cluster.ClusterPool(_echo, 1, [1], 2)  # type: ignore[type-var]
    assert raised.value.exit_code == 5
    assert raised.value.what == "the Ray cluster cannot be reached: could not connect"
    assert raised.value.where == ("RAY_ADDRESS=auto" if address else "Ray on this machine")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:99999999"])
def test_an_address_nobody_listens_at_is_said_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Port 1 of loopback: refused without a wait. Ray is not asked."""

    class Silent:
        def init(self, **wanted: object) -> None:
            raise AssertionError("Ray would try for minutes")

    monkeypatch.setattr(cluster, "_ray", Silent)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UnreachableError, match="cannot be reached") as raised:
        cluster.ClusterPool(_echo, 1, [1], 2)  # type: ignore[type-var]
    assert raised.value.where == f"RAY_ADDRESS={address}"
