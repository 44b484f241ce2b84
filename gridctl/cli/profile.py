"""`gridctl profile`: the common verbs, and how profiles come about and how good they are.

Parses, calls `orchestrator.profiles`, prints. Fitted profiles go to stdout or to a file as manifests; `gridctl apply`
declares them.
"""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.calibrate import calibrate
from gridctl.cli.engineoptions import (
    BatchedOption,
    CacheOption,
    DataOption,
    DtypeOption,
    GpuOption,
    ModelOption,
    NameOption,
    OutOption,
    SequencesOption,
    TensorOption,
    complete_profiles,
    deliver,
    engine_limits,
)
from gridctl.cli.kind import kind_app
from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import UsageError
from gridctl.resources import Profile

if TYPE_CHECKING:
    pass

app = kind_app(Profile)
app.command()(calibrate)


@app.command()
def fit(
    gpu: GpuOption,
    model: ModelOption,
    tables: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Read PREFIX_attention, _dense and _per_sequence .csv or .csv.gz."),
    ] = "",
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="prefill_chunk,kv_prefill,n_decode,kv_decode,time_us of one layer."),
    ] = None,
    dense: Annotated[Path | None, typer.Option(metavar="FILE", help="layer,tokens,time_us.")] = None,
    per_sequence: Annotated[Path | None, typer.Option(metavar="FILE", help="layer,sequences,time_us.")] = None,
    dtype: DtypeOption = "bf16",
    tensor_parallel: TensorOption = 1,
    data_parallel: DataOption = 1,
    kv_cache_dtype: CacheOption = "auto",
    max_num_seqs: SequencesOption = 128,
    max_num_batched_tokens: BatchedOption = 2048,
    source: Annotated[str, typer.Option(metavar="TEXT", help="Where the tables come from; kept in the profile.")] = "",
    name: NameOption = "",
    out: OutOption = None,
) -> None:
    """Fit a step-time profile to measured operator tables of one model on one GPU.

    The tables hold kernel times in microseconds: attention of one layer by batch, dense layers by tokens, per-sequence
    layers by sequences. What they do not hold (collectives, experts, host time) comes from the GPU's specification.
    Only ranks that step together (--data-parallel) need the engine's limits.

    Example:
      gridctl profile fit --gpu rtx-pro-6000 --model llama-3.1-8b --tables perf/op_llama_tp1 --out profile.yaml
      gridctl apply -f profile.yaml
    """
    from gridctl.orchestrator import profiles

    files = _table_files(tables, attention, dense, per_sequence)
    limits = engine_limits(kv_cache_dtype, max_num_seqs, max_num_batched_tokens)
    engine = profiles.target(
        gpu, model, dtype, tensor_parallel=tensor_parallel, data_parallel=data_parallel, limits=limits
    )
    profile = profiles.fit(engine, *files, name=name, source=source)
    error = profile.spec.error
    deliver(profile, out)
    note(
        f"profile {profile.name}: fit error p50/p95 dense {error.dense_p50:g}/{error.dense_p95:g} %, attention"
        f" {error.attention_p50:g}/{error.attention_p95:g} %; check it: gridctl profile validate --help"
    )


def _table_files(
    prefix: str, attention: Path | None, dense: Path | None, per_sequence: Path | None
) -> tuple[Path, Path, Path]:
    found = []
    for word, given in (("attention", attention), ("dense", dense), ("per_sequence", per_sequence)):
        if given is not None:
            found.append(given)
        elif prefix:
            plain, packed = Path(f"{prefix}_{word}.csv"), Path(f"{prefix}_{word}.csv.gz")
            found.append(plain if plain.exists() else packed)
        else:
            option = word.replace("_", "-")
            raise UsageError(f"--{option} is missing", fix="give --tables PREFIX, or all three tables by name")
    return found[0], found[1], found[2]


@app.command()
def roofline(
    gpu: GpuOption,
    model: ModelOption,
    dtype: DtypeOption = "bf16",
    tensor_parallel: TensorOption = 1,
    data_parallel: DataOption = 1,
    kv_cache_dtype: CacheOption = "auto",
    max_num_seqs: SequencesOption = 128,
    max_num_batched_tokens: BatchedOption = 2048,
    name: NameOption = "",
    out: OutOption = None,
) -> None:
    """Write the profile that a GPU's specification and achieved shares give, where nothing was measured.

    A replay uses the same numbers without it; write it down to read, compare or correct them.

    Example:
      gridctl profile roofline --gpu h100-sxm --model llama-3.1-70b --dtype fp8 --tensor-parallel 2
    """
    from gridctl.orchestrator import profiles

    limits = engine_limits(kv_cache_dtype, max_num_seqs, max_num_batched_tokens)
    engine = profiles.target(
        gpu, model, dtype, tensor_parallel=tensor_parallel, data_parallel=data_parallel, limits=limits
    )
    deliver(profiles.roofline_profile(engine, name=name), out)


@app.command()
def validate(
    measured: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="request,input_tokens,output_tokens,queued_s,scheduled_s,first_token_s,last_token_s."
        ),
    ],
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="A profile: shipped, of the grid, or a manifest.",
            autocompletion=complete_profiles,
        ),
    ],
    max_num_seqs: SequencesOption = 128,
    max_num_batched_tokens: BatchedOption = 2048,
    block_size: Annotated[int, typer.Option("--block-size", min=1, max=1024, help="Tokens of a KV block.")] = 16,
    gpu_memory_utilization: Annotated[
        float, typer.Option("--gpu-memory-utilization", min=0.01, max=1.0, help="Share of GPU memory the engine used.")
    ] = 0.9,
    kv_blocks: Annotated[
        int | None, typer.Option("--kv-blocks", min=1, help="KV blocks the engine said it had; planned unless given.")
    ] = None,
    async_scheduling: Annotated[
        bool, typer.Option(help="Whether the engine composed the next step while one ran (vLLM's default).")
    ] = True,
    output: OutputOption = "table",
) -> None:
    """Serve a measured run's requests on one engine of the twin and print how far the two lie apart.

    Errors are signed: +5 % means the twin is slower than the measurement. MAPE is the mean over requests of the
    absolute relative error. Give the limits the engine ran with.

    Example:
      gridctl profile validate --profile rtx-pro-6000.llama-3.1-8b.bf16.tp1 --measured measured.csv.gz
    """
    from gridctl.orchestrator import profiles
    from gridctl.render.profiles import VALIDATION_COLUMNS, validation_items
    from gridctl.resources import EngineLimits

    found = profiles.load_profile(profile)
    limits = EngineLimits(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=block_size,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_dtype=found.spec.kv_cache_dtype,
        async_scheduling=async_scheduling,
    )
    result = profiles.validate(found, measured, limits, kv_blocks)
    emit(validation_items(found.name, result), VALIDATION_COLUMNS, output, kind="ProfileValidation")
    note(
        f"{result.requests:,} requests, {result.preemptions:,} preemptions, {result.kv_blocks:,} KV blocks;"
        f" profile {found.name} ({found.spec.method})"
    )
    for text in profiles.outside(found, limits, result.longest_context):
        note(f"warning: {text}")
