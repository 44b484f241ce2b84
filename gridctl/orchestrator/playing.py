"""One replay: a complete trace over a grid's image into a sink, and what the run's description says of it.

Decides what is counted as the rows become final, so that a run larger than memory is described without reading it
again. Knows nothing of registries, of names that are taken or of runs made beside one another: that is `replaying`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from gridctl import __version__
from gridctl.accounts.caching import savings
from gridctl.accounts.facts import CacheFacts, RunInfo
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, ROW_TYPES, Run, RunRows
from gridctl.errors import Interrupted
from gridctl.grid.candidates import CandidateLists
from gridctl.grid.image import GridImage
from gridctl.orchestrator.runs import columns_of
from gridctl.replay.caching import CachePlan, replay_cached, with_savings
from gridctl.replay.digest import digest_columns
from gridctl.replay.faults import Fault
from gridctl.replay.replay import replay_into
from gridctl.replay.stage import Played
from gridctl.resources import Policy
from gridctl.traces.crowd import is_crowd
from gridctl.traces.trace import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is played. `central` is the name of the centralised run beside it, "" when there is none; `lists` are the
    candidates where they are known; without `cache` nothing is answered from one."""

    name: str
    trace: Traffic
    image: GridImage
    policy: Policy
    seed: int
    central: str = ""
    faults: tuple[Fault, ...] = ()
    cache: CachePlan | None = None
    lists: CandidateLists | None = None


class RowSink(Protocol):
    """Where rows go as they become final, and where a digest reads them."""

    def append(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> None: ...
    def read(self, name: str) -> Iterable[np.ndarray[Any, Any]]: ...


class HeldRows:
    """Rows kept in memory, behind those that are there already."""

    def __init__(self, before: HeldRows | None = None) -> None:
        self._parts: list[dict[str, np.ndarray[Any, Any]]] = [] if before is None else list(before._parts)

    def keep(self, rows: RunRows) -> None:
        """Take the next rows."""
        self.append(columns_of(rows))

    def append(self, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._parts.append({name: column.astype(ROW_TYPES[name]) for name, column in columns.items()})

    def read(self, name: str) -> Iterable[np.ndarray[Any, Any]]:
        return (part[name] for part in self._parts)

    def rows(self) -> RunRows:
        """All of them."""
        return RunRows(**{name: np.concatenate([part[name] for part in self._parts]) for name in ROW_TYPES})


class _Tally:
    """Hands rows on as they become final, and counts what a run's description says of them."""

    def __init__(self, sink: RowSink) -> None:
        self.outcomes = np.zeros(3, np.int64)
        self.input_tokens = self.output_tokens = 0
        self._sink = sink

    def keep(self, rows: RunRows) -> None:
        """Take the next rows."""
        self.outcomes += np.bincount(rows.outcome, minlength=3)
        self.input_tokens += int(rows.input_tokens.sum())
        self.output_tokens += int(rows.output_tokens.sum())
        self._sink.append(columns_of(rows))


def play(part: Part, sink: RowSink, advanced: Callable[[int], None]) -> RunInfo:
    """Replay into the sink. `advanced` is told how many more requests are done.

    Raises: Interrupted when the user stops it, with what was done by then."""
    done = 0

    def counted(requests: int) -> None:
        nonlocal done
        done += requests
        advanced(requests)

    tally = _Tally(sink)
    started = time.perf_counter()
    try:
        played, facts, held, without = _replayed(part, tally.keep, counted)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped after {done} of {len(part.trace)} requests; no run was saved, the grid is unchanged",
            fix="replay less: --limit N, --from, --until",
        ) from None
    info = _described(part, played, tally, sink, time.perf_counter() - started, facts)
    if without is None:
        return info
    return msgspec.structs.replace(info, cache=with_savings(facts, savings(Run(info, held[0]), without)))


def _replayed(
    part: Part, keep: Callable[[RunRows], None], advanced: Callable[[int], None]
) -> tuple[Played, tuple[CacheFacts, ...], list[RunRows], RunRows | None]:
    """The replay, what its caches did, and its rows with and without them: held only where there are caches, whose
    savings they tell."""
    held: list[RunRows] = []
    image, spec, seed, faults = part.image, part.policy.spec, part.seed, part.faults
    if part.cache is None:
        played = replay_into(
            keep, image, part.trace, spec, seed=seed, advanced=advanced, faults=faults, lists=part.lists
        )
        return played, (), held, None

    def keep_and_hold(rows: RunRows) -> None:
        held.append(rows)
        keep(rows)

    whole = part.trace.whole()
    played, facts, without = replay_cached(
        keep_and_hold, image, whole, spec, part.cache, seed=seed, advanced=advanced, faults=faults
    )
    return played, facts, held, without


def _described(
    part: Part, played: Played, tally: _Tally, sink: RowSink, wall_s: float, cache: tuple[CacheFacts, ...]
) -> RunInfo:
    """The run as it is described beside its rows."""
    trace, policy = part.trace, part.policy
    return RunInfo(
        name=part.name,
        trace=trace.name,
        policy=policy.name,
        algorithm=policy.spec.algorithm,
        seed=part.seed,
        created_ns=time.time_ns(),
        wall_s=wall_s,
        requests=len(trace),
        completed=int(tally.outcomes[COMPLETED]),
        rejected=int(tally.outcomes[REJECTED]),
        failed=int(tally.outcomes[FAILED]),
        input_tokens=tally.input_tokens,
        output_tokens=tally.output_tokens,
        window_ns=played.window_ns,
        digest=digest_columns(sink.read, played),
        gridctl_version=__version__,
        engines=played.engines,
        origins=played.origins,
        workloads=played.workloads,
        workload_names=trace.workloads,
        tenant_names=trace.tenants,
        notes=(*trace.notes, *played.notes),
        faults=played.faults,
        crowds=tuple(number for number, origin in enumerate(played.origins) if is_crowd(origin.name)),
        centralized=part.central,
        cache=cache,
    )
