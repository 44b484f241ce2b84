"""Grids with engines that run, and requests to them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gridctl.broker.broker import Broker
from gridctl.broker.plan import Key, Plan, Settings, live_backends
from gridctl.broker.scratch import idle_board
from gridctl.resources import (
    Architecture,
    Cluster,
    ClusterSpec,
    Deployment,
    EngineLimits,
    JurisdictionRule,
    Model,
    ModelSpec,
    Objective,
    Policy,
    PolicySpec,
    Resource,
    Site,
    SiteSpec,
    Traffic,
    Variant,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.resource import Metadata

SHAPE = Architecture(
    layers=32, hidden_size=4096, heads=32, kv_heads=8, head_dim=128, intermediate_size=14336, vocab_size=128256
)
# name, latitude, longitude, country, tier, GPU, replicas
PLACES: tuple[tuple[str, float, float, str, str, str, int], ...] = (
    ("paris", 48.9, 2.4, "FR", "edge", "l4", 2),
    ("lyon", 45.8, 4.8, "FR", "metro", "l40s", 1),
    ("berlin", 52.5, 13.4, "DE", "metro", "l40s", 2),
    ("zurich", 47.4, 8.5, "CH", "regional", "l4", 1),
    ("ashburn", 39.0, -77.5, "US", "core", "h100-sxm", 2),
)


@dataclass
class Request:
    """A head as the gateway hands it over."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    method: str = "POST"
    query: str = ""
    peer: str = "127.0.0.1"


def meta(name: str) -> Metadata:
    return Metadata(name=name)


def model(name: str = "llama", variants: Sequence[str] = ("bf16",)) -> Model:
    spec = ModelSpec(
        architecture=SHAPE,
        max_context=8192,
        variants=tuple(Variant(name=one, dtype="fp8" if one == "fp8" else "bf16", quality=0.8) for one in variants),
    )
    return Model(metadata=meta(name), spec=spec)


def sites() -> list[Resource]:
    return [
        Site(
            metadata=meta(name),
            spec=SiteSpec(lat=lat, lon=lon, country=country, tier=tier, city=name.title(), population=1),  # type: ignore[arg-type]
        )
        for name, lat, lon, country, tier, _, _ in PLACES
    ]


def cluster(name: str, gpu: str, replicas: int, *, running: int | None = None, **deployment: Any) -> Cluster:
    """One deployment of `replicas` engines at a site, of which `running` (all) have an endpoint."""
    urls = tuple(f"http://{name}.invalid:80{number}" for number in range(replicas if running is None else running))
    given = {"variant": "llama/bf16", "engine": EngineLimits(max_num_seqs=16), **deployment}
    one = Deployment(replicas=replicas, endpoints=urls, **given)
    return Cluster(
        metadata=meta(f"{name}-gpus"), spec=ClusterSpec(site=name, gpu=gpu, gpus=replicas, deployments=(one,))
    )


def workload(name: str = "chat", **given: Any) -> Workload:
    spec = {
        "objectives": (Objective(metric="ttft_ms", threshold_ms=500.0), Objective(metric="tpot_ms", threshold_ms=80.0)),
        "models": ("llama",),
        "tenants": ("acme",),
        "traffic": Traffic(mean_output_tokens=64, mean_input_tokens=300),
        **given,
    }
    return Workload(metadata=meta(name), spec=WorkloadSpec(**spec))


def grid(*more: Resource, policy: PolicySpec | None = None) -> list[Resource]:
    """Five sites from Paris to Ashburn, eight engines of one model, one workload."""
    declared: list[Resource] = [*sites(), model()]
    declared += [cluster(name, gpu, replicas) for name, _, _, _, _, gpu, replicas in PLACES]
    declared.append(Policy(metadata=meta("default"), spec=policy or PolicySpec(candidates=64)))
    kinds = {(one.kind, one.name) for one in more}
    return [*(one for one in declared if (one.kind, one.name) not in kinds), *more] + (
        [] if any(one.kind == "Workload" for one in more) else [workload()]
    )


def plan_of(
    resources: Sequence[Resource],
    *,
    generation: int = 1,
    keys: Sequence[Key] = (),
    previous: Plan | None = None,
    **settings: Any,
) -> Plan:
    known = {"anonymous": True, "anonymous_tenant": "acme", "default_origin": "paris", **settings}
    return Plan(
        generation=generation,
        resources=tuple(resources),
        backends=live_backends(resources, previous.backends if previous is not None else ()),
        keys=tuple(keys),
        settings=Settings(**known),
        salt="5a",
    )


def broker_of(resources: Sequence[Resource] | None = None, **given: Any) -> tuple[Broker, Any]:
    """A broker over a grid, and its board."""
    board = idle_board(32, workers=2)
    return Broker(plan_of(resources or grid(), **given), board, 0, seed=7), board


def chat(text: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": "llama", "messages": [{"role": "user", "content": text}], **fields}).encode()


def replaced(cluster_: Cluster, **spec: Any) -> Cluster:
    return msgspec.structs.replace(cluster_, spec=msgspec.structs.replace(cluster_.spec, **spec))


def same_country() -> JurisdictionRule:
    return JurisdictionRule(rule="same-country")
