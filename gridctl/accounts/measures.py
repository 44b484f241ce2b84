"""Measures: any number of a run's tables over any of its requests.

Decides which requests a scope chooses and which number a metric's name means; the numbers themselves are those of
`tokenomics`, `sla` and `goodness`, so a gate never disagrees with a table. Idle GPUs count where a table would count
them: all of them in the total's dollars, shared out among the requests of their tier elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.columns import TIME_NAMES, Columns, Quantile, Sums
from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.groups import Labels, labels
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.sla import sla
from gridctl.accounts.tables import TokenomicsRow
from gridctl.accounts.tokenomics import scoped_rows, variant_name
from gridctl.accounts.usd import is_owned
from gridctl.errors import InputError, did_you_mean
from gridctl.units import NS_PER_MS, ms

Scope = Mapping[str, str]
ENGINE_SCOPES = ("tier", "site", "model", "variant")
REQUEST_SCOPES = ("workload", "tenant", "region", "origin")
PROMISES = ("promises_met", "promises_missed", "promises_undecided")
PROMISE_SCOPES = ("workload", "tenant", "region")


@dataclass(frozen=True, slots=True)
class Reading:
    """A number of some requests: its value (None where there is none), how many requests (or, for promises, promises)
    it is of, and how many of those chosen were never answered."""

    value: float | None
    samples: int
    unserved: int


class Measures:
    """One run, opened for measuring. Columns are made when first asked for and kept."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._members: dict[tuple[tuple[str, str], ...], NDArray[np.intp]] = {}
        self._table_rows: dict[tuple[tuple[str, str], ...], TokenomicsRow] = {}
        self._columns = Columns(run)

    def members(self, scope: Scope) -> NDArray[np.intp]:
        """Numbers of the requests a scope chooses, rising.

        Raises: InputError when the run knows no such workload, site, …, or no request is chosen.
        """
        key = tuple(sorted(scope.items()))
        if key not in self._members:
            chosen = np.ones(len(self.run.rows), dtype=np.bool_)
            for dimension, name in scope.items():
                chosen &= self._chosen(dimension, name)
            self._members[key] = np.flatnonzero(chosen)
        if not len(self._members[key]):
            words = " and ".join(f"{dimension} {name}" for dimension, name in scope.items())
            what = f"no request of run {self.run.info.name}" + (f" has {words}" if words else ", which is empty")
            raise InputError(what, fix="a gate over nothing proves nothing: choose a scope with requests")
        return self._members[key]

    def reading(self, metric: str, scope: Scope) -> Reading:
        """The number. Raises: InputError as `members`, and for promises in a scope they are not kept for."""
        members = self.members(scope)
        unserved = len(members) - int((self.run.rows.outcome[members] == COMPLETED).sum())
        name, _, statistic = metric.partition(".")
        if name in TIME_NAMES:
            return self._time(name, statistic, members, unserved)
        if metric in PROMISES:
            statuses = self._statuses(scope)
            word = metric.removeprefix("promises_")
            return Reading(statuses.count(word), len(statuses), unserved)
        row = self._row(scope)
        if metric in row.__struct_fields__:
            value: float | None = getattr(row, metric)
            return Reading(value, len(members), unserved)
        sums = self.column_of(metric)
        assert isinstance(sums, Sums), f"{metric} is a time, a promise, a column of the table or sums"
        below = None if sums.denominator is None else float(sums.denominator[members].sum())
        above = float(sums.numerator[members].sum())
        if metric == "budget_left_share":
            return Reading(1 - above / below if below else None, len(members), unserved)
        applicable = int(sums.denominator[members].sum()) if sums.is_share and sums.denominator is not None else None
        value = above / (sums.per if below is None else below) if below is None or below else None
        return Reading(value, len(members) if applicable is None else applicable, unserved)

    def column_of(self, metric: str) -> Sums | Quantile | None:
        """The metric as columns over all requests; None for what is no sum (promises, GPUs)."""
        return self._columns.of(metric)

    def labels_of(self, dimension: str) -> Labels:
        """What each request is labelled by a dimension."""
        info, rows = self.run.info, self.run.rows
        by_engine: dict[str, list[str]] = {
            "tier": [engine.tier for engine in info.engines],
            "site": [engine.site for engine in info.engines],
            "model": [engine.model for engine in info.engines],
            "variant": [variant_name(engine) for engine in info.engines],
        }
        if dimension in by_engine:
            return labels(by_engine[dimension], rows.engine)
        if dimension == "workload":
            return labels(info.workload_names, rows.workload)
        if dimension == "tenant":
            return labels(info.tenant_names, rows.tenant)
        places = [origin.region if dimension == "region" else origin.name for origin in info.origins]
        return labels(places, rows.origin)

    def _chosen(self, dimension: str, name: str) -> NDArray[np.bool_]:
        labelled = self.labels_of(dimension)
        known = {*labelled.names, *(self.run.info.workloads if dimension == "workload" else ())} - {"", "-"}
        if name not in known:
            near = did_you_mean(name[:64], known)
            listed = ", ".join(sorted(known)[:12]) or "none"
            raise InputError(
                f"run {self.run.info.name} knows no {dimension} {name[:64]!r}",
                fix=f"did you mean {near}?" if near else f"it knows {listed}",
            )
        return (
            labelled.codes == labelled.names.index(name)
            if name in labelled.names
            else np.zeros(len(self.run.rows), dtype=np.bool_)
        )

    @cached_property
    def _make_row(self) -> Callable[[NDArray[np.intp], Sequence[EngineFacts], Sequence[str]], TokenomicsRow]:
        return scoped_rows(self.run)

    def _row(self, scope: Scope) -> TokenomicsRow:
        key = tuple(sorted(scope.items()))
        if key not in self._table_rows:
            members = self.members(scope)
            tiers: Sequence[str] = ()
            if not scope:
                tiers = sorted({engine.tier for engine in self.run.info.engines})
            self._table_rows[key] = self._make_row(members, self._engines(scope, members), tiers)
        return self._table_rows[key]

    def _engines(self, scope: Scope, members: NDArray[np.intp]) -> list[EngineFacts]:
        """The owned engines whose GPUs count: all that match what the scope says of engines and, where it says
        something of requests, that are of a tier and variant which served some of them."""
        engines = [engine for engine in self.run.info.engines if is_owned(engine)]
        for dimension, name in scope.items():
            if dimension in ENGINE_SCOPES:
                engines = [
                    engine
                    for engine in engines
                    if (variant_name(engine) if dimension == "variant" else getattr(engine, dimension)) == name
                ]
        if not any(dimension in REQUEST_SCOPES for dimension in scope):
            return engines
        used = {self.run.info.engines[index] for index in np.unique(self.run.rows.engine[members]) if index >= 0}
        pairs = {(engine.tier, variant_name(engine)) for engine in used if is_owned(engine)}
        return [engine for engine in engines if (engine.tier, variant_name(engine)) in pairs]

    def _time(self, name: str, statistic: str, members: NDArray[np.intp], unserved: int) -> Reading:
        column = self._columns.times(name)
        times_ns = column.values[members][column.applies[members]]
        if statistic == "mean":
            value = float(times_ns.sum()) / len(times_ns) / NS_PER_MS if len(times_ns) else None
        else:
            (found,) = percentiles(times_ns, [float(statistic.removeprefix("p"))])
            value = None if found is None else ms(found)
        return Reading(value, len(times_ns), unserved)

    def _statuses(self, scope: Scope) -> list[str]:
        other = [dimension for dimension in scope if dimension not in PROMISE_SCOPES]
        if other:
            raise InputError(
                f"promises are to workloads, tenants and regions, not to a {other[0]}",
                fix="leave it out, or gate `attainment`",
            )
        wanted = [dimension for dimension in PROMISE_SCOPES if dimension in scope or dimension == "workload"]
        rows = sla(self.run, wanted).rows
        chosen = [row for row in rows if all(getattr(row, dimension) == name for dimension, name in scope.items())]
        return [row.status for row in chosen if row.status != "no-data"]
