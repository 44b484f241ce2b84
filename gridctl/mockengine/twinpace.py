"""Twin pace: one engine of the twin driven in real time. Every token is told when the step that makes it ends.

The twin is looked at when a step ends, when a request comes and when one leaves. Between two looks it changes nothing
that anybody could see, so the times are those of the replay's engine whatever the looks.
"""

from __future__ import annotations

import asyncio

import numpy as np

from gridctl.engine.fleet import NO_LIMIT, EngineSpec, build_fleet
from gridctl.engine.state import NEVER, NIL
from gridctl.executors.alarm import Alarm
from gridctl.mockengine.clock import Clock
from gridctl.mockengine.pace import Answer, EngineFullError, Gauges
from gridctl.mockengine.prefixes import Prefixes, room_for
from gridctl.mockengine.steps import QUIET_UNTIL, abort, admit, serve

IN_FLIGHT = 16_384
"""Requests an engine holds, waiting ones included."""
SPARE_NODES = 1 << 18
"""Prompt blocks of waiting requests that are remembered beside those in KV memory."""


class TwinPace:
    """A continuously batching engine as `spec` describes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spec: EngineSpec, clock: Clock) -> None:
        self.block_size = spec.block_size
        longest = min(spec.max_context, spec.kv_blocks * spec.block_size)
        self.longest_context = longest
        nodes = spec.kv_blocks + SPARE_NODES
        self._fleet = build_fleet(
            [spec],
            requests=IN_FLIGHT,
            stretches=room_for(nodes, longest // spec.block_size),
            node_tokens=spec.block_size,
            in_flight=IN_FLIGHT,
        )
        # Nobody scrapes the twin: its telemetry is read as it is.
        self._fleet.engines[0].next_scrape = NEVER
        self._max_waiting = NO_LIMIT if spec.max_waiting is None else spec.max_waiting
        self._caches = spec.prefix_caching
        self._prefixes = Prefixes(self._fleet)
        self._facts = np.zeros(2, np.int64)
        self._watched, self._told, self._news = (np.zeros(IN_FLIGHT, np.int64) for _ in range(3))
        self._answers: dict[int, Answer] = {}
        self._slots: dict[Answer, int] = {}
        self._leaves: dict[int, int] = {}
        self._looked_up: set[int] = set()
        self._leaving: dict[int, None] = {}
        self._queries = self._hits = 0
        self._clock = clock
        self._alarm = Alarm(loop, self._look)
        self._warm_up()

    def _warm_up(self) -> None:
        """Have every kernel compiled, or read from the cache, before anybody waits for it: one request that leaves
        before time begins."""
        slot = admit(self._fleet, 0, 1, 1, 0, NIL, 0, self._facts, self._watched, self._told)
        is_gone = abort(self._fleet, slot, 0, self._facts, self._watched)
        assert is_gone, "nothing is in flight yet"
        self._serve(0)

    def submit(self, answer: Answer) -> None:
        """Queue the request at this moment."""
        host = self._fleet.engines[0]
        now = self._catch_up()
        if int(self._fleet.free_sequences[0]) == 0 or host.waiting + host.inbound >= self._max_waiting:
            raise EngineFullError
        leaf, blocks = self._prefixes.path(answer.blocks if self._caches else (), self._leaves.values())
        prompt, output = answer.prompt_tokens, answer.output_tokens
        slot = int(
            admit(self._fleet, now, prompt, output, answer.priority, leaf, blocks, self._facts, self._watched,
                  self._told)
        )  # fmt: skip
        self._answers[slot] = answer
        self._slots[answer] = slot
        self._leaves[slot] = leaf
        self._look()

    def leave(self, answer: Answer) -> None:
        """Free the request's seat and memory between two steps, as engines do."""
        slot = self._slots.pop(answer, None)
        if slot is None:
            return
        self._leaving[slot] = None
        self._look()

    def set_speed(self, speed: float) -> None:
        """Change the speed from now on."""
        self._catch_up()
        self._clock.set_speed(speed)
        self._look()

    def gauges(self) -> Gauges:
        """The engine's state at the end of its last step, as engines report it."""
        self._look()
        host, left = self._fleet.engines[0], len(self._leaving)
        used = int(host.blocks_total - host.free_blocks - host.cached_blocks)
        return Gauges(
            running=max(0, int(host.running) - left),
            waiting=int(host.waiting + host.inbound),
            kv_used_tokens=used * self.block_size,
            kv_capacity_tokens=int(host.blocks_total) * self.block_size,
            prefix_queries=self._queries,
            prefix_hits=self._hits,
            preemptions=int(host.preempted),
        )

    def close(self) -> None:
        """Tell nobody anything any more."""
        self._alarm.close()

    def _look(self) -> None:
        """Bring the engine to now and wait for what happens next."""
        self._catch_up()
        due = self._clock.wall_ns(int(self._facts[QUIET_UNTIL])) if self._answers else None
        if due is None:
            self._alarm.off()
        else:
            self._alarm.set(due)

    def _catch_up(self) -> int:
        """Serve until now; requests whose clients left go as soon as the step they are part of ends. Returns now."""
        now = self._clock.now_ps()
        while self._leaving:
            # Not a step further than the end of the one in flight, so that nobody who left is part of the next.
            at = min(now, int(self._facts[QUIET_UNTIL]))
            self._serve(at)
            for slot in [slot for slot in self._leaving if abort(self._fleet, slot, at, self._facts, self._watched)]:
                self._forget(slot)
            if at == now:
                break
        self._serve(now)
        return now

    def _serve(self, until: int) -> None:
        """Complete steps and tell their requests."""
        count = int(serve(self._fleet, until, self._facts, self._watched, self._told, self._news))
        if count == 0:
            return
        slots = self._news[:count]
        told: list[tuple[Answer, int, int]] = []
        for slot, made in zip(slots.tolist(), self._told[slots].tolist(), strict=True):
            answer = self._answers[slot]
            cached = self._cached(slot, answer)
            if slot not in self._leaving:
                told.append((answer, made, cached))
            if made == answer.output_tokens:
                self._forget(slot)
                self._slots.pop(answer, None)
        # Only now: who is told may submit the next request, which may get a slot of this very batch.
        for answer, made, cached in told:
            answer.given(made, cached)

    def _cached(self, slot: int, answer: Answer) -> int:
        """Prompt tokens the request found in the cache; counted once, at its first token."""
        cached = int(self._fleet.sequences[slot].cached_tokens)
        if slot not in self._looked_up:
            self._looked_up.add(slot)
            if self._caches:
                self._queries += answer.prompt_tokens
                self._hits += cached
        return cached

    def _forget(self, slot: int) -> None:
        del self._answers[slot], self._leaves[slot]
        self._looked_up.discard(slot)
        self._leaving.pop(slot, None)
