"""The keeper's place in the control process: when it runs, what a plan's change purges, what is said without it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridctl.broker.plan import Backend, Plan, write_plan
from gridctl.control.keeper import SECRET_BYTES, Keeper, changed_models
from gridctl.errors import InputError, UnreachableError
from gridctl.resources import Metadata, Model, ModelSpec, Objective, Workload, WorkloadSpec
from gridctl.resources.model import Architecture, Variant
from gridctl.resources.workload import CachePolicy

SHAPE = Architecture(
    layers=2, hidden_size=64, heads=2, kv_heads=2, head_dim=32, intermediate_size=128, vocab_size=256
)  # fmt: skip


def model(name: str = "tiny", quality: float = 0.5) -> Model:
    return Model(
        metadata=Metadata(name=name),
        spec=ModelSpec(architecture=SHAPE, variants=(Variant(name="bf16", quality=quality),)),
    )


def backend(row: int, served: str = "tiny", variant: str = "bf16") -> Backend:
    return Backend(
        row=row, site="s", cluster=f"c{row}", model="tiny", variant=variant, url=f"http://h:{row}", served_model=served
    )


def plan(*resources: Any, backends: tuple[Backend, ...] = (), generation: int = 1) -> Plan:
    return Plan(generation=generation, resources=resources, backends=backends)


def workload(mode: Any) -> Workload:
    spec = WorkloadSpec(
        objectives=(Objective(metric="ttft_ms", threshold_ms=1.0),), models=("tiny",), cache=CachePolicy(mode=mode)
    )
    return Workload(metadata=Metadata(name="chat"), spec=spec)


def test_a_model_is_another_one_when_it_is_declared_or_served_as_one() -> None:
    before = plan(model(), backends=(backend(0),))
    assert changed_models(before, plan(model(quality=0.6), backends=(backend(0),))) == {"tiny"}
    assert changed_models(before, plan(model(), backends=(backend(0, "tiny-v2"),))) == {"tiny"}
    assert changed_models(before, plan(backends=(backend(0),))) == {"tiny"}


def test_engines_that_come_and_go_change_nothing_of_what_they_say() -> None:
    before = plan(model(), backends=(backend(0),))
    assert changed_models(before, plan(model(), backends=(backend(0), backend(1)))) == set()
    assert changed_models(before, plan(model(), backends=())) == set()
    assert changed_models(plan(model()), before) == set()


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    found = set()
    for _ in range(2):
        keeper = Keeper(tmp_path, f"keeper-test-{os.getpid()}", print)
        keeper.prepare()
        place = tmp_path / "cache" / "secret"
        found.add(place.read_bytes())
        assert place.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
        asyncio.run(keeper.stop())
    (secret,) = found
    assert len(secret) == SECRET_BYTES
    assert not (tmp_path / "cache" / "keeper.sock").exists()


def test_nothing_is_started_and_the_way_is_told_where_nobody_caches(tmp_path: Path) -> None:
    async def story() -> None:
        keeper = Keeper(tmp_path, f"keeper-test-{os.getpid()}", print)
        keeper.prepare()
        path = tmp_path / "plan.json"
        write_plan(path, plan(workload("off")))
        await keeper.follow(path, plan(workload("off")))
        assert (keeper.pid, keeper.in_a_word) == (0, "off")
        with pytest.raises(InputError, match="caches"):
            await keeper.order("status", {})
        await keeper.stop()

    asyncio.run(story())


def test_a_killed_keeper_comes_back_and_takes_the_purge_it_is_owed(tmp_path: Path) -> None:
    said: list[str] = []

    async def until(condition: Any, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)

    async def answers(keeper: Keeper) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await keeper.order("status", {})
                except UnreachableError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def story() -> None:
        keeper = Keeper(tmp_path, f"keeper-test-{os.getpid()}", said.append)
        keeper.prepare()
        first = plan(workload("exact"), model())
        path = tmp_path / "plan-1.json"
        write_plan(path, first)
        running = asyncio.create_task(keeper.run())
        try:
            await keeper.follow(path, first)
            await until(lambda: keeper.pid)
            await answers(keeper)
            before = keeper.pid
            os.kill(before, signal.SIGKILL)
            second = msgspec.structs.replace(plan(workload("exact"), model(quality=0.7)), generation=2)
            path = tmp_path / "plan-2.json"
            write_plan(path, second)
            await keeper.follow(path, second, first)
            await until(lambda: keeper.pid not in (0, before))
            await until(lambda: any("model:tiny were purged" in line for line in said))
            told = await keeper.order("status", {})
            assert told["last_purge"] >= 1
            assert keeper.restarts == 1
        finally:
            running.cancel()
            await keeper.stop()
        assert keeper.pid == 0

    asyncio.run(story())
    assert any("was ended by signal 9" in line for line in said)
