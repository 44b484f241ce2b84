"""The services behind `gridctl profile`: what the words of a command line mean, then fit, draw, validate.

A GPU and a model may be named (declared in the grid, or built in) or given as a file; a grid is used when there is
one and never needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.errors import GridctlError, InputError, NotFoundError, did_you_mean
from gridctl.resources import (
    BUILTIN_GPUS,
    Architecture,
    Deployment,
    EngineLimits,
    Gpu,
    GpuSpec,
    Metadata,
    Model,
    ModelSpec,
    Profile,
    ProfileSpec,
    Resource,
    Variant,
)
from gridctl.resources.architectures import ARCHITECTURES
from gridctl.resources.model import Dtype

if TYPE_CHECKING:
    from gridctl.profiling.calibration import Calibration
    from gridctl.profiling.validation import Validation

LARGEST_CONFIG = 1 << 20
SMALLEST_CONTEXT = 1024
"""KV tokens below which an engine could serve next to nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """The engine a profile is of."""

    gpu_name: str
    gpu: GpuSpec
    model_name: str
    model: ModelSpec
    variant: Variant
    deployment: Deployment

    @property
    def profile_name(self) -> str:
        """The name a profile of it gets unless told otherwise."""
        parts = [self.gpu_name, self.model_name, self.variant.dtype, f"tp{self.deployment.tensor_parallel}"]
        if self.deployment.data_parallel > 1:
            parts.append(f"dp{self.deployment.data_parallel}")
        if self.deployment.engine.kv_cache_dtype != "auto":
            parts.append(f"kv-{self.deployment.engine.kv_cache_dtype}")
        return ".".join(parts)[:63].rstrip(".-")


def target(
    gpu: str, model: str, dtype: Dtype, *, tensor_parallel: int, data_parallel: int, limits: EngineLimits
) -> Target:
    """The engine that a command line describes.

    Raises NotFoundError for an unknown name or file, InputError for a file of another kind.
    """
    _check_limits(limits)
    gpu_name, gpu_spec = gpu_named(gpu)
    model_name, architecture = _architecture(model)
    variant = Variant(name=dtype, dtype=dtype)
    deployment = Deployment(
        variant=f"{model_name}/{dtype}", tensor_parallel=tensor_parallel, data_parallel=data_parallel, engine=limits
    )
    if data_parallel > 1 and architecture.experts <= 1:
        raise InputError(
            "data-parallel ranks of a dense model do not step together",
            where="--data-parallel",
            fix="drop it: one rank's profile serves all of them",
        )
    return Target(
        gpu_name, gpu_spec, model_name, ModelSpec(architecture=architecture, variants=(variant,)), variant, deployment
    )


def _named(name: str, engine: Target, spec: ProfileSpec) -> Profile:
    """The profile under the name given, else one made from the engine; what could not be declared is refused here."""
    import msgspec

    profile = Profile(metadata=Metadata(name=name or engine.profile_name), spec=spec)
    try:
        return msgspec.convert(msgspec.to_builtins(profile), Profile)
    except msgspec.ValidationError as error:
        if "$.metadata.name" in str(error):
            raise InputError(
                f"{name[:80]!r} cannot be a name",
                where="--name",
                fix="use lower-case letters, digits, '-' and '.', 1 to 63 in all",
            ) from error
        raise InputError(
            f"the profile could not be declared: {error}",
            where=f"profile {profile.name}",
            fix="see what each field may hold: gridctl profile explain",
        ) from error


def _check_limits(limits: EngineLimits) -> None:
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        raise InputError(
            f"{limits.max_num_batched_tokens} tokens a step are fewer than {limits.max_num_seqs} sequences",
            where="--max-num-batched-tokens",
            fix="every running sequence needs one token a step: raise it, or lower --max-num-seqs",
        )


def _is_file(word: str) -> bool:
    return "/" in word or word.endswith((".json", ".yaml", ".yml")) or Path(word).is_file()


def _declared(kind: type[Resource], name: str) -> Resource | None:
    """What the current grid declares under the name; None without a grid or when it declares nothing."""
    from gridctl.orchestrator.context import current_grid

    try:
        with current_grid().open_registry() as registry:
            stored = registry.find(kind, name)
            return stored.resource if stored is not None else None
    except GridctlError:
        return None


def _from_file(path: str, kind: type[Resource]) -> Resource:
    """The one resource of a kind in a manifest."""
    from gridctl.manifest import read_manifests

    found = [one.resource for one in read_manifests([path]) if isinstance(one.resource, kind)]
    if len(found) != 1:
        raise InputError(
            f"the file declares {len(found)} {kind.plural}, one was expected",
            where=path,
            fix=f"give one {kind.__name__}",
        )
    return found[0]


def _unknown(noun: str, name: str, known: list[str]) -> NotFoundError:
    near = did_you_mean(name, known)
    hint = f"did you mean {near}?" if near else f"one of {', '.join(sorted(known))}, one of the grid, or a file"
    return NotFoundError(f"there is no {noun} {name}", where=f"--{noun}", fix=hint)


def gpu_named(word: str) -> tuple[str, GpuSpec]:
    """A GPU type by name (declared or built in) or from a manifest. Raises NotFoundError, InputError."""
    resource = _from_file(word, Gpu) if _is_file(word) else _declared(Gpu, word) or BUILTIN_GPUS.get(word)
    if not isinstance(resource, Gpu):
        raise _unknown("gpu", word, list(BUILTIN_GPUS))
    return resource.name, resource.spec


def _architecture(word: str) -> tuple[str, Architecture]:
    """A model's name and numbers: of the grid, built in, from a Model manifest or from a config.json."""
    if _is_file(word):
        path = Path(word)
        if path.suffix == ".json":
            config = _config(path)
            if "kind" not in config:
                return _slug(str(config.get("_name_or_path") or path.parent.name or path.stem)), _from_config(
                    config, word
                )
        model = _from_file(word, Model)
        assert isinstance(model, Model)
        return model.name, model.spec.architecture
    declared = _declared(Model, word)
    if isinstance(declared, Model):
        return declared.name, declared.spec.architecture
    if word not in ARCHITECTURES:
        raise _unknown("model", word, list(ARCHITECTURES))
    return word, ARCHITECTURES[word]


def _slug(text: str) -> str:
    kept = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else "-"
        for letter in text.split("/")[-1].lower()
    )
    return kept.strip("-.")[:40] or "model"


def _config(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_CONFIG)
    except FileNotFoundError as error:
        raise NotFoundError("the file does not exist", where=str(path), fix="check the path") from error
    except OSError as error:
        raise InputError(f"the file cannot be read: {error}", where=str(path), fix="check its permissions") from error
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the file is not JSON: {error}", where=str(path), fix="give a model's config.json") from error
    if not isinstance(config, dict):
        raise InputError("the file is not a JSON object", where=str(path), fix="give a model's config.json")
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) and "num_hidden_layers" in nested else config


def _from_config(config: dict[str, object], where: str) -> Architecture:
    """The numbers of a transformers config.json, under the names its families use."""
    import msgspec

    def number(*names: str, default: int | None = None) -> int:
        for name in names:
            value = config.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if default is None:
            raise InputError(f"{names[0]} is missing", where=where, fix="give the config.json of a decoder-only model")
        return default

    heads = number("num_attention_heads")
    experts = number("num_experts", "num_local_experts", "n_routed_experts", default=0)
    inner = ("moe_intermediate_size", "intermediate_size") if experts > 1 else ("intermediate_size",)
    fields = {
        "layers": number("num_hidden_layers"),
        "hidden_size": number("hidden_size"),
        "heads": heads,
        "kv_heads": number("num_key_value_heads", default=heads),
        "head_dim": number("head_dim", default=number("hidden_size") // max(1, heads)),
        "intermediate_size": number(*inner),
        "vocab_size": number("vocab_size"),
        "experts": experts,
        "experts_per_token": number("num_experts_per_tok", default=0),
        "tied_embeddings": config.get("tie_word_embeddings") is True,
    }
    try:
        return msgspec.convert(fields, Architecture)
    except msgspec.ValidationError as error:
        raise InputError(str(error), where=where, fix="give the config.json of a decoder-only model") from error


def fit(
    engine: Target, attention: Path, dense: Path, per_sequence: Path, *, name: str = "", source: str = ""
) -> Profile:
    """The profile that operator tables of this engine give."""
    from gridctl.profiling.fit import FitRequest, fit_profile
    from gridctl.profiling.tables import read_tables

    request = FitRequest(engine.gpu_name, engine.gpu, engine.model, engine.variant, engine.deployment, source)
    spec = fit_profile(read_tables(attention, dense, per_sequence), request)
    return _named(name, engine, spec)


def roofline_profile(engine: Target, *, name: str = "") -> Profile:
    """The profile that the GPU's specification gives."""
    from gridctl.profiling.outline import outline

    spec = outline(engine.gpu_name, engine.gpu, engine.model, engine.variant, engine.deployment)
    return _named(name, engine, spec)


def calibrated(engine: Target, calibration: Calibration, base: str, *, name: str = "") -> Profile:
    """The profile that a measured load gives, and where it came from."""
    request = calibration.request_us
    spec = calibration.profile(
        gpu=engine.gpu_name,
        architecture=engine.model.architecture,
        dtype=engine.variant.dtype,
        kv_cache_dtype=engine.deployment.engine.kv_cache_dtype,
        tensor_parallel=engine.deployment.tensor_parallel,
        data_parallel=engine.deployment.data_parallel,
        source=f"{calibration.requests:,} requests to {base}; beside its steps a request took {request.value:,.0f}"
        f" ± {request.standard_error:,.0f} µs, round trip apart",
    )
    return _named(name, engine, spec)


def load_profile(word: str) -> Profile:
    """A profile by name (declared or shipped) or from a manifest."""
    from gridctl.manifest.shipped import shipped_profiles

    found = _from_file(word, Profile) if _is_file(word) else _declared(Profile, word) or shipped_profiles().get(word)
    if not isinstance(found, Profile):
        raise _unknown("profile", word, list(shipped_profiles()))
    return found


def outside(profile: Profile, limits: EngineLimits, longest_context: int) -> list[str]:
    """What of an engine's limits and requests the profile was not measured for."""
    valid, ranks = profile.spec.valid, profile.spec.data_parallel
    pairs = (
        ("tokens of a step", limits.max_num_batched_tokens * ranks, valid.tokens),
        ("sequences", limits.max_num_seqs * ranks, valid.sequences),
        ("tokens of the longest request", longest_context, valid.kv_tokens),
    )
    return [
        f"{used:,} {what}, the profile covers {covered:,}: extrapolated"
        for what, used, covered in pairs
        if used > covered
    ]


def validate(profile: Profile, measured: Path, limits: EngineLimits, kv_blocks: int | None) -> Validation:
    """How well the profile's engine predicts a measured run. KV memory is planned as for a deployment unless given."""
    from gridctl.engine.memory import plan_memory
    from gridctl.engine.profile import profile_from
    from gridctl.profiling.validation import read_measured
    from gridctl.profiling.validation import validate as compare

    _check_limits(limits)
    run = read_measured(measured)
    spec = profile.spec
    ranks = spec.data_parallel
    if kv_blocks is None:
        _, gpu = gpu_named(spec.gpu)
        variant = Variant(name=spec.dtype, dtype=spec.dtype)
        deployment = Deployment(
            variant=f"model/{spec.dtype}", tensor_parallel=spec.tensor_parallel, data_parallel=ranks, engine=limits
        )
        plan = plan_memory(ModelSpec(architecture=spec.architecture, variants=(variant,)), variant, gpu, deployment)
        if plan.kv_blocks * limits.block_size < SMALLEST_CONTEXT:
            raise InputError(
                f"the model does not fit {deployment.gpus_per_engine} × {spec.gpu}: {plan.arithmetic}",
                where=f"profile {profile.name}",
                fix="raise --gpu-memory-utilization, or give the engine's own figure with --kv-blocks",
            )
        kv_blocks = plan.kv_blocks
    steps = profile_from(
        spec,
        tokens=limits.max_num_batched_tokens * ranks,
        sequences=limits.max_num_seqs * ranks,
        source=profile.name,
    )
    return compare(run, steps, limits, kv_blocks, ranks)
