"""`gridctl profile calibrate`: measure a live engine for a bounded time and fit a profile to it."""

# No postponed annotations here: typer reads them.

from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.amounts import span_of
from gridctl.cli.credential import key_in
from gridctl.cli.engineoptions import (
    CacheOption,
    DataOption,
    DtypeOption,
    NameOption,
    OutOption,
    TensorOption,
    complete_gpus,
    complete_models,
    deliver,
    engine_limits,
)
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.profiling.calibration import Calibration
    from gridctl.profiling.endpoint import Endpoint
    from gridctl.profiling.load import LoadPlan
    from gridctl.profiling.observation import Observations

USUAL_CHUNK = 2048
"""Tokens of a step where neither a person nor the measurement says: what vLLM does unless told."""
COUNTS_FIX = "give whole numbers above 0, such as 1,2,4,8"


def calibrate(
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="An OpenAI-compatible engine, such as http://host:8000.")
    ],
    model_name: Annotated[
        str,
        typer.Option("--model-name", metavar="NAME", help="The model's name at the endpoint; its only one by default."),
    ] = "",
    gpu: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="GPU type the engine runs on.", autocompletion=complete_gpus)
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="Model, built in, of the grid or its config.json.", autocompletion=complete_models
        ),
    ] = "",
    dtype: DtypeOption = "bf16",
    tensor_parallel: TensorOption = 1,
    data_parallel: DataOption = 1,
    kv_cache_dtype: CacheOption = "auto",
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", metavar="VARIABLE", help="Environment variable that holds the API key.")
    ] = "",
    concurrency: Annotated[str, typer.Option(metavar="N,…", help="Requests at once.")] = "1,2,4,8,16",
    prompt_tokens: Annotated[
        str, typer.Option("--prompt-tokens", metavar="N,…", help="Prompt lengths of the lone requests.")
    ] = "16,64,128,256,512,1024,2048,4096",
    output_tokens: Annotated[int, typer.Option("--output-tokens", min=2, max=4096, help="Tokens asked of each.")] = 33,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="Requests at most.")] = 2000,
    total_tokens: Annotated[
        int, typer.Option("--total-tokens", min=1, max=1_000_000_000, help="Prompt and output tokens at most.")
    ] = 1_000_000,
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long the load may last: 60s, 5m.")] = "60s",
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option("--max-num-batched-tokens", min=1, max=65536, help="The engine's prefill chunk; else inferred."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, ask nothing.")] = False,
    name: NameOption = "",
    out: OutOption = None,
    output: OutputOption = "table",
) -> None:
    """Measure a live engine with a short, bounded load and fit a step-time profile to it.

    Lone requests of several lengths give prefill, batches of several sizes give decodes. Every prompt is new, so a
    prefix cache does not help. The load competes with the engine's other traffic: run it while that is low. With
    --gpu and --model, which a client cannot see, the result is a profile to apply; without, it is printed.

    Example:
      gridctl profile calibrate --endpoint http://10.0.0.5:8000 --gpu l40s --model llama-3.1-8b --out profile.yaml
    """
    from gridctl.orchestrator import profiles
    from gridctl.profiling.endpoint import Endpoint
    from gridctl.profiling.load import LoadPlan
    from gridctl.profiling.probe import only_model
    from gridctl.profiling.solve import solve
    from gridctl.render.profiles import CALIBRATION_COLUMNS, calibration_items

    if bool(gpu) != bool(model):
        raise UsageError("a profile needs both --gpu and --model", fix="give both, or neither to see the figures only")
    batches = _counts("--concurrency", concurrency)
    engine = None
    if gpu:
        limits = engine_limits(kv_cache_dtype, max(batches), max_num_batched_tokens or USUAL_CHUNK)
        engine = profiles.target(
            gpu, model, dtype, tensor_parallel=tensor_parallel, data_parallel=data_parallel, limits=limits
        )
    plan = LoadPlan(
        prompt_tokens=_counts("--prompt-tokens", prompt_tokens),
        concurrency=batches,
        output_tokens=output_tokens,
        max_requests=requests,
        max_tokens=total_tokens,
        duration_s=span_of(duration, "--duration"),
    )
    peer = Endpoint(endpoint, model_name, key_in(api_key_env))
    if dry_run:
        _say_plan(peer, plan)
        return
    peer = peer if model_name else only_model(peer)
    calibration = solve(_observed(peer, plan), max_num_batched_tokens)
    if engine is not None:
        deliver(profiles.calibrated(engine, calibration, peer.base, name=name), out)
    else:
        emit(calibration_items(calibration), CALIBRATION_COLUMNS, output, kind="Calibration")
    _say_fit(calibration)


def _observed(peer: "Endpoint", plan: "LoadPlan") -> "Observations":
    """Put the load on the engine; progress is of the time that it may last, in milliseconds."""
    from gridctl.profiling.probe import measure

    with progress("measuring", total=round(plan.duration_s * 1000)) as advance:
        shown = 0

        def listen(news: object) -> None:
            nonlocal shown
            done = min(plan.duration_s, getattr(news, "elapsed_s", 0.0))
            advance(round(done * 1000) - shown)
            shown = round(done * 1000)

        return measure(peer, plan, listen)


def _counts(option: str, text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise UsageError(f"{option} is {text!r}", fix=COUNTS_FIX)
    return counts


def _say_plan(peer: "Endpoint", plan: "LoadPlan") -> None:
    most, tokens = plan.most()
    rounds = plan.repetition()
    note(
        f"would ask {peer.base} for model {peer.model or '(its only one)'}: up to {most:,} requests and {tokens:,}"
        f" tokens in {plan.duration_s:g} s, {len(rounds)} kinds of batch, at most {max(plan.concurrency)} at once"
    )


def _say_fit(calibration: "Calibration") -> None:
    error = calibration.fit_error()
    note(
        f"fitted to {calibration.requests:,} requests; on requests kept out, median / p95 off: time between tokens"
        f" {error.dense_p50:g} / {error.dense_p95:g} %, first token {error.attention_p50:g} / {error.attention_p95:g} %"
    )
    for text in calibration.notes:
        note(f"warning: {text}")
