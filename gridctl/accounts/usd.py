"""The dollars and kilowatt-hours of every request, and of the owned GPUs nobody used.

    GPU, busy     GPU time attributed to the request × the price of its engine's GPU-hour
    GPU, idle     owned GPU-hours (GPUs × window, GPUs without a deployment included) less the busy ones, at their
                  price; within each tier shared out pro rata of attributed GPU time
    serverless    billed function milliseconds × price
    egress        output tokens × 4 bytes × price per GB; what comes in is not billed
    fallback      input and output tokens × the API's prices
    energy        busy time at busy watts, idle time at idle watts, × price per kWh; shared out like GPU time. State
                  an electricity price only where the GPU-hour does not hold it, or power is paid twice

Prices are those of the engine's facts, times what changed them meanwhile (`price_changes`).

Egress and fallback are for completed requests alone. Invariant: the requests' dollars plus the `stranded` ones (tiers
whose GPUs served nothing) are exactly what the grid costs over the window.

Source of 4 bytes: the usual rule of four characters of English text to a token; frames and headers are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.blocks import blank, blocks
from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.price_changes import changes_of, price_factors, surplus_ns
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.units import BYTES_PER_GB, NS_PER_HOUR, NS_PER_MS, TOKENS_PER_MTOK

EGRESS_BYTES_PER_TOKEN = 4
WATTS_PER_KILOWATT = 1_000
OWNED = ("gpu", "unused")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stranded:
    """Idle cost of a tier in which no request used GPU time: nobody to share it out to."""

    tier: str
    gpu_idle_usd: float
    energy_kwh: float
    energy_usd: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """Dollars and energy per request, columns of shape `(n,)`, and what no request can carry."""

    gpu_busy_usd: Floats
    gpu_idle_usd: Floats
    serverless_usd: Floats
    egress_usd: Floats
    fallback_usd: Floats
    energy_kwh: Floats
    energy_usd: Floats
    stranded: tuple[Stranded, ...]


def request_usd(run: Run) -> Floats:
    """What each request itself cost, shape `(n,)`: attributed GPU time, serverless, egress and fallback.

    Idle GPUs and energy are not in it: they are costs of the grid, which `ledger` shares out.
    """
    return gpu_busy_usd(run) + serverless_usd(run) + egress_usd(run) + fallback_usd(run)


def ledger(run: Run) -> Ledger:
    """Every dollar of the run, per request, idle GPUs and energy shared out by tier."""
    n = len(run.rows)
    idle_ns = idle_gpu_ns(run)
    busy_ns = _busy_by_tier(run)
    dearer_ns, lit_ns = _idle_surplus_ns(run, "gpu-hour"), _idle_surplus_ns(run, "energy")
    idle: list[Stranded] = []
    for tier in sorted({engine.tier for engine in run.info.engines if is_owned(engine)}):
        engines = [index for index, engine in enumerate(run.info.engines) if engine.tier == tier and is_owned(engine)]
        usd = sum((idle_ns[index] + dearer_ns[index]) * _usd_per_gpu_ns(run.info.engines[index]) for index in engines)
        watts = {index: _kwh_per_gpu_ns(run.info.engines[index].idle_watts) for index in engines}
        kwh = [idle_ns[index] * watts[index] for index in engines]
        energy = sum((idle_ns[i] + lit_ns[i]) * watts[i] * run.info.engines[i].usd_per_kwh for i in engines)
        idle.append(Stranded(tier, usd, sum(kwh), energy))
    spent = Ledger(
        gpu_busy_usd=blank(n, np.float64),
        gpu_idle_usd=blank(n, np.float64),
        serverless_usd=blank(n, np.float64),
        egress_usd=blank(n, np.float64),
        fallback_usd=blank(n, np.float64),
        energy_kwh=blank(n, np.float64),
        energy_usd=blank(n, np.float64),
        stranded=tuple(part for part in idle if busy_ns.get(part.tier, 0) == 0),
    )
    shared = [(part, busy_ns[part.tier]) for part in idle if busy_ns.get(part.tier, 0) > 0]
    for some in blocks(n):
        _fill(spent, some, run.part(some), shared)
    return spent


def _fill(spent: Ledger, some: slice, run: Run, shared: Sequence[tuple[Stranded, int]]) -> None:
    """Write the requests `some`, all that `run` has; `shared` are the tiers' idle costs and their GPUs' busy time."""
    n = len(run.rows)
    gpu_idle_usd, idle_kwh, idle_energy_usd = np.zeros(n), np.zeros(n), np.zeros(n)
    tiers = np.array([engine.tier for engine in run.info.engines] + [""])[run.rows.engine]
    for idle, busy_ns in shared:
        share = np.where(tiers == idle.tier, run.rows.gpu_ns, 0) / busy_ns
        gpu_idle_usd += share * idle.gpu_idle_usd
        idle_kwh += share * idle.energy_kwh
        idle_energy_usd += share * idle.energy_usd
    busy_kwh = run.rows.gpu_ns * _per_request(run, lambda engine: _kwh_per_gpu_ns(engine.busy_watts))
    spent.gpu_busy_usd[some] = gpu_busy_usd(run)
    spent.gpu_idle_usd[some] = gpu_idle_usd
    spent.serverless_usd[some] = serverless_usd(run)
    spent.egress_usd[some] = egress_usd(run)
    spent.fallback_usd[some] = fallback_usd(run)
    spent.energy_kwh[some] = busy_kwh + idle_kwh
    kwh_usd = _per_request(run, lambda engine: engine.usd_per_kwh) * price_factors(run, "energy")
    spent.energy_usd[some] = busy_kwh * kwh_usd + idle_energy_usd


def _busy_by_tier(run: Run) -> dict[str, int]:
    """GPU time attributed to the requests of each tier's engines."""
    totals: dict[str, int] = {}
    for engine, busy_ns in zip(run.info.engines, _busy_gpu_ns(run), strict=False):
        totals[engine.tier] = totals.get(engine.tier, 0) + int(busy_ns)
    return totals


def gpu_busy_usd(run: Run) -> Floats:
    """Attributed GPU time at its engine's price, shape `(n,)`."""
    return run.rows.gpu_ns * _per_request(run, _usd_per_gpu_ns) * price_factors(run, "gpu-hour")


def serverless_usd(run: Run) -> Floats:
    """Billed function time at its site's price, shape `(n,)`."""
    price = _per_request(run, lambda engine: engine.usd_per_serverless_ms)
    return run.rows.serverless_ns / NS_PER_MS * price * price_factors(run, "serverless")


def egress_usd(run: Run) -> Floats:
    """Answers leaving the site, shape `(n,)`."""
    gigabytes = _completed(run, run.rows.output_tokens) * (EGRESS_BYTES_PER_TOKEN / BYTES_PER_GB)
    return gigabytes * _per_request(run, lambda engine: engine.egress_usd_per_gb) * price_factors(run, "egress")


def fallback_usd(run: Run) -> Floats:
    """Tokens bought from the fallback API, shape `(n,)`."""
    bought_in = _completed(run, run.rows.input_tokens) * _per_request(run, lambda engine: engine.usd_per_mtok_input)
    bought_out = _completed(run, run.rows.output_tokens) * _per_request(run, lambda engine: engine.usd_per_mtok_output)
    return (bought_in + bought_out) / TOKENS_PER_MTOK * price_factors(run, "api")


def idle_gpu_ns(run: Run) -> list[int]:
    """Per engine, owned GPU time less the GPU time attributed to its requests; 0 for what is not owned, and where the
    requests of a part of a run ran on beyond it."""
    busy = _busy_gpu_ns(run)
    return [
        max(0, engine.gpus * run.info.window_ns - int(busy[index])) if is_owned(engine) else 0
        for index, engine in enumerate(run.info.engines)
    ]


def _idle_surplus_ns(run: Run, price: str) -> list[float]:
    """Per engine, what changes of a price made its idle GPUs cost more, as time at the price before."""
    more = surplus_ns(run, price)
    if not changes_of(run.info, price):
        return [float(one) for one in more]
    for some in blocks(len(run.rows)):
        part = run.part(some)
        paid = part.rows.gpu_ns * (price_factors(part, price) - 1.0)
        served = part.rows.engine >= 0
        np.subtract.at(more, part.rows.engine[served], paid[served])
    return [float(one) for one in more]


def _busy_gpu_ns(run: Run) -> NDArray[np.int64]:
    """GPU time attributed to the requests of each engine; the last entry is of those that had none."""
    busy = np.zeros(len(run.info.engines) + 1, dtype=np.int64)
    for some in blocks(len(run.rows)):
        np.add.at(busy, run.rows.engine[some], run.rows.gpu_ns[some])
    return busy


def is_owned(engine: EngineFacts) -> bool:
    """Whether the engine stands on owned GPUs, paid by the hour whether busy or not."""
    return engine.kind in OWNED


def _usd_per_gpu_ns(engine: EngineFacts) -> float:
    return engine.usd_per_gpu_hour / NS_PER_HOUR


def _kwh_per_gpu_ns(watts: float) -> float:
    return watts / WATTS_PER_KILOWATT / NS_PER_HOUR


def _completed(run: Run, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(run.rows.outcome == COMPLETED, tokens, 0)


def _per_request(run: Run, fact: Callable[[EngineFacts], float]) -> Floats:
    """A fact of each request's engine, shape `(n,)`; 0 where no engine was chosen."""
    facts = np.array([fact(engine) for engine in run.info.engines] + [0.0])  # the last entry serves index −1
    return facts[run.rows.engine]
