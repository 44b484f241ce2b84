"""`gridctl demo`: the whole main job on the metro example, each step shown as the command a user would type.

Decides the order of the steps and what is said; every step is the command's own code. Must not touch the user's
configuration or current grid unless a folder to keep is named.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gridctl.cli.output import note, painted, write
from gridctl.errors import InputError

EXAMPLE = "metro"
TRACE = "trace.jsonl.gz"
RUN = "base"


def command(
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the grid in this new folder and make it the current context."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of the replay.")] = 1,
) -> None:
    """Replay a small European grid and its centralised alternative: what it costs, how fast it is, which SLA holds.

    Creates the metro example in a temporary folder, applies it, replays its trace and prints both tables. Nothing is
    downloaded; without --folder nothing is kept.

    Example:
      gridctl demo
      gridctl demo --folder mygrid --seed 7
    """
    from gridctl.cli import sla, tokenomics
    from gridctl.orchestrator.context import choose

    with _place(folder) as (target, shown):
        _found(target, shown, remember=folder is not None)
        choose(store=str(target), context=None)
        _apply(target, shown)
        _replay(target, shown, seed)
        _say(f"gridctl tokenomics {RUN}")
        tokenomics.command(RUN)
        write("\n")
        _say(f"gridctl sla {RUN} --by workload")
        sla.command(RUN, by="workload")
    if folder is None:
        note(f"that grid was temporary; to keep one and change it: gridctl demo --folder my{EXAMPLE}")
    else:
        note(f"grid {target.name} is the current context; change {shown}/*.yaml, then: gridctl apply -f {shown}/")


@contextmanager
def _place(folder: Path | None) -> Iterator[tuple[Path, str]]:
    """Where the grid goes, and how the commands shown call it."""
    if folder is not None:
        yield folder.expanduser().absolute(), shlex.quote(str(folder))
        return
    with tempfile.TemporaryDirectory(prefix="gridctl-demo-") as scratch:
        yield Path(scratch) / EXAMPLE, EXAMPLE


def _found(target: Path, shown: str, *, remember: bool) -> None:
    from gridctl.orchestrator.founding import Blueprint, found_grid

    _say(f"gridctl init {shown} --example {EXAMPLE}")
    try:
        found_grid(target, Blueprint(example=EXAMPLE), remember=remember)
    except InputError as error:
        raise InputError(error.what, where="--folder", fix="name a new folder: gridctl demo --folder DIR") from None


def _apply(target: Path, shown: str) -> None:
    from gridctl.orchestrator import resources as service
    from gridctl.orchestrator.context import current_grid

    _say(f"gridctl apply -f {shown}/")
    declared = service.read_files([str(target)])
    with current_grid().open_registry() as registry:
        applied = service.apply(registry, declared, cause="demo")
    note(f"{len(applied.planned)} resources created")


def _replay(target: Path, shown: str, seed: int) -> None:
    from gridctl.cli.output import progress
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.inputs import TraceSource
    from gridctl.orchestrator.replaying import Listener, Order, replay_trace
    from gridctl.traces.reader import read_trace

    _say(f"gridctl replay run {shown}/{TRACE} --name {RUN}" + (f" --seed {seed}" if seed != 1 else ""))
    trace = read_trace(target / TRACE)
    ready_replay()
    with progress("replaying", 2 * len(trace)) as advance:
        order = Order(RUN, seed=seed, source=TraceSource(path=str((target / TRACE).absolute())))
        info = replay_trace(current_grid(), trace, order, Listener(note, advance))
    note(
        f"{info.requests:,} requests: {info.completed:,} completed, {info.rejected:,} rejected, {info.failed:,} failed"
    )


def _say(line: str) -> None:
    """Announce a step as the command that does it."""
    note(painted(f"$ {line}", "bold", sys.stderr))
