"""`gridctl sweep`: many scenarios over one trace — run, show, pivot, list, get, delete."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import YesOption
from gridctl.cli.output import OutputOption, emit, is_interactive, note, painted, progress, write, write_file
from gridctl.cli.pivoting import pivot
from gridctl.cli.replayoptions import EVERY_SOURCE, DrawOption, MakerOption, ReplaysOption
from gridctl.cli.sweep_argument import SweepArgument, WorkloadOption, complete_sweep, read_sweep
from gridctl.errors import InputError, StoreError, UsageError

if TYPE_CHECKING:
    from gridctl.accounts.pareto import SweepRow
    from gridctl.resources import Resource
    from gridctl.sweeps import work
    from gridctl.sweeps.axes import Scenario
    from gridctl.sweeps.reading import Question
    from gridctl.sweeps.sweeping import Sweep, Wanted
    from gridctl.traces.trace import Trace

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Many scenarios over one trace, and which no other beats."
)
app.command("pivot")(pivot)

PICTURE_WIDTH = 79
LEAST_WIDTH = 40


SvgOption = Annotated[str | None, typer.Option("--svg", metavar="FILE", help="Draw the front as an SVG file, too.")]


@app.command()
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A sweep file: gridctl help sweeps.")],
    name: Annotated[str | None, typer.Option(metavar="SWEEP", help="The sweep's name; the file's otherwise.")] = None,
    trace: Annotated[str | None, typer.Option(metavar="TRACE", help="Replay this instead of the file's trace.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="The same seed gives the same sweep, byte for byte.")] = 1,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="N replays of each scenario, drawn differently.")
    ] = 1,
    draw: DrawOption = EVERY_SOURCE,
    jobs: ReplaysOption = None,
    executor: MakerOption = "local",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the results there are, make those that are missing.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a sweep of that name.")] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Exit with 0 though some scenarios are no whole grid.")
    ] = False,
    workload: WorkloadOption = None,
    svg: SvgOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Make more than 10,000 replays.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the scenarios, time the first, keep nothing.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Replay every scenario of a sweep file, and print which no other beats in cost and attainment.

    Results are kept as they come: after Ctrl-C or a kill, --resume goes on. A scenario whose grid is not whole is named
    and left out, the others go on, and the exit code is 3 unless --skip-invalid. `gridctl sweep FILE` is the same.

    Example:
      gridctl sweep run sweep.yaml --dry-run
      gridctl sweep run sweep.yaml --seeds 5 --svg front.svg
      gridctl sweep run sweep.yaml --name fleets --trace day.jsonl.gz -o csv > fleets.csv
    """
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.ensemble import parse_sources
    from gridctl.orchestrator.replaying import resources_of
    from gridctl.sweeps.axes import scenarios
    from gridctl.sweeps.reading import read_question, with_trace
    from gridctl.sweeps.sweeping import Wanted, make_sweep

    home = current_grid()
    resources = resources_of(home)
    question = with_trace(read_question(file, resources), trace)
    drawn = parse_sources(draw) if seeds > 1 else ()
    wanted = Wanted(name or question.name, seed, seeds, drawn, jobs, executor, resume, replace)
    _check_count(question, seeds, yes=yes)
    listed = list(scenarios(question.cases))
    requests = _requests(question)
    ready_replay()
    if dry_run:
        _emit_plan(question, listed, resources, requests, wanted, output)
        return
    with progress(f"replaying {len(listed)} scenarios", len({one.key for one in listed}) * seeds) as advance:
        sweep = make_sweep(home, question, listed, resources, requests, wanted, advance)
    _emit_sweep(sweep, workload, svg, output)
    _end(sweep, skip_invalid=skip_invalid)


@app.command()
def show(
    sweep: SweepArgument = None, workload: WorkloadOption = None, svg: SvgOption = None, output: OutputOption = "table"
) -> None:
    """Print the scenarios of a sweep, which no other beats, and the picture of them.

    Example:
      gridctl sweep show fleets --workload voice-agent
      gridctl sweep show fleets --svg front.svg -o json
    """
    _emit_sweep(read_sweep(sweep), workload, svg, output)


@app.command("list")
def list_(output: OutputOption = "table") -> None:
    """List the grid's sweeps, oldest first.

    Example:
      gridctl sweep list
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.render.sweeps import SWEEP_COLUMNS, sweep_item
    from gridctl.sweeps.sweeping import load_sweep

    home = current_grid()
    found = []
    for name in home.open_sweeps().list():
        try:
            found.append(load_sweep(home, name))
        except StoreError as error:  # one damaged sweep does not hide the others
            note(f"{error.what}; {error.fix}")
    found.sort(key=lambda one: one.plan.created_ns)
    items = [sweep_item(one.plan, one.done) for one in found]
    emit(items, SWEEP_COLUMNS, output, kind="SweepList")
    if not items:
        note("no sweeps yet; gridctl sweep run FILE makes one")


@app.command()
def get(sweep: SweepArgument = None, output: OutputOption = "table") -> None:
    """Show one sweep: axes, how many replays there are, from what they were made.

    Example:
      gridctl sweep get fleets -o json
    """
    from gridctl.render.sweeps import SWEEP_COLUMNS, sweep_item

    found = read_sweep(sweep)
    emit([sweep_item(found.plan, found.done)], SWEEP_COLUMNS, output, kind="Sweep", single=True)


@app.command()
def delete(
    sweeps: Annotated[
        list[str], typer.Argument(metavar="SWEEP…", help="Sweeps to delete.", autocompletion=complete_sweep)
    ],
    yes: YesOption = False,
) -> None:
    """Delete sweeps and their results. The files and traces they were made from stay.

    Example:
      gridctl sweep delete fleets --yes
    """
    from gridctl.orchestrator.context import current_grid

    store = current_grid().open_sweeps()
    for name in sweeps:
        store.plan(name)
    if not yes and is_interactive():
        typer.confirm(f"delete {len(sweeps)} sweeps?", abort=True, err=True)
    for name in sweeps:
        store.delete(name)
        note(f"deleted sweep {name}")


def _check_count(question: Question, seeds: int, *, yes: bool) -> None:
    from gridctl.sweeps.axes import count
    from gridctl.sweeps.sweeping import MOST_EVER, MOST_REPLAYS

    replays = count(question.cases) * seeds
    if replays > MOST_EVER:
        raise UsageError(
            f"the sweep asks for {replays:,} replays; at most {MOST_EVER:,} are made", fix="vary fewer things at once"
        )
    if replays > MOST_REPLAYS and not yes:
        raise UsageError(
            f"the sweep asks for {replays:,} replays",
            where="--yes",
            fix="give --yes if you mean it; --seeds, or fewer values, make it less",
        )


def _requests(question: Question) -> Trace | None:
    from gridctl.traces.reader import read_trace

    if question.generate is not None:
        return None
    assert question.trace is not None, "a sweep without traffic is refused first"
    with progress("reading"):
        return read_trace(question.trace)


def _emit_plan(
    question: Question,
    listed: Sequence[Scenario],
    resources: Sequence[Resource],
    requests: Trace | None,
    wanted: Wanted,
    output: str,
) -> None:
    """The scenarios on stdout; how many, and how long they would take, on stderr."""
    from gridctl.render.sweeps import duration_text, plan_columns, plan_items
    from gridctl.sweeps.axes import axis_names
    from gridctl.sweeps.sweeping import seconds_needed, stage_of

    needed = seconds_needed(stage_of(question, resources, requests, wanted), listed, wanted)
    axes = axis_names(question.cases)
    documents = [{"scenario": one.number, "key": one.key, "values": one.values} for one in listed]
    emit(plan_items(documents, axes), plan_columns(axes), output, kind="SweepPlanList", documents=documents)
    replays = len({one.key for one in listed}) * wanted.seeds
    note(
        f"dry run: {len(listed):,} scenarios, {replays:,} replays, about {duration_text(needed)}, by a timed one; "
        "nothing was written"
    )


def _emit_sweep(sweep: Sweep, workload: str | None, svg: str | None, output: str) -> None:
    """Rows and picture on stdout, the drawing in its file, what a person must know on stderr."""
    from gridctl.render import pareto
    from gridctl.render.pareto_svg import pareto_svg
    from gridctl.render.sweeps import sweep_item
    from gridctl.sweeps.results import rows_of

    rows, axes = rows_of(sweep, workload), sweep.plan.axes
    if svg is not None:
        write_file(Path(svg), pareto_svg(sweep.plan.name, rows))
    if output in ("table", "wide", "markdown"):
        text = pareto.table(rows, axes, output, _width() if sys.stdout.isatty() else None)
        picture = _picture(rows) if output != "markdown" else ""
        write(f"{text}\n{picture}" if picture else text)
    elif output in ("json", "yaml"):
        document = {**sweep_item(sweep.plan, sweep.done), "workload": workload, "items": rows}
        emit([{"name": sweep.plan.name}], (), output, kind="SweepResult", single=True, documents=[document])
    else:
        columns = pareto.csv_columns(rows, axes)
        emit(pareto.items(rows, axes), columns, output, kind="SweepResult", name_key="scenario", documents=rows)
    for line in pareto.told(rows, output):
        note(line)


def _picture(rows: Sequence[SweepRow]) -> str:
    from gridctl.render.pareto import picture

    width = max(LEAST_WIDTH, min(_width() - 1, PICTURE_WIDTH)) if sys.stdout.isatty() else PICTURE_WIDTH
    return picture(rows, width, is_ascii=not _has_braille(), paint=lambda text: painted(text, "green"))


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _has_braille() -> bool:
    try:
        "⣿│└─┴".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _end(sweep: Sweep, *, skip_invalid: bool) -> None:
    """Say what is next. Raises: InputError when scenarios had no whole grid, unless that was expected."""
    reasons = {number: result.reason for number, result in _plain(sweep).items() if result.reason}
    if reasons and not skip_invalid:
        first = next(iter(reasons))
        raise InputError(
            f"{len(reasons)} of {len(sweep.plan.scenarios)} scenarios were not replayed; "
            f"the first is #{first}: {reasons[first]}",
            where=f"sweep {sweep.plan.name}",
            fix="change the axes, or give --skip-invalid; the others are kept",
        )
    note(f"next: gridctl sweep show {sweep.plan.name} --svg front.svg; gridctl sweep pivot {sweep.plan.name} --rows …")


def _plain(sweep: Sweep) -> dict[int, work.Result]:
    """The plain replay of each scenario that has one, by the scenario's number."""
    found = {one.number: sweep.results.get((one.key, 0)) for one in sweep.plan.scenarios}
    return {number: result for number, result in found.items() if result is not None}
