"""Columns: every metric of a run as sums or a percentile of columns with an entry per request.

That is what may be resampled and what two runs of one trace may be compared by, request by request. Decides nothing:
the definitions are those of `tables`, and a test holds both ways to each number equal. What no request carries (idle
GPUs of a tier that served nobody) is not in a column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import ClientClock, client_clock
from gridctl.accounts.goodness import judge, judge_objective
from gridctl.accounts.percentiles import exact
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run
from gridctl.accounts.usd import ledger
from gridctl.units import NS_PER_MS, NS_PER_S, TOKENS_PER_MTOK

TIME_NAMES = ("network_ms", "queue_ms", "ttft_ms", "tpot_ms", "e2e_ms")


@dataclass(frozen=True, slots=True)
class Sums:
    """A metric as Σ numerator ÷ Σ denominator, or ÷ `per` where there is none; columns of shape `(n,)`."""

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64] | None = None
    per: float = 1.0
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class Quantile:
    """A metric as a nearest-rank percentile of the `values` that apply, in milliseconds; columns of shape `(n,)`."""

    values: NDArray[np.int64]
    applies: NDArray[np.bool_]
    percentile: float


class Columns:
    """The columns of one run, made when first asked for and kept."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._known: dict[str, Sums | Quantile | None] = {}

    def of(self, metric: str) -> Sums | Quantile | None:
        """A metric's columns; None for what is no sum over requests (promises, GPUs and what is counted per GPU)."""
        if metric not in self._known:
            self._known[metric] = self._made(metric)
        return self._known[metric]

    @cached_property
    def _clock(self) -> ClientClock:
        return client_clock(self.run)

    def times(self, name: str) -> Quantile:
        clock, rows = self._clock, self.run.rows
        columns = {
            "network_ms": clock.network_ns,
            "queue_ms": rows.queue_ns,
            "ttft_ms": clock.ttft_ns,
            "tpot_ms": clock.tpot_ns,
            "e2e_ms": clock.e2e_ns,
        }
        return Quantile(columns[name], clock.has_tpot if name == "tpot_ms" else clock.served, 50.0)

    def _made(self, metric: str) -> Sums | Quantile | None:
        name, _, statistic = metric.partition(".")
        if name in TIME_NAMES:
            times = self.times(name)
            if statistic == "mean":
                return Sums(np.where(times.applies, times.values, 0) / NS_PER_MS, _floats(times.applies))
            return Quantile(times.values, times.applies, float(statistic.removeprefix("p")))
        if name == "attained":
            return self._attained(statistic)
        if metric in ("burn", "budget_left_share"):
            return Sums(1 - self._amounts["good"], self._allowed())
        return self._from_table(metric)

    def _from_table(self, metric: str) -> Sums | None:
        """Columns of the tokenomics table, and shares of its counts."""
        amounts, one = self._amounts, np.ones(len(self.run.rows))
        window_s = self.run.info.window_ns / NS_PER_S
        tokens = amounts["served_input_tokens"] + amounts["output_tokens"]
        shares = {
            "attainment": (amounts["good"], one),
            "availability": (amounts["completed"], one),
            "rejected_share": (amounts["rejected"], one),
            "failed_share": (amounts["failed"], one),
            "prefix_cache_share": (amounts["cached_tokens"], amounts["served_input_tokens"]),
            "usd_per_mtok": (amounts["usd"] * TOKENS_PER_MTOK, tokens),
            "usd_per_mtok_output": (amounts["usd"] * TOKENS_PER_MTOK, amounts["output_tokens"]),
            "usd_per_mtok_goodput": (amounts["usd"] * TOKENS_PER_MTOK, amounts["good_output_tokens"]),
        }
        if metric in shares:
            return Sums(*shares[metric], is_share=shares[metric][1] is one)
        rates = {
            "throughput_tok_s": "output_tokens",
            "throughput_rps": "completed",
            "goodput_tok_s": "good_output_tokens",
            "goodput_rps": "good",
        }
        if metric in rates:
            return Sums(amounts[rates[metric]], per=window_s or np.inf)
        return Sums(amounts[metric]) if metric in amounts else None

    @cached_property
    def _amounts(self) -> dict[str, NDArray[np.float64]]:
        """What sums over requests: counts, tokens and dollars."""
        rows, good = self.run.rows, judge(self.run, self._clock).good
        completed = rows.outcome == COMPLETED
        spent = ledger(self.run)
        dollars = {
            "gpu_busy_usd": spent.gpu_busy_usd,
            "gpu_idle_usd": spent.gpu_idle_usd,
            "serverless_usd": spent.serverless_usd,
            "egress_usd": spent.egress_usd,
            "fallback_usd": spent.fallback_usd,
            "energy_usd": spent.energy_usd,
        }
        counts = {
            "requests": np.ones(len(rows)),
            "completed": completed,
            "rejected": rows.outcome == REJECTED,
            "failed": rows.outcome == FAILED,
            "good": good,
            "input_tokens": rows.input_tokens,
            "served_input_tokens": np.where(completed, rows.input_tokens, 0),
            "cached_tokens": np.where(completed, rows.cached_tokens, 0),
            "output_tokens": np.where(completed, rows.output_tokens, 0),
            "good_output_tokens": np.where(good, rows.output_tokens, 0),
            "preemptions": rows.preemptions,
        }
        return {
            **{name: _floats(column) for name, column in counts.items()},
            **dollars,
            "usd": sum(dollars.values(), np.zeros(len(rows))),
            "energy_kwh": spent.energy_kwh,
        }

    def _attained(self, metric: str) -> Sums:
        """Requests an objective on that time applies to, and those that met every one that does."""
        applies = np.zeros(len(self.run.rows), dtype=np.bool_)
        met = np.ones(len(self.run.rows), dtype=np.bool_)
        for index, name in enumerate(self.run.info.workload_names):
            spec = self.run.info.workloads.get(name)
            members = np.flatnonzero(self.run.rows.workload == index)
            for objective in spec.objectives if spec else ():
                if objective.metric == metric and len(members):
                    verdicts = judge_objective(self.run, self._clock, members, objective)
                    applies[members] |= verdicts.applies
                    met[members] &= verdicts.met | ~verdicts.applies
        return Sums(_floats(applies & met), _floats(applies), is_share=True)

    def _allowed(self) -> NDArray[np.float64]:
        """The bad requests that each request's workload allows it to be."""
        per_workload = np.zeros(len(self.run.info.workload_names) + 1)  # the last entry serves index −1
        for index, name in enumerate(self.run.info.workload_names):
            spec = self.run.info.workloads.get(name)
            per_workload[index] = float(1 - exact(spec.attainment)) if spec else 0.0
        return per_workload[self.run.rows.workload]


def _floats(column: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.asarray(column, dtype=np.float64)
