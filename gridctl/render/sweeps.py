"""A sweep as a row, and its scenarios before they are replayed: what `sweep list`, `sweep get` and a dry run print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from gridctl.render.cell import plain_text
from gridctl.render.rows import Column, Item
from gridctl.render.time import stamped_ns


class Plan(Protocol):
    """What there is to print of a sweep's plan."""

    @property
    def name(self) -> str: ...
    @property
    def trace(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def seeds(self) -> int: ...
    @property
    def drawn(self) -> tuple[str, ...]: ...
    @property
    def axes(self) -> tuple[str, ...]: ...
    @property
    def scenarios(self) -> Sequence[object]: ...
    @property
    def replays(self) -> int: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def gridctl_version(self) -> str: ...


def _thousands(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, (int, float)) else ""


SWEEP_COLUMNS = (
    Column("name", "NAME"),
    Column("trace", "TRACE"),
    Column("axes", "AXES"),
    Column("scenarios", "SCENARIOS", align="right", text=_thousands),
    Column("replays", "REPLAYS", align="right", text=_thousands),
    Column("replays_asked", "ASKED", align="right", text=_thousands),
    Column("seed", "SEED", wide=True, align="right"),
    Column("drawn", "DRAWN", wide=True),
)


def sweep_item(plan: Plan, done: int) -> dict[str, object]:
    """The sweep's description; names as the JSON contract has them."""
    return {
        "name": plan.name,
        "trace": plan.trace,
        "axes": list(plan.axes),
        "scenarios": len(plan.scenarios),
        "replays": done,
        "replays_asked": plan.replays,
        "seed": plan.seed,
        "seeds": plan.seeds,
        "drawn": list(plan.drawn),
        "created_ns": stamped_ns(plan.created_ns),
        "gridctl_version": plan.gridctl_version,
    }


def plan_items(documents: Sequence[Mapping[str, object]], axes: Sequence[str]) -> list[Item]:
    """Scenarios as rows with a key per axis."""
    found: list[Item] = []
    for one in documents:
        values = one["values"]
        assert isinstance(values, dict), "a scenario's values are a mapping"
        row = {f"axis:{axis}": values.get(axis) for axis in axes}
        found.append({"name": one["scenario"], "scenario": one["scenario"], **row, "key": one["key"]})
    return found


def plan_columns(axes: Sequence[str]) -> list[Column]:
    """The columns of those rows."""
    return [
        Column("scenario", "#", align="right"),
        *(Column(f"axis:{axis}", axis, text=plain_text) for axis in axes),
        Column("key", "key", wide=True),
    ]


def duration_text(seconds: float) -> str:
    """A span of time in the unit a person would use.

    >>> duration_text(0.4), duration_text(72.0), duration_text(5400.0), duration_text(200_000.0)
    ('1 s', '72 s', '90 min', '56 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 3 * 3600 else f"{round(seconds / 3600)} h"
