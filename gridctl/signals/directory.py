"""Directory: which row of the meters stands for which workload, model and engine, for the life of a board.

The control process enrols names before workers hear of them; a row, once given, is never given to another name, so
counts of workers that read the directory earlier, and of those that died, stay what they are. A workload whose
objectives change gets a new row under its name, because what was counted against the old ones cannot be recounted.
Row 0 stands for everything that is not enrolled: a name nobody knows is counted, never lost and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

OTHER_ROW = 0
OTHER_NAME = "(other)"
"""No resource can have this name."""

Metric = Literal["ttft_ms", "tpot_ms", "e2e_ms"]


class Objective(msgspec.Struct, frozen=True):
    """At most `most_ns` nanoseconds by that metric."""

    metric: Metric
    most_ns: int


class WorkloadRow(msgspec.Struct, frozen=True):
    """A workload and what its requests must meet; `unseen_ns` is what its clients wait and the gateway does not see."""

    name: str
    objectives: tuple[Objective, ...] = ()
    unseen_ns: int = 0

    def limits(self) -> tuple[tuple[str, int], ...]:
        """The objectives as `finished.missed` takes them."""
        return tuple((objective.metric, objective.most_ns) for objective in self.objectives)


class BackendRow(msgspec.Struct, frozen=True):
    """An engine by its labels; its place in the tuple is its row on the board."""

    site: str = ""
    cluster: str = ""
    model: str = ""
    variant: str = ""
    tier: str = ""


class Directory(msgspec.Struct, frozen=True):
    """All rows, in order. `models` are the names that requests ask for; row 0 of `workloads` and `models` is other."""

    workloads: tuple[WorkloadRow, ...] = (WorkloadRow(OTHER_NAME),)
    models: tuple[str, ...] = (OTHER_NAME,)
    backends: tuple[BackendRow, ...] = ()

    def workload_rows(self) -> dict[str, int]:
        """The row that counts a workload now: the last one of its name."""
        return {workload.name: row for row, workload in enumerate(self.workloads) if row != OTHER_ROW}

    def model_rows(self) -> dict[str, int]:
        return {model: row for row, model in enumerate(self.models) if row != OTHER_ROW}


def enrolled(
    directory: Directory,
    workloads: Iterable[WorkloadRow],
    models: Iterable[str],
    backends: Iterable[tuple[int, BackendRow]],
    *,
    most_workloads: int,
    most_models: int,
) -> Directory:
    """The directory with these in it, every known row where it was; what finds no room is counted as other.

    A workload that is to be counted again by earlier objectives gets the row it had last, or a new one.
    """
    rows, current = list(directory.workloads), directory.workload_rows()
    for workload in workloads:
        row = current.get(workload.name)
        if (row is None or rows[row] != workload) and len(rows) < most_workloads:
            rows.append(workload)
    names = list(directory.models)
    for model in models:
        if model not in names and len(names) < most_models:
            names.append(model)
    labels = list(directory.backends)
    for place, backend in backends:
        labels.extend(BackendRow() for _ in range(place + 1 - len(labels)))
        labels[place] = backend
    return Directory(tuple(rows), tuple(names), tuple(labels))


def to_bytes(directory: Directory) -> bytes:
    return msgspec.json.encode(directory)


def from_bytes(content: bytes) -> Directory:
    """What `to_bytes` wrote. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(content, type=Directory) if content else Directory()
