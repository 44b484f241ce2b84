"""Cluster: GPUs of one type at one site and the model variants its engines serve."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Count, Name, PositiveCount, Usd, VariantRef
from gridctl.resources.resource import Resource, State

Endpoint = Annotated[
    str,
    Meta(
        pattern=r"^https?://[A-Za-z0-9.\-_\[\]:]+(/[A-Za-z0-9._~/-]*)?$(?!\n)",
        max_length=512,
        description="http(s)://HOST:PORT of a running engine, with its path prefix if it has one",
    ),
]
EnvironmentName = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$(?!\n)", description="the name of an environment variable"),
]
ServedName = Annotated[
    str, Meta(pattern=r"^[!-~]{1,256}$(?!\n)", description="printable letters without spaces; 1 to 256 of them")
]
Dialect = Literal["auto", "vllm", "sglang", "llamacpp", "tgi", "trtllm", "triton", "nim", "openai"]


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Scheduler and memory limits of one engine, named and defaulted as in vLLM's engine arguments."""

    max_num_seqs: Annotated[int, Meta(ge=1, le=4096)] = 128
    max_num_batched_tokens: Annotated[int, Meta(ge=1, le=65536)] = 2048
    block_size: Annotated[int, Meta(ge=1, le=1024)] = 16
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1)] = 0.9
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    enable_prefix_caching: bool = True
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    async_scheduling: bool = True
    max_waiting: PositiveCount | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Engines that serve one variant: `replicas` of them, each of `data_parallel` ranks that share the experts of a
    mixture-of-experts model and step together, each rank on `tensor_parallel` GPUs.

    `endpoints` are the URLs of the engines that run, one per replica; `served_model` is the name they know the model by
    (the model's own unless said), `credential_env` the environment variable whose value they want as a bearer token,
    `dialect` how they name their telemetry."""

    variant: VariantRef
    replicas: PositiveCount = 1
    tensor_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    data_parallel: Annotated[int, Meta(ge=1, le=64)] = 1
    profile: Name | None = None
    engine: EngineLimits = EngineLimits()
    endpoints: tuple[Endpoint, ...] = ()
    served_model: ServedName | None = None
    credential_env: EnvironmentName | None = None
    dialect: Dialect = "auto"

    @property
    def gpus_per_engine(self) -> int:
        return self.tensor_parallel * self.data_parallel

    @property
    def gpus(self) -> int:
        return self.replicas * self.gpus_per_engine


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """GPUs owned at a site. GPUs that no deployment uses are still paid for."""

    site: Name
    gpu: Name
    gpus: PositiveCount
    deployments: tuple[Deployment, ...] = ()
    state: State = "active"
    usd_per_gpu_hour: Usd | None = None
    idle_watts_per_gpu: Count | None = None
    endpoints: tuple[Endpoint, ...] = ()


class Cluster(Resource, frozen=True, kw_only=True):
    """GPUs at a site and the engines on them."""

    plural: ClassVar[str] = "clusters"
    noun: ClassVar[str] = "cluster"
    summary: ClassVar[str] = "GPUs of one type at a site, and the engines that serve model variants on them"

    spec: ClusterSpec
