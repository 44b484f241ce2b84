"""Tokenomics: what a run's tokens cost and how fast they came, by workload × tier × variant, subtotals and total.

Every column is defined once, in `tables`; dollars come from `usd`, good requests from `goodness`, client times from
`clock`. Invariants: over the rows, requests, tokens and dollars sum to the total, which is what the grid costs over
the window; goodput never exceeds throughput.

Source of goodput: DistServe (OSDI 2024); a rate, so read it beside `attainment` and `rejected`, as delaying tokens
or dropping doomed requests raises it (arXiv 2410.14257).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import ClientClock, client_clock
from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.goodness import Goodness, judge
from gridctl.accounts.groups import UNNAMED, Labels, check_dimensions, grouped, labels
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, Run
from gridctl.accounts.tables import EVERYTHING, Tokenomics, TokenomicsRow
from gridctl.accounts.usd import Ledger, Stranded, is_owned, ledger
from gridctl.units import NS_PER_S, TOKENS_PER_MTOK, ms

Dimension = Literal["workload", "tier", "variant"]
DIMENSIONS: tuple[Dimension, ...] = ("workload", "tier", "variant")
IDLE = "(idle)"  # the workload of idle GPUs in a tier that served nothing
WANTED = (50.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class _Account:
    """Everything the rows are computed from, computed once."""

    run: Run
    clock: ClientClock
    goodness: Goodness
    ledger: Ledger
    dimensions: dict[Dimension, Labels]
    owned: NDArray[np.bool_]  # per request: served by owned GPUs


def tokenomics(run: Run, by: Sequence[str] = DIMENSIONS) -> Tokenomics:
    """The table of a run; `by` picks what its rows tell apart. O(n log n).

    Raises: UsageError for an unknown or repeated dimension.
    """
    chosen = check_dimensions(by, DIMENSIONS)
    account = _account(run)
    return Tokenomics(
        run=run.info.name,
        trace=run.info.trace,
        policy=run.info.policy,
        algorithm=run.info.algorithm,
        window_s=run.info.window_ns / NS_PER_S,
        rows=_rows(account, chosen),
        workloads=_rows(account, ("workload",)),
        tiers=_rows(account, ("tier",)),
        total=_total(account),
    )


def total_row(run: Run) -> TokenomicsRow:
    """The total alone."""
    return _total(_account(run))


def tables_by(
    run: Run, choices: Sequence[tuple[Dimension, ...]]
) -> tuple[TokenomicsRow, dict[tuple[Dimension, ...], tuple[TokenomicsRow, ...]]]:
    """The total and the rows for several choices of what they tell apart; each dimension set as `DIMENSIONS` orders."""
    account = _account(run)
    return _total(account), {by: _rows(account, by) for by in choices}


def scoped_rows(run: Run) -> Callable[[NDArray[np.intp], Sequence[EngineFacts], Sequence[str]], TokenomicsRow]:
    """Makes the row of any requests of the run, by their numbers; the accounts are settled once for all of them.

    The row's GPUs are those of the engines given; it carries the idle cost of the tiers given whose GPUs served
    nobody.
    """
    account = _account(run)

    def row(members: NDArray[np.intp], engines: Sequence[EngineFacts], tiers: Sequence[str]) -> TokenomicsRow:
        stranded = [part for part in account.ledger.stranded if part.tier in tiers]
        return _row(account, {}, members, stranded, engines)

    return row


def variant_name(engine: EngineFacts) -> str:
    """`model/variant`, or what there is of it.

    >>> from gridctl.accounts.rows import EngineFacts
    >>> facts = dict(kind="gpu", cluster="c", site="s", tier="core", region="EU")
    >>> variant_name(EngineFacts(**facts, model="llama-3.1-8b", variant="fp8"))
    'llama-3.1-8b/fp8'
    """
    return "/".join(part for part in (engine.model, engine.variant) if part) or UNNAMED


def _account(run: Run) -> _Account:
    clock = client_clock(run)
    engines = run.info.engines
    owned = np.array([is_owned(engine) for engine in engines] + [False])
    return _Account(
        run=run,
        clock=clock,
        goodness=judge(run, clock),
        ledger=ledger(run),
        dimensions={
            "workload": labels(run.info.workload_names, run.rows.workload),
            "tier": labels([engine.tier for engine in engines], run.rows.engine),
            "variant": labels([variant_name(engine) for engine in engines], run.rows.engine),
        },
        owned=owned[run.rows.engine],
    )


def _rows(account: _Account, by: Sequence[Dimension]) -> tuple[TokenomicsRow, ...]:
    """A row per group, then one per tier (or one for all tiers) whose GPUs served nothing."""
    rows = []
    for group in grouped([account.dimensions[dimension] for dimension in by], len(account.run.rows)):
        key = dict(zip(by, group.key, strict=True))
        rows.append(_row(account, key, group.members, (), _engines(account, key, group.members)))
    nobody = np.zeros(0, dtype=np.intp)
    for tier, stranded in _idle(account.ledger, by):
        tiers = {part.tier for part in stranded}
        engines = [engine for engine in account.run.info.engines if is_owned(engine) and engine.tier in tiers]
        key = {"workload": IDLE, "tier": tier, "variant": UNNAMED}
        rows.append(_row(account, key, nobody, stranded, engines))
    return tuple(rows)


def _idle(spent: Ledger, by: Sequence[Dimension]) -> list[tuple[str, tuple[Stranded, ...]]]:
    """The stranded costs, a line per tier where rows tell tiers apart, one line otherwise."""
    if "tier" in by:
        return [(part.tier, (part,)) for part in spent.stranded]
    return [(EVERYTHING, spent.stranded)] if spent.stranded else []


def _total(account: _Account) -> TokenomicsRow:
    engines = [engine for engine in account.run.info.engines if is_owned(engine)]
    return _row(account, {}, np.arange(len(account.run.rows)), account.ledger.stranded, engines)


def _engines(account: _Account, key: dict[Dimension, str], members: NDArray[np.intp]) -> list[EngineFacts]:
    """The owned engines a group's GPUs are counted from, as `TokenomicsRow.gpus` says."""
    engines = account.run.info.engines
    used = {engines[index] for index in np.unique(account.run.rows.engine[members]) if index >= 0}
    pairs = {(engine.tier, variant_name(engine)) for engine in used if is_owned(engine)}
    found = []
    for engine in engines:
        tier, variant = engine.tier, variant_name(engine)
        if not is_owned(engine) or key.get("tier", tier) != tier or key.get("variant", variant) != variant:
            continue
        if "workload" not in key or (tier, variant) in pairs:
            found.append(engine)
    return found


def _row(
    account: _Account,
    key: dict[Dimension, str],
    members: NDArray[np.intp],
    stranded: Sequence[Stranded],
    engines: Sequence[EngineFacts],
) -> TokenomicsRow:
    """The line of the requests `members`, carrying the `stranded` idle cost too, beside the owned `engines`."""
    counts = _counts(account, members)
    dollars = _dollars(account.ledger, members, stranded)
    usd = math.fsum(dollars.values())
    watts_known = any(engine.busy_watts > 0 for engine in engines)
    fields: dict[str, object] = {
        "workload": key.get("workload", EVERYTHING),
        "tier": key.get("tier", EVERYTHING),
        "variant": key.get("variant", EVERYTHING),
        "usd": usd,
        "energy_kwh": _energy_kwh(account.ledger, members, stranded) if watts_known else None,
        "usd_per_mtok": _per_mtok(usd, counts["served_input_tokens"] + counts["output_tokens"]),
        "usd_per_mtok_output": _per_mtok(usd, counts["output_tokens"]),
        "usd_per_mtok_goodput": _per_mtok(usd, counts["good_output_tokens"]),
        "attainment": _ratio(counts["good"], counts["requests"]),
        "prefix_cache_share": _ratio(counts["cached_tokens"], counts["served_input_tokens"]),
        **counts,
        **dollars,
        **_latencies(account.clock, members),
        **_rates(account, counts, members, sum(engine.gpus for engine in engines)),
    }
    return msgspec.convert(fields, TokenomicsRow)


def _counts(account: _Account, members: NDArray[np.intp]) -> dict[str, int]:
    """Requests by outcome and tokens by fate."""
    rows, good = account.run.rows, account.goodness.good[members]
    outcome = rows.outcome[members]
    completed = outcome == COMPLETED
    input_tokens, output_tokens = rows.input_tokens[members], rows.output_tokens[members]
    return {
        "requests": len(members),
        "completed": int(completed.sum()),
        "rejected": int((outcome == REJECTED).sum()),
        "failed": int((outcome == FAILED).sum()),
        "good": int(good.sum()),
        "input_tokens": int(input_tokens.sum()),
        "served_input_tokens": int(input_tokens.sum(where=completed)),
        "cached_tokens": int(rows.cached_tokens[members].sum(where=completed)),
        "output_tokens": int(output_tokens.sum(where=completed)),
        "good_output_tokens": int(output_tokens.sum(where=good)),
    }


def _latencies(clock: ClientClock, members: NDArray[np.intp]) -> dict[str, float | None]:
    """Percentiles of the completed requests' client times."""
    columns = (
        ("ttft", clock.ttft_ns, clock.served),
        ("tpot", clock.tpot_ns, clock.has_tpot),
        ("e2e", clock.e2e_ns, clock.served),
    )
    found: dict[str, float | None] = {}
    for name, times_ns, counts in columns:
        times = percentiles(times_ns[members[counts[members]]], WANTED)
        for wanted, time_ns in zip(WANTED, times, strict=True):
            found[f"{name}_p{wanted:g}_ms"] = None if time_ns is None else ms(time_ns)
    return found


def _rates(
    account: _Account, counts: dict[str, int], members: NDArray[np.intp], gpus: int
) -> dict[str, int | float | None]:
    """Tokens and requests per second of the window, and per owned GPU."""
    rows, window_ns = account.run.rows, account.run.info.window_ns
    own = members[account.owned[members]]
    own_output = int(rows.output_tokens[own][rows.outcome[own] == COMPLETED].sum())
    own_good_output = int(rows.output_tokens[own][account.goodness.good[own]].sum())
    window_s, gpu_window_s = window_ns / NS_PER_S, gpus * window_ns / NS_PER_S
    return {
        "throughput_tok_s": _ratio(counts["output_tokens"], window_s),
        "throughput_rps": _ratio(counts["completed"], window_s),
        "goodput_tok_s": _ratio(counts["good_output_tokens"], window_s),
        "goodput_rps": _ratio(counts["good"], window_s),
        "gpus": gpus,
        "throughput_tok_s_per_gpu": _ratio(own_output, gpu_window_s),
        "goodput_tok_s_per_gpu": _ratio(own_good_output, gpu_window_s),
        # Nobody measured how busy a live run's engines were: the GPU time in it is what the stated dollars pay for.
        "gpu_utilization": None if account.run.info.live else _ratio(int(rows.gpu_ns[members].sum()), gpus * window_ns),
    }


def _dollars(spent: Ledger, members: NDArray[np.intp], stranded: Sequence[Stranded]) -> dict[str, float]:
    """The six dollar columns; they add up to `usd`."""
    return {
        "gpu_busy_usd": float(spent.gpu_busy_usd[members].sum()),
        "gpu_idle_usd": float(spent.gpu_idle_usd[members].sum()) + sum(part.gpu_idle_usd for part in stranded),
        "serverless_usd": float(spent.serverless_usd[members].sum()),
        "egress_usd": float(spent.egress_usd[members].sum()),
        "fallback_usd": float(spent.fallback_usd[members].sum()),
        "energy_usd": float(spent.energy_usd[members].sum()) + sum(part.energy_usd for part in stranded),
    }


def _energy_kwh(spent: Ledger, members: NDArray[np.intp], stranded: Sequence[Stranded]) -> float:
    return float(spent.energy_kwh[members].sum()) + sum(part.energy_kwh for part in stranded)


def _ratio(amount: float, per: float) -> float | None:
    return amount / per if per else None


def _per_mtok(usd: float, tokens: int) -> float | None:
    return usd / tokens * TOKENS_PER_MTOK if tokens else None
