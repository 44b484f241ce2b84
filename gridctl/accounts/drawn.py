"""Drawn numbers: one number of a run in each of its draws, as far as the draws kept it.

A draw keeps its tables (`summary`); where its requests were kept as well, any number of it can be measured. Decides
only where a number is looked up; None means that the draws keep no such number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gridctl.accounts.columns import TIME_NAMES
from gridctl.accounts.intervals import Ensemble
from gridctl.accounts.measures import Measures, Scope
from gridctl.accounts.summary import Summary, table_key
from gridctl.accounts.tables import TokenomicsRow
from gridctl.errors import InputError

_TABLE_SCOPES = {"workload", "tier", "variant"}
_SLA_SCOPES = {"workload", "tenant", "region"}


class Drawn:
    """The draws of one run. `kept` holds the measures of those whose requests were kept, by number."""

    def __init__(self, ensemble: Ensemble, kept: Mapping[int, Measures] | None = None) -> None:
        self.ensemble = ensemble
        self._kept = kept or {}

    def values(self, metric: str, scope: Scope) -> list[float | None] | None:
        """The number in each draw, in order; None inside where a draw has no value, None alone where none keeps it."""
        found: list[float | None] = []
        for draw in self.ensemble.draws:
            if draw.draw in self._kept:
                try:
                    found.append(self._kept[draw.draw].reading(metric, scope).value)
                except InputError:  # nobody of that scope in this draw
                    found.append(None)
                continue
            kept, value = _looked_up(draw, metric, scope)
            if not kept:
                return None
            found.append(value)
        return found

    def is_like(self, other: Drawn) -> bool:
        """Whether the two runs were drawn alike, so that draw k of one is compared with draw k of the other."""
        mine, theirs = self.ensemble, other.ensemble
        return mine.seeds == theirs.seeds and set(mine.drawn) == set(theirs.drawn)


def _looked_up(draw: Summary, metric: str, scope: Scope) -> tuple[bool, float | None]:
    """Whether a draw's tables keep the number, and the number."""
    if metric in ("burn", "budget_left_share"):
        return _promised(draw, metric, scope)
    if not set(scope) <= _TABLE_SCOPES:
        return _promised(draw, metric, scope)
    row = draw.total
    if scope:
        rows = draw.tokenomics.get(table_key(list(scope)), ())
        chosen = [row for row in rows if all(getattr(row, key) == name for key, name in scope.items())]
        if not chosen:
            return bool(rows), None
        row = chosen[0]
    return _of_row(row, metric)


def _of_row(row: TokenomicsRow, metric: str) -> tuple[bool, float | None]:
    name, _, statistic = metric.partition(".")
    field = f"{name.removesuffix('_ms')}_{statistic}_ms" if name in TIME_NAMES else metric
    if field in row.__struct_fields__:
        value: float | None = getattr(row, field)
        return True, value
    counted = {"availability": row.completed, "rejected_share": row.rejected, "failed_share": row.failed}
    if metric in counted:
        return True, counted[metric] / row.requests if row.requests else None
    return False, None


def _promised(draw: Summary, metric: str, scope: Scope) -> tuple[bool, float | None]:
    """Numbers that an SLA row of one workload holds: all its objectives together, and its availability."""
    wanted = {
        "attainment": ("all objectives", "attained"),
        "availability": ("availability", "attained"),
        "burn": ("all objectives", "burn"),
        "budget_left_share": ("all objectives", "budget_left_share"),
    }
    if metric not in wanted or "workload" not in scope or not set(scope) <= _SLA_SCOPES:
        return False, None
    objective, field = wanted[metric]
    rows = draw.sla.get(table_key(list(scope)))
    if rows is None:
        return False, None
    chosen: Sequence[float | None] = [
        getattr(row, field)
        for row in rows
        if row.objective == objective and all(getattr(row, key) == name for key, name in scope.items())
    ]
    return True, chosen[0] if chosen else None
