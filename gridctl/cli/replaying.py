"""What `gridctl replay run` does once its options are read: the trace, what goes on meanwhile, the replay, the words.

Decides the order in which things are refused: what is free to check comes before what takes long. The replay is the
orchestrator's, the tables are `render`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gridctl.cli.output import emit, note, progress
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.accounts.facts import RunInfo
    from gridctl.cli.gating import Held
    from gridctl.manifest.gameday_file import GameDayFile
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.ensemble import Spread
    from gridctl.orchestrator.inputs import TraceSource
    from gridctl.orchestrator.replaying import CacheOrder, Order
    from gridctl.orchestrator.rolloutreplay import Prepared
    from gridctl.traces.trace import Traffic


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What is to go on while the trace is replayed, as it was asked for."""

    faults: str | None
    rollout: str | None
    cache: Literal["off", "exact", "semantic", "as-declared"]
    cache_at: Literal["edge", "regional"]

    def options(self) -> Sequence[tuple[str, bool]]:
        """Each option, and whether it was given."""
        return (
            ("--faults", self.faults is not None),
            ("--rollout", self.rollout is not None),
            ("--cache", self.cache != "off"),
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """A trace, what it is replayed as, and the rollout that happens meanwhile, if one does."""

    home: GridHome
    requests: Traffic
    order: Order
    rollout: Prepared | None


def source_of(
    path: str,
    sort: bool,
    block_tokens: int | None,
    start: str,
    until: str | None,
    limit: int | None,
    speed: float,
    repeat: int,
) -> TraceSource:
    """The trace that is asked for, in words the run keeps."""
    from gridctl.cli.amounts import span_if_given, span_of
    from gridctl.orchestrator.inputs import TraceSource, absolute

    return TraceSource(
        path=absolute(path),
        sort=sort,
        block_tokens=block_tokens,
        from_s=span_of(start, "--from"),
        until_s=span_if_given(until, "--until"),
        limit=limit,
        speed=speed,
        repeat=repeat,
    )


def read_source(source: TraceSource) -> Traffic:
    """The trace, read and shaped."""
    from gridctl.orchestrator.inputs import shaped
    from gridctl.traces.reader import open_traffic

    with progress("reading"):
        traffic = open_traffic(source.path, sort=source.sort, block_tokens=source.block_tokens)
    return shaped(traffic, source)


def planned(
    home: GridHome,
    requests: Traffic,
    alone: Order,
    meanwhile: Meanwhile,
    *,
    centralized: bool,
    is_drawn: bool,
) -> Replay:
    """The order of a run and of what goes on meanwhile; `alone` is the order without any of it.

    Raises: UsageError for what cannot go on together, and what reading the files raises."""
    rollout = _rollout(home, requests, alone, meanwhile)
    day = _game_day(meanwhile.faults) if rollout is None else rollout.day
    caches = _caches(meanwhile)
    if caches is not None and is_drawn:
        raise UsageError("caches and draws do not go together", where="--cache", fix="--seeds 1, or --cache off")
    # A run with faults stands beside its calm one, and so do not its draws.
    order = replace(alone, with_centralized=centralized and day is None, game_day=day, cache=caches)
    return Replay(home, requests, order, rollout)


def say_checked(home: GridHome, requests: Traffic, order: Order) -> None:
    """Check everything that a replay would stumble over, and say how much it would take."""
    from gridctl.orchestrator.replaying import check_order

    say_unplayed(len(requests), check_order(home, requests, order, note))


def say_unplayed(requests: int, engines: int) -> None:
    """What a dry run ends with."""
    note(f"dry run: {requests:,} requests over {engines} engines would be replayed; nothing was written")


def made(replay: Replay, spread: Spread) -> RunInfo:
    """Make the run and its draws, with progress."""
    from gridctl.cli.warmup import ready_replay
    from gridctl.orchestrator.ensemble import replay_seeds
    from gridctl.orchestrator.replaying import Listener

    replay.home.open_runs()  # where there is no place for runs, that is said before anything is compiled
    ready_replay()
    requests, order = replay.requests, replay.order
    calm = len(requests) if order.game_day else 0
    total = len(requests) * (2 if order.with_centralized else 1) * spread.seeds + calm
    what = "replaying" if spread.seeds == 1 else f"replaying {spread.seeds} times"
    with progress(what, total) as advance:
        return replay_seeds(replay.home, requests, order, spread, Listener(note, advance))


def emit_run(replay: Replay, info: RunInfo, held: Held | None, output: str) -> None:
    """The run on stdout: with its gates, by the rollout's phases, or as one row with what to do next."""
    from gridctl.cli.gating import emit_gated
    from gridctl.cli.run_argument import read_run
    from gridctl.orchestrator.plan import load_ensemble
    from gridctl.render.runs import DRAWN_COLUMNS, cache_lines, drawn_item

    item = drawn_item(info, load_ensemble(info, replay.home))
    if held:
        emit_gated(item, DRAWN_COLUMNS, output, held, read_run(info.name), replay.home)
        return
    if replay.rollout is not None:
        from gridctl.cli.rolloutreplay import emit_phases

        emit_phases(replay.rollout, read_run(info.name), read_run(info.calm), output)
        return
    emit([item], DRAWN_COLUMNS, output, kind="Run", single=True)
    for line in cache_lines(info):
        note(line)
    first = f"gridctl gameday report {info.name}; " if info.calm else ""
    note(f"next: {first}gridctl tokenomics {info.name}; gridctl sla {info.name}")


def _rollout(home: GridHome, requests: Traffic, alone: Order, meanwhile: Meanwhile) -> Prepared | None:
    """The rollout of --rollout."""
    if meanwhile.rollout is None:
        return None
    from gridctl.cli.rolloutreplay import prepared

    return prepared(meanwhile.rollout, home, requests, alone, [("--faults", meanwhile.faults is not None)])


def _game_day(faults: str | None) -> GameDayFile | None:
    """The game day of --faults."""
    if faults is None:
        return None
    from gridctl.manifest.gameday_file import read_game_day

    return read_game_day(faults)


def _caches(meanwhile: Meanwhile) -> CacheOrder | None:
    """The caches of --cache; None where repeats go to engines like everything else."""
    if meanwhile.cache == "off":
        return None
    from gridctl.orchestrator.replaying import CacheOrder

    return CacheOrder(meanwhile.cache, meanwhile.cache_at)
