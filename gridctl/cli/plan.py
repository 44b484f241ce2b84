"""`gridctl plan`: does the edge pay here, and where capacity should stand for a trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gridctl.cli.options import complete_names
from gridctl.cli.output import OutputOption, emit, note, progress, write
from gridctl.cli.replayoptions import FirstRequestsOption
from gridctl.cli.run_argument import comma_list
from gridctl.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from gridctl.accounts.plans import Axis, BreakEvens
    from gridctl.planning.place import Found, Prepared
    from gridctl.traces.trace import Trace

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Where capacity should stand, found with replays: break-even, placement.",
)

PricesOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="The price book.", autocompletion=complete_names("price")),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="The policy both sides are routed by; the grid's own otherwise."),
]
MarkupOption = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        min=0,
        max=10,
        help="How much dearer a GPU-hour is outside the core, where no cluster declares it.",
    ),
]
JobsOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes; all processors otherwise.")]
ExecutorOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Who replays: this machine, or the cluster at RAY_ADDRESS.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same answer.")]


@app.command()
def breakeven(
    workload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this workload; may be given again.", autocompletion=complete_names("workload")
        ),
    ] = None,
    region: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this region: NA, EU, AS, OC, LATAM, AF, ME.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option("--from", metavar="TRACE", help="Demand and requests of a trace, not generated ones.")
    ] = None,
    axis: Annotated[
        str, typer.Option(metavar="LIST", help="What is varied: rtt, load, budget, skew.")
    ] = "rtt,load,budget,skew",
    load: Annotated[
        float | None, typer.Option(metavar="RPS", min=0.01, max=100_000, help="Requests a second; the trace's, or 20.")
    ] = None,
    places: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Places with an engine each at the edge.")
    ] = 4,
    edge_gpu: Annotated[
        str | None, typer.Option(metavar="GPU", help="GPU at the edge.", autocompletion=complete_names("gpu"))
    ] = None,
    core_gpu: Annotated[
        str | None, typer.Option(metavar="GPU", help="GPU in the core.", autocompletion=complete_names("gpu"))
    ] = None,
    variant: Annotated[str | None, typer.Option(metavar="MODEL/VARIANT", help="What both serve.")] = None,
    edge_markup: MarkupOption = 0.0,
    prices: PricesOption = "default",
    policy: PolicyOption = None,
    seed: SeedOption = 1,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Replays of every setting, drawn differently.")
    ] = 6,
    requests: Annotated[
        int, typer.Option(metavar="N", min=200, max=1_000_000, help="Requests of a replay, at least.")
    ] = 2000,
    max_engines: Annotated[int, typer.Option(metavar="N", min=1, max=4096, help="The largest fleet tried.")] = 64,
    jobs: JobsOption = None,
    executor: ExecutorOption = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many replays it takes; replay nothing.")] = False,
    output: OutputOption = "table",
) -> None:
    """Find where the edge starts to pay, for each workload and region.

    Both arrangements get the smallest fleet that keeps every promise of the workload: the edge at least one engine at
    every place, the core all engines at one site. Their cost is dollars per million output tokens of good requests,
    idle GPUs included. Every number comes from a replay; a break-even on which replays disagree is undecided. See:
    gridctl help planning.

    Example:
      gridctl plan breakeven --workload voice-agent --region EU
      gridctl plan breakeven --from trace.jsonl.gz --axis rtt -o json
      gridctl plan breakeven --edge-markup 0.15 --dry-run
    """
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.replaying import resources_of
    from gridctl.planning.breakeven import Question, find_breakevens, most_replays, prepare
    from gridctl.planning.cells import Wish
    from gridctl.planning.trial import Limits

    resources = resources_of(current_grid())
    question = Question(
        workloads=tuple(dict.fromkeys(workload or ())),
        regions=tuple(dict.fromkeys(region or ())),
        axes=_axes(axis),
        load_rps=load,
        policy=policy,
        seed=seed,
        replays=seeds,
        limits=Limits(requests, max_engines),
        wish=Wish(places, edge_gpu, core_gpu, variant, prices, edge_markup),
    )
    study = prepare(resources, None if trace is None else _read(trace), question, note)
    settings = study.settings * seeds
    if dry_run:
        note(
            f"dry run: {len(study.cells)} workloads and regions, {settings:,} settings,"
            f" at most {most_replays(study) * seeds:,} replays; nothing was replayed"
        )
        return
    ready_replay()
    with progress("replaying small scenarios", settings) as advance:
        found = find_breakevens(study, seeds, jobs=jobs, executor=executor, advanced=advance)
    _emit_breakevens(found, output)


@app.command()
def place(
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="The demand, in any format gridctl reads; - for stdin.")
    ],
    gpus: Annotated[str, typer.Option(metavar="LIST", help="GPUs that may be placed: l40s,rtx-pro-6000.")],
    models: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Models that may be placed; all that the workloads accept otherwise."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", min=0, max=1e9, help="Fail when the cheapest costs more an hour.")
    ] = None,
    max_sites: Annotated[int | None, typer.Option(metavar="N", min=1, help="Place engines at N sites at most.")] = None,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Place what can be met, where some demand cannot.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the grid with the placement as manifests.")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, max=50, help="Solve and replay at most so often.")] = 5,
    time_limit: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=1, max=86_400, help="For the solver, in each arrangement's first round."),
    ] = 10.0,
    gap: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=0.5, help="Stop when no placement can be cheaper by more.")
    ] = 0.02,
    speed: Annotated[float, typer.Option(metavar="X", help="Replay the trace X times as fast.")] = 1.0,
    limit: FirstRequestsOption = None,
    edge_markup: MarkupOption = 0.0,
    prices: PricesOption = "default",
    policy: PolicyOption = None,
    seed: SeedOption = 1,
    jobs: JobsOption = None,
    executor: ExecutorOption = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure the demand, place nothing.")] = False,
    output: OutputOption = "table",
) -> None:
    """Find the cheapest placement of engines that keeps every promise of a trace's workloads, and prove it by replay.

    Which GPU serves how much at which distance is measured by replaying one engine; a mixed-integer program chooses
    sites and engines; the trace is replayed over the result with the production router. A promise that is missed raises
    the capacity asked for there and solves again; engines that the replay can spare are taken away. The same is done
    for all-core and all-edge, and the grid's own clusters are replayed beside them. See: gridctl help planning.

    Example:
      gridctl plan place trace.jsonl.gz --gpus l40s,rtx-pro-6000
      gridctl plan place trace.jsonl.gz --gpus h100-sxm,rtx-pro-6000 --edge-markup 0.15 --out placed/
      gridctl plan place trace.jsonl.gz --gpus l40s --budget 40 -o json
    """
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.replaying import resources_of
    from gridctl.planning.place import Request, check_folder, find_placement, prepare, write_grid
    from gridctl.planning.program import Limits

    home = current_grid()
    resources = resources_of(home)
    if out is not None:
        check_folder(out)
    request = Request(
        gpus=tuple(comma_list(gpus)),
        models=tuple(comma_list(models or "")),
        budget_usd_per_hour=budget,
        limits=Limits(time_limit, gap, max_sites),
        rounds=rounds,
        best_effort=best_effort,
        policy=policy,
        prices=prices,
        markup=edge_markup,
        seed=seed,
    )
    prepared = prepare(resources, _shaped(_read(trace), speed, limit), request, note)
    if dry_run:
        _say_prepared(prepared)
        return
    ready_replay()
    with progress("measuring engines, placing, replaying", 2 * len(prepared.bench.questions)) as advance:
        store = home.database.parent / "capacities.json"
        found = find_placement(prepared, store, jobs=jobs, executor=executor, say=note, measured=advance)
    if out is not None:
        write_grid(out, found.resources)
    _emit_placement(found, output)
    if out is not None:
        note(f"the grid with placement {found.chosen} is in {out}; next: gridctl diff -f {out}")


def _emit_breakevens(found: BreakEvens, output: str) -> None:
    """Break-evens on stdout, what they do not say on stderr."""
    from gridctl.render.plan import breakeven_columns, breakeven_items, breakeven_text

    if output in ("table", "wide", "markdown"):
        write(breakeven_text(found, output))
    elif output in ("json", "yaml"):
        emit([{"name": "breakeven"}], [], output, kind="BreakEven", single=True, documents=[found])
    else:
        emit(breakeven_items(found), breakeven_columns(), output, kind="BreakEven", documents=found.items)
    note(f"{found.replayed:,} replays; prices count idle GPUs, which a pooled core has fewer of: gridctl help planning")
    for text in dict.fromkeys(f"{row.workload} in {row.region}: {one}" for row in found.items for one in row.notes):
        note(text)


def _say_prepared(prepared: Prepared) -> None:
    """What a placement would be chosen from, and how much there is to measure."""
    note(
        f"dry run: {len(prepared.trace):,} requests from {len(prepared.demand.names)} places,"
        f" {len(prepared.sites):,} sites, {len(prepared.offers)} kinds of engine,"
        f" {len(prepared.bench.questions)} capacities to measure; nothing was replayed or written"
    )


def _emit_placement(found: Found, output: str) -> None:
    """The placement on stdout, the notes of each arrangement on stderr."""
    from gridctl.render.plan import PLACED_COLUMNS, placed_items, placement_text

    arrangements = found.placement.arrangements
    if output in ("table", "wide", "markdown"):
        write(placement_text(found.placement, output))
    elif output in ("json", "yaml"):
        emit([{"name": "placement"}], [], output, kind="Placement", single=True, documents=[found.placement])
    else:
        chosen = next(one for one in arrangements if one.name == found.chosen)
        emit(placed_items(found.placement), PLACED_COLUMNS, output, kind="Placement", documents=chosen.placed)
    for one in arrangements:
        for text in one.notes:
            note(f"{one.name}: {text}")


def _axes(text: str) -> tuple[Axis, ...]:
    from gridctl.planning.axes import AXES

    words = comma_list(text)
    for word in words:
        if word not in AXES:
            near = did_you_mean(word, AXES)
            fix = f"did you mean {near}?" if near else f"choose among {','.join(AXES)}"
            raise UsageError(f"{word!r} is no axis", where="--axis", fix=fix)
    if not words:
        raise UsageError("nothing is varied", where="--axis", fix="--axis rtt")
    return tuple(axis for axis in AXES if axis in words)


def _read(path: str) -> Trace:
    from gridctl.traces.reader import read_trace

    with progress("reading"):
        return read_trace(path)


def _shaped(trace: Trace, speed: float, limit: int | None) -> Trace:
    from gridctl.traces import slicing

    if limit is not None:
        trace = slicing.cut(trace, limit=limit)
    return slicing.scale_time(trace, speed)
