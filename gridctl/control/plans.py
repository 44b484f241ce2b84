"""From the grid as declared to what the workers follow: the plan, and the names of the board's rows.

Decides whether a grid can be served at all. Invariant: engines and workloads keep their rows from plan to plan, so
that what was counted stays theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from gridctl.broker.plan import LIMITED_KEYS, Backend, Key, Plan, Role, live_backends
from gridctl.control.order import Order
from gridctl.control.services import Declared
from gridctl.errors import InputError, raise_all
from gridctl.gateway.origin import check_address, parse_origin
from gridctl.registry import AccessKey
from gridctl.resources import Cluster, Gate, Model, Site, Workload
from gridctl.signals.board import Board
from gridctl.signals.directory import BackendRow, Metric, Objective, WorkloadRow, enrolled
from gridctl.signals.finished import METRICS
from gridctl.signals.layout import MOST_MODELS
from gridctl.units import NS_PER_MS, NS_PER_S

SALT_BYTES = 16
FIX_ADDRESS = "give the engine's own address: gridctl explain cluster.deployments.endpoints"
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
    salt: str | None = None,
    digest_of: Callable[[Backend], str] = lambda backend: "",
) -> Plan:
    """The next plan. `own_ports` are those this orchestrator listens on: no engine can be there. Requests are recorded
    to `recording`. `salt` is of the first plan; the others go on with it. `digest_of` tells an engine's weights.

    Raises InputError when the grid cannot be served: no engine with an endpoint, no workload, too many engines."""
    backends = live_backends(declared.resources, before.backends if before is not None else (), rows=order.backends)
    backends = tuple(msgspec.structs.replace(one, digest=digest_of(one)) for one in backends)
    _check_servable(declared, backends)
    _refuse_forbidden(backends, own_ports, allows_link_local=order.settings.allow_link_local)
    return Plan(
        generation=before.generation + 1 if before is not None else 1,
        # A gate is the pipeline's: no worker needs to hear that one changed.
        resources=tuple(resource for resource in declared.resources if not isinstance(resource, Gate)),
        policy=declared.policy,
        price_book=declared.price_book,
        backends=backends,
        keys=_keys(declared.keys, before.keys if before is not None else ()),
        settings=msgspec.structs.replace(
            order.settings, workers=order.workers, record=None if recording is None else str(recording)
        ),
        salt=before.salt if before is not None else salt or new_salt(),
    )


def new_salt() -> str:
    """What hashes of prompts begin with: random, so that nobody outside can tell a prompt by its hash."""
    return secrets.token_hex(SALT_BYTES)


def is_same_service(one: Plan, other: Plan) -> bool:
    """Whether two plans differ in nothing but their number."""
    return msgspec.structs.replace(one, generation=other.generation) == other


def unplaced(plan: Plan) -> str | None:
    """What to warn of, where callers that do not say where they are would be taken to be next to every engine."""
    settings = plan.settings
    sites = len({backend.site for backend in plan.backends})
    if settings.default_origin is not None or settings.gateway_place is not None or sites < 2:
        return None
    return (
        f"where callers are is not known unless they say so: their way to each of {sites} sites counts as 0 ms. "
        "Say where they are (--default-origin, --origins), or where this gateway is (--gateway-place)"
    )


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


def _keys(declared: Sequence[AccessKey], before: Sequence[Key]) -> tuple[Key, ...]:
    """The keys that were not revoked; those with a quota in the rows they had, new ones in free rows."""
    known = {key.digest: key.row for key in before if key.row >= 0}
    # An agent asks no model anything: workers need not know it.
    valid = [key for key in declared if key.revoked_ns is None and key.role != "agent"]
    limited = [key for key in valid if key.requests_per_s is not None or key.tokens_per_minute is not None]
    if len(limited) > LIMITED_KEYS:
        raise InputError(
            f"{len(limited):,} keys have a quota, and there is room for {LIMITED_KEYS:,}",
            where="keys",
            fix="revoke some: gridctl token list; gridctl token revoke NAME",
        )
    used = {known[key.digest] for key in limited if key.digest in known}
    spare = iter(row for row in range(LIMITED_KEYS) if row not in used)
    rows = {key.digest: known[key.digest] if key.digest in known else next(spare) for key in limited}
    return tuple(_key(key, rows.get(key.digest, -1)) for key in valid)


def _key(key: AccessKey, row: int) -> Key:
    expires = None if key.expires_ns is None else key.expires_ns // NS_PER_S
    return Key(
        digest=key.digest,
        name=key.name,
        role=cast("Role", key.role),
        tenant=key.tenant,
        workload=key.workload,
        expires_unix_s=expires,
        requests_per_s=key.requests_per_s,
        tokens_per_minute=key.tokens_per_minute,
        row=row,
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


def _refuse_forbidden(backends: Sequence[Backend], ports: Sequence[int], *, allows_link_local: bool) -> None:
    """Refuse engines at this orchestrator's own addresses, which would get its own requests or its admin API, and at
    addresses that are no engine's: metadata services, link-local ones, URLs that two parsers read differently."""
    errors = []
    for backend in backends:
        where = f"cluster {backend.cluster}"
        try:
            origin = parse_origin(backend.url, where)
        except InputError as error:
            errors.append(error)
            continue
        if origin.port in ports and origin.host in LOOPBACK_NAMES:
            errors.append(
                InputError(
                    f"the endpoint {backend.url} is this orchestrator itself",
                    where=where,
                    fix="give the engine's own address, or listen elsewhere: gridctl up --listen",
                )
            )
            continue
        why = check_address((origin.host, origin.port), allows_link_local=allows_link_local) if origin.literal else None
        if why is not None:
            errors.append(
                InputError(f"the endpoint {backend.url} may not be used: {why}", where=where, fix=FIX_ADDRESS)
            )
    raise_all(errors)
