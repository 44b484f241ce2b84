"""What a row of each kind shows: its columns, and the item behind a resource.

Must not read anything: resources come in, rows go out. Keys carry units and are API for CSV; JSON prints the whole
resource (`document`), with every default written out, so that a script never has to know a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gridctl.render.cell import short_float
from gridctl.render.rows import Column
from gridctl.resources import (
    Cluster,
    Gate,
    Gpu,
    Link,
    Model,
    Policy,
    PriceBook,
    Profile,
    Resource,
    Site,
    Workload,
)

Row = dict[str, object]

_NAME = Column("name", "name")
_STATE = Column("state", "state", kept=True)
_TAIL = (Column("labels", "labels", wide=True), Column("version", "version", wide=True, align="right"))


def _number(key: str, title: str, *, wide: bool = False, text: Callable[[Any], str] | None = None) -> Column:
    return Column(key, title, wide=wide, align="right", text=text)


def _unsaid_zero(value: float) -> str:
    """Zero as absent: most sites have no GPU and no cache, and a column of zeros hides those that do."""
    return short_float(value) if value else "-"


_COLUMNS: dict[type[Resource], tuple[Column, ...]] = {
    Site: (
        _NAME,
        Column("tier", "tier"),
        Column("country", "country"),
        Column("city", "city"),
        _STATE,
        _number("gpus", "gpus", text=_unsaid_zero),
        _number("serverless", "serverless", text=_unsaid_zero),
        _number("cache_gib", "cache GiB", text=_unsaid_zero),
        _number("population", "population", text=_unsaid_zero),
        _number("lat", "lat", wide=True),
        _number("lon", "lon", wide=True),
        Column("jurisdiction", "jurisdiction", wide=True),
    ),
    Cluster: (
        _NAME,
        Column("site", "site"),
        Column("gpu", "gpu"),
        _number("gpus", "gpus"),
        _number("gpus_used", "used"),
        _STATE,
        Column("deployments", "deployments"),
        _number("usd_per_gpu_hour", "$/GPU-h", wide=True),
        Column("endpoints", "endpoints", wide=True),
    ),
    Gpu: (
        _NAME,
        _number("memory_gib", "memory GiB"),
        _number("bandwidth_gbs", "GB/s"),
        _number("bf16_tflops", "bf16 TFLOPS"),
        _number("fp8_tflops", "fp8 TFLOPS", text=_unsaid_zero),
        _number("int8_tops", "int8 TOPS", text=_unsaid_zero),
        _number("watts", "watts", text=_unsaid_zero),
        Column("origin", "origin"),
        _number("link_gbs", "link GB/s", wide=True),
        _number("bandwidth_efficiency", "bandwidth share", wide=True),
        _number("compute_efficiency", "compute share", wide=True),
    ),
    Model: (
        _NAME,
        _number("parameters_b", "parameters B"),
        _number("max_context", "max context"),
        Column("variants", "variants"),
        Column("weights_gib", "weights GiB"),
        Column("quality", "quality"),
    ),
    Workload: (
        _NAME,
        Column("objectives", "objectives"),
        Column("models", "models"),
        Column("jurisdiction", "jurisdiction"),
        _number("priority", "priority"),
        Column("when_infeasible", "when infeasible"),
        _number("attainment", "attainment", wide=True),
        _number("quality_floor", "quality floor", wide=True),
        _number("access_rtt_ms", "access RTT ms", wide=True),
        _number("overhead_ms", "overhead ms", wide=True),
        Column("tenants", "tenants", wide=True),
    ),
    Policy: (
        _NAME,
        Column("algorithm", "algorithm"),
        _number("candidates", "candidates"),
        _number("telemetry_period_ms", "telemetry ms"),
        _number("telemetry_delay_ms", "delay ms"),
        Column("allow_serverless", "serverless"),
        Column("allow_fallback", "fallback"),
        Column("allow_reject", "reject"),
        Column("overrides", "overrides", wide=True),
    ),
    PriceBook: (
        _NAME,
        Column("gpu_hour_usd", "$/GPU-h"),
        _number("serverless_usd_per_ms", "$/serverless ms"),
        _number("egress_usd_per_gb", "$/GB egress"),
        _number("usd_per_kwh", "$/kWh"),
        Column("fallback", "fallback"),
    ),
    Profile: (
        _NAME,
        Column("gpu", "gpu"),
        Column("dtype", "dtype"),
        _number("tensor_parallel", "TP"),
        _number("data_parallel", "DP"),
        Column("method", "method"),
        _number("decode_ms", "decode ms"),
        _number("full_step_ms", "full step ms"),
        _number("tokens", "tokens to"),
        _number("sequences", "sequences to"),
        _number("kv_tokens", "KV to"),
        _number("error_pct", "± %"),
        Column("origin", "origin"),
        Column("source", "source", wide=True),
    ),
    Link: (_NAME, Column("source", "source"), Column("target", "target"), _number("rtt_ms", "RTT ms")),
    Gate: (
        _NAME,
        Column("metric", "metric"),
        Column("op", "op"),
        _number("value", "value"),
        Column("workload", "workload"),
        Column("tenant", "tenant"),
        Column("region", "region"),
        Column("origin", "origin", wide=True),
        Column("tier", "tier", wide=True),
        Column("site", "site", wide=True),
        Column("model", "model", wide=True),
        Column("variant", "variant", wide=True),
        Column("baseline", "baseline"),
        Column("draws", "draws", wide=True),
        Column("allow_undecided", "allow undecided", wide=True),
    ),
}


def columns_of(kind: type[Resource]) -> tuple[Column, ...]:
    """The columns of a kind's rows, its labels and version last."""
    return _COLUMNS[kind] + _TAIL


def row_of(resource: Resource, *, version: int | None = None, gpus: Mapping[str, int] | None = None) -> Row:
    """The item behind one row; `gpus` tells how many stand at each site."""
    special = _ROWS.get(type(resource))
    row: Row = {"name": resource.metadata.name}
    if special is None:
        row.update((field, getattr(resource.spec, field)) for field in resource.spec.__struct_fields__)
    else:
        row.update(special(resource.spec))
    row["labels"] = resource.metadata.labels
    row["version"] = version
    if isinstance(resource, Site):
        row["gpus"] = (gpus or {}).get(resource.metadata.name, 0)
    if isinstance(resource, (Gpu, Profile)):
        row["origin"] = "built-in" if version is None else "declared"
    return row


def document(resource: Resource) -> dict[str, object]:
    """The whole resource as plain values in the order of its fields, defaults written out; it applies again."""
    return {
        "apiVersion": resource.apiVersion,
        "kind": type(resource).__name__,
        "metadata": _plain(resource.metadata),
        "spec": _plain(resource.spec),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    fields = msgspec.structs.asdict(value)
    for field, item in fields.items():
        if isinstance(item, (msgspec.Struct, tuple)):
            fields[field] = _plain(item)
    return fields


def _site(spec: Any) -> Row:
    return {
        "tier": spec.tier,
        "country": spec.country,
        "city": spec.city,
        "state": spec.state,
        "serverless": spec.serverless.concurrency if spec.serverless is not None else 0,
        "cache_gib": spec.cache_gib,
        "population": spec.population,
        "lat": spec.lat,
        "lon": spec.lon,
        "jurisdiction": spec.jurisdiction,
    }


def _cluster(spec: Any) -> Row:
    return {
        "site": spec.site,
        "gpu": spec.gpu,
        "gpus": spec.gpus,
        "gpus_used": sum(deployment.gpus for deployment in spec.deployments),
        "state": spec.state,
        "deployments": [f"{d.variant}:{d.replicas}x{d.tensor_parallel}" for d in spec.deployments],
        "usd_per_gpu_hour": spec.usd_per_gpu_hour,
        "endpoints": list(spec.endpoints) + [url for d in spec.deployments for url in d.endpoints],
    }


def _model(spec: Any) -> Row:
    return {
        "parameters_b": round(spec.architecture.parameters / 1e9, 2),
        "max_context": spec.max_context,
        "variants": [variant.name for variant in spec.variants],
        "weights_gib": [round(spec.weight_bytes(variant) / (1 << 30), 1) for variant in spec.variants],
        "quality": [variant.quality for variant in spec.variants],
    }


def _workload(spec: Any) -> Row:
    return {
        "objectives": [
            f"{o.metric.removesuffix('_ms')} p{o.percentile:g}<={o.threshold_ms:g}ms" for o in spec.objectives
        ],
        "models": list(spec.models),
        "jurisdiction": spec.jurisdiction.rule,
        "priority": spec.priority,
        "when_infeasible": spec.when_infeasible,
        "attainment": spec.attainment,
        "quality_floor": spec.quality_floor,
        "access_rtt_ms": spec.access_rtt_ms,
        "overhead_ms": spec.overhead_ms,
        "tenants": list(spec.tenants),
    }


def _policy(spec: Any) -> Row:
    return {
        "algorithm": spec.algorithm,
        "candidates": spec.candidates,
        "telemetry_period_ms": spec.telemetry.period_ms,
        "telemetry_delay_ms": spec.telemetry.delay_ms,
        "allow_serverless": spec.allow_serverless,
        "allow_fallback": spec.allow_fallback,
        "allow_reject": spec.allow_reject,
        "overrides": list(spec.overrides),
    }


def _price(spec: Any) -> Row:
    return {
        "gpu_hour_usd": dict(sorted(spec.gpu_hour_usd.items())),
        "serverless_usd_per_ms": spec.serverless_usd_per_ms,
        "egress_usd_per_gb": spec.egress_usd_per_gb,
        "usd_per_kwh": spec.usd_per_kwh,
        "fallback": spec.fallback.model if spec.fallback is not None else None,
    }


def _profile(spec: Any) -> Row:
    return {
        "gpu": spec.gpu,
        "dtype": spec.dtype,
        "tensor_parallel": spec.tensor_parallel,
        "data_parallel": spec.data_parallel,
        "method": spec.method,
        "decode_ms": _first_us(spec) / 1000,
        "full_step_ms": round((spec.dense[-1][1] + spec.chunk[-1].us) / 1000, 3),
        "tokens": spec.valid.tokens,
        "sequences": spec.valid.sequences,
        "kv_tokens": spec.valid.kv_tokens,
        "error_pct": spec.error.step,
        "source": spec.source,
    }


def _first_us(spec: Any) -> float:
    """A step of one decode over no more KV than the curve begins with."""
    return round(float(spec.dense[0][1] + spec.sample[0][1] + spec.decode[0].kv[0][1]), 3)


_ROWS: dict[type[Resource], Callable[[Any], Row]] = {
    Site: _site,
    Cluster: _cluster,
    Model: _model,
    Workload: _workload,
    Policy: _policy,
    PriceBook: _price,
    Profile: _profile,
}
