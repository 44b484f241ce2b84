"""Pointing: which request of a run a word means: a number, or `worst`, `worst-ttft`, `missed:3`.

    N                 the request of that number, from 0, as `replay requests` prints it
    worst             the largest value over limit of any objective; a request that was not served before all others
    worst-METRIC      the largest ttft, tpot, e2e or network among the served
    missed:N          the Nth, from 1, that missed an objective or was not served; missed is missed:1
    rejected:N failed:N preempted:N    the Nth of those

Ties go to the earlier request. Pure.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import UNSERVED, client_clock, nanoseconds
from gridctl.accounts.goodness import judge
from gridctl.accounts.rows import FAILED, REJECTED, Run
from gridctl.errors import NotFoundError, UsageError, did_you_mean
from gridctl.resources.workload import ObjectiveMetric

METRICS = ("ttft", "tpot", "e2e", "network")
KINDS = ("missed", "rejected", "failed", "preempted")
WORDS = ("worst", *(f"worst-{metric}" for metric in METRICS), *(f"{kind}:1" for kind in KINDS))


def find_request(run: Run, word: str) -> int:
    """The number of the request. Raises UsageError for a word that is none, NotFoundError when there is none such."""
    if word.isdecimal() and word.isascii():
        if len(word) > 12 or int(word) >= len(run.rows):
            raise NotFoundError(
                f"run {run.info.name} has no request {word}",
                where=f"{run.info.name}/{word}",
                fix=f"its requests are 0 to {len(run.rows) - 1:,}: gridctl replay requests {run.info.name}",
            )
        return int(word)
    if word == "worst":
        return int(np.argmax(_lateness(run)))
    if word.startswith("worst-") and word.removeprefix("worst-") in METRICS:
        return _slowest(run, word.removeprefix("worst-"))
    kind, _, nth = word.partition(":")
    if kind in KINDS and (nth == "" or (nth.isdecimal() and nth.isascii() and 0 < len(nth) < 12 and int(nth) > 0)):
        return _nth(run, kind, int(nth or 1))
    close = did_you_mean(word, WORDS)
    raise UsageError(
        f"{word!r} is no request",
        where=f"{run.info.name}/{word}"[:80],
        fix=f"did you mean {close}?" if close else f"a number, or one of {', '.join(WORDS)}",
    )


def _lateness(run: Run) -> NDArray[np.float64]:
    """Per request the largest value over limit; infinite when it was not served."""
    clock = client_clock(run)
    worst = np.where(clock.served, 0.0, np.inf)
    for index, name in enumerate(run.info.workload_names):
        spec = run.info.workloads.get(name)
        members = np.flatnonzero((run.rows.workload == index) & clock.served)
        for objective in spec.objectives if spec else ():
            times = clock.times_ns(objective.metric)[members]
            ratio = np.where(times == UNSERVED, 0.0, times / nanoseconds(objective.threshold_ms))
            worst[members] = np.maximum(worst[members], ratio)
    return worst


def _slowest(run: Run, metric: str) -> int:
    times = client_clock(run).times_ns(cast("ObjectiveMetric", f"{metric}_ms"))
    there = np.flatnonzero(times != UNSERVED)
    if not len(there):
        raise NotFoundError(f"no request of run {run.info.name} has a {metric}", where=f"worst-{metric}")
    return int(there[np.argmax(times[there])])


def _nth(run: Run, kind: str, nth: int) -> int:
    if kind == "missed":
        mask = ~judge(run).good
    elif kind == "preempted":
        mask = run.rows.preemptions > 0
    else:
        mask = run.rows.outcome == (REJECTED if kind == "rejected" else FAILED)
    numbers = np.flatnonzero(mask)
    if nth > len(numbers):
        count = f"{len(numbers):,}" if len(numbers) else "no"
        raise NotFoundError(
            f"run {run.info.name} has {count} {kind} requests",
            where=f"{kind}:{nth}",
            fix=f"gridctl sla {run.info.name} counts them",
        )
    return int(numbers[nth - 1])
