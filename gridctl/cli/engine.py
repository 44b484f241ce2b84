"""`gridctl engine`: engines for trying things out. `mock` serves the OpenAI API with the twin's timing and no GPU."""

# No postponed annotations here: typer reads them.

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.credential import key_in
from gridctl.cli.engineoptions import (
    BatchedOption,
    CacheOption,
    DataOption,
    SequencesOption,
    TensorOption,
    complete_gpus,
    complete_models,
    complete_profiles,
)
from gridctl.cli.options import complete_names
from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from gridctl.mockengine.engine import Manner
    from gridctl.mockengine.faults import Fault
    from gridctl.mockengine.pace import Pace
    from gridctl.mockengine.server import Address, PaceMaker
    from gridctl.orchestrator.mocking import Wanted

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Engines for trying things out: the twin behind a port."
)

LARGEST_MS = 3_600_000.0
MOST_SPEED = 1e6
PATIENCE_S = 1.5


@app.callback()
def _noun() -> None:
    """A noun with one verb stays a noun."""


@app.command()
def mock(
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Step times: a profile, shipped, of the grid, or a manifest.",
            autocompletion=complete_profiles,
        ),
    ] = "",
    gpu: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="GPU type, with --model.", autocompletion=complete_gpus)
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME[/FORMAT]|FILE",
            help="Model and weights: llama-3.1-8b, llama-3.1-70b/fp8.",
            autocompletion=complete_models,
        ),
    ] = "",
    cluster: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The engine of a cluster of the grid, as a replay has it.",
            autocompletion=complete_names("cluster"),
        ),
    ] = "",
    variant: Annotated[str, typer.Option(metavar="MODEL/VARIANT", help="Which of the cluster's variants.")] = "",
    ttft_ms: Annotated[
        float | None, typer.Option("--ttft-ms", metavar="MS", help="No twin: this long to the first token.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option("--tpot-ms", metavar="MS", help="No twin: this long between tokens.")
    ] = None,
    model_name: Annotated[
        str, typer.Option("--model-name", metavar="NAME", help="The model's name at the endpoint.")
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 0,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="HOST:PORT, or unix:PATH, instead of loopback.")] = "",
    speed: Annotated[float, typer.Option(metavar="X", help="Time passes X times as fast in the engine.")] = 1.0,
    tensor_parallel: TensorOption = 1,
    data_parallel: DataOption = 1,
    kv_cache_dtype: CacheOption = "auto",
    max_num_seqs: SequencesOption = 128,
    max_num_batched_tokens: BatchedOption = 2048,
    block_size: Annotated[int, typer.Option("--block-size", min=1, max=1024, help="Tokens of a KV block.")] = 16,
    gpu_memory_utilization: Annotated[
        float, typer.Option("--gpu-memory-utilization", min=0.01, max=1.0, help="Share of GPU memory it may use.")
    ] = 0.9,
    kv_blocks: Annotated[
        int | None, typer.Option("--kv-blocks", min=1, max=1 << 24, help="KV blocks; planned unless given.")
    ] = None,
    prefix_caching: Annotated[
        bool, typer.Option("--prefix-caching/--no-prefix-caching", help="Whether equal prompt blocks are kept.")
    ] = True,
    async_scheduling: Annotated[
        bool, typer.Option(help="Compose the next step while one runs (vLLM's default).")
    ] = True,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", min=1, max=100_000, help="Mean answer where max_tokens is not given.")
    ] = 128,
    metrics: Annotated[
        Literal["vllm", "sglang", "llamacpp", "tgi", "none"], typer.Option(help="Whose names /metrics has.")
    ] = "vllm",
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", metavar="VARIABLE", help="Ask for the key in this variable.")
    ] = "",
    faults: Annotated[
        str, typer.Option(metavar="SPEC", help="What goes wrong: status=503*0.2@10s+30s,die@60s; see below.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be served, listen nowhere.")] = False,
    output: OutputOption = "table",
) -> None:
    """Serve the OpenAI API with the timing of the engine twin: continuous batching, paged KV memory, prefix cache.

    Every token comes at the end of the twin's step that makes it; a word is a token. With --ttft-ms and --tpot-ms
    it is a plain engine of fixed times instead, with both 0 the fastest there is. A client that leaves frees its
    seat. Prints its URL when it listens and serves until Ctrl-C.

    Faults are KIND[=VALUE][*SHARE][@START[+LENGTH]]: die, refuse, stall, slow=3, status=503, silent, reset,
    truncate, garbage, lie=idle. POST /mock/faults changes them while it runs, GET /mock/state shows its state.

    Example:
      gridctl engine mock --profile rtx-pro-6000.llama-3.1-8b.bf16.tp1 --port 8001
      gridctl engine mock --gpu h100-sxm --model llama-3.1-8b/fp8 --speed 2 --faults slow=3@30s+10s
      gridctl engine mock --cluster madrid-rtx -o json
    """
    from gridctl.mockengine.engine import Manner
    from gridctl.mockengine.faults import parse_faults
    from gridctl.orchestrator.mocking import Wanted
    from gridctl.resources import EngineLimits

    limits = EngineLimits(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=block_size,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_dtype=kv_cache_dtype,
        enable_prefix_caching=prefix_caching,
        async_scheduling=async_scheduling,
    )
    wanted = Wanted(profile, gpu, model, cluster, variant, tensor_parallel, data_parallel, limits, kv_blocks)
    if not 0 < speed <= MOST_SPEED:
        raise UsageError(f"time cannot pass {speed:g} times as fast", where="--speed", fix="--speed 1, --speed 10")
    make, served, source = _pace(wanted, ttft_ms, tpot_ms, speed, max_num_seqs)
    key = key_in(api_key_env)
    manner = Manner(model_name or served, metrics, key, mean_output_tokens=output_tokens, speed=speed)
    told, address = parse_faults(faults), _address(listen, port)
    if dry_run:
        note(f"dry run: {manner.model} ({source}) would be served; nothing listens")
        return
    _serve(address, make, manner, told, source, output)


def _serve(
    address: "Address", make: "PaceMaker", manner: "Manner", told: "list[Fault]", source: str, output: str
) -> None:
    from gridctl.mockengine.server import serve
    from gridctl.render.rows import Column

    columns = (
        Column("url", "URL"),
        Column("model", "MODEL"),
        Column("source", "TIMES FROM"),
        Column("pid", "PID", align="right"),
    )

    def ready(url: str) -> None:
        item = {"name": manner.model, "url": url, "model": manner.model, "source": source, "pid": os.getpid()}
        emit([item], columns, output, kind="MockEngine", single=True)
        sys.stdout.flush()
        note("serving; Ctrl-C stops it")

    if serve(address, make, manner, told, ready):
        raise UnreachableError("the engine died, as --faults or a control request told it to")


def _pace(
    wanted: "Wanted", ttft_ms: float | None, tpot_ms: float | None, speed: float, seats: int
) -> "tuple[PaceMaker, str, str]":
    """How the pace is made once there is a loop, the model's name, and where its times are from."""
    if ttft_ms is not None or tpot_ms is not None:
        first, between = ttft_ms or 0.0, tpot_ms or 0.0
        if not (0 <= first <= LARGEST_MS and 0 <= between <= LARGEST_MS):
            raise UsageError("a time to the first or next token lies outside 0 ms to an hour", fix="--ttft-ms 50")
        if wanted.profile or wanted.gpu or wanted.cluster:
            raise UsageError(
                "a plain engine has no twin", where="--ttft-ms", fix="give --profile, --gpu or --cluster, or times"
            )
        from gridctl.mockengine.clock import Clock
        from gridctl.mockengine.plain import PlainPace

        return (
            lambda loop: PlainPace(loop, first, between, Clock(speed), seats=seats),
            wanted.model or "mock",
            f"{first:g} ms to the first token, {between:g} ms a token",
        )
    from gridctl.orchestrator.mocking import twin_engine

    twin = twin_engine(wanted)

    def make(loop: "AbstractEventLoop") -> "Pace":
        from threading import Timer

        from gridctl.mockengine.clock import Clock
        from gridctl.mockengine.twinpace import TwinPace

        # Compiled once per version and kept; who waits for that is told, on a terminal or not.
        patience = Timer(PATIENCE_S, note, ["compiling the engine twin (once per version): it listens in a moment"])
        patience.start()
        try:
            return TwinPace(loop, twin.spec, Clock(speed))
        finally:
            patience.cancel()

    return make, twin.model, twin.source


def _address(listen: str, port: int) -> "Address":
    """Where to listen."""
    from gridctl.mockengine.server import UNIX, Address

    if not listen:
        return Address(port=port)
    if listen.startswith(UNIX) and len(listen) > len(UNIX):
        return Address(path=listen[len(UNIX) :])
    host, _, digits = listen.rpartition(":")
    if not host or not digits.isdecimal() or int(digits) > 65535:
        raise UsageError(f"{listen[:80]!r} is no address", where="--listen", fix="HOST:PORT or unix:PATH")
    return Address(host.strip("[]"), int(digits))
