"""Reading: a sweep file held against a grid, before anything is replayed.

Decides what a sweep asks for and refuses what it cannot: every path that names nothing, every value that does not fit,
every axis without values, at file, line and column, all at once. Whether a scenario's grid is whole is not decided
here: that takes the whole scenario, and is found when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from gridctl.errors import GridctlError, InputError, NotFoundError, UsageError, did_you_mean, raise_all
from gridctl.manifest.sweep_file import SweepFile, read_sweep
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.selector import explain_nothing, parse_selector
from gridctl.resources import Cluster, Policy, PriceBook, Resource
from gridctl.resources.policy import ALGORITHMS
from gridctl.resources.sweep import Generated
from gridctl.sweeps.arrangement import fleet_names, with_settings
from gridctl.sweeps.axes import CASE, Case, cases_of
from gridctl.sweeps.target import Target, find_target

_Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What a sweep asks, understood: cases, the fields its paths name, and policies that are not the grid's own."""

    name: str
    cases: tuple[Case, ...]
    targets: dict[str, Target]
    policies: dict[str, Policy]
    trace: str | None
    generate: Generated | None


def read_question(path: str, resources: Sequence[Resource]) -> Question:
    """A sweep file against a grid. Raises InputError carrying every problem."""
    file = read_sweep(path)
    reader = _Reader(file, resources)
    cases = tuple(cases_of(file.sweep))
    problems = [*reader.of_traffic(cases), *reader.of_axes(cases), *reader.of_fields(cases), *reader.of_names(cases)]
    if not problems:
        problems = list(reader.of_overlaps(cases))
    raise_all(_distinct(problems))
    trace = file.sweep.spec.trace
    if trace is not None and trace != "-" and "://" not in trace:
        trace = str(Path(file.name).parent / trace)
    return Question(file.sweep.metadata.name, cases, reader.targets, reader.policies, trace, file.sweep.spec.generate)


def _distinct(problems: Sequence[InputError]) -> list[InputError]:
    """Problems of axes that several cases share, once."""
    return list({(one.where, one.what): one for one in problems}.values())


class _Reader:
    """Holds the parts of one file against one grid."""

    def __init__(self, file: SweepFile, resources: Sequence[Resource]) -> None:
        self._file = file
        self._resources = resources
        self.targets: dict[str, Target] = {}
        self.policies: dict[str, Policy] = {}

    def of_traffic(self, cases: Sequence[Case]) -> Iterator[InputError]:
        """A trace or generated traffic, not both; rates are those of generated traffic."""
        spec = self._file.sweep.spec
        rated = next((axis for case in cases for axis in case.axes if "rates" in axis.where), None)
        if spec.trace is not None and spec.generate is not None:
            yield self._error(("spec", "generate"), "the sweep has a trace and generates one", "keep one of them")
        if rated is not None and spec.generate is None:
            yield self._error(
                rated.where, "rates are of generated traffic, and there is none", "add generate, or use speeds"
            )
        elif spec.generate is not None and not all(any("rates" in axis.where for axis in case.axes) for case in cases):
            yield self._error(("spec", "generate"), "traffic is generated at no rate", "add rates: [10]")

    def of_axes(self, cases: Sequence[Case]) -> Iterator[InputError]:
        """Every axis has values, and each but once; no two axes share a name."""
        for case in cases:
            for axis in case.axes:
                if not axis.points:
                    yield self._error(axis.where, f"the axis {axis.name} has no values", "add some, or remove it")
                labels = [str(point.label) for point in axis.points]
                for label in sorted({label for label in labels if labels.count(label) > 1}):
                    yield self._error(axis.where, f"the axis {axis.name} has {label} twice", "remove one")
                if axis.name == CASE and len(cases) > 1:
                    yield self._error(axis.where, "an axis cannot be called case beside cases", "call it otherwise")
            names = [axis.name for axis in case.axes]
            for axis in case.axes:
                if names.count(axis.name) > 1:
                    yield self._error(axis.where, f"two axes are called {axis.name}", "call one otherwise")

    def of_fields(self, cases: Sequence[Case]) -> Iterator[InputError]:
        """Every path names a field, and every value fits it."""
        for case in cases:
            for path, value in case.fixed:
                yield from self._field(path, value, self._fixed_place(case, path), None)
            for axis in case.axes:
                for position, point in enumerate(axis.points):
                    for path, value in point.settings:
                        is_choice = "choices" in axis.where
                        place = (*axis.where, str(point.label), path) if is_choice else axis.where
                        yield from self._field(path, value, place, None if is_choice else position)

    def _field(self, path: str, value: object, place: _Place, position: int | None) -> Iterator[InputError]:
        if path not in self.targets:
            try:
                self.targets[path] = find_target(path, self._resources)
            except InputError as error:
                yield self._error(place, error.what, error.fix, key=True)
                return
        try:
            with_settings(self._resources, self.targets, [(path, value)])
        except InputError as error:
            for one in (error, *error.related):
                where = place if position is None else (*place, position)
                yield self._error(where, one.what, one.fix)

    def of_names(self, cases: Sequence[Case]) -> Iterator[InputError]:
        """Price books, policies and selectors of clusters that are there."""
        books = {resource.name for resource in self._resources if isinstance(resource, PriceBook)} | {"default"}
        for axis in (axis for case in cases for axis in case.axes):
            for position, point in enumerate(axis.points):
                place = (*axis.where, position)
                if point.prices is not None and point.prices not in books:
                    near = did_you_mean(point.prices, books)
                    fix = f"did you mean {near}?" if near else "gridctl price list"
                    yield self._error(place, f"price book {point.prices} does not exist", fix)
                if point.policy is not None and point.policy not in self.policies:
                    yield from self._policy(point.policy, place)
            if axis.points and axis.points[0].fleet is not None:
                yield from self._fleet(axis.points[0].fleet[0], (*axis.where, "clusters"))

    def _policy(self, word: str, place: _Place) -> Iterator[InputError]:
        declared = {resource.name for resource in self._resources if isinstance(resource, Policy)}
        beside = Path(self._file.name).parent / word
        is_file = word not in declared and word not in ALGORITHMS and beside.is_file()
        try:
            chosen = choose_policy(self._resources, str(beside) if is_file else word)
        except NotFoundError as error:
            yield self._error(place, error.what, error.fix)
        except InputError as error:
            yield error
        else:
            if word not in declared:  # the grid's own are looked up in each scenario, whose fields may be set
                self.policies[word] = chosen

    def _fleet(self, selector: str, place: _Place) -> Iterator[InputError]:
        try:
            if fleet_names(self._resources, selector):
                return
            clusters = [resource for resource in self._resources if isinstance(resource, Cluster)]
            yield self._error(
                place,
                explain_nothing(parse_selector([selector]), Cluster, clusters),
                f"gridctl cluster list -l '{selector}'",
            )
        except UsageError as error:
            yield self._error(place, error.what, error.fix)

    def of_overlaps(self, cases: Sequence[Case]) -> Iterator[InputError]:
        """No field is set twice in one scenario: which of the two counts would be anybody's guess."""
        for case in cases:
            parts: list[tuple[_Place, list[str]]] = [(self._fixed_place(case, path), [path]) for path, _ in case.fixed]
            for axis in case.axes:
                paths = list(dict.fromkeys(path for point in axis.points for path, _ in point.settings))
                parts.append((axis.where, paths))
                for point in axis.points:
                    for one, two in combinations([path for path, _ in point.settings], 2):
                        yield from self._overlap((*axis.where, str(point.label), two), one, two)
            for (_, mine), (place, theirs) in combinations(parts, 2):
                for one in mine:
                    for two in theirs:
                        yield from self._overlap(place, one, two)

    def _overlap(self, place: _Place, one: str, two: str) -> Iterator[InputError]:
        if self.targets[one].overlaps(self.targets[two]):
            yield self._error(place, f"{two!r} is set by {one!r} already", "set it in one place", key=True)

    def _fixed_place(self, case: Case, path: str) -> _Place:
        own = self._file.sweep.spec.cases.get(case.name)
        return ("spec", "cases", case.name, "set", path) if own and path in own.set else ("spec", "set", path)

    def _error(self, place: _Place, what: str, fix: str | None, *, key: bool = False) -> InputError:
        return InputError(what, where=self._file.at(place, key=key), fix=fix)


def with_trace(question: Question, trace: str | None) -> Question:
    """The question over another trace. Raises UsageError when there would be none, or two."""
    if trace is not None and question.generate is not None:
        raise UsageError("the sweep generates its own traffic", where="--trace", fix="remove generate from the file")
    if trace is None and question.trace is None and question.generate is None:
        raise UsageError(
            "the sweep names no traffic", where="--trace", fix="--trace FILE, or trace: or generate: in the sweep file"
        )
    return question if trace is None else replace(question, trace=trace)


def first_line(error: GridctlError) -> str:
    """An error and where it is, in one line: why a scenario has no result."""
    return f"{error.where}: {error.what}" if error.where else error.what
