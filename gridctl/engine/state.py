"""The twin's memory: one fixed-width record per engine, one per request in flight, one per cached piece of prefixes.

All times are picoseconds, all counts int64: interpreted NumPy scalars and compiled integers then behave alike.
Lists are intrusive and doubly linked through `next`/`previous`; −1 (`NIL`) ends them. Nothing here decides anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.profile import ProfileTables

if TYPE_CHECKING:
    from gridctl.kernels import Records

NIL = -1
SMALLEST_TABLE = 16
NEVER = np.int64(1) << 62
"""A time no run reaches."""

GPU, SERVERLESS, API, UNUSED = range(4)
KIND_NAMES = ("gpu", "serverless", "api", "unused")


def _record(*fields: str) -> np.dtype[np.void]:
    return np.dtype([(field, np.int64) for field in fields])


ENGINE = _record(
    # what every look reads, side by side: what it is, until when nothing happens, until when nothing happens that a
    # router sees (decodes run on), what the router counts itself
    # (dispatched and not finished, prompt tokens without a first token, tokens those in flight hold or will) and the
    # KV use of the last two scrapes
    "kind",
    "profile",
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "blocks_total",
    "prefix_caching",
    "max_waiting",
    "max_context",
    "idle_instances",
    "quiet_until",
    "calm_until",
    "next_scrape",
    "scrape_time",
    "scrape_kv_blocks",
    "older_kv_blocks",
    "in_flight",
    "pending_tokens",
    "announced_kv",
    # the rest of what it is
    "priority_scheduling",
    "async_scheduling",
    "gpus",
    "longest_jump",
    # the profile its steps follow now (the router goes by `profile`, which a slow-down leaves), and whether it is lost
    "pace",
    "is_lost",
    # serverless and API
    "cold_start",
    "keep_warm",
    "api_ttft",
    "api_tpot",
    # clock and batch
    "clock",
    "horizon",
    "step_end",
    "step_tokens",
    "decode_steps",
    "decoding",
    "kv_tokens",
    "prefilling",
    "running",
    "running_head",
    "running_tail",
    "waiting",
    "waiting_head",
    "waiting_tail",
    "admissions",
    "inbound",
    "inbound_head",
    "inbound_tail",
    # KV blocks
    "free_blocks",
    "cached_blocks",
    "lru_oldest",
    "lru_newest",
    # the rest of the last two scrapes
    "scrape_running",
    "scrape_waiting",
    "scrape_pending_tokens",
    "older_time",
    "older_running",
    "older_waiting",
    "older_pending_tokens",
    # accounts
    "busy",
    "share_total",
    "share_pending",
    "share_tokens",
    "preempted",
)

SEQUENCE = _record(
    "request",
    "workload",
    "next",
    "previous",
    "arrival",
    "priority",
    "prompt_tokens",
    "output_tokens",
    "generated",
    "target",
    "computed",
    "chunk",
    "phase",
    "admission",
    "finish_step",
    "leaf",
    "blocks_full",
    "pinned",
    "deepest",
    "announced_tokens",
    "announced_kv",
    "cached_tokens",
    "scheduled",
    "first_token",
    "preemptions",
    "share_start",
    "share",
)

PIECE = _record("key", "pins", "parent", "below", "start", "end", "newer", "older")
"""Prefix nodes of one stretch on one engine; a cache line. See `blocks`."""

SPARE, FRESH, TABLE_SIZE, ENTRIES = range(4)
"""`Fleet.books`: pieces given back, the first piece never used, slots of the table in use, and entries in it."""

RESULT = _record("scheduled", "first_token", "last_token", "cached_tokens", "preemptions", "share")
"""What the twin writes for each request; times in picoseconds, −1 = never."""

LEARNED = _record("finished", "output_tokens")
"""What finished requests teach the router, per workload: how many, and how many tokens they produced."""


class Fleet(NamedTuple):
    """Every engine of the grid and everything in them. Shapes: engines `(e,)`; finishing `(e, widest batch)`;
    phases `(e, largest block)`; idle `(e, instances)`; sequences and pieces are pools with a stack of free slots."""

    engines: Records
    sequences: Records
    free_sequences: NDArray[np.int64]  # [0] holds the count, then the slots
    finishing: NDArray[np.int64]
    phases: NDArray[np.int64]
    idle_since: NDArray[np.int64]
    pieces: Records
    spare_pieces: NDArray[np.int64]
    table: NDArray[np.int64]  # open addressing: a key or 0, and the first piece of that stretch on that engine
    books: NDArray[np.int64]
    stretch_parent: NDArray[np.int32]  # per stretch of the trace, the stretch before it or NIL
    stretch_depth: NDArray[np.int32]  # and a prompt's prefix nodes up to its end
    holders: NDArray[np.int32]  # and how many engines cache some of it
    router_path: NDArray[np.int64]  # scratch
    engine_path: NDArray[np.int64]  # scratch
    node_tokens: int
    profiles: ProfileTables
    results: Records
    learned: Records


def records(count: int, dtype: np.dtype[np.void]) -> Records:
    """A zeroed record array with attribute access in both modes."""
    return np.zeros(count, dtype).view(np.recarray)


def free_stack(count: int, start: int = 0) -> NDArray[np.int64]:
    """A stack of the slots `start … count − 1`, lowest on top; entry 0 is its height."""
    stack = np.empty(count + 1, np.int64)
    stack[0] = count - start
    stack[1 : count - start + 1] = np.arange(count - 1, start - 1, -1)
    return stack


def grow_sequences(fleet: Fleet, room: int) -> Fleet:
    """The fleet with at least `room` free sequence slots; slots in use keep their place."""
    if int(fleet.free_sequences[0]) >= room:
        return fleet
    old = len(fleet.sequences)
    new = max(2 * old, old + room)
    sequences = records(new, SEQUENCE)
    sequences[:old] = fleet.sequences
    free = np.empty(new + 1, np.int64)
    height = int(fleet.free_sequences[0])
    free[1 : height + 1] = fleet.free_sequences[1 : height + 1]
    free[height + 1 : height + 1 + new - old] = np.arange(new - 1, old - 1, -1)
    free[0] = height + new - old
    return fleet._replace(sequences=sequences, free_sequences=free)


def hash_tables(entries: int) -> NDArray[np.int64]:
    """Room for empty tables of 16, 32, 64 … slots behind each other, the last at most half full with `entries`. The
    system gives memory to what is written only, so room that a run never needs costs nothing."""
    size = SMALLEST_TABLE
    while size < 2 * entries:
        size *= 2
    return np.zeros((2 * size, 2), np.int64)


def copied(fleet: Fleet) -> Fleet:
    """A fleet in the same state that goes its own way. What was never written is not copied, so that it costs nothing
    in the copy, either; stretches and profiles never change and are shared."""
    table, size = np.zeros(fleet.table.shape, np.int64), int(fleet.books[TABLE_SIZE])
    table[size : 2 * size] = fleet.table[size : 2 * size]
    pieces, fresh = records(len(fleet.pieces), PIECE), int(fleet.books[FRESH])
    pieces[:fresh] = fleet.pieces[:fresh]
    spare_pieces, spare = np.zeros(len(fleet.spare_pieces), np.int64), int(fleet.books[SPARE])
    spare_pieces[:spare] = fleet.spare_pieces[:spare]
    return fleet._replace(
        engines=fleet.engines.copy(),
        sequences=fleet.sequences.copy(),
        free_sequences=fleet.free_sequences.copy(),
        finishing=fleet.finishing.copy(),
        phases=fleet.phases.copy(),
        idle_since=fleet.idle_since.copy(),
        pieces=pieces,
        spare_pieces=spare_pieces,
        table=table,
        books=fleet.books.copy(),
        holders=fleet.holders.copy(),
        router_path=fleet.router_path.copy(),
        engine_path=fleet.engine_path.copy(),
        results=fleet.results.copy(),
        learned=fleet.learned.copy(),
    )
