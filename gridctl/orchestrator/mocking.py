"""The service behind `gridctl engine mock`: what the words of a command line mean, as an engine of the twin.

An engine is described in one of three ways: by a profile, by a GPU and a model, or by a cluster of the grid, which
gives the very engine that a replay of the grid has there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean
from gridctl.resources import Deployment, EngineLimits, GpuSpec, ModelSpec, Profile, Variant
from gridctl.resources.model import Dtype

if TYPE_CHECKING:
    from gridctl.engine.fleet import EngineSpec
    from gridctl.engine.profile import StepProfile

SMALLEST_CONTEXT = 1024
"""KV tokens below which an engine could serve next to nothing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a command line asks for. Of `profile`, `gpu` with `model`, and `cluster`, one is given.

    `kv_blocks` is None where memory is planned as for a deployment; `variant` chooses among a cluster's deployments.
    """

    profile: str = ""
    gpu: str = ""
    model: str = ""
    cluster: str = ""
    variant: str = ""
    tensor_parallel: int = 1
    data_parallel: int = 1
    limits: EngineLimits = field(default_factory=EngineLimits)
    kv_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class MockTwin:
    """An engine of the twin, the name its model goes by, and where its step times are from."""

    spec: EngineSpec
    model: str
    source: str


def twin_engine(wanted: Wanted) -> MockTwin:
    """The engine that is asked for. Raises UsageError, NotFoundError, and InputError when the model does not fit."""
    given = [flag for flag, value in (("--profile", wanted.profile), ("--gpu", wanted.gpu),
                                      ("--cluster", wanted.cluster)) if value]  # fmt: skip
    if len(given) != 1:
        raise UsageError(
            f"{' and '.join(given)} each describe an engine" if given else "no engine is described",
            fix="give one: --profile NAME, --gpu NAME --model NAME, --cluster NAME, or --ttft-ms and --tpot-ms",
        )
    if wanted.cluster:
        return _of_cluster(wanted)
    return _of_profile(wanted) if wanted.profile else _of_gpu(wanted)


def _of_profile(wanted: Wanted) -> MockTwin:
    from gridctl.orchestrator.profiles import gpu_named, load_profile

    profile = load_profile(wanted.profile)
    spec = profile.spec
    gpu = gpu_named(spec.gpu)[1]
    variant = Variant(name=spec.dtype, dtype=spec.dtype)
    model = ModelSpec(architecture=spec.architecture, variants=(variant,))
    limits = EngineLimits(
        **{name: getattr(wanted.limits, name) for name in wanted.limits.__struct_fields__ if name != "kv_cache_dtype"},
        kv_cache_dtype=spec.kv_cache_dtype,
    )
    deployment = Deployment(
        variant=f"model/{spec.dtype}",
        tensor_parallel=spec.tensor_parallel,
        data_parallel=spec.data_parallel,
        engine=limits,
    )
    steps = _steps(profile, limits, spec.data_parallel)
    # A profile's name is GPU, model and format by custom; the model's part names it best.
    parts = profile.name.split(".")
    name = ".".join(parts[1:-2]) if len(parts) >= 4 else profile.name
    return MockTwin(_spec(steps, model, variant, gpu, deployment, wanted), name, f"profile {profile.name}")


def _of_gpu(wanted: Wanted) -> MockTwin:
    from gridctl.engine.roofline import roofline
    from gridctl.grid.profiles import mismatch
    from gridctl.manifest.shipped import shipped_profiles
    from gridctl.orchestrator import profiles
    from gridctl.resources import Metadata, Model

    if not wanted.model:
        raise UsageError("--gpu needs a model", where="--model", fix="--model llama-3.1-8b, or llama-3.1-8b/fp8")
    is_file = wanted.model.endswith((".json", ".yaml", ".yml"))
    name, _, dtype = (wanted.model, "", "") if is_file else wanted.model.partition("/")
    engine = profiles.target(
        wanted.gpu,
        name,
        _dtype(dtype or "bf16"),
        tensor_parallel=wanted.tensor_parallel,
        data_parallel=wanted.data_parallel,
        limits=wanted.limits,
    )
    model = Model(metadata=Metadata(name=engine.model_name), spec=engine.model)
    fitting = (
        one for one in shipped_profiles().values()
        if not mismatch(one, engine.gpu_name, model, engine.variant, engine.deployment)
    )  # fmt: skip
    profile = next(fitting, None)
    if profile is not None:
        steps, source = _steps(profile, wanted.limits, wanted.data_parallel), f"profile {profile.name}"
    else:
        steps = roofline(engine.model, engine.variant, engine.gpu, engine.deployment)
        source = "a roofline, not measured"
    spec = _spec(steps, engine.model, engine.variant, engine.gpu, engine.deployment, wanted)
    return MockTwin(spec, engine.model_name, source)


def _dtype(word: str) -> Dtype:
    for dtype in ("bf16", "fp8", "int8", "w4a16"):
        if word == dtype:
            return dtype
    raise UsageError(f"there is no format {word[:40]!r}", where="--model", fix="bf16, fp8, int8 or w4a16 after the /")


def _of_cluster(wanted: Wanted) -> MockTwin:
    """The engine of a cluster's deployment, with the limits the grid declares for it."""
    from gridctl.engine.state import GPU
    from gridctl.grid.image import build_image
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.replaying import resources_of

    image = build_image(resources_of(current_grid()))
    engines = [one for one in image.engines if one.spec.kind == GPU and one.facts.cluster == wanted.cluster]
    if not engines:
        names = sorted({one.facts.cluster for one in image.engines if one.spec.kind == GPU})
        close = did_you_mean(wanted.cluster, names)
        raise NotFoundError(
            f"no cluster {wanted.cluster} serves a model",
            where="--cluster",
            fix=f"did you mean {close}?" if close else "gridctl cluster list",
        )
    references = list(dict.fromkeys(f"{one.facts.model}/{one.facts.variant}" for one in engines))
    if wanted.variant and wanted.variant not in references:
        raise NotFoundError(
            f"cluster {wanted.cluster} does not serve {wanted.variant}",
            where="--variant",
            fix=f"one of {', '.join(references)}",
        )
    if not wanted.variant and len(references) > 1:
        raise UsageError(
            f"cluster {wanted.cluster} serves {len(references)} variants",
            where="--variant",
            fix=f"one of {', '.join(references)}",
        )
    reference = wanted.variant or references[0]
    engine = next(one for one in engines if f"{one.facts.model}/{one.facts.variant}" == reference)
    assert engine.spec.profile is not None, "an engine on GPUs has step times"
    return MockTwin(engine.spec, engine.facts.model, engine.spec.profile.source)


def _steps(profile: Profile, limits: EngineLimits, ranks: int) -> StepProfile:
    from gridctl.engine.profile import profile_from

    tokens, sequences = limits.max_num_batched_tokens * ranks, limits.max_num_seqs * ranks
    return profile_from(profile.spec, tokens=tokens, sequences=sequences, source=profile.name)


def _spec(
    steps: StepProfile, model: ModelSpec, variant: Variant, gpu: GpuSpec, deployment: Deployment, wanted: Wanted
) -> EngineSpec:
    from gridctl.engine.fleet import EngineSpec
    from gridctl.engine.memory import plan_memory
    from gridctl.engine.state import GPU

    limits, ranks = deployment.engine, deployment.data_parallel
    blocks = wanted.kv_blocks
    if blocks is None:
        plan = plan_memory(model, variant, gpu, deployment)
        blocks = plan.kv_blocks
        if blocks * limits.block_size < SMALLEST_CONTEXT:
            raise InputError(
                f"the model does not fit {deployment.gpus_per_engine} × this GPU: {plan.arithmetic}",
                where="--gpu-memory-utilization",
                fix="raise it, give --tensor-parallel, or say how many blocks there are: --kv-blocks",
            )
    return EngineSpec(
        kind=GPU,
        profile=steps,
        max_num_seqs=limits.max_num_seqs * ranks,
        max_num_batched_tokens=limits.max_num_batched_tokens * ranks,
        block_size=limits.block_size,
        kv_blocks=blocks,
        max_context=model.max_context,
        gpus=deployment.gpus_per_engine,
        prefix_caching=limits.enable_prefix_caching,
        priority_scheduling=limits.scheduling_policy == "priority",
        async_scheduling=limits.async_scheduling,
    )
