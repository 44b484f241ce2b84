"""From the grid as declared to what the workers follow: the plan, and the names of the board's rows.

Decides whether a grid can be served at all. Invariant: engines and workloads keep their rows from plan to plan, so
that what was counted stays theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import msgspec

from gridctl.broker.plan import Backend, Key, Plan, live_backends
from gridctl.control.order import Order
from gridctl.control.services import Declared
from gridctl.errors import InputError, raise_all
from gridctl.registry import AccessKey
from gridctl.resources import Cluster, Gate, Model, Site, Workload
from gridctl.signals.board import Board
from gridctl.signals.directory import BackendRow, Metric, Objective, WorkloadRow, enrolled
from gridctl.signals.finished import METRICS
from gridctl.signals.layout import MOST_MODELS
from gridctl.units import NS_PER_MS, NS_PER_S

SALT_BYTES = 16
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")
BOARD_WORKLOADS = 32
"""Rows for workloads there are at least; a workload takes another one whenever its objectives change."""


def plan_of(
    declared: Declared,
    order: Order,
    before: Plan | None,
    *,
    own_ports: Sequence[int] = (),
    recording: Path | None = None,
) -> Plan:
    """The next plan. `own_ports` are those this orchestrator listens on: no engine can be there. Requests are recorded
    to `recording`.

    Raises InputError when the grid cannot be served: no engine with an endpoint, no workload, too many engines."""
    backends = live_backends(declared.resources, before.backends if before is not None else (), rows=order.backends)
    _check_servable(declared, backends)
    _refuse_own(backends, own_ports)
    return Plan(
        generation=before.generation + 1 if before is not None else 1,
        # A gate is the pipeline's: no worker needs to hear that one changed.
        resources=tuple(resource for resource in declared.resources if not isinstance(resource, Gate)),
        policy=declared.policy,
        price_book=declared.price_book,
        backends=backends,
        keys=tuple(_key(key) for key in declared.keys if key.revoked_ns is None),
        settings=msgspec.structs.replace(
            order.settings, workers=order.workers, record=None if recording is None else str(recording)
        ),
        salt=before.salt if before is not None else secrets.token_hex(SALT_BYTES),
    )


def is_same_service(one: Plan, other: Plan) -> bool:
    """Whether two plans differ in nothing but their number."""
    return msgspec.structs.replace(one, generation=other.generation) == other


def board_workloads(declared: Declared) -> int:
    """How many rows for workloads a board for this grid should have, with room for a few changes of each."""
    count = sum(1 for resource in declared.resources if isinstance(resource, Workload))
    return min(1024, max(BOARD_WORKLOADS, 4 * count + 1))


def enrol(board: Board, plan: Plan) -> None:
    """Give every workload, model and engine of the plan its row, before a worker hears of it."""
    tiers = {resource.name: resource.spec.tier for resource in plan.resources if isinstance(resource, Site)}
    workloads = [_workload_row(resource) for resource in plan.resources if isinstance(resource, Workload)]
    models = [resource.name for resource in plan.resources if isinstance(resource, Model)]
    rows = [
        (
            backend.row,
            BackendRow(backend.site, backend.cluster, backend.model, backend.variant, tiers.get(backend.site, "")),
        )
        for backend in plan.backends
    ]
    directory = board.directory()
    named = enrolled(directory, workloads, models, rows, most_workloads=board.layout.workloads, most_models=MOST_MODELS)
    if named != directory:
        board.write_directory(named)


def _workload_row(workload: Workload) -> WorkloadRow:
    spec = workload.spec
    objectives = tuple(
        Objective(cast("Metric", objective.metric), round(objective.threshold_ms * NS_PER_MS))
        for objective in spec.objectives
        if objective.metric in METRICS
    )
    return WorkloadRow(workload.name, objectives, round((spec.access_rtt_ms + spec.overhead_ms) * NS_PER_MS))


def _key(key: AccessKey) -> Key:
    expires = None if key.expires_ns is None else key.expires_ns // NS_PER_S
    return Key(
        digest=key.digest,
        name=key.name,
        role=key.role,
        tenant=key.tenant,
        workload=key.workload,
        expires_unix_s=expires,
    )


def _check_servable(declared: Declared, backends: Sequence[Backend]) -> None:
    if not any(isinstance(resource, Workload) for resource in declared.resources):
        raise InputError(
            "the grid has no workload, so nobody could say what a request must meet",
            fix="declare one: gridctl explain workload; gridctl apply -f FILE",
        )
    if not backends:
        clusters = sum(1 for resource in declared.resources if isinstance(resource, Cluster))
        raise InputError(
            f"none of the grid's {clusters} clusters says where its engines listen",
            where="spec.deployments[].endpoints",
            fix="add the engines' URLs (gridctl explain cluster.deployments.endpoints) and apply; "
            "to try without engines: gridctl engine mock",
        )


def _refuse_own(backends: Sequence[Backend], ports: Sequence[int]) -> None:
    """Refuse engines at this orchestrator's own addresses: it would send itself requests, or hand out its admin API."""
    errors = []
    for backend in backends:
        parts = urlsplit(backend.url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            continue
        if port in ports and parts.hostname in LOOPBACK_NAMES:
            errors.append(
                InputError(
                    f"the endpoint {backend.url} is this orchestrator itself",
                    where=f"cluster {backend.cluster}",
                    fix="give the engine's own address, or listen elsewhere: gridctl up --listen",
                )
            )
    raise_all(errors)
