"""Small grids and traces: parts to build one by hand, and random ones made from a `pick(low, high)` function.

Random grids are short of everything: two to four sites, little KV memory, short queues, outages, strict workloads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gridctl.resources import (
    ApiFallback,
    Architecture,
    Cluster,
    ClusterSpec,
    Deployment,
    EngineLimits,
    Gpu,
    GpuSpec,
    JurisdictionRule,
    Metadata,
    Model,
    ModelSpec,
    Objective,
    Policy,
    PolicySpec,
    PriceBook,
    PriceBookSpec,
    Resource,
    Serverless,
    Site,
    SiteSpec,
    Telemetry,
    Traffic,
    Variant,
    Workload,
    WorkloadSpec,
)
from gridctl.resources.policy import ALGORITHMS
from gridctl.traces.trace import Trace

Pick = Callable[[int, int], int]
MS_NS = 1_000_000

SHAPE = Architecture(
    layers=4, hidden_size=256, heads=8, kv_heads=8, head_dim=64, intermediate_size=512, vocab_size=1000
)
"""KV: 2·4·8·64·2 = 8,192 bytes a token."""
KV_BYTES_PER_TOKEN = 8192
WEIGHT_GIB = 0.125
WORKSPACE_GIB = 2.0


def named(name: str) -> Metadata:
    return Metadata(name=name)


def site(name: str, country: str = "FR", tier: str = "edge", *, lat: float = 48.9, lon: float = 2.4, **spec) -> Site:
    return Site(metadata=named(name), spec=SiteSpec(lat=lat, lon=lon, country=country, tier=tier, **spec))


def gpu(name: str = "toy", *, kv_tokens: int = 200_000, gibs: float = 10.0) -> Gpu:
    """A GPU with room for about `kv_tokens` beside the weights when all its memory may be used."""
    memory = WORKSPACE_GIB + WEIGHT_GIB + (kv_tokens * KV_BYTES_PER_TOKEN) / 2**30
    spec = GpuSpec(memory_gib=memory, bandwidth_gbs=gibs, bf16_tflops=1.0, watts=100)
    return Gpu(metadata=named(name), spec=spec)


def model(name: str = "m", *variants: Variant, max_context: int = 131_072) -> Model:
    chosen = variants or (Variant(name="bf16", quality=0.8, weight_gib=WEIGHT_GIB),)
    return Model(metadata=named(name), spec=ModelSpec(architecture=SHAPE, variants=chosen, max_context=max_context))


def limits(**values) -> EngineLimits:
    return EngineLimits(**({"gpu_memory_utilization": 1.0, "max_num_batched_tokens": 256} | values))


def deployment(variant: str = "m/bf16", replicas: int = 1, tensor_parallel: int = 1, **engine) -> Deployment:
    return Deployment(variant=variant, replicas=replicas, tensor_parallel=tensor_parallel, engine=limits(**engine))


def cluster(name: str, at: str, *deployments: Deployment, gpus: int | None = None, **spec) -> Cluster:
    served = deployments or (deployment(),)
    owned = sum(one.gpus for one in served) if gpus is None else gpus
    kept = {"gpu": "toy", "usd_per_gpu_hour": 1.0} | spec
    return Cluster(metadata=named(name), spec=ClusterSpec(site=at, gpus=owned, deployments=served, **kept))


def workload(name: str = "chat", *, ttft_ms: float = 500.0, rule: str = "any", allow: Sequence[str] = (), **spec):
    kept = {
        "objectives": (Objective(metric="ttft_ms", threshold_ms=ttft_ms),),
        "models": ("m",),
        "access_rtt_ms": 10.0,
        "jurisdiction": JurisdictionRule(rule=rule, allow=tuple(allow)),
    } | spec
    return Workload(metadata=named(name), spec=WorkloadSpec(**kept))


def price_book(fallback: ApiFallback | None = None, name: str = "default", **spec) -> PriceBook:
    return PriceBook(metadata=named(name), spec=PriceBookSpec(fallback=fallback, **spec))


def api(**values) -> ApiFallback:
    return ApiFallback(**({"model": "m", "usd_per_mtok_input": 1.0, "usd_per_mtok_output": 4.0} | values))


def trace(
    requests: Sequence[dict],
    *,
    origins: Sequence[str] = ("paris",),
    workloads: Sequence[str] = ("chat",),
    tenants: Sequence[str] = ("default",),
    models: Sequence[str] = (),
    block_tokens: int = 0,
) -> Trace:
    """A trace from mappings with `at_ms`, `input`, `output` and, if not the first, `origin`, `workload` as indices."""

    def column(key: str, default: int, kind: type = np.int64) -> np.ndarray:
        return np.array([one.get(key, default) for one in requests], dtype=kind)

    blocks = [tuple(one.get("blocks", ())) for one in requests]
    return Trace(
        name="hand",
        arrival_ns=np.array([round(one.get("at_ms", 0) * MS_NS) for one in requests], np.int64),
        input_tokens=column("input", 100),
        output_tokens=column("output", 10),
        origin=column("origin", 0, np.int32),
        workload=column("workload", 0, np.int32),
        tenant=column("tenant", 0, np.int32),
        model=column("model", -1, np.int32),
        session=column("session", -1),
        block_offsets=np.cumsum([0, *(len(one) for one in blocks)]).astype(np.int64),
        block_ids=np.array([block for one in blocks for block in one], np.int64),
        block_tokens=block_tokens,
        origins=tuple(origins),
        workloads=tuple(workloads),
        tenants=tuple(tenants),
        models=tuple(models),
    )


PLACES = (
    # name, country, declared jurisdiction, lat, lon
    ("paris", "FR", None, 48.9, 2.4),
    ("berlin", "DE", None, 52.5, 13.4),
    ("zurich", "CH", None, 47.4, 8.5),
    ("ashburn", "US", None, 39.0, -77.5),
    ("geneva", "CH", "EU", 46.2, 6.1),
    ("lyon", "FR", "FR-GOV", 45.8, 4.8),
)
STATES = ("active",) * 9 + ("cordoned", "draining", "down")
VARIANTS = (
    Variant(name="bf16", quality=0.8, weight_gib=WEIGHT_GIB),
    Variant(name="fp8", dtype="fp8", quality=0.5, weight_gib=WEIGHT_GIB),
    Variant(name="raw", quality=None, weight_gib=WEIGHT_GIB),
)
MODELS = ("m", "n")


def _one_of(pick: Pick, options: Sequence):
    return options[pick(0, len(options) - 1)]


def make_grid(pick: Pick) -> list[Resource]:
    """A random grid with at least one engine."""
    chosen = PLACES[: pick(2, 4)] if pick(0, 1) else PLACES[2:]
    resources: list[Resource] = [
        gpu(kv_tokens=_one_of(pick, (260, 260, 400, 50_000))),
        *(model(name, *VARIANTS, max_context=_one_of(pick, (240, 100_000))) for name in MODELS),
    ]
    engines = 0
    for index, (name, country, jurisdiction, lat, lon) in enumerate(chosen):
        serverless = None
        if pick(0, 2) == 0:
            references = (_reference(pick),)
            serverless = Serverless(variants=references, concurrency=pick(1, 3), keep_warm_s=_one_of(pick, (0, 600)))
        is_last = index == len(chosen) - 1
        tier = "core" if is_last and pick(0, 2) else _one_of(pick, ("edge", "metro", "regional", "core"))
        spec = {"jurisdiction": jurisdiction, "state": _one_of(pick, STATES), "population": pick(0, 9)}
        resources.append(site(name, country, tier, lat=lat, lon=lon, serverless=serverless, **spec))
        if pick(0, 2) or (is_last and not engines):
            served = tuple(_deployment(pick) for _ in range(pick(1, 2)))
            spare = pick(0, 1)
            engines += 1
            state = _one_of(pick, STATES)
            owned = sum(one.gpus for one in served) + spare
            resources.append(cluster(f"{name}-gpu", name, *served, gpus=owned, state=state))
    resources += [_workload(pick, f"w{number}") for number in range(pick(1, 3))]
    fallback = None
    if pick(0, 1):
        jurisdictions = _one_of(pick, ((), ("EU",), ("US", "CH")))
        fallback = api(model=_one_of(pick, MODELS), quality=_one_of(pick, (None, 0.9)), jurisdictions=jurisdictions)
    return [*resources, price_book(fallback)]


def _reference(pick: Pick) -> str:
    return f"{MODELS[0] if pick(0, 3) else MODELS[1]}/{_one_of(pick, VARIANTS).name}"


def _deployment(pick: Pick) -> Deployment:
    sequences = pick(1, 6)
    return deployment(
        _reference(pick),
        pick(1, 3),
        pick(1, 2),
        max_num_seqs=sequences,
        max_num_batched_tokens=pick(sequences, 64),
        block_size=_one_of(pick, (4, 8, 16)),
        enable_prefix_caching=pick(0, 3) > 0,
        scheduling_policy="priority" if pick(0, 2) == 0 else "fcfs",
        max_waiting=_one_of(pick, (None, None, 1, 3)),
    )


def _workload(pick: Pick, name: str) -> Workload:
    rule = _one_of(pick, ("any", "any", "any", "same-country", "same-jurisdiction", "listed"))
    objectives = [Objective(metric="ttft_ms", threshold_ms=float(_one_of(pick, (1, 60, 400, 5000))))]
    if pick(0, 1):
        objectives.append(Objective(metric="tpot_ms", threshold_ms=float(pick(1, 200))))
    if pick(0, 1):
        objectives.append(Objective(metric="e2e_ms", threshold_ms=float(pick(50, 5000))))
    if pick(0, 2) == 0:
        objectives.append(Objective(metric="network_ms", threshold_ms=float(pick(1, 200))))
    return workload(
        name,
        rule=rule,
        allow=_one_of(pick, (("EU",), ("US", "CH"), ("DE",))) if rule == "listed" else (),
        objectives=tuple(objectives),
        models=_one_of(pick, (("m",), ("m", "n"), ("m", "n"))),
        quality_floor=_one_of(pick, (0.0, 0.0, 0.0, 0.5)),
        access_rtt_ms=float(pick(0, 20)),
        overhead_ms=float(_one_of(pick, (0, 35))),
        priority=pick(0, 9),
        when_infeasible=_one_of(pick, ("serve-late", "fallback", "reject")),
        miss_usd=_one_of(pick, (0.0, 0.002, 0.1)),
        traffic=Traffic(mean_output_tokens=pick(1, 64)),
    )


def make_trace(pick: Pick, resources: Sequence[Resource], requests: int) -> Trace:
    """Random requests in bursts from the grid's sites and from Tokyo, some with shared prefixes and sessions."""
    names = [one.name for one in resources if isinstance(one, Site)] + ["35.7,139.7"]
    classes = [one.name for one in resources if isinstance(one, Workload)]
    block_tokens = _one_of(pick, (0, 4, 16))
    gap = _one_of(pick, (0, 2, 10, 100))
    at, made = 0, []
    ids: dict[tuple[int, ...], int] = {}
    for _ in range(requests):
        at += 0 if pick(0, 2) == 0 else pick(0, gap)
        prompt = pick(1, 250) if pick(0, 2) == 0 else pick(1, 60)
        path: tuple[int, ...] = ()
        blocks = []
        for _ in range(min(prompt // block_tokens, pick(0, 8)) if block_tokens else 0):
            path = (*path, 0 if pick(0, 3) else pick(1, 2))
            blocks.append(ids.setdefault(path, len(ids)))
        made.append(
            {
                "at_ms": at,
                "input": prompt,
                "output": pick(1, 30),
                "origin": pick(0, len(names) - 1),
                "workload": pick(0, len(classes) - 1),
                "model": pick(-1, 1) if pick(0, 6) == 0 else -1,
                "session": pick(-1, 3),
                "blocks": blocks,
            }
        )
    return trace(made, origins=names, workloads=classes, models=MODELS, block_tokens=block_tokens)


def make_policy(pick: Pick, algorithm: str | None = None) -> PolicySpec:
    """A random policy; its telemetry may be long out of date or not count what is in flight."""
    period = _one_of(pick, (1, 50, 1000, 60_000))
    return PolicySpec(
        algorithm=algorithm or _one_of(pick, ALGORITHMS),
        telemetry=Telemetry(
            period_ms=float(period),
            delay_ms=float(pick(0, period)),
            in_flight=_one_of(pick, ("local", "local", "none")),
        ),
        candidates=_one_of(pick, (1, 2, 3, 32)),
        prediction_shape=_one_of(pick, (1, 3, 8)),
        reject_ratio=_one_of(pick, (1.0, 1.5)),
        allow_serverless=pick(0, 2) > 0,
        allow_fallback=pick(0, 2) > 0,
        allow_reject=pick(0, 2) > 0,
        prefix_min_share=_one_of(pick, (0.0, 0.3)),
        imbalance_requests=_one_of(pick, (0, 2, 64)),
    )


def as_policy(spec: PolicySpec, name: str = "p") -> Policy:
    return Policy(metadata=named(name), spec=spec)


def with_columns(original: Trace, **columns) -> Trace:
    """The trace with some columns replaced."""
    return replace(original, **columns)
