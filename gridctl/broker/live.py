"""Live: a plan resolved into the arrays of a decision: the engines that run, their records, prices and profiles.

Decides nothing. An engine that has no endpoint is no candidate, but stays in the picture of the whole grid, so that a
refusal can say why. Invariant: live engine i is `backends[i]`, row i of every array per engine, and candidate i of
every group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gridctl.broker.plan import Backend, Plan
from gridctl.broker.prefixes import PrefixIndex, resize
from gridctl.broker.rows import ANSWERS, FACTS, Sight
from gridctl.engine.fleet import build_fleet
from gridctl.engine.state import GPU
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.grid.image import Engine, GridImage, build_image
from gridctl.kernels import Records
from gridctl.resources import PolicySpec, WorkloadSpec
from gridctl.routing.rows import CANDIDATE, policy_records, request_records
from gridctl.signals.board import Board

MOST_TRIED = 16
TOKENS_PER_BLOCK = 128
"""What a block of the prefix index stands for where a cache's size is turned into blocks."""


@dataclass(frozen=True, slots=True)
class Live:
    """A plan's engines that run, as `image` holds them; `whole` is the grid with all the others, where engine i has the
    number `numbers[i]`."""

    whole: GridImage
    image: GridImage
    numbers: tuple[int, ...]
    backends: tuple[Backend, ...]
    policy_name: str
    policy: PolicySpec
    workloads: dict[str, WorkloadSpec]


def resolve(plan: Plan) -> Live:
    """Raises InputError or NotFoundError for a plan whose grid has no engine or whose policy or prices do not exist."""
    whole = build_image(plan.resources, price_book=plan.price_book)
    running = {(one.cluster, one.deployment, one.replica): one for one in plan.backends}
    engines: list[Engine] = []
    numbers: list[int] = []
    backends: list[Backend] = []
    for number, (engine, identity) in enumerate(zip(whole.engines, _identities(whole), strict=True)):
        backend = running.get(identity) if engine.spec.kind == GPU else None
        if backend is not None:
            engines.append(engine)
            numbers.append(number)
            backends.append(backend)
    return Live(
        whole=whole,
        image=dataclasses.replace(whole, engines=tuple(engines)),
        numbers=tuple(numbers),
        backends=tuple(backends),
        policy_name=plan.policy,
        policy=_policy(whole, plan.policy),
        workloads={name: workload.spec for name, workload in whole.view.workloads.items()},
    )


def _identities(image: GridImage) -> Iterator[tuple[str, int, int]]:
    """(cluster, place of the deployment in it, replica) of every engine."""
    deployments = [
        (name, place)
        for name in sorted(image.view.clusters)
        for place in range(len(image.view.clusters[name].spec.deployments))
    ]
    seen: dict[int, int] = {}
    for engine in image.engines:
        replica = seen.get(engine.deployment, 0)
        seen[engine.deployment] = replica + 1
        if engine.spec.kind == GPU:
            yield (*deployments[engine.deployment], replica)
        else:
            yield ("", -1, -1)


def _policy(image: GridImage, name: str) -> PolicySpec:
    found = image.view.policies.get(name)
    if found is not None:
        return found.spec
    if name == "default":
        return PolicySpec()
    close = did_you_mean(name, image.view.policies)
    raise NotFoundError(
        f"policy {name} does not exist", fix=f"did you mean {close}?" if close else "gridctl policy list"
    )


def check_rows(live: Live, board: Board) -> None:
    """Raise InputError when the plan has an engine in a row that the board does not have."""
    beyond = [backend.row for backend in live.backends if not 0 <= backend.row < board.backends]
    if beyond:
        raise InputError(
            f"the plan uses row {beyond[0]} of the board, which has {board.backends}", where="plan", fix="gridctl up"
        )


def make_sight(live: Live, board: Board, worker: int, own: Records, prefixes: PrefixIndex) -> Sight:
    """The arrays of decisions over these engines; `own` and `prefixes` are the worker's, by row of the board."""
    engines = live.image.engines
    fleet = build_fleet([engine.spec for engine in engines], requests=1, in_flight=1)
    rows = np.array([backend.row for backend in live.backends], np.int64)
    for host, engine, row in zip(fleet.engines, engines, rows.tolist(), strict=True):
        capacity = int(host.blocks_total * host.block_size) if engine.spec.prefix_caching else 0
        resize(prefixes, row, capacity, TOKENS_PER_BLOCK)
    names = list(live.workloads)
    most = max(1, len(engines))
    return Sight(
        engines=fleet.engines,
        profiles=fleet.profiles,
        board_row=rows,
        is_core=np.array([engine.facts.tier == "core" for engine in engines], np.int64),
        gpu_usd_per_ps=np.array([engine.gpu_usd_per_ps for engine in engines], np.float64),
        usd_per_output_token=np.array([engine.usd_per_output_token for engine in engines], np.float64),
        scraped=board.engines,
        slots=board.slots,
        own=own,
        prefixes=prefixes,
        templates=request_records(list(live.workloads.values())),
        policies=policy_records([live.policy.for_workload(name) for name in names] or [live.policy]),
        access_us=np.array([round(spec.access_rtt_ms * 1000) for spec in live.workloads.values()] or [0], np.int64),
        rows=np.zeros(most, CANDIDATE).view(np.recarray),
        facts=np.zeros((most, FACTS)),
        tried=np.zeros(MOST_TRIED, np.int64),
        answer=np.zeros(ANSWERS),
        worker=worker,
        counts_in_flight=1 if live.policy.telemetry.in_flight == "local" else 0,
    )
