"""Results: replies as the rows of a run.

    rtt       the modelled round trip from the request's origin to the site that served it, and the workload's last
              mile, which a generator on one machine cannot see; 0 with a measured network
    compute   from the intended moment to the first token, as measured: what the generator's own network, the gateway
              and the engine took. A client cannot tell an engine's queue from its prefill, so queue is 0
    decode    from the first token's chunk to the last's

Arrivals are the trace's, so that the run can be compared request by request with a replay of it. `gpu_ns` is the GPU
time that the dollars the gateway stated pay for, at the engine's price: the accounts then add up to its dollars.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.rows import COMPLETED, RunRows, empty_rows
from gridctl.accounts.usd import EGRESS_BYTES_PER_TOKEN
from gridctl.liveload.connection import Reply
from gridctl.liveload.heard import Heard
from gridctl.liveload.outcome import outcome_of, said
from gridctl.liveload.places import Places
from gridctl.traces.trace import Trace
from gridctl.units import BYTES_PER_GB, NS_PER_HOUR, NS_PER_MS

SHOWN_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Results:
    """A live run's rows and engines. `kept` are the trace's rows that were answered or failed, `lag_ns` how late each
    was sent; `failures` counts what was said in place of answers. `usd_stated` of the completed ones say their price;
    `estimated` of them were counted by chunks because no usage came."""

    rows: RunRows
    engines: tuple[EngineFacts, ...]
    kept: NDArray[np.int64]
    lag_ns: NDArray[np.int64]
    window_ns: int
    failures: Counter[str]
    usd_stated: int
    estimated: int
    other_prompts: int
    met: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distances:
    """Round trips a generator cannot see, in nanoseconds: `rtt_ns` has a row per origin of the trace and a column per
    site of `sites`, `access_ns` the last mile of each workload."""

    rtt_ns: NDArray[np.int64]
    sites: tuple[str, ...]
    access_ns: NDArray[np.int64]

    def between(self, origin: int, site: str, workload: int) -> int:
        """From an origin to a site; 0 where the site is none of the grid's."""
        if origin < 0 or site not in self.sites:
            return 0
        access = int(self.access_ns[workload]) if workload >= 0 else 0
        return int(self.rtt_ns[origin, self.sites.index(site)]) + access


def results_of(
    heard: Heard, trace: Trace, engines: Sequence[EngineFacts], model: str, distances: Distances | None
) -> Results:
    """The rows of what was heard; without `distances` the network is what was measured."""
    kept = np.array([row for row, reply in enumerate(heard.replies) if reply is not None], np.int64)
    rows = empty_rows(len(kept))
    places = Places(engines, model)
    lag = np.zeros(len(kept), np.int64)
    failures: Counter[str] = Counter()
    usd_stated = estimated = other_prompts = 0
    end_ns = heard.start_ns
    for place, row in enumerate(kept.tolist()):
        reply = heard.replies[row]
        assert reply is not None
        lag[place] = max(0, reply.sent_ns - int(heard.intended_ns[row]))
        end_ns = max(end_ns, reply.end_ns)
        outcome, reason = outcome_of(reply)
        rows.outcome[place], rows.reason[place] = outcome, reason
        rows.engine[place] = -1
        rows.output_tokens[place] = trace.output_tokens[row]
        if outcome != COMPLETED:
            failures[said(reply)] += 1
            continue
        index = places.engine_of(reply)
        facts = places.engines[index]
        rows.engine[place] = index
        if distances is not None:
            origin, workload = int(trace.origin[row]), int(trace.workload[row])
            rows.rtt_ns[place] = distances.between(origin, facts.site, workload)
        estimated += _fill_answer(rows, place, reply, int(heard.intended_ns[row]))
        other_prompts += 0 <= reply.answer.prompt_tokens != int(trace.input_tokens[row])
        usd_stated += _fill_dollars(rows, place, reply, facts)
    rows.arrival_ns[:] = trace.arrival_ns[kept]
    for name in ("origin", "workload", "tenant", "input_tokens"):
        getattr(rows, name)[:] = getattr(trace, name)[kept]
    window = max(1, end_ns - heard.start_ns)
    return Results(
        rows,
        _with_busy(rows, places.engines, window),
        kept,
        lag,
        window,
        failures,
        usd_stated,
        estimated,
        other_prompts,
        tuple(places.met),
    )


def _fill_answer(rows: RunRows, place: int, reply: Reply, intended_ns: int) -> bool:
    """Times and tokens of a complete answer; returns whether its tokens were counted by chunks."""
    answer = reply.answer
    rows.compute_ns[place] = max(1, answer.first_ns - intended_ns)
    rows.decode_ns[place] = answer.last_ns - answer.first_ns
    is_estimated = answer.output_tokens < 1
    rows.output_tokens[place] = answer.chunks if is_estimated else answer.output_tokens
    rows.cached_tokens[place] = max(0, answer.cached_tokens)
    return is_estimated


def _fill_dollars(rows: RunRows, place: int, reply: Reply, facts: EngineFacts) -> bool:
    """Engine time that the stated dollars pay for; returns whether there were any."""
    try:
        usd = float(reply.headers[b"x-gridctl-usd"])
    except (KeyError, ValueError):
        return False
    if not math.isfinite(usd) or usd < 0:
        return False
    egress = int(rows.output_tokens[place]) * EGRESS_BYTES_PER_TOKEN * facts.egress_usd_per_gb / BYTES_PER_GB
    engine_usd = max(0.0, usd - egress)
    if facts.kind == "gpu" and facts.usd_per_gpu_hour > 0:
        rows.gpu_ns[place] = round(engine_usd / facts.usd_per_gpu_hour * NS_PER_HOUR)
    elif facts.kind == "serverless" and facts.usd_per_serverless_ms > 0:
        rows.serverless_ns[place] = round(engine_usd / facts.usd_per_serverless_ms * NS_PER_MS)
    return True


def _with_busy(rows: RunRows, engines: list[EngineFacts], window_ns: int) -> tuple[EngineFacts, ...]:
    """The engines with their busy time; no GPU is busier than the window is long, whatever was predicted."""
    busy = np.zeros(len(engines) + 1, np.int64)
    np.add.at(busy, rows.engine, rows.gpu_ns)
    for index, facts in enumerate(engines):
        most = facts.gpus * window_ns
        if facts.kind == "gpu" and busy[index] > most:
            members = np.flatnonzero(rows.engine == index)
            rows.gpu_ns[members] = (rows.gpu_ns[members] * (most / int(busy[index]))).astype(np.int64)
            busy[index] = int(rows.gpu_ns[members].sum())
    return tuple(
        msgspec.structs.replace(facts, busy_ns=int(busy[index]) // max(1, facts.gpus))
        for index, facts in enumerate(engines)
    )
