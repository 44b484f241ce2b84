"""Generate: a synthetic trace from a short description: rates, day and night, lengths, shared prefixes, prompts.

Decides the order of the draws; `requesttimes` decides when, `population` where, `conversation` how long and what is
shared. Invariant: the same spec, sites, workloads and seed give the same Trace, bit for bit, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import UsageError
from gridctl.resources import Site, Workload
from gridctl.traces.conversation import Talk, block_columns, lay_out_sessions, prompt_texts, token_columns
from gridctl.traces.population import HOURS, activity, origin_sites, tenant_table, workload_shares
from gridctl.traces.randomness import choices, exp, log, uniforms, words
from gridctl.traces.requesttimes import request_times
from gridctl.traces.trace import UNSAID, Trace
from gridctl.units import NS_PER_HOUR, NS_PER_S

MAX_REQUESTS = 200_000_000
MOST_AT_ONCE = 4_000_000
PIECE_REQUESTS = 1_000_000
S_PER_HOUR = 3600.0
_ACCEPT_ROUNDS = 64


@dataclass(frozen=True, slots=True)
class GenerateSpec:
    """What to generate.

    `rate_rps` is the mean over a whole day; `arrival_cv` 1 is Poisson, more is bursty (gamma gaps), 0 is clockwork.
    `diurnal` is the swing of the day (0 none, 0.5 from half to one and a half times the mean), highest at `peak_hour`
    local solar time of each origin; the trace starts at `start_hour` UTC. Token means come from each workload's
    traffic unless given here; lengths are lognormal with the 95th percentile `p95_over_mean` times the mean.
    The first `system_blocks` prefix blocks are shared by all requests of a workload and tenant. A session has `turns`
    requests on average (geometric), about `turn_gap_s` apart. With `prompts`, a session opens with one of that many
    prompts of its workload, the k-th most popular with probability in proportion to k^−`zipf`.
    """

    duration_s: float
    rate_rps: float
    name: str = "generated"
    arrival_cv: float = 1.0
    diurnal: float = 0.0
    peak_hour: float = 20.0
    start_hour: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    p95_over_mean: float = 2.5
    block_tokens: int = 64
    system_blocks: int = 2
    turns: float = 1.0
    turn_gap_s: float = 30.0
    prompts: int = 0
    zipf: float = 1.0
    prompt_text: bool = False


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("duration_s", 1e-3, 9e6),  # 104 days, the longest a replay can hold
    ("rate_rps", 1e-6, 1e7),
    ("arrival_cv", 0.0, 100.0),
    ("diurnal", 0.0, 1.0),
    ("peak_hour", 0.0, 24.0),
    ("start_hour", 0.0, 24.0),
    ("p95_over_mean", 1.0, 3.8),  # a lognormal's 95th percentile is at most exp(1.645²/2) = 3.87 times its mean
    ("block_tokens", 0, 1 << 20),
    ("system_blocks", 0, 100_000),
    ("turns", 1.0, 10_000.0),
    ("turn_gap_s", 1e-3, 1e6),
    ("prompts", 0, 10_000_000),
    ("zipf", 0.0, 10.0),
    ("input_tokens", 1, 10_000_000),
    ("output_tokens", 1, 10_000_000),
)


def generate(spec: GenerateSpec, sites: Sequence[Site], workloads: Sequence[Workload], seed: int) -> Trace:
    """A trace of about `rate_rps · duration_s` requests. Without sites no origin is said, without workloads neither
    workload nor tenant. O(n log n)."""
    return joined(list(generate_parts(spec, sites, workloads, seed)))


def generate_parts(
    spec: GenerateSpec, sites: Sequence[Site], workloads: Sequence[Workload], seed: int
) -> Iterator[Trace]:
    """The trace of `generate` in parts in order of arrival, so that memory does not grow with its length.

    A trace of over `MOST_AT_ONCE` requests is drawn in pieces of equal length: the day goes on from piece to piece and
    system prompts are shared by all, but a session ends with its piece. Opening prompts are shared by popularity over
    the whole trace, so with `prompts` it is drawn at once.
    """
    _check(spec)
    if spec.prompts or spec.rate_rps * spec.duration_s <= MOST_AT_ONCE:
        yield _generate(spec, sites, workloads, seed)
        return
    pieces = math.ceil(spec.rate_rps * spec.duration_s / PIECE_REQUESTS)
    length_s = spec.duration_s / pieces
    numbering = _Numbering(workloads, spec.system_blocks)
    begin_ns: int | None = None
    for piece in range(pieces):
        hour = (spec.start_hour + piece * length_s / S_PER_HOUR) % HOURS
        of_piece = replace(spec, duration_s=length_s, start_hour=hour)
        part, first_ns = _drawn(of_piece, sites, workloads, int(words(seed, "piece", np.array([piece]))[0] >> 2))
        start_ns = round(piece * length_s * NS_PER_S) + first_ns
        begin_ns = start_ns if begin_ns is None else begin_ns
        yield numbering.continued(part, start_ns - begin_ns)


def joined(parts: Sequence[Trace]) -> Trace:
    """Parts that continue each other as one trace."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.diff(part.block_offsets) for part in parts])
    return replace(
        parts[-1],
        arrival_ns=np.concatenate([part.arrival_ns for part in parts]),
        input_tokens=np.concatenate([part.input_tokens for part in parts]),
        output_tokens=np.concatenate([part.output_tokens for part in parts]),
        origin=np.concatenate([part.origin for part in parts]),
        workload=np.concatenate([part.workload for part in parts]),
        tenant=np.concatenate([part.tenant for part in parts]),
        model=np.concatenate([part.model for part in parts]),
        session=np.concatenate([part.session for part in parts]),
        block_offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        block_ids=np.concatenate([part.block_ids for part in parts]),
    )


class _Numbering:
    """Sessions and prefix blocks of pieces drawn one by one, numbered as in one trace: system blocks of a workload and
    tenant are the same in every piece, all else is new."""

    def __init__(self, workloads: Sequence[Workload], shared: int) -> None:
        ordered = workload_shares(workloads)[0] if workloads else ()
        owned = tenant_table(ordered)[1]
        pairs = [(number << 32) + int(tenant) for number, tenants in enumerate(owned) for tenant in tenants]
        self._pairs = np.array(sorted(pairs) or [0], np.int64)
        self._shared = shared
        self._sessions = 0
        self._blocks = len(self._pairs) * shared

    def continued(self, part: Trace, shift_ns: int) -> Trace:
        """The piece as it stands in the trace."""
        pairs = np.zeros(1, np.int64)
        if part.workloads:
            pairs = np.unique((part.workload.astype(np.int64) << 32) + part.tenant)
        system = len(pairs) * self._shared
        places = np.searchsorted(self._pairs, pairs)
        table = (places[:, None] * self._shared + np.arange(self._shared)).ravel()
        is_own = part.block_ids >= system
        ids = part.block_ids + (self._blocks - system)
        ids[~is_own] = table[part.block_ids[~is_own]]
        sessions = np.where(part.session == UNSAID, UNSAID, part.session + self._sessions)
        self._sessions = max(self._sessions, int(sessions.max()) + 1)
        self._blocks = max(self._blocks, int(ids.max(initial=-1)) + 1)
        return replace(part, arrival_ns=part.arrival_ns + shift_ns, session=sessions, block_ids=ids)


def _generate(spec: GenerateSpec, sites: Sequence[Site], workloads: Sequence[Workload], seed: int) -> Trace:
    return _drawn(spec, sites, workloads, seed)[0]


def _drawn(spec: GenerateSpec, sites: Sequence[Site], workloads: Sequence[Workload], seed: int) -> tuple[Trace, int]:
    """The requests of one span, the first at 0, and how long after the span's start that one comes."""
    names, weights, longitudes = origin_sites(sites) if sites else ((), np.ones(1), np.zeros(1))
    arrival = request_times(spec, weights, longitudes, seed)
    sessions = lay_out_sessions(len(arrival), spec.rate_rps, spec.turns, spec.turn_gap_s, seed)
    starts = arrival[sessions.first_request]
    number = np.arange(len(sessions.first_request))
    origin = _origins(spec, weights, longitudes, starts, seed)
    ordered, shares = workload_shares(workloads) if workloads else ((), np.ones(1))
    workload = choices(shares, uniforms(seed, "workload", number))
    tenants, owned = tenant_table(ordered)
    tenant = _tenants(workload, owned, seed) if ordered else np.zeros(len(number), np.int32)
    talk = Talk(workload=workload, tenant=tenant, prompt=_prompts(spec, number, seed))
    tokens = token_columns(spec, ordered, sessions, talk, seed)
    offsets, ids = block_columns(spec, sessions, talk, tokens)
    of_request = sessions.session
    unsaid = np.full(len(arrival), UNSAID, np.int32)
    trace = Trace(
        name=spec.name,
        arrival_ns=arrival - arrival[0],
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        origin=origin[of_request].astype(np.int32) if names else unsaid,
        workload=workload[of_request].astype(np.int32) if ordered else unsaid.copy(),
        tenant=tenant[of_request] if ordered else unsaid.copy(),
        model=unsaid.copy(),
        session=of_request if spec.turns > 1 else np.full(len(arrival), UNSAID, np.int64),
        block_offsets=offsets,
        block_ids=ids,
        block_tokens=spec.block_tokens,
        origins=names,
        workloads=tuple(item.name for item in ordered),
        tenants=tenants,
        prompts=prompt_texts(ordered, sessions, talk) if spec.prompts and spec.prompt_text else None,
    )
    return trace, int(arrival[0])


def _check(spec: GenerateSpec) -> None:
    for field, least, most in _RANGES:
        value = getattr(spec, field)
        # written so that NaN fails too
        if value is not None and not least <= value <= most:
            flag = "--" + field.removesuffix("_s").removesuffix("_rps").replace("_", "-")
            raise UsageError(f"{value} is outside {least:g} to {most:g}", where=flag, fix=f"{flag} {max(least, 1):g}")
    if spec.rate_rps * spec.duration_s > MAX_REQUESTS:
        raise UsageError(
            f"{spec.rate_rps * spec.duration_s:,.0f} requests: expected at most {MAX_REQUESTS:,}",
            where="--rate",
            fix="lower --rate or --duration",
        )


def _origins(
    spec: GenerateSpec,
    weights: NDArray[np.float64],
    longitudes: NDArray[np.float64],
    starts: NDArray[np.int64],
    seed: int,
) -> NDArray[np.int64]:
    """A place for each session: by population times how active the place is at that hour (by rejection)."""
    number = np.arange(len(starts))
    origin = choices(weights, uniforms(seed, "origin", number))
    if not spec.diurnal:
        return origin
    hours = spec.start_hour + starts / NS_PER_HOUR
    pending = number
    for attempt in range(1, _ACCEPT_ROUNDS):
        level = activity(hours[pending], longitudes[origin[pending]], spec.diurnal, spec.peak_hour)
        refused = uniforms(seed, "origin/accept", pending, attempt) * (1.0 + spec.diurnal) >= level
        pending = pending[refused]
        if not len(pending):
            break
        origin[pending] = choices(weights, uniforms(seed, "origin", pending, attempt))
    return origin


def _tenants(workload: NDArray[np.int64], owned: Sequence[NDArray[np.int32]], seed: int) -> NDArray[np.int32]:
    uniform = uniforms(seed, "tenant", np.arange(len(workload)))
    tenant = np.zeros(len(workload), np.int32)
    for index, indices in enumerate(owned):
        rows = workload == index
        tenant[rows] = indices[(uniform[rows] * len(indices)).astype(np.int64)]
    return tenant


def _prompts(spec: GenerateSpec, number: NDArray[np.int64], seed: int) -> NDArray[np.int64] | None:
    """The rank of each session's opening prompt, by Zipf's law."""
    if not spec.prompts:
        return None
    ranks = np.arange(1, spec.prompts + 1, dtype=np.float64)
    return choices(exp(-spec.zipf * log(ranks)), uniforms(seed, "prompt", number))
