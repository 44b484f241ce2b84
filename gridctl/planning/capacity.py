"""Capacity: the largest load at which one engine keeps a class's promises, found by replaying one engine.

The engine stands alone, so many milliseconds from its clients; arrivals are Poisson at the rate that is tried; requests
(lengths, prefixes, sessions) are the trace's own. A rate is served when every objective holds at its percentile, all of
them together at `attainment`, availability holds, and the engine keeps up: what is left over when the last request has
come is no more than a tenth of the time or what one answer takes alone. Round trips are told apart by `BINS_MS`; where
the nearest and the farthest bin give the same capacity those between are taken to be alike, because capacity cannot
rise with distance. Answers are kept on disk under a digest of all they depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from gridctl.accounts.rows import Run
from gridctl.accounts.tokenomics import total_row
from gridctl.executors.pool import running
from gridctl.kernels.cache import cache_folder
from gridctl.orchestrator.replaying import Listener, Order, replayed
from gridctl.planning.offers import Offer
from gridctl.planning.trial import keeps_promises
from gridctl.resources import (
    Cluster,
    ClusterSpec,
    Link,
    LinkSpec,
    Metadata,
    Policy,
    PolicySpec,
    Resource,
    Serverless,
    Site,
    SiteSpec,
    Workload,
)
from gridctl.traces.randomness import exponentials
from gridctl.traces.slicing import take
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_S

BINS_MS = (4.0, 8.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 85.0, 115.0, 160.0, 220.0, 320.0)
"""Upper ends of the classes of round trips; a class's capacity is that at its end."""
SAMPLE = 600
LEFT_OVER = 0.1
PRECISION = 1.06
"""A capacity is known within 6 %, from below."""
ALIKE = 1.06
BATCHED = 6.0
STRIDE = 2.5
"""Where the search begins, as a multiple of what an engine serves one at a time, and its steps until it brackets."""
FASTEST_RPS = 20_000.0
SLOWEST_RPS = 0.01
"""Slow enough that requests do not meet, fast enough that a function stays warm."""
_HERE, _THERE = "client", "engine"


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of engine (or function) for one class; `trace` is a number of the bench's traces."""

    workload: Workload
    offer: Offer | Serverless
    model: str
    trace: int


@dataclass(frozen=True, slots=True)
class Bench:
    """What every question is tried with."""

    questions: tuple[Question, ...]
    traces: tuple[Trace, ...]
    common: tuple[Resource, ...]
    prices: str
    seed: int


class Capacity(msgspec.Struct, frozen=True):
    """Requests a second an engine serves, by class of round trip (0: it keeps no promise there), and what a request
    costs where it is billed by use. `is_whole` is false while only the nearest class has been measured, which then
    stands for all."""

    rps: tuple[float, ...]
    usd_per_request: float = 0.0
    replays: int = 0
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """One question, at the nearest class alone, or at the others once that is known."""

    question: int
    nearest: Capacity | None = None


def measure(
    bench: Bench,
    wanted: Callable[[Sequence[Capacity]], Sequence[bool]],
    store: Path | None,
    *,
    jobs: int | None,
    executor: str,
    advanced: Callable[[int], None],
) -> list[Capacity]:
    """The capacity of every question, from the store where it is known. After the nearest class, `wanted` says which
    questions are worth asking farther away; the others keep what was measured. `advanced` hears of questions done."""
    keys = [_key(bench, question) for question in bench.questions]
    known = _read(store)

    def ask(tasks: list[Task]) -> None:
        if not tasks:
            return
        with running(executor, answer, bench, tasks, workers=jobs) as pool:
            for place, capacity in pool.results(lambda number, amount: None):
                known[keys[tasks[place].question]] = capacity
                advanced(1)
        _write(store, known)

    missing = [number for number, key in enumerate(keys) if key not in known]
    advanced(len(keys) - len(missing))
    ask([Task(number) for number in missing])
    chosen = wanted([known[key] for key in keys])
    farther = [number for number, key in enumerate(keys) if chosen[number] and not known[key].is_whole]
    advanced(len(keys) - len(farther))
    ask([Task(number, known[keys[number]]) for number in farther])
    return [known[key] for key in keys]


def answer(bench: Bench, task: Task, advanced: Callable[[int], None]) -> Capacity:
    """The capacity at the nearest class of round trip, or at every class."""
    engine = _Alone(bench, bench.questions[task.question])
    last = len(BINS_MS) - 1
    if task.nearest is None:
        rps = engine.capacity(BINS_MS[0], None)
        return Capacity((rps,) * (last + 1), engine.usd_per_request, engine.replays, is_whole=rps == 0.0)
    found: dict[int, float] = {0: task.nearest.rps[0]}

    def fill(low: int, high: int) -> None:
        if high - low < 2:
            return
        if found[low] <= found[high] * ALIKE:
            found.update(dict.fromkeys(range(low + 1, high), found[high]))
            return
        middle = (low + high) // 2
        found[middle] = engine.capacity(BINS_MS[middle], found[low])
        fill(low, middle)
        fill(middle, high)

    found[last] = engine.capacity(BINS_MS[last], found[0])
    fill(0, last)
    rates = [found[index] for index in range(last + 1)]
    for index in range(1, len(rates)):  # noise of a few percent must not make far better than near
        rates[index] = min(rates[index], rates[index - 1])
    return Capacity(tuple(rates), task.nearest.usd_per_request, task.nearest.replays + engine.replays)


class _Alone:
    """One engine and its clients."""

    def __init__(self, bench: Bench, question: Question) -> None:
        self._bench = bench
        self._question = question
        trace = bench.traces[question.trace]
        unsaid = np.full(len(trace), 0, np.int32)
        self._gaps = exponentials(bench.seed, "plan/arrivals", np.arange(len(trace)))
        self._trace = replace(
            trace, origin=unsaid, origins=(_HERE,), workload=unsaid, workloads=(question.workload.name,)
        )
        self._alone_ns: dict[float, int] = {}
        self._first_rps = 1.0
        self.usd_per_request = 0.0
        self.replays = 0

    def capacity(self, rtt_ms: float, nearer: float | None) -> float:
        """The largest rate that is served, within `PRECISION`; 0 when not even the slowest is. `nearer` is what is
        served over a shorter round trip."""
        if not self._serves(rtt_ms, SLOWEST_RPS):
            return 0.0
        if nearer is not None and self._serves(rtt_ms, nearer / ALIKE):
            return nearer / ALIKE
        first = self._first_rps if nearer is None else nearer / ALIKE
        low, high = SLOWEST_RPS, max(first, SLOWEST_RPS * STRIDE)
        while nearer is None and self._serves(rtt_ms, high):
            low, high = high, high * STRIDE
            if high > FASTEST_RPS:
                return FASTEST_RPS
        while low == SLOWEST_RPS and high > SLOWEST_RPS * STRIDE:
            if self._serves(rtt_ms, high / STRIDE):
                low = high / STRIDE
            else:
                high /= STRIDE
        while high > low * PRECISION:
            middle = float(np.sqrt(low * high))
            if self._serves(rtt_ms, middle):
                low = middle
            else:
                high = middle
        return low

    def _serves(self, rtt_ms: float, rate: float) -> bool:
        run = self._run(rtt_ms, rate)
        span = int(run.rows.arrival_ns[-1] - run.rows.arrival_ns[0])
        left_over = run.info.window_ns - span
        if rate == SLOWEST_RPS:
            rows = run.rows
            longest = rows.rtt_ns + rows.queue_ns + rows.compute_ns + rows.decode_ns
            self._alone_ns[rtt_ms] = int(longest.max())
            total = total_row(run)
            self.usd_per_request = total.serverless_usd / max(1, total.completed)
            # One request at a time keeps the engine busy so long: batches serve a few times as many.
            busy_ns = int((rows.gpu_ns + rows.serverless_ns).sum())
            self._first_rps = BATCHED * total.completed * NS_PER_S / max(1, busy_ns)
        is_stable = left_over <= max(LEFT_OVER * span, self._alone_ns[rtt_ms])
        return is_stable and keeps_promises(run)

    def _run(self, rtt_ms: float, rate: float) -> Run:
        self.replays += 1
        at = np.floor(np.cumsum(self._gaps) / rate * NS_PER_S).astype(np.int64)
        trace = replace(self._trace, arrival_ns=at - at[0])
        order = Order(name="plan", prices=self._bench.prices, seed=self._bench.seed, with_centralized=False)
        policy = Policy(metadata=Metadata(name="alone"), spec=PolicySpec())
        return replayed("alone", trace, self._resources(rtt_ms), policy, order, Listener(), "")

    def _resources(self, rtt_ms: float) -> list[Resource]:
        offer = self._question.offer
        functions = None if isinstance(offer, Offer) else offer
        link = LinkSpec(source=_HERE, target=_THERE, rtt_ms=rtt_ms)
        made: list[Resource] = [
            *self._bench.common,
            self._anywhere(),
            Site(metadata=Metadata(name=_HERE), spec=SiteSpec(lat=0.0, lon=0.0, country="FR", tier="edge")),
            Site(
                metadata=Metadata(name=_THERE),
                spec=SiteSpec(lat=0.0, lon=0.0, country="FR", tier="edge", serverless=functions),
            ),
            Link(metadata=Metadata(name="plan"), spec=link),
        ]
        if isinstance(offer, Offer):
            spec = ClusterSpec(
                site=_THERE,
                gpu=offer.gpu,
                gpus=offer.tensor_parallel,
                deployments=(offer.deployment(),),
                usd_per_gpu_hour=1.0,
            )
            made.append(Cluster(metadata=Metadata(name=_THERE), spec=spec))
        return made

    def _anywhere(self) -> Workload:
        """The workload without what has been decided before: where it may run, how good, on which of its models."""
        workload = self._question.workload
        spec = msgspec.structs.replace(
            workload.spec,
            jurisdiction=type(workload.spec.jurisdiction)(),
            quality_floor=0.0,
            models=(self._question.model,),
        )
        return msgspec.structs.replace(workload, spec=spec)


def sample(trace: Trace, rows: np.ndarray) -> Trace:
    """The first requests of a class, as many as a capacity is measured with; all of them when there are fewer,
    repeated so that a percentile has something to stand on."""
    chosen = rows[:SAMPLE]
    part = take(trace, np.tile(chosen, -(-SAMPLE // len(chosen)))[:SAMPLE])
    return replace(part, model=np.full(len(part), -1, np.int32), models=(), prompts=None, notes=())


def bin_of(rtt_ms: np.ndarray) -> np.ndarray:
    """The class of each round trip; `len(BINS_MS)` for those farther than all."""
    return np.searchsorted(np.array(BINS_MS), rtt_ms, side="left")


def _key(bench: Bench, question: Question) -> str:
    digest = hashlib.sha256()
    trace = bench.traces[question.trace]
    for column in (trace.input_tokens, trace.output_tokens, trace.session, trace.block_offsets, trace.block_ids):
        digest.update(np.ascontiguousarray(column, column.dtype.newbyteorder("<")).data)
    spec = msgspec.json.encode(question.workload.spec)
    offer = question.offer
    engine = msgspec.json.encode(offer) if isinstance(offer, Serverless) else _encoded(offer)
    for part in (spec, engine, msgspec.json.encode(bench.common)):
        digest.update(hashlib.sha256(part).digest())
    text = (question.model, trace.block_tokens, bench.prices, bench.seed, BINS_MS, SAMPLE, cache_folder().name)
    digest.update(repr(text).encode())
    return digest.hexdigest()


def _encoded(offer: Offer) -> bytes:
    return repr((str(offer), offer.quality)).encode() + msgspec.json.encode(offer.engine)


def _read(store: Path | None) -> dict[str, Capacity]:
    """What is known; nothing where the file is missing or damaged, because it can be measured again."""
    if store is None:
        return {}
    try:
        return msgspec.json.decode(store.read_bytes(), type=dict[str, Capacity])
    except (OSError, msgspec.MsgspecError):
        return {}


def _write(store: Path | None, known: dict[str, Capacity]) -> None:
    """Keep what is known, whole or not at all; a disk that refuses costs only time."""
    if store is None:
        return
    partial = store.with_name(f"{store.name}.partial")
    with suppress(OSError):
        partial.write_bytes(msgspec.json.encode(dict(sorted(known.items()))))
        partial.replace(store)
