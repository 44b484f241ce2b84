"""Axes: what a sweep varies, and the scenarios that are the product of it.

Decides the order of scenarios: cases as declared, then choices, fields, fleets, prices, rates, speeds, samples, and
policies fastest, so that neighbours differ in as little as possible. A scenario is plain data that says all it is made
from, and its key names it by that alone: the same what-if has the same key in a file that asks for more.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from gridctl.render.cell import short_float
from gridctl.resources.sweep import Sweep, SweepAxes
from gridctl.sweeps.target import Target

CASE = "case"
Value = float | str
"""What a scenario has on an axis, as a row shows it."""


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one value of one axis asks for."""

    label: Value
    settings: tuple[tuple[str, object], ...] = ()  # field paths and values
    fleet: tuple[str, float] | None = None  # a selector of clusters and a factor
    prices: str | None = None
    policy: str | None = None
    rate: float | None = None
    speed: float = 1.0
    sample: float = 1.0


@dataclass(frozen=True, slots=True)
class Axis:
    """A name and its points; `where` leads to it in the file, and `targets` are the fields it sets."""

    name: str
    points: tuple[Point, ...]
    where: tuple[str | int, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Axes whose product is a part of the sweep, and what is the same in all of it."""

    name: str
    axes: tuple[Axis, ...]
    fixed: tuple[tuple[str, object], ...] = ()

    @property
    def size(self) -> int:
        """How many scenarios."""
        return math.prod(len(axis.points) for axis in self.axes)


class Scenario(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One what-if: what it is called (`values`, by axis) and all that is done to the grid and the traffic for it."""

    number: int
    values: dict[str, Value]
    settings: tuple[tuple[str, object], ...] = ()
    fleets: tuple[tuple[str, float], ...] = ()
    prices: str | None = None
    policy: str | None = None
    rate: float | None = None
    speed: float = 1.0
    sample: float = 1.0

    @property
    def key(self) -> str:
        """Names the what-if by what it is, whatever its number or its axes are called."""
        content = (sorted(self.settings), self.fleets, self.prices, self.policy, self.rate, self.speed, self.sample)
        return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:24]

    def told(self) -> str:
        """The scenario in words: `place=grid rtt_ms=40`."""
        return " ".join(f"{name}={value_text(value)}" for name, value in self.values.items()) or "the grid as it is"


def value_text(value: Value) -> str:
    """A value on an axis as people read it."""
    return value if isinstance(value, str) else short_float(float(value))


def count(cases: Sequence[Case]) -> int:
    """How many scenarios, without making any."""
    return sum(case.size for case in cases)


def scenarios(cases: Sequence[Case]) -> Iterator[Scenario]:
    """Every scenario in order, numbered from 1."""
    number = 0
    for case in cases:
        for points in itertools.product(*(axis.points for axis in case.axes)):
            number += 1
            yield _scenario(number, case, points)


def axis_names(cases: Sequence[Case]) -> list[str]:
    """Names of all axes, in order."""
    named = [CASE] if len(cases) > 1 or cases[0].name else []
    return list(dict.fromkeys([*named, *(axis.name for case in cases for axis in case.axes)]))


def _scenario(number: int, case: Case, points: Sequence[Point]) -> Scenario:
    values: dict[str, Value] = {CASE: case.name} if case.name else {}
    values |= {axis.name: point.label for axis, point in zip(case.axes, points, strict=True)}
    settings = [*case.fixed, *(setting for point in points for setting in point.settings)]
    return Scenario(
        number=number,
        values=values,
        settings=tuple(settings),
        fleets=tuple(point.fleet for point in points if point.fleet is not None),
        prices=next((point.prices for point in points if point.prices is not None), None),
        policy=next((point.policy for point in points if point.policy is not None), None),
        rate=next((point.rate for point in points if point.rate is not None), None),
        speed=math.prod(point.speed for point in points),
        sample=math.prod(point.sample for point in points),
    )


def cases_of(sweep: Sweep) -> list[Case]:
    """The sweep's cases; one without a name when it declares none. Field paths are not looked at here."""
    shared = _axes(sweep.spec, ("spec",))
    fixed = _fixed(sweep.spec)
    if not sweep.spec.cases:
        return [Case("", tuple(_renamed(shared)), fixed)]
    found = []
    for name, own in sweep.spec.cases.items():
        axes = _in_order([*shared, *_axes(own, ("spec", "cases", name))])
        found.append(Case(name, tuple(_renamed(axes)), (*fixed, *_fixed(own))))
    return found


_ORDER = ("choices", "set", "fleets", "prices", "rates", "speeds", "samples", "policies")


def _in_order(axes: Sequence[Axis]) -> list[Axis]:
    """A case's own axes among the shared ones, by sort."""
    return sorted(axes, key=lambda axis: next(i for i, sort in enumerate(_ORDER) if sort in axis.where))


def _fixed(axes: SweepAxes) -> tuple[tuple[str, object], ...]:
    """Fields that are set to one value."""
    return tuple((path, value) for path, value in axes.set.items() if not isinstance(value, list))


def _axes(axes: SweepAxes, at: tuple[str | int, ...]) -> list[Axis]:
    found: list[Axis] = []
    for name, points in axes.choices.items():
        made = [Point(label=label, settings=tuple(settings.items())) for label, settings in points.items()]
        found.append(Axis(name, tuple(made), (*at, "choices", name)))
    for path, values in axes.set.items():
        if isinstance(values, list):
            fields = [Point(label=_label(value), settings=((path, value),)) for value in values]
            found.append(Axis(path, tuple(fields), (*at, "set", path)))
    for name, fleet in axes.fleets.items():
        sizes = [Point(label=factor, fleet=(fleet.clusters, factor)) for factor in fleet.scale]
        found.append(Axis(name, tuple(sizes), (*at, "fleets", name)))
    listed: tuple[tuple[str, list[Point]], ...] = (
        ("prices", [Point(label=name, prices=name) for name in axes.prices]),
        ("rates", [Point(label=rate, rate=rate) for rate in axes.rates]),
        ("speeds", [Point(label=speed, speed=speed) for speed in axes.speeds]),
        ("samples", [Point(label=sample, sample=sample) for sample in axes.samples]),
        ("policies", [Point(label=policy, policy=policy) for policy in axes.policies]),
    )
    found += [Axis(_SINGULAR[name], tuple(points), (*at, name)) for name, points in listed if points]
    return found


_SINGULAR = {"prices": "prices", "rates": "rate", "speeds": "speed", "samples": "sample", "policies": "policy"}


def _label(value: object) -> Value:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()[:40]


def _renamed(axes: Sequence[Axis]) -> Iterator[Axis]:
    """Axes of fields under the field's own name, where no other axis has it."""
    short = [_short(axis) for axis in axes]
    for axis, name in zip(axes, short, strict=True):
        yield Axis(name if short.count(name) == 1 else axis.name, axis.points, axis.where, axis.targets)


def _short(axis: Axis) -> str:
    """The last word of a field path; other axes are called as they are."""
    return axis.name.rsplit(".", 1)[-1].strip('"]') if "set" in axis.where else axis.name
