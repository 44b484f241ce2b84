"""Sweep: a grid of what-ifs as a file. Axes whose product is a list of scenarios, each replayed over the same traffic.

A sweep is a question, not a part of the grid, so it is no kind that can be applied: it stays a file. Which field a path
names and whether a value fits it is decided where the grid is known (`sweeps.reading`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import Name, PositiveRate, Text
from gridctl.resources.resource import Metadata

SWEEP_KIND = "Sweep"

AxisName = Annotated[str, Meta(min_length=1, max_length=63)]
Path = Annotated[str, Meta(min_length=3, max_length=512)]
Factor = Annotated[float, Meta(ge=0, le=1000)]
Speed = Annotated[float, Meta(ge=0.001, le=1000)]
Sample = Annotated[float, Meta(gt=0, le=1)]
Settings = dict[Path, Any]
"""Field paths and what they are set to."""


class FleetAxis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The clusters that a selector chooses, times each of the factors; 0 takes them away."""

    clusters: Text
    scale: Annotated[tuple[Factor, ...], Meta(min_length=1)]


class SweepAxes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What varies. In `set` a list is an axis and anything else is the same in every scenario; a point of `choices`
    sets several fields together."""

    choices: dict[AxisName, dict[AxisName, Settings]] = {}
    set: Settings = {}
    fleets: dict[AxisName, FleetAxis] = {}
    prices: Annotated[tuple[Name, ...], Meta(min_length=1)] = ()
    rates: Annotated[tuple[PositiveRate, ...], Meta(min_length=1)] = ()
    speeds: Annotated[tuple[Speed, ...], Meta(min_length=1)] = ()
    samples: Annotated[tuple[Sample, ...], Meta(min_length=1)] = ()
    policies: Annotated[tuple[Text, ...], Meta(min_length=1)] = ()


class Generated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Traffic made for each scenario from its own sites and workloads; arrivals and lengths from the same seed."""

    duration_s: Annotated[float, Meta(gt=0, le=2_592_000)]
    seed: Annotated[int, Meta(ge=0, le=2**62)] = 1
    arrival_cv: Annotated[float, Meta(ge=0, le=100)] = 1.0
    turns: Annotated[float, Meta(ge=1, le=10_000)] = 1.0


class SweepSpec(SweepAxes, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Axes of every scenario, and cases that add axes of their own. The trace's path is relative to the file."""

    trace: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    generate: Generated | None = None
    cases: dict[AxisName, SweepAxes] = {}


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file: `kind: Sweep`, a name, and what to vary."""

    metadata: Metadata
    spec: SweepSpec
    apiVersion: Literal["gridctl/v1"] = "gridctl/v1"  # noqa: N815 (the wire name)
