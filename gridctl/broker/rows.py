"""Rows of a live request: what the broker knows of each candidate, as `route` wants it, and the admit counted.

Compiled. Own counts are exact and belong to this orchestrator: they are what a request in flight, a prompt without a
first token and a queue's limit mean. What an engine reports adds what we cannot count: its KV use, and requests that
came to it past us. A report fades with its age, in multiples of its period:

    up to 2     fresh    its KV use counts
    2 to 3      aging    it counts, and the wait grows by DOUBT of the excess age
    beyond, or the scrape fails: stale    own counts only, and the wait keeps the most doubt
    none ever   never    as stale; an engine that has no telemetry is not doubted

so the router never takes silence for idleness, and never refuses because of it. Every word of a row on the board is
whole; a row read amid a scrape mixes two neighbouring reports for one decision, no worse than a scrape earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.broker.prefixes import PrefixIndex, matching, remember, resident_share
from gridctl.engine.profile import ProfileTables
from gridctl.grid.expectation import charge_gpu, expect_batching, resident_tokens
from gridctl.kernels import compiled, direct, fused, inner
from gridctl.routing.price import price_candidate
from gridctl.routing.route import route
from gridctl.signals.rows import ALL_TRAFFIC_PPM, FRESH, UNSUPPORTED
from gridctl.units import NS_PER_MS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from gridctl.kernels import Records

FRESH_PERIODS, STALE_PERIODS = 2, 3
DOUBT = 0.05
"""Wait added per time that a report is overdue: an engine offered 5 % more than it can do falls behind so fast. An
assumption; it only has to turn close decisions towards engines that are known."""
MOST_DOUBT_US = 250_000.0
NS_PER_US = 1000.0
USUAL_PERIOD_NS = NS_PER_S
NEWS_NS = 100 * NS_PER_MS
"""A report no older than this is compared with our own counts of the same moment."""
MOST_REQUESTS = 1 << 20
"""What a report is believed of requests at an engine; more is a lie or a defect."""
NOISE_REQUESTS = 2
"""Requests that may be on the wire while an engine counts, so that they show in one count and not in the other."""
RECENT_HALVING_NS = 10 * NS_PER_S
BELIEVED_NS = 10 * NS_PER_S
FADING_NS = 60 * NS_PER_S
"""What was learned of an engine holds for so long; then it fades, to nothing in FADING_NS: who was slow once and gets
nothing to do since could otherwise never show that it has recovered."""
LOT_STEP, LOT_MIX = 0x9E3779B1, 0x85EBCA6B

OWN = np.dtype(
    [
        ("ttft_ratio", np.float64),  # observed over predicted, learned
        ("tpot_ratio", np.float64),
        ("wait_us", np.float64),  # before the first token, for every request ahead, learned
        ("hoped_ttft", np.float64),  # the ratios of who is not known, or not any more
        ("hoped_tpot", np.float64),
        ("learned_ns", np.int64),  # 0: never
        ("admit_ppm", np.int64),  # by this worker's own view of its health
        ("foreign", np.int64),  # requests in flight that did not come from us
        ("foreign_sequence", np.int64),  # the report that was learned from
        ("foreign_ns", np.int64),
    ]
)
"""What one worker knows of an engine beside the board; a row per row of the board."""

ROW: Final = 0
ENGINE_INDEX: Final = 1
TTFT: Final = 2
TPOT: Final = 3
ENGINE_TTFT: Final = 4
ENGINE_TPOT: Final = 5
USD: Final = 6
RTT: Final = 7
CACHED: Final = 8
PENDING: Final = 9
KV: Final = 10
RUNNER_UP: Final = 11
WORST: Final = 12
FITTING: Final = 13
FULL: Final = 14
CLOSED: Final = 15
COUNT: Final = 16
AHEAD: Final = 17
ANSWERS: Final = 18
"""Columns of `Sight.answer`: facts of the choice, then how many candidates fit the prompt, were full, were not to be
used, and have a row; and how many requests the chosen engine had in flight before this one."""

BASE_TTFT, BASE_TPOT, SEEN_PENDING, SEEN_KV, REPORT_AGE, REPORT_STATE = range(6)
FACTS: Final = 6
"""Columns of `Sight.facts`: predictions before correction (µs), prompt tokens pending and KV tokens as they were
seen, how old the engine's report was (µs; negative: there was none) and its telemetry state."""


class Sight(NamedTuple):
    """Everything a decision reads. Per live engine: `engines`, prices, `board_row`; per row of the board: `scraped`,
    `slots` (by worker, too), `own`; per workload: `templates`, `policies`, `access_us`. Written are `rows`, beside
    each of them its `facts`, and `answer`."""

    engines: Records
    profiles: ProfileTables
    board_row: NDArray[np.int64]
    is_core: NDArray[np.int64]
    gpu_usd_per_ps: NDArray[np.float64]
    usd_per_output_token: NDArray[np.float64]
    scraped: Records
    slots: Records
    own: Records
    prefixes: PrefixIndex
    templates: Records
    policies: Records
    access_us: NDArray[np.int64]
    rows: Records
    facts: NDArray[np.float64]
    tried: NDArray[np.int64]
    answer: NDArray[np.float64]
    worker: int
    counts_in_flight: int


@inner
def _lot(row: int, draw: int) -> int:
    """A number below a million for this engine and request, for ramps."""
    mixed = ((row * LOT_STEP) ^ (draw * LOT_MIX)) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0xFFFF1) & 0xFFFFFFFFFFF
    share: int = (mixed >> 12) % ALL_TRAFFIC_PPM
    return share


@fused
def _share(sight: Sight, row: int, tried: int) -> int:
    """The share of its traffic the engine may get, in millionths: the worse of two opinions, 0 if it was tried."""
    for place in range(tried):
        if sight.tried[place] == row:
            return 0
    share: int = min(sight.scraped[row].admit_ppm, sight.own[row].admit_ppm)
    return share


@fused
def _foreign(sight: Sight, row: int, in_flight: int, most: int, now_ns: int) -> int:
    """Requests in flight at the engine that did not come from us, as far as a report showed them."""
    seen, own = sight.scraped[row], sight.own[row]
    if seen.sequence != own.foreign_sequence and now_ns - seen.scrape_ns <= NEWS_NS:
        own.foreign_sequence = seen.sequence
        own.foreign_ns = seen.scrape_ns
        excess = min(MOST_REQUESTS, max(0, seen.running)) + min(MOST_REQUESTS, max(0, seen.waiting)) - in_flight
        own.foreign = min(most, excess) if excess > NOISE_REQUESTS + (in_flight >> 2) else 0
    return own.foreign if now_ns - own.foreign_ns <= STALE_PERIODS * max(seen.period_ns, USUAL_PERIOD_NS) else 0


@fused
def _load(sight: Sight, row: int, host: np.record, now_ns: int) -> tuple[int, int, int, int, float]:
    """What is known of an engine's load: (in flight, pending tokens, KV tokens), our own in flight, doubt in µs."""
    own_in_flight, pending, kv = 0, 0, 0
    for worker in range(sight.slots.shape[0]):
        slot = sight.slots[worker, row]
        own_in_flight += slot.in_flight
        pending += slot.pending_tokens
        kv += slot.kv_tokens
    own_in_flight, pending = max(0, own_in_flight), max(0, pending)
    kv = resident_tokens(host, kv, pending)
    seen = sight.scraped[row]
    state = seen.telemetry_state
    if state == UNSUPPORTED:
        return own_in_flight, pending, kv, own_in_flight, 0.0
    period = seen.period_ns if seen.period_ns > 0 else USUAL_PERIOD_NS
    age = max(0, now_ns - seen.scrape_ns)
    is_old = state != FRESH or age > STALE_PERIODS * period
    overdue = (STALE_PERIODS - FRESH_PERIODS) * period if is_old else max(0, age - FRESH_PERIODS * period)
    doubt = min(MOST_DOUBT_US, DOUBT * overdue / NS_PER_US)
    if is_old:
        return own_in_flight, pending, kv, own_in_flight, doubt
    used = min(seen.kv_used_tokens, host.blocks_total * host.block_size)
    if sight.counts_in_flight == 0 and seen.running >= 0:
        in_flight = min(MOST_REQUESTS, seen.running) + min(MOST_REQUESTS, max(0, seen.waiting))
        kv = used if used >= 0 else kv
    else:
        foreign = _foreign(sight, row, own_in_flight, host.max_num_seqs, now_ns)
        in_flight = own_in_flight + foreign
        kv = max(kv, used) if foreign > 0 else kv
    return in_flight, pending, kv, own_in_flight, doubt


@fused
def _cached(
    sight: Sight, row: int, blocks: NDArray[np.int64], block_tokens: int, prompt: int, kv: int, now_ns: int
) -> int:
    """Prompt tokens expected in the engine's prefix cache; one at least is left to compute."""
    matched = matching(sight.prefixes, row, blocks)
    if matched == 0:
        return 0
    share = resident_share(sight.prefixes, row, blocks[matched - 1], kv, now_ns)
    return min(prompt - 1, int(matched * block_tokens * share))


@fused
def _fill(
    sight: Sight,
    engines: NDArray[np.int64],
    rtt_us: NDArray[np.int64],
    blocks: NDArray[np.int64],
    workload: int,
    prompt: int,
    least: int,
    block_tokens: int,
    tried: int,
    now_ns: int,
    needs_lot: bool,
) -> int:
    """A row for every candidate that may be chosen, priced; returns how many. `needs_lot`: one that gets only a share
    of its traffic has a row only if this request draws it."""
    request, policy = sight.templates[workload], sight.policies[workload]
    output = request.output_tokens
    count, fitting, full, closed = 0, 0, 0, 0
    for place in range(len(engines)):
        engine = engines[place]
        host = sight.engines[engine]
        if least > host.max_context:
            continue
        fitting += 1
        number = sight.board_row[engine]
        share = _share(sight, number, tried)
        if share <= 0 or (needs_lot and share < ALL_TRAFFIC_PPM and _lot(number, request.draw) >= share):
            closed += 1
            continue
        in_flight, pending, kv, own_in_flight, doubt_us = _load(sight, number, host, now_ns)
        if own_in_flight >= host.max_num_seqs + host.max_waiting:
            full += 1
            continue
        row = sight.rows[count]
        row.engine = engine
        row.kind = host.kind
        row.is_core = sight.is_core[engine]
        row.is_available = 1
        row.in_flight = in_flight
        row.prompt_tokens = prompt
        row.rtt_us = rtt_us[place] + sight.access_us[workload]
        row.cached_tokens = _cached(sight, number, blocks, block_tokens, prompt, kv, now_ns)
        expect_batching(row, host, sight.profiles, (in_flight, pending, kv), prompt, output)
        _keep_facts(sight, count, number, row, pending, kv, now_ns)
        own = sight.own[number]
        silence = now_ns - own.learned_ns - BELIEVED_NS
        belief = min(1.0, max(0.0, 1.0 - silence / FADING_NS)) if own.learned_ns > 0 else 0.0
        row.ttft_us *= own.hoped_ttft + belief * (own.ttft_ratio - own.hoped_ttft)
        row.ttft_us += belief * own.wait_us * in_flight + doubt_us
        row.tpot_us *= own.hoped_tpot + belief * (own.tpot_ratio - own.hoped_tpot)
        if policy.gpu_weight > 0.0:
            charge_gpu(row, host, sight.profiles, sight.gpu_usd_per_ps[engine], in_flight, prompt, output)
        row.usd_cash = output * sight.usd_per_output_token[engine]
        price_candidate(row, request, policy)
        count += 1
    answer = sight.answer
    answer[FITTING], answer[FULL], answer[CLOSED], answer[COUNT] = fitting, full, closed, count
    return count


@inner
def _keep_facts(sight: Sight, count: int, number: int, row: np.record, pending: int, kv: int, now_ns: int) -> None:
    facts, report = sight.facts[count], sight.scraped[number]
    facts[BASE_TTFT], facts[BASE_TPOT] = row.ttft_us, row.tpot_us
    facts[SEEN_PENDING], facts[SEEN_KV] = pending, kv
    facts[REPORT_AGE] = (now_ns - report.scrape_ns) / NS_PER_US if report.scrape_ns > 0 else -1.0
    facts[REPORT_STATE] = report.telemetry_state


@fused
def _runner_up(sight: Sight, count: int, choice: int, workload: int) -> int:
    """The board's row of whom the router would take, were the chosen one not there; −1: nobody."""
    if count < 2:
        return -1
    sight.rows[choice].is_available = 0
    other = route(sight.rows, count, sight.templates[workload], sight.policies[workload])
    sight.rows[choice].is_available = 1
    return sight.board_row[sight.rows[other].engine] if other >= 0 else -1


@fused
def _tell(sight: Sight, choice: int, prompt: int, output: int) -> None:
    """The facts of the choice, as one array that Python reads at once."""
    row, answer = sight.rows[choice], sight.answer
    host = sight.engines[row.engine]
    load, usd_gpu = row.load, row.usd_gpu
    charge_gpu(row, host, sight.profiles, sight.gpu_usd_per_ps[row.engine], row.in_flight, prompt, output)
    answer[USD] = row.usd_gpu + row.usd_cash
    row.load, row.usd_gpu = load, usd_gpu
    answer[ROW] = sight.board_row[row.engine]
    answer[ENGINE_INDEX] = row.engine
    answer[TTFT], answer[TPOT] = row.client_ttft_us, row.tpot_us
    answer[ENGINE_TTFT], answer[ENGINE_TPOT] = sight.facts[choice, BASE_TTFT], sight.facts[choice, BASE_TPOT]
    answer[RTT], answer[CACHED], answer[WORST] = row.rtt_us, row.cached_tokens, row.worst_ratio
    answer[PENDING], answer[KV] = prompt - row.cached_tokens, prompt + (output >> 1)
    answer[AHEAD] = row.in_flight


@fused
def _admit(sight: Sight, blocks: NDArray[np.int64], now_ns: int) -> None:
    """Count the request where it goes, before anybody else decides; the broker takes it back when it ends."""
    number, pending = int(sight.answer[ROW]), int(sight.answer[PENDING])
    slot = sight.slots[sight.worker, number]
    slot.in_flight += 1
    slot.pending_tokens += pending
    slot.kv_tokens += int(sight.answer[KV])
    slot.requests += 1
    halvings = max(0, now_ns - slot.recent_ns) // RECENT_HALVING_NS
    slot.recent_tokens = (slot.recent_tokens >> min(62, halvings)) + pending
    slot.recent_ns += halvings * RECENT_HALVING_NS
    remember(sight.prefixes, number, blocks, pending, now_ns)


@compiled
def decide_live(
    sight: Sight,
    engines: NDArray[np.int64],
    rtt_us: NDArray[np.int64],
    blocks: NDArray[np.int64],
    workload: int,
    prompt: int,
    least: int,
    output: int,
    block_tokens: int,
    draw: int,
    session: int,
    turn: int,
    tried: int,
    now_ns: int,
    admits: int,
) -> int:
    """Choose among the candidates `engines`, nearest first; the index of its row, NOBODY or REFUSED. O(candidates ·
    workers).

    `prompt` tokens are expected, `least` are certain. The first `tried` entries of `Sight.tried` are board rows not
    to be used again. With `admits` the request is counted where it goes."""
    request = sight.templates[workload]
    request.output_tokens = output
    request.turn = turn
    request.draw = draw
    request.session = session
    count = _fill(sight, engines, rtt_us, blocks, workload, prompt, least, block_tokens, tried, now_ns, True)
    if count == 0 and sight.answer[CLOSED] > 0:
        # Better one that is still being tried out than nobody.
        count = _fill(sight, engines, rtt_us, blocks, workload, prompt, least, block_tokens, tried, now_ns, False)
    choice = route(sight.rows, count, request, sight.policies[workload])
    if choice >= 0:
        _tell(sight, choice, prompt, output)
        sight.answer[RUNNER_UP] = _runner_up(sight, count, choice, workload)
        if admits == 1:
            _admit(sight, blocks, now_ns)
    return choice


def decision_over(sight: Sight) -> Callable[..., int]:
    """`decide_live` for calls with this sight, or another of the same types, at the cost of the kernel alone."""
    some = np.zeros(0, np.int64)
    return direct(decide_live, sight, some, some, some, *([0] * 11))
