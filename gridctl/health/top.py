"""The load of the last seconds, by workload, site or cluster: what two readings of the meters and the board tell.

Must not gather or render. Percentiles are of requests that ended in between: of workloads to 1 %, of sites and
clusters, which may be thousands and are counted by engine, to 5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from gridctl.health.facts import Engine, Facts
from gridctl.health.panic import AVAILABLE
from gridctl.health.reports import TopBy, TopCache, TopFrame, TopRow
from gridctl.health.status import site_state
from gridctl.health.words import State, worse
from gridctl.signals.cache_counts import cache_counts
from gridctl.signals.finished import OUTCOMES
from gridctl.signals.layout import BAD_AT, GOOD_AT
from gridctl.signals.totals import Totals
from gridctl.units import NS_PER_S, SECONDS_PER_HOUR

ALL = "*"
_FAILED = tuple(OUTCOMES.index(word) for word in ("rejected", "failed", "expired"))


def top_frame(facts: Facts, by: TopBy, before: tuple[int, Totals], after: Totals) -> TopFrame:
    """What was counted between the reading `before` (its monotonic time, its counts) and `after`, which is of now."""
    window_s = max((facts.now_ns - before[0]) / NS_PER_S, 1e-3)
    counted = after.since(before[1])
    rows = _by_workload(facts, counted, window_s) if by == "workload" else _by_place(facts, counted, window_s, by)
    states = [facts.conditions[engine.row].state for engine in facts.engines]
    return TopFrame(
        at_unix_ns=facts.now_unix_ns,
        window_s=window_s,
        by=by,
        engines=len(states),
        engines_available=sum(state in AVAILABLE for state in states),
        rows=tuple(sorted(rows, key=lambda row: (-row.requests_per_s, row.name))),
        total=_workload_row(counted, None, window_s, None, _in_flight(facts, facts.engines)),
        cache=_cache(counted, window_s),
    )


def _cache(counted: Totals, window_s: float) -> TopCache | None:
    """What the cache did; None where it was asked nothing."""
    found = cache_counts(counted).values()
    hits = sum(counts[f"{level}_hits"] for counts in found for level in ("exact", "semantic", "shared"))
    requests = hits + sum(counts["misses"] + counts["bypasses"] for counts in found)
    if not requests:
        return None
    nano_usd = sum(counts["saved_nano_usd"] - counts["asked_again_nano_usd"] for counts in found)
    return TopCache(
        requests_per_s=requests / window_s,
        hit_share=hits / requests,
        saved_usd_per_hour=nano_usd * 1e-9 / window_s * SECONDS_PER_HOUR,
    )


def _by_workload(facts: Facts, counted: Totals, window_s: float) -> list[TopRow]:
    declared = facts.workloads()
    names = dict.fromkeys((*declared, *counted.workloads()))
    rows = []
    for name in names:
        target = declared[name].spec.attainment if name in declared else None
        row = _workload_row(counted, name, window_s, target, None)
        if name in declared or row.requests_per_s:
            rows.append(row)
    return rows


def _workload_row(
    counted: Totals, name: str | None, window_s: float, target: float | None, in_flight: int | None
) -> TopRow:
    """A workload's row, or that of all of them (None)."""
    requests = counted.counted(name)
    ttft, tpot = counted.histogram("ttft", name), counted.histogram("tpot", name)
    valid = requests.good + requests.bad
    return TopRow(
        name=name or ALL,
        requests_per_s=requests.requests / window_s,
        in_flight=in_flight,
        ttft_p50_ms=ttft.quantile_ms(0.5),
        ttft_p99_ms=ttft.quantile_ms(0.99),
        good_share=requests.good / valid if valid else None,
        target=target,
        failed_per_s=sum(requests.outcomes[place] for place in _FAILED) / window_s,
        output_tokens_per_s=counted.total("output_tokens", name) / window_s,
        usd_per_hour=counted.usd(name) / window_s * SECONDS_PER_HOUR,
        gpu_usd_per_hour=None,
        state=None,
        tpot_p50_ms=tpot.quantile_ms(0.5),
        tpot_p99_ms=tpot.quantile_ms(0.99),
    )


def _by_place(facts: Facts, counted: Totals, window_s: float, by: TopBy) -> list[TopRow]:
    """A row for each site or cluster that has an engine."""
    place_of: Callable[[Engine], str] = (lambda one: one.site) if by == "site" else (lambda one: one.cluster)
    members: dict[str, list[Engine]] = {}
    for engine in facts.engines:
        members.setdefault(place_of(engine), []).append(engine)
    words: NDArray[np.int64] = counted.engine_counts().sum(axis=0)
    return [_place_row(facts, name, engines, words, counted, window_s, by) for name, engines in members.items()]


def _place_row(
    facts: Facts,
    name: str,
    engines: list[Engine],
    words: NDArray[np.int64],
    counted: Totals,
    window_s: float,
    by: TopBy,
) -> TopRow:
    summed = words[[engine.row for engine in engines]].sum(axis=0).tolist()
    good, bad = summed[GOOD_AT], summed[BAD_AT]
    rows = [engine.row for engine in engines]
    ttft, tpot = counted.place_ttft(rows), counted.place_tpot(rows)
    return TopRow(
        name=name,
        requests_per_s=sum(summed[: len(OUTCOMES)]) / window_s,
        in_flight=_in_flight(facts, engines),
        ttft_p50_ms=ttft.quantile_ms(0.5),
        ttft_p99_ms=ttft.quantile_ms(0.99),
        good_share=good / (good + bad) if good + bad else None,
        target=None,
        failed_per_s=sum(summed[place] for place in _FAILED) / window_s,
        output_tokens_per_s=None,
        usd_per_hour=None,
        gpu_usd_per_hour=facts.gpu_usd_per_hour(sorted({engine.cluster for engine in engines})),
        state=_state(facts, name, engines, by),
        tpot_p50_ms=tpot.quantile_ms(0.5),
        tpot_p99_ms=tpot.quantile_ms(0.99),
    )


def _state(facts: Facts, name: str, engines: list[Engine], by: TopBy) -> State:
    states = [facts.conditions[engine.row].state for engine in engines]
    if by == "site":
        site = facts.sites().get(name)
        return site_state(site.spec.state if site is not None else "active", states)
    found = states[0]
    for state in states[1:]:
        found = worse(found, state)
    return found


def _in_flight(facts: Facts, engines: Iterable[Engine]) -> int:
    rows = [engine.row for engine in engines]
    return int(facts.board.slots["in_flight"][:, rows].sum())
