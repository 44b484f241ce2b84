"""Conversation: sessions, token counts and prefix blocks of generated requests.

A prompt is: the system prompt of its workload and tenant, the opening prompt, then every earlier answer and question of
the session. Block ids follow from that: system blocks are shared by workload and tenant, opening blocks by everyone
who opens with the same prompt, the rest by the session's own turns. Only full blocks get an id, as engines cache them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gridctl.resources import Workload
from gridctl.traces.randomness import exp, log, normals, uniforms, words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_P95 = 1.6448536269514722  # the standard normal's 95th percentile
_FOLLOW_UP = 4  # a later question is a quarter of an opening one
_LONGEST = 10_000_000
_ROWS_AT_ONCE = 65_536
_MEAN_INPUT, _MEAN_OUTPUT = 512, 128  # the defaults of a workload's traffic, for traces without workloads


class LengthSpec(Protocol):
    """The part of a GenerateSpec that decides lengths and sharing."""

    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def p95_over_mean(self) -> float: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def system_blocks(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sessions:
    """`session` and `turn` (from 0) of each request, `first_request` of each session, `order` by session."""

    session: Ints
    turn: Ints
    first_request: Ints
    order: Ints


@dataclass(frozen=True, slots=True)
class Talk:
    """What each session is about: indices of workload and tenant, and the rank of its opening prompt, if any."""

    workload: Ints
    tenant: NDArray[np.int32]
    prompt: Ints | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Per request its token counts, and per session the tokens of its first prompt."""

    input: Ints
    output: Ints
    opening: Ints


def lay_out_sessions(requests: int, rate_rps: float, turns: float, gap_s: float, seed: int) -> Sessions:
    """Hand requests to sessions of geometric length, mean `turns`.

    Requests are dealt at random to as many lanes as sessions are open at once (rate · gap); in a lane one session
    follows another, each request ending its session with probability 1/turns. Arrivals keep their process exactly.
    """
    number = np.arange(requests)
    if turns <= 1.0:
        return Sessions(number, np.zeros(requests, np.int64), number, number)
    lanes = max(1, round(rate_rps * gap_s))
    lane = (words(seed, "lane", number) % np.uint64(lanes)).astype(np.int64)
    ends = uniforms(seed, "session/end", number) * turns < 1.0
    order = np.argsort(lane, kind="stable")
    begins = np.ones(requests, bool)
    begins[1:] = ends[order][:-1] | (lane[order][1:] != lane[order][:-1])
    run = np.cumsum(begins) - 1
    begin_places = np.flatnonzero(begins)
    first_request = order[begin_places]
    turn = np.empty(requests, np.int64)
    turn[order] = np.arange(requests) - begin_places[run]
    by_start = np.argsort(first_request, kind="stable")  # sessions are numbered in order of their first request
    rank = np.empty(len(by_start), np.int64)
    rank[by_start] = np.arange(len(by_start))
    session = np.empty(requests, np.int64)
    session[order] = rank[run]
    return Sessions(session, turn, first_request[by_start], np.argsort(session, kind="stable"))


def token_columns(spec: LengthSpec, workloads: Sequence[Workload], sessions: Sessions, talk: Talk, seed: int) -> Tokens:
    """Lognormal lengths by workload; a later turn's prompt holds all earlier turns and answers, up to the workload's
    longest input."""
    traffic = [workload.spec.traffic for workload in workloads]
    means_in = np.array(
        [spec.input_tokens or t.mean_input_tokens for t in traffic] or [spec.input_tokens or _MEAN_INPUT]
    )
    means_out = np.array(
        [spec.output_tokens or t.mean_output_tokens for t in traffic] or [spec.output_tokens or _MEAN_OUTPUT]
    )
    most_in = np.array([t.max_input_tokens or _LONGEST for t in traffic] or [_LONGEST])
    most_out = np.array([t.max_output_tokens or _LONGEST for t in traffic] or [_LONGEST])
    workload = talk.workload[sessions.session]
    number = np.arange(len(workload))
    output = _lognormal(means_out[workload], spec.p95_over_mean, normals(seed, "output", number))
    output = np.minimum(output, most_out[workload])
    if talk.prompt is None:
        standard = normals(seed, "input", np.arange(len(talk.workload)))
    else:
        # a prompt is as long as itself whoever sends it
        standard = normals(seed, "prompt/length", talk.workload * (1 << 32) + talk.prompt)
    system = spec.system_blocks * spec.block_tokens
    opening = np.maximum(_lognormal(means_in[talk.workload], spec.p95_over_mean, standard), system + 1)
    opening = np.minimum(opening, most_in[talk.workload])
    follow_up = _lognormal(means_in[workload] / _FOLLOW_UP, spec.p95_over_mean, normals(seed, "follow-up", number))
    added = np.where(sessions.turn == 0, opening[sessions.session], follow_up)
    prompt = _grown(added, output, sessions)
    return Tokens(np.minimum(prompt, most_in[workload]), output, opening)


def _lognormal(mean: Floats, p95_over_mean: float, standard: Floats) -> Ints:
    """Whole numbers ≥ 1, lognormal with this mean and 95th percentile.

    ln p95 = μ + zσ and ln mean = μ + σ²/2 give σ = z − √(z² − 2·ln(p95/mean)), z the normal's 95th percentile.
    """
    ratio = float(log(np.array([p95_over_mean]))[0])
    sigma = _P95 - float(np.sqrt(max(0.0, _P95 * _P95 - 2.0 * ratio)))
    values = mean * exp(sigma * standard - sigma * sigma / 2.0)
    whole: Ints = np.clip(np.rint(values), 1, _LONGEST).astype(np.int64)
    return whole


def _grown(added: Ints, output: Ints, sessions: Sessions) -> Ints:
    """Prompt tokens of each request: what its session has added up to it, and every earlier answer."""
    order = sessions.order
    total = np.cumsum(added[order] + output[order])
    starts = np.flatnonzero(sessions.turn[order] == 0)
    before = np.repeat(
        np.concatenate([np.zeros(1, np.int64), total[starts[1:] - 1]]), np.diff(starts, append=len(order))
    )
    prompt = np.empty(len(order), np.int64)
    prompt[order] = total - before - output[order]
    return prompt


def block_columns(spec: LengthSpec, sessions: Sessions, talk: Talk, tokens: Tokens) -> tuple[Ints, Ints]:
    """Offsets and ids of the full prefix blocks of every request; ids are dense from 0."""
    if not spec.block_tokens:
        return np.zeros(len(tokens.input) + 1, np.int64), np.zeros(0, np.int64)
    counts = tokens.input // spec.block_tokens
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    session = sessions.session
    shared = spec.system_blocks
    group = _numbered(talk.workload * (1 << 32) + talk.tenant)
    opening_end = np.maximum(tokens.opening // spec.block_tokens, shared)
    system_ids = (int(group.max()) + 1) * shared
    opening_start, opening_ids = _opening_ids(talk, group, opening_end - shared, system_ids)
    own_from = opening_end if talk.prompt is not None else np.full(len(opening_end), shared)
    most = np.zeros(len(talk.workload), np.int64)
    np.maximum.at(most, session, counts)
    own = np.maximum(most - own_from, 0)
    own_start = opening_ids + np.concatenate([np.zeros(1, np.int64), np.cumsum(own)[:-1]])
    ids = np.empty(int(offsets[-1]), np.int64)
    for first in range(0, len(counts), _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, len(counts))
        some = counts[first:last]
        row = np.repeat(session[first:last], some)
        place = np.arange(offsets[first], offsets[last]) - np.repeat(offsets[first:last], some)
        chosen = own_start[row] + place - own_from[row]
        if talk.prompt is not None:
            chosen = np.where(place < opening_end[row], opening_start[row] + place - shared, chosen)
        ids[offsets[first] : offsets[last]] = np.where(place < shared, group[row] * shared + place, chosen)
    return offsets, ids


def _opening_ids(talk: Talk, group: Ints, sizes: Ints, first: int) -> tuple[Ints, int]:
    """Where each session's opening blocks are numbered from, and the next free id."""
    if talk.prompt is None:
        return np.zeros(len(sizes), np.int64), first
    _, sample, number = np.unique(group * (1 << 32) + talk.prompt, return_index=True, return_inverse=True)
    ends = first + np.cumsum(sizes[sample])
    starts = np.concatenate([np.array([first]), ends[:-1]])
    return starts[number], int(ends[-1])


def _numbered(keys: Ints) -> Ints:
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def prompt_texts(workloads: Sequence[Workload], sessions: Sessions, talk: Talk) -> tuple[str, ...]:
    """A short text per request: the same for the same opening prompt of a workload, its own for a later turn."""
    assert talk.prompt is not None
    names = [workload.name for workload in workloads] or ["any"]
    texts = []
    for session, turn in zip(sessions.session.tolist(), sessions.turn.tolist(), strict=True):
        opening = f"{names[int(talk.workload[session])]} question {int(talk.prompt[session]) + 1}"
        texts.append(opening if turn == 0 else f"{opening}, turn {turn + 1} of session {session}")
    return tuple(texts)
