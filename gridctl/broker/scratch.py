"""Scratch: a grid in which every engine runs and none has anything to do, for asking where a request would go.

For questions to a grid that nobody serves at the moment: a board in this process's memory, and a plan that gives every
engine on GPUs an endpoint nobody will ever call.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np

from gridctl.broker.plan import Plan, Settings, live_backends
from gridctl.kernels import Records
from gridctl.resources import Cluster, Resource
from gridctl.signals.board import Board
from gridctl.signals.rows import ALL_TRAFFIC_PPM, NOT_REPORTED, SCRAPED, SLOT, UNSUPPORTED

NO_URL = "http://idle.invalid"


def idle_board(rows: int, workers: int = 1) -> Board:
    """As much of a board as a broker reads, nothing on it; not shared with anybody."""
    engines: Records = np.zeros(rows, SCRAPED).view(np.recarray)
    slots: Records = np.zeros((workers, rows), SLOT).view(np.recarray)
    engines.admit_ppm = ALL_TRAFFIC_PPM
    engines.telemetry_state = UNSUPPORTED
    engines.running = engines.waiting = engines.kv_used_tokens = NOT_REPORTED
    board = SimpleNamespace(
        engines=engines,
        slots=slots,
        backends=rows,
        workers=workers,
        slot_words=lambda worker: memoryview(slots[worker].view(np.ndarray).view(np.int64).reshape(-1).data),
    )
    return cast("Board", board)


def idle_plan(resources: Iterable[Resource], *, policy: str = "default", price_book: str = "default") -> Plan:
    """A plan in which every engine on GPUs runs, those of the grid as it is declared."""
    declared = tuple(resources)
    running = [_running(one) for one in declared if isinstance(one, Cluster)]
    return Plan(
        generation=0,
        resources=declared,
        policy=policy,
        price_book=price_book,
        backends=live_backends(running, rows=sum(one.spec.gpus for one in running)),
        settings=Settings(anonymous=True),
    )


def _running(cluster: Cluster) -> Cluster:
    """The cluster with an endpoint for every replica."""
    deployments = tuple(
        msgspec.structs.replace(one, endpoints=tuple(f"{NO_URL}/{replica}" for replica in range(one.replicas)))
        for one in cluster.spec.deployments
    )
    return msgspec.structs.replace(cluster, spec=msgspec.structs.replace(cluster.spec, deployments=deployments))
