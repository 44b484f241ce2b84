"""The forecast service: a trace in, what a cache would save by size, time to live and error rate out.

Decides which combinations are rehearsed and what a row says. Nothing of a grid is needed; engines are taken to answer
at
a usual pace (`cache.forecast`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gridctl.cache.forecast import Tally, forecast
from gridctl.cache.population import Kind, expected_error
from gridctl.cache.rehearsal import CacheRule
from gridctl.replay.repeats import Telling, Told, stream_of
from gridctl.traces.trace import Trace

Evidence = Literal["auto", "text", "keys"]
EVERYTHING = "(all)"


@dataclass(frozen=True, slots=True)
class ForecastOrder:
    """What is asked for. `usd_per_mtok` are the prices of a million input and output tokens, None where no price is
    known; `like` is the measured population that keys are like, None to tell by how often each is asked for."""

    sizes_bytes: tuple[int, ...]
    ttls_s: tuple[float, ...]
    error_rates: tuple[float, ...]
    evidence: Evidence = "auto"
    embedder: str = "hashed"
    like: Kind | None = None
    mode: Literal["exact", "semantic"] = "semantic"
    usd_per_mtok: tuple[float, float] | None = None
    seed: int = 1

    @property
    def runs(self) -> int:
        """How many times the trace is gone through."""
        return len(self.sizes_bytes) * len(self.ttls_s) * len(self.error_rates)


def forecast_rows(
    trace: Trace,
    order: ForecastOrder,
    say: Callable[[str], None] = lambda text: None,
    advanced: Callable[[int], None] = lambda requests: None,
) -> list[dict[str, object]]:
    """Rows by size, time to live, error rate and workload, a row of all workloads where there are several.

    Raises InputError for a trace that tells nothing of repeats, and for texts that are asked for and are not there."""
    telling = Telling(order.evidence, order.embedder, order.like, order.usd_per_mtok or (0.0, 0.0), order.seed)
    stream, told, has_meaning = stream_of(trace, telling, say)
    mode: Literal["exact", "semantic"] = order.mode if has_meaning else "exact"
    rows: list[dict[str, object]] = []
    for size in order.sizes_bytes:
        for ttl in order.ttls_s:
            for rate in order.error_rates:
                rule = CacheRule(mode=mode, error_rate=rate, ttl_s=ttl)
                rules = {asked.workload: rule for asked in stream.asked}
                tallies = forecast(stream, rules, size, seed=order.seed, advanced=advanced)
                if len(tallies) > 1:
                    total = Tally()
                    for tally in tallies.values():
                        total.add(tally)
                    tallies = {**dict(sorted(tallies.items())), EVERYTHING: total}
                rows += [_row(name, tally, size, ttl, rate, told, order) for name, tally in tallies.items()]
    return rows


def _row(
    workload: str, tally: Tally, size: int, ttl: float, rate: float, told: Told, order: ForecastOrder
) -> dict[str, object]:
    low, high = expected_error(tally.wrong_hits, tally.requests)
    knows_truth = tally.has_keys
    semantic = tally.levels["semantic"]
    return {
        "workload": workload,
        "size_bytes": size,
        "ttl_s": ttl,
        "error_rate": rate,
        "evidence": told,
        "requests": tally.requests,
        "hit_share": tally.hits / tally.requests,
        "exact_hits": tally.levels["exact"],
        "shared_hits": tally.levels["joined"],
        "semantic_hits": semantic,
        "audits": tally.levels["audit"],
        "wrong_per_request": tally.wrong_hits / tally.requests if knows_truth else None,
        "wrong_per_request_low": low if knows_truth else None,
        "wrong_per_request_high": high if knows_truth else None,
        "wrong_per_hit": tally.wrong_hits / tally.hits if knows_truth and tally.hits else None,
        "saved_input_tokens": tally.saved_input_tokens,
        "saved_output_tokens": tally.saved_output_tokens,
        "saved_usd": tally.saved_usd if order.usd_per_mtok is not None else None,
    }
