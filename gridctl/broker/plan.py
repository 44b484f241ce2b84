"""Plan: everything a worker of the gateway needs to decide requests, as one file. The control process writes it, the
workers read it; a new generation replaces the last one whole. The file holds digests of keys, never keys.

Decides which engines are live (a deployment with an endpoint for that replica) and which row of the board each one
has: an engine keeps its row over reloads, and a row is given to another engine only once its owner is gone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Union

import msgspec

from gridctl.errors import InputError
from gridctl.resources import KINDS, Cluster, Resource

Role = Literal["client", "viewer", "operator", "admin"]

LIMITED_KEYS = 1024
"""Keys with a quota there is room for."""
BOARD_ROWS = 1024
"""How many engines a board has room for, unless it was made with another number."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One running engine: its row on the board and where it listens. `url` is scheme://host:port[/prefix];
    `deployment` is its place among the cluster's deployments, `replica` its place among that one's engines;
    `served_model` is the name the engine knows its model by, `digest` names its weights where the site says so."""

    row: int
    site: str
    cluster: str
    model: str
    variant: str
    url: str
    served_model: str
    deployment: int = 0
    replica: int = 0
    credential_env: str | None = None
    dialect: str = "auto"
    digest: str = ""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. `digest` is the hex SHA-256 of its token of 256 random bits; `workload` binds the key to one. A key
    with a quota has a `row` where it is counted, over all plans the same."""

    digest: str
    name: str
    role: Role = "client"
    tenant: str = "default"
    workload: str | None = None
    expires_unix_s: int | None = None
    requests_per_s: float | None = None
    tokens_per_minute: int | None = None
    row: int = -1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway treats requests. Times are milliseconds.

    `anonymous` serves callers without a key (as tenant `anonymous_tenant`); the control process allows it by default
    only where the data listener is on loopback or a Unix socket. `address_map` pairs networks (CIDR) with places, the
    longest prefix wins. `trust_origin_header` takes the client's word for where it is. `gateway_place` is where the
    gateway stands: round trips of callers whose place nobody knows are counted from there. `adds_usage` asks engines
    for the usage of every stream, which is then kept from clients that did not ask. `record` is the recording that
    requests go to, if any. `records_decisions` keeps with each choice the candidates as the router saw them.
    `quota_file` is where the workers count what keys with a quota ask for."""

    anonymous: bool = False
    anonymous_tenant: str = "default"
    default_workload: str | None = None
    origin_header: str = "x-gridctl-origin"
    trust_origin_header: bool = True
    default_origin: str | None = None
    gateway_place: str | None = None
    address_map: tuple[tuple[str, str], ...] = ()
    max_body_bytes: int = 8 * 1024 * 1024
    max_head_bytes: int = 32 * 1024
    head_timeout_ms: int = 10_000
    body_timeout_ms: int = 30_000
    keep_alive_ms: int = 75_000
    write_stall_ms: int = 30_000
    connect_timeout_ms: int = 2_000
    first_byte_timeout_ms: int = 120_000
    stream_stall_ms: int = 60_000
    deadline_ms: int = 600_000
    upstream_keep_alive_ms: int = 4_000
    max_connections: int = 16_384
    max_connections_per_address: int = 16_384
    max_upstream_connections: int = 4_096
    retries: int = 2
    retry_budget: float = 0.2
    retry_floor: int = 3
    hedge: bool = False
    hedge_budget: float = 0.02
    drain_ms: int = 30_000
    expose_metrics: bool = False
    allow_link_local: bool = False
    sse_keep_alive_ms: int = 0
    adds_usage: bool = True
    records_decisions: bool = True
    record: str | None = None
    quota_file: str | None = None
    workers: int = 1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of what the gateway serves. `resources` is the whole grid as declared; `policy` and `price_book`
    name one each in it; `salt` (hex) keys the hashes of prompt prefixes and stays the same over reloads."""

    generation: int
    resources: tuple[Any, ...]
    policy: str = "default"
    price_book: str = "default"
    backends: tuple[Backend, ...] = ()
    keys: tuple[Key, ...] = ()
    settings: Settings = Settings()
    salt: str = ""


class _StoredPlan(Plan, frozen=True, kw_only=True):
    """A plan as the file holds it: resources of every kind, checked as they are read."""

    resources: tuple[msgspec.Raw, ...]


@functools.cache
def _plan_decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_StoredPlan)


@functools.cache
def _resource_decoder() -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(Union[tuple(KINDS.values())])  # noqa: UP007 (the kinds are known only here)


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan for its owner's eyes only, whole or not at all."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(plan))
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def read_plan(path: Path) -> Plan:
    """The plan in a file that `write_plan` wrote. Raises InputError when it cannot be read as one."""
    try:
        stored = _plan_decoder().decode(path.read_bytes())
        resources = tuple(_resource_decoder().decode(raw) for raw in stored.resources)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"the plan cannot be read: {error}", where=str(path), fix="start the orchestrator again: gridctl up"
        ) from error
    fields = {name: getattr(stored, name) for name in Plan.__struct_fields__}
    return Plan(**{**fields, "resources": resources})


def live_backends(
    resources: Iterable[Resource], previous: Sequence[Backend] = (), *, rows: int = BOARD_ROWS
) -> tuple[Backend, ...]:
    """Every engine with an endpoint, in order of cluster, deployment and replica, each in the row it had before.

    An engine is the same one while its cluster, variant, replica and URL stay. Rows that became free are given out
    again only when no other is left. Raises InputError when there are more engines than rows."""
    found = [backend for resource in resources if isinstance(resource, Cluster) for backend in _of_cluster(resource)]
    found.sort(key=lambda backend: (backend.cluster, backend.deployment, backend.replica))
    if len(found) > rows:
        raise InputError(
            f"{len(found):,} engines have an endpoint, and the orchestrator has room for {rows:,}",
            where="clusters",
            fix="start it with more room: gridctl up --backends N",
        )
    known = {_identity(backend): backend.row for backend in previous}
    kept = {known[_identity(backend)] for backend in found if _identity(backend) in known}
    used = set(known.values())
    spare = iter([row for row in range(rows) if row not in used] + sorted(used - kept))
    return tuple(
        msgspec.structs.replace(backend, row=known[_identity(backend)] if _identity(backend) in known else next(spare))
        for backend in found
    )


def _identity(backend: Backend) -> tuple[str, str, str, int, str]:
    return backend.cluster, backend.model, backend.variant, backend.replica, backend.url


def _of_cluster(cluster: Cluster) -> Iterable[Backend]:
    """The live engines of a cluster; its own `endpoints` are those of its only deployment."""
    spec = cluster.spec
    for number, deployment in enumerate(spec.deployments):
        model, _, variant = deployment.variant.partition("/")
        endpoints = deployment.endpoints or (spec.endpoints if len(spec.deployments) == 1 else ())
        for replica, url in enumerate(endpoints[: deployment.replicas]):
            yield Backend(
                row=-1,
                site=spec.site,
                cluster=cluster.name,
                model=model,
                variant=variant,
                url=url.rstrip("/"),
                served_model=deployment.served_model or model,
                deployment=number,
                replica=replica,
                credential_env=deployment.credential_env,
                dialect=deployment.dialect,
            )
