"""The forecast service: a trace in, what a cache would save by size, time to live and error rate out.

Decides which combinations are rehearsed, how often, and what a row says, also of how far off it may be. Nothing of a
grid is needed; engines are taken to answer at a usual pace (`cache.forecast`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from gridctl.accounts.percentiles import beta_quantile
from gridctl.cache.forecast import Stream, Tally, forecast
from gridctl.cache.measuring import reach_of
from gridctl.cache.population import (
    KINDS,
    OTHER_SUBJECT,
    OWN_SUBJECT,
    Kind,
    Population,
    Reach,
    expected_error,
)
from gridctl.cache.rehearsal import CacheRule, Level
from gridctl.errors import UsageError
from gridctl.replay.repeats import Telling, Told, stream_of, told_by
from gridctl.replay.sampling import population_of
from gridctl.traces.trace import Trace

Evidence = Literal["auto", "text", "keys"]
USUAL_SEEDS = 5
"""Rehearsals that a forecast by keys is the mean of: the hits of 3,000 requests differ by 3 points between draws."""
SEEDED_REQUESTS = 100_000
"""Requests rehearsed, over all seeds, beyond which a long trace needs no more of them."""
Say = Callable[[str], None]
EVERYTHING = "(all)"


@dataclass(frozen=True, slots=True)
class ForecastOrder:
    """What is asked for. `usd_per_mtok` are the prices of a million input and output tokens, None where no price is
    known; `like` is the measured population that keys are like, None to tell by how often each is asked for. `stale_s`
    follows each time to live; by `admission` second an exact answer is kept when it is asked for again. `seeds`
    rehearsals are made of each combination, from `seed` on."""

    sizes_bytes: tuple[int, ...]
    ttls_s: tuple[float, ...]
    error_rates: tuple[float, ...]
    evidence: Evidence = "auto"
    embedder: str = "hashed"
    like: Kind | None = None
    mode: Literal["exact", "semantic"] = "semantic"
    usd_per_mtok: tuple[float, float] | None = None
    stale_s: float = 0.0
    admission: Literal["first", "second"] = "first"
    seed: int = 1
    seeds: int = 1

    @property
    def runs(self) -> int:
        """How many times the trace is gone through."""
        return len(self.sizes_bytes) * len(self.ttls_s) * len(self.error_rates) * self.seeds


@dataclass(frozen=True, slots=True)
class Drawn:
    """The population that evidence is drawn from where there are no texts: its name, and how far a share of hits
    forecast by it may be off. `population` is one measured on a sample, with so many `prompts` of each workload; None
    for the shipped ones."""

    name: str
    reach: Reach
    population: Population | None = None
    prompts: Mapping[str, int] = field(default_factory=dict)

    def reach_of(self, workload: str) -> Reach:
        """How far off the hits of a workload may be."""
        return reach_of(self.prompts[workload]) if workload in self.prompts else self.reach


def sampled(
    trace: Trace, sample: Trace, order: ForecastOrder, advanced: Callable[[int], None] = lambda prompts: None
) -> Drawn:
    """The population of an operator's own sample, for a trace that is told by keys.

    Raises UsageError where nothing would be drawn; InputError for a sample that has no texts or keys, or too few."""
    told, _ = told_by(trace, order.evidence)
    if told != "keys" or order.mode != "semantic":
        raise UsageError(
            f"nothing is drawn from a sample: repeats of {trace.name} are told by {told}, {order.mode} ones",
            where="--measure",
            fix="--evidence keys --mode semantic, or leave --measure out",
        )
    population, prompts = population_of(sample, order.embedder, order.error_rates, advanced)
    total = sum(prompts.values())
    return Drawn(f"{sample.name}: {total:,} prompts", reach_of(total), population, prompts)


def shipped(order: ForecastOrder) -> Drawn:
    """The populations that come with gridctl. What subject the trace is of is not known, so the worst is expected."""
    return Drawn(f"shipped: {order.like or ', '.join(KINDS)}", OTHER_SUBJECT)


def usual_seeds(trace: Trace, order: ForecastOrder, most_runs: int) -> int:
    """How many rehearsals of each combination tell enough: one where nothing is drawn, else several of a short trace,
    as far as `most_runs` in all allow.

    Raises InputError for a trace that tells nothing of repeats."""
    told, _ = told_by(trace, order.evidence)
    if told != "keys" or order.mode != "semantic":
        return 1
    once = order.runs // order.seeds
    return max(1, min(USUAL_SEEDS, SEEDED_REQUESTS // max(1, len(trace)), most_runs // once))


def forecast_rows(
    trace: Trace,
    order: ForecastOrder,
    say: Say = lambda text: None,
    advanced: Callable[[int], None] = lambda requests: None,
    drawn: Drawn | None = None,
) -> list[dict[str, object]]:
    """Rows by size, time to live, error rate and workload, a row of all workloads where there are several.

    Raises InputError for a trace that tells nothing of repeats, and for texts that are asked for and are not there."""
    drawn = drawn or shipped(order)
    streams, told, has_meaning = _streams(trace, order, drawn, say)
    mode: Literal["exact", "semantic"] = order.mode if has_meaning else "exact"
    by = drawn if told == "keys" and mode == "semantic" else None
    if by is not None:
        say(_doubt(by))
    rows: list[dict[str, object]] = []
    for size in order.sizes_bytes:
        for ttl in order.ttls_s:
            for rate in order.error_rates:
                rule = CacheRule(
                    mode=mode, error_rate=rate, ttl_s=ttl, stale_s=order.stale_s, admission=order.admission
                )
                tallies: dict[str, list[Tally]] = {}
                for seed, stream in streams:
                    rules = {asked.workload: rule for asked in stream.asked}
                    for name, tally in _whole(forecast(stream, rules, size, seed=seed, advanced=advanced)).items():
                        tallies.setdefault(name, []).append(tally)
                rows += [_row(name, each, size, ttl, rate, told, by, order) for name, each in tallies.items()]
    return rows


def _streams(trace: Trace, order: ForecastOrder, drawn: Drawn, say: Say) -> tuple[list[tuple[int, Stream]], Told, bool]:
    """The trace for each seed; with texts it is the same for all of them, and embedded once."""

    def telling(seed: int) -> Telling:
        prices = order.usd_per_mtok or (0.0, 0.0)
        return Telling(order.evidence, order.embedder, order.like, drawn.population, prices, seed)

    seeds = range(order.seed, order.seed + order.seeds)
    first, told, has_meaning = stream_of(trace, telling(order.seed), say, by_meaning=order.mode == "semantic")
    if told != "keys":
        return [(seed, first) for seed in seeds], told, has_meaning
    others = [stream_of(trace, telling(seed), lambda text: None)[0] for seed in seeds[1:]]
    return list(zip(seeds, [first, *others], strict=True)), told, has_meaning


def _doubt(drawn: Drawn) -> str:
    """What is to be known of a forecast by keys."""
    reach = drawn.reach
    text = f"likenesses drawn from {drawn.name}; hits may be {100 * reach.too_many:.0f} points too many or "
    text += f"{100 * reach.too_few:.0f} too few"
    if drawn.population is None:
        text += (
            f" ({100 * OWN_SUBJECT.too_many:.0f} where requests are like a bank's help desk, an assistant's or a "
            "home's commands, which these were measured on); --measure SAMPLE measures your own"
        )
    return text


def _whole(tallies: dict[str, Tally]) -> dict[str, Tally]:
    """Tallies by workload, and of all where there are several."""
    if len(tallies) < 2:
        return tallies
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    return {**dict(sorted(tallies.items())), EVERYTHING: total}


def _interval(shares: Sequence[float], known: Reach | None) -> tuple[float, float] | tuple[None, None]:
    """Where the share of hits may be: the mean's 95 % over the seeds (Student's t), and the population's known reach.
    None for one rehearsal of texts: there is nothing to tell it by."""
    if len(shares) < 2 and known is None:
        return None, None
    known, apart = known or Reach(0.0, 0.0), 0.0
    if len(shares) > 1:
        apart = t_of(len(shares) - 1) * stdev(shares) / math.sqrt(len(shares))
    return max(0.0, fmean(shares) - known.too_many - apart), min(1.0, fmean(shares) + known.too_few + apart)


def t_of(freedom: int) -> float:
    """Student's t that 95 % of draws stay within, of either sign: t² / (freedom + t²) is Beta(1/2, freedom/2).

    >>> round(t_of(4), 3)
    2.776
    """
    share = beta_quantile(0.95, 0.5, freedom / 2)
    return math.sqrt(freedom * share / (1.0 - share))


def _row(
    workload: str,
    tallies: Sequence[Tally],
    size: int,
    ttl: float,
    rate: float,
    told: Told,
    drawn: Drawn | None,
    order: ForecastOrder,
) -> dict[str, object]:
    requests, knows_truth = tallies[0].requests, tallies[0].has_keys
    hits, wrong = fmean(one.hits for one in tallies), fmean(one.wrong_hits for one in tallies)
    low, high = expected_error(wrong, requests)
    shares = [one.hits / one.requests for one in tallies]
    least, most = _interval(shares, drawn.reach_of(workload) if drawn is not None else None)

    def level(name: Level) -> int:
        return round(fmean(one.levels[name] for one in tallies))

    return {
        "workload": workload,
        "size_bytes": size,
        "ttl_s": ttl,
        "stale_s": order.stale_s,
        "error_rate": rate,
        "evidence": told,
        "population": drawn.name if drawn is not None else None,
        "seeds": order.seeds,
        "requests": requests,
        "hit_share": fmean(shares),
        "hit_share_low": least,
        "hit_share_high": most,
        "exact_hits": level("exact"),
        "shared_hits": level("joined"),
        "semantic_hits": level("semantic"),
        "stale_hits": level("stale"),
        "audits": level("audit"),
        "wrong_per_request": wrong / requests if knows_truth else None,
        "wrong_per_request_low": low if knows_truth else None,
        "wrong_per_request_high": high if knows_truth else None,
        "wrong_per_hit": wrong / hits if knows_truth and hits else None,
        "saved_input_tokens": round(fmean(one.saved_input_tokens for one in tallies)),
        "saved_output_tokens": round(fmean(one.saved_output_tokens for one in tallies)),
        "saved_usd": fmean(one.saved_usd for one in tallies) if order.usd_per_mtok is not None else None,
    }
