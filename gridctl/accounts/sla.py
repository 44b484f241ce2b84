"""SLA: what each workload was promised and got, by tenant and region of origin, and pooled.

Shares are pooled: good requests ÷ valid requests, summed over everything a row covers, never an average of averages.
Valid for an objective are all offered requests it applies to; a replay excludes none. Refused and failed requests miss
every objective and count as infinitely late in a percentile, so `observed ≤ threshold` at the objective's percentile
says the same as `attained ≥ target`.

A row's status is what a person may conclude, each at 95 % and, beyond this run, for i.i.d. requests:

    met        so few misses prove the target (one-sided exact binomial; 299 requests without a miss for 99 %)
    missed     the attained share is below the target, with at least 5 bad requests or a Clopper–Pearson interval that
               lies below it
    undecided  neither: too few requests for so many misses; `requests_to_prove` says how many it takes
    no-data    the objective applied to no request

Source: error budget and burn, Google, The Site Reliability Workbook, chapter 5, over the run as the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import UNSERVED, ClientClock, client_clock
from gridctl.accounts.goodness import Goodness, count_causes, judge, judge_objective
from gridctl.accounts.groups import Labels, check_dimensions, grouped, labels
from gridctl.accounts.percentiles import (
    clopper_pearson,
    exact,
    nearest_rank,
    percentile_ranks,
    proves,
    requests_to_bound,
    requests_to_prove,
)
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.tables import EVERYTHING, Sla, SlaRow, SlaTotal, Status
from gridctl.resources import Objective, WorkloadSpec
from gridctl.units import ms

Dimension = Literal["workload", "tenant", "region"]
DIMENSIONS: tuple[Dimension, ...] = ("workload", "tenant", "region")
ENOUGH_BAD = 5  # fewer bad requests than this are an accident, not a rate


@dataclass(frozen=True, slots=True)
class _Judged:
    """A run with everything rows are made from, computed once."""

    run: Run
    clock: ClientClock
    goodness: Goodness
    dimensions: dict[Dimension, Labels]


@dataclass(frozen=True, slots=True)
class _Promise:
    """One promise of a workload: its words, its target share and, for a single metric, the objective itself."""

    text: str
    target: float
    objective: Objective | None = None


def sla(run: Run, by: Sequence[str] = DIMENSIONS) -> Sla:
    """The SLA table of a run; `by` picks what `rows` tell apart (workload always). O(n log n).

    Raises: UsageError for an unknown or repeated dimension, or without `workload`, whose objectives they are.
    """
    chosen = check_dimensions(by, DIMENSIONS, needed="workload")
    judged = _judged(run)
    return Sla(
        run=run.info.name,
        trace=run.info.trace,
        policy=run.info.policy,
        total=_total(judged),
        workloads=_rows(judged, ("workload",)),
        rows=_rows(judged, chosen),
    )


def tables_by(
    run: Run, choices: Sequence[tuple[Dimension, ...]], most_rows: int
) -> tuple[SlaTotal, dict[tuple[Dimension, ...], tuple[SlaRow, ...]]]:
    """The total and the rows for several choices of what they tell apart, those of more than `most_rows` left out."""
    judged = _judged(run)
    promised = max((len(_promises(spec)) for spec in run.info.workloads.values()), default=1)
    tables = {}
    for by in choices:
        groups = grouped([judged.dimensions[dimension] for dimension in by], len(run.rows))
        if len(groups) * promised <= most_rows:
            tables[by] = _rows(judged, by)
    return _total(judged), tables


def _total(judged: _Judged) -> SlaTotal:
    n = len(judged.run.rows)
    good, completed = int(judged.goodness.good.sum()), int((judged.run.rows.outcome == COMPLETED).sum())
    return SlaTotal(
        requests=n,
        good=good,
        completed=completed,
        attained=good / n if n else None,
        available=completed / n if n else None,
        causes=count_causes(judged.goodness.cause),
    )


def _judged(run: Run) -> _Judged:
    clock = client_clock(run)
    return _Judged(
        run=run,
        clock=clock,
        goodness=judge(run, clock),
        dimensions={
            "workload": labels(run.info.workload_names, run.rows.workload),
            "tenant": labels(run.info.tenant_names, run.rows.tenant),
            "region": labels([origin.region for origin in run.info.origins], run.rows.origin),
        },
    )


def _rows(judged: _Judged, by: Sequence[Dimension]) -> tuple[SlaRow, ...]:
    """A row per group and promise; a workload that asked for nothing has its rows too, without data."""
    rows = []
    asked = set()
    for group in grouped([judged.dimensions[dimension] for dimension in by], len(judged.run.rows)):
        key = dict(zip(by, group.key, strict=True))
        asked.add(key["workload"])
        spec = judged.run.info.workloads.get(key["workload"])
        if spec is not None:
            rows += [_row(judged, key, group.members, promise) for promise in _promises(spec)]
    nobody = np.zeros(0, dtype=np.intp)
    for name in sorted(set(judged.run.info.workloads) - asked):
        spec = judged.run.info.workloads[name]
        rows += [_row(judged, {"workload": name}, nobody, promise) for promise in _promises(spec)]
    return tuple(rows)


def _promises(spec: WorkloadSpec) -> list[_Promise]:
    """Each objective at its percentile, all of them together at `attainment`, and being served at `availability`."""
    promises = [
        _Promise(
            f"{objective.metric} ≤ {objective.threshold_ms:g}", float(exact(objective.percentile) / 100), objective
        )
        for objective in spec.objectives
    ]
    return [*promises, _Promise("all objectives", spec.attainment), _Promise("availability", spec.availability)]


def _row(judged: _Judged, key: dict[Dimension, str], members: NDArray[np.intp], promise: _Promise) -> SlaRow:
    if promise.objective is not None:
        verdicts = judge_objective(judged.run, judged.clock, members, promise.objective)
        applicable, good = int(verdicts.applies.sum()), int(verdicts.met.sum())
        causes = count_causes(verdicts.cause)
        times_ns = verdicts.times_ns[verdicts.applies]
    else:
        cause = judged.goodness.cause[members]
        if promise.text == "availability":
            cause = np.where(judged.clock.served[members], 0, cause)
        causes = count_causes(cause)
        applicable, good = len(members), len(members) - sum(causes.values())
        times_ns = np.zeros(0, dtype=np.int64)
    bad = applicable - good
    allowed = 1 - exact(promise.target)
    interval = clopper_pearson(good, applicable) if applicable else None
    fields: dict[str, object] = {
        "workload": key["workload"],
        "tenant": key.get("tenant", EVERYTHING),
        "region": key.get("region", EVERYTHING),
        "objective": promise.text,
        "target": promise.target,
        "requests": len(members),
        "applicable": applicable,
        "good": good,
        "bad": bad,
        "attained": good / applicable if applicable else None,
        "attained_low": interval.low if interval else None,
        "attained_high": interval.high if interval else None,
        "requests_to_prove": requests_to_prove(promise.target, bad),
        "budget_requests": float(allowed * applicable),
        "budget_left_share": float(1 - bad / (allowed * applicable)) if applicable else None,
        "burn": float(bad / (allowed * applicable)) if applicable else None,
        "status": status(applicable, bad, promise.target),
        "main_cause": next(iter(causes), ""),
        "causes": causes,
        **_observed(times_ns, promise.objective),
    }
    return msgspec.convert(fields, SlaRow)


def status(applicable: int, bad: int, target: float) -> Status:
    """What `bad` among `applicable` requests say about the target; see the top of this module.

    >>> status(299, 0, 0.99), status(298, 0, 0.99)
    ('met', 'undecided')
    """
    if applicable == 0:
        return "no-data"
    if proves(applicable, bad, target):
        return "met"
    below = applicable - bad < exact(target) * applicable
    if below and (bad >= ENOUGH_BAD or clopper_pearson(applicable - bad, applicable).high < target):
        return "missed"
    return "undecided"


def _observed(times_ns: NDArray[np.int64], objective: Objective | None) -> dict[str, object]:
    """The percentile of the objective over the applicable requests, with its order-statistic bounds."""
    fields: dict[str, object] = {
        "percentile": objective.percentile if objective else None,
        "threshold_ms": objective.threshold_ms if objective else None,
        "requests_to_bound": requests_to_bound(objective.percentile) if objective else None,
        "observed_ms": None,
        "observed_unserved": False,
        "observed_low_ms": None,
        "observed_high_ms": None,
    }
    n = len(times_ns)
    if objective is None or n == 0:
        return fields
    ranks = percentile_ranks(n, objective.percentile)
    wanted = {"observed_ms": nearest_rank(n, objective.percentile)}
    wanted |= {"observed_low_ms": ranks.low} if ranks.low else {}
    wanted |= {"observed_high_ms": ranks.high} if ranks.high else {}
    ordered = np.partition(times_ns, [rank - 1 for rank in wanted.values()])
    for name, rank in wanted.items():
        time_ns = int(ordered[rank - 1])
        fields[name] = ms(time_ns) if time_ns != UNSERVED else None
    fields["observed_unserved"] = int(ordered[wanted["observed_ms"] - 1]) == UNSERVED
    return fields
