"""The oracle of the engine twin: one engine, simulated token by token and block by block, in plain Python.

Every KV block has an identity and one owner, every sequence knows its own tokens and blocks, the least recently used
order is a list, and every step is taken. Nothing is jumped, summed or counted by classes, and nothing is imported
from the package, so that an error of the twin's bookkeeping cannot be repeated here. Rules: the docstrings of
`scheduler`, `blocks`, `clock` and `profile`; vLLM V1's documented scheduler where they are silent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """What one engine may do, and its memory."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    kv_blocks: int
    node_tokens: int
    prefix_caching: bool
    priority_scheduling: bool
    async_scheduling: bool = False


@dataclass(frozen=True)
class Costs:
    """Step times in picoseconds; `decode` and `mixed` hold, per number of decodes, (knot, base, slope) by rising
    knot, the last row serving all above it; `chunk` and `chunk_kv` are by prefill tokens."""

    dense: tuple[int, ...]
    sample: tuple[int, ...]
    decode: tuple[tuple[tuple[int, int, int], ...], ...]
    mixed: tuple[tuple[tuple[int, int, int], ...], ...]
    cross: int
    chunk: tuple[int, ...]
    chunk_kv: tuple[int, ...]


@dataclass(frozen=True)
class Arrival:
    """One request as it reaches the engine; `order` breaks ties of arrival; `prefix` are its prompt's whole nodes."""

    request: int
    time: int
    order: int
    priority: int
    prompt: int
    output: int
    prefix: tuple[int, ...]
    sent: int = 0


@dataclass(frozen=True)
class Change:
    """What happens to the engine at `time`: from then on steps that begin take other `costs`, or at most `seats` run,
    or it is lost until `back`, with all that was sent to it by then."""

    time: int
    costs: Costs | None = None
    seats: int | None = None
    back: int | None = None


@dataclass
class Outcome:
    """What became of a request."""

    scheduled: int = -1
    first_token: int = -1
    last_token: int = -1
    cached_tokens: int = 0
    preemptions: int = 0
    share: int = 0


@dataclass
class Node:
    """A prefix block in KV memory: who uses it, and where it lies."""

    blocks: list[int]
    users: set[int] = field(default_factory=set)


@dataclass
class Running:
    """A request inside the engine. `known` tokens are the prompt and what was generated, `stored` have their KV."""

    arrival: Arrival
    outcome: Outcome
    known: int
    generated: int = 0
    stored: int = 0
    nodes: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    decodes: bool = False


class SteppedEngine:
    """One engine. `run` serves all arrivals and returns their outcomes; `seen` counts what happened on the way."""

    def __init__(self, limits: Limits, costs: Costs) -> None:
        self.limits = limits
        self.costs = costs
        self.seats = limits.max_num_seqs
        self.free = list(range(limits.kv_blocks))
        self.nodes: dict[int, Node] = {}
        self.unused: list[int] = []  # cached nodes nobody uses, least recently used first
        self.waiting: list[Running] = []
        self.running: list[Running] = []
        self.clock = 0
        self.composed = 0  # when the step about to begin was put together, under asynchronous scheduling
        self.busy = 0
        self.undivided = 0
        self.seen: Counter[str] = Counter()
        whole = limits.node_tokens > 0 and limits.node_tokens % limits.block_size == 0
        self.caches = limits.prefix_caching and whole
        self.blocks_per_node = limits.node_tokens // limits.block_size if self.caches else 0

    def run(self, arrivals: list[Arrival], changes: list[Change] | None = None) -> dict[int, Outcome]:
        """Serve everything that is not lost, one step after the other."""
        wire = sorted(arrivals, key=lambda arrival: (arrival.time, arrival.order))
        outcomes = {arrival.request: Outcome() for arrival in wire}
        ahead = sorted(changes or [], key=lambda change: change.time)
        while wire or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.clock = max(self.clock, wire[0].time)
                self.composed = self.clock
            while ahead and ahead[0].back is None and ahead[0].time <= self.clock:
                self._change(ahead.pop(0))
            loss = next((change for change in ahead if change.back is not None), None)
            if loss is not None and self.clock >= loss.time:
                wire = self._lose(loss, ahead, wire, outcomes)
                continue
            seen = self.composed if self.limits.async_scheduling else self.clock
            while wire and wire[0].time <= seen:
                arrival = wire.pop(0)
                self._queue(Running(arrival, outcomes[arrival.request], arrival.prompt))
            if not self._step(loss.time if loss is not None else None):
                assert loss is not None
                wire = self._lose(loss, ahead, wire, outcomes)
                continue
            self._check_every_block_has_one_owner()
        return outcomes

    # ---- faults ----

    def _change(self, change: Change) -> None:
        if change.costs is not None:
            self.costs = change.costs
        if change.seats is not None:
            self.seats = change.seats
        self.seen["changes"] += 1

    def _lose(
        self, loss: Change, ahead: list[Change], wire: list[Arrival], outcomes: dict[int, Outcome]
    ) -> list[Arrival]:
        """The engine stops amid its step and comes back empty; returns what is on its way to it then."""
        assert loss.back is not None
        while ahead[0] is not loss:
            self._change(ahead.pop(0))
        ahead.pop(0)
        gone = [sequence.arrival for sequence in (*self.running, *self.waiting)]
        gone += [arrival for arrival in wire if arrival.sent < loss.back]
        for arrival in gone:
            outcomes[arrival.request] = Outcome()
        self.seen["lost"] += len(gone)
        self.free = list(range(self.limits.kv_blocks))
        self.nodes, self.unused, self.waiting, self.running = {}, [], [], []
        self.clock = self.composed = loss.back
        return [arrival for arrival in wire if arrival.sent >= loss.back]

    # ---- queue ----

    def _urgency(self, sequence: Running) -> tuple[int, int, int]:
        return sequence.arrival.priority, sequence.arrival.time, sequence.arrival.request

    def _queue(self, sequence: Running, to_front: bool = False) -> None:
        if self.limits.priority_scheduling:
            self.waiting.append(sequence)
            self.waiting.sort(key=self._urgency)
        elif to_front:
            self.waiting.insert(0, sequence)
        else:
            self.waiting.append(sequence)

    def _victim(self) -> Running:
        victim = self.running[-1]
        if self.limits.priority_scheduling:
            for sequence in reversed(self.running):
                if self._urgency(sequence)[:2] > self._urgency(victim)[:2]:
                    victim = sequence
            if victim is not self.running[-1]:
                self.seen["least urgent preempted"] += 1
        return victim

    # ---- memory ----

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_size)

    def _obtainable(self) -> int:
        return len(self.free) + sum(len(self.nodes[node].blocks) for node in self.unused)

    def _take(self, count: int) -> list[int]:
        while len(self.free) < count:
            node = self.unused.pop(0)
            self.free += self.nodes.pop(node).blocks
            self.seen["evictions"] += 1
        return [self.free.pop() for _ in range(count)]

    def _match(self, sequence: Running) -> list[int]:
        """The leading nodes found in memory; the last known token is always computed."""
        matched: list[int] = []
        if self.caches:
            for node in sequence.arrival.prefix:
                if node not in self.nodes or (len(matched) + 1) * self.limits.node_tokens >= sequence.known:
                    break
                matched.append(node)
        return matched

    def _use(self, node: int, sequence: Running) -> None:
        if not self.nodes[node].users:
            self.unused.remove(node)
        self.nodes[node].users.add(sequence.arrival.request)
        sequence.nodes.append(node)

    def _publish(self, sequence: Running, tokens: int) -> None:
        """Whole prompt nodes within the first `tokens` become findable."""
        if not self.caches:
            return
        for index, node in enumerate(sequence.arrival.prefix):
            if (index + 1) * self.limits.node_tokens > tokens or index < len(sequence.nodes):
                continue
            own, sequence.blocks = sequence.blocks[: self.blocks_per_node], sequence.blocks[self.blocks_per_node :]
            if node in self.nodes:
                self.free += own
                self._use(node, sequence)
                self.seen["copies freed"] += 1
            else:
                self.nodes[node] = Node(own, {sequence.arrival.request})
                sequence.nodes.append(node)

    def _release(self, sequence: Running) -> None:
        self.free += sequence.blocks
        sequence.blocks = []
        for node in reversed(sequence.nodes):
            self.nodes[node].users.remove(sequence.arrival.request)
            if not self.nodes[node].users:
                self.unused.append(node)
        sequence.nodes = []

    def _held(self, sequence: Running) -> int:
        return len(sequence.blocks) + sum(len(self.nodes[node].blocks) for node in sequence.nodes)

    def _check_every_block_has_one_owner(self) -> None:
        owned = list(self.free)
        for node in self.nodes.values():
            owned += node.blocks
        for sequence in self.running:
            owned += sequence.blocks
            assert self._held(sequence) == self._blocks_for(sequence.stored)
        assert sorted(owned) == list(range(self.limits.kv_blocks))
        assert self.unused == [node for node in self.unused if not self.nodes[node].users]

    # ---- one step ----

    def _chunk(self, sequence: Running, budget: int) -> int:
        return min(sequence.known - sequence.stored, budget)

    def _wanted(self, sequence: Running) -> int:
        """Tokens a running sequence processes next: one when it decodes, else what the decodes leave of the budget."""
        if sequence.decodes:
            return 1
        decodes = sum(other.decodes for other in self.running)
        return self._chunk(sequence, self.limits.max_num_batched_tokens - decodes)

    def _missing(self, sequence: Running) -> int:
        return self._blocks_for(sequence.stored + self._wanted(sequence)) - self._held(sequence)

    def _preempt(self, victim: Running) -> None:
        self.running.remove(victim)
        self._release(victim)
        self.seen["preemptions"] += 1
        self.seen["decodes preempted" if victim.decodes else "prefills preempted"] += 1
        victim.stored = 0
        victim.decodes = False
        victim.outcome.preemptions += 1
        self._queue(victim, to_front=True)

    def _admit(self, budget: int) -> Running | None:
        sequence = self.waiting[0]
        matched = self._match(sequence)
        cached = len(matched) * self.limits.node_tokens
        sequence.stored = cached
        chunk = self._chunk(sequence, budget)
        sequence.stored = 0
        needed = self._blocks_for(cached + chunk) - len(matched) * self.blocks_per_node
        revived = sum(len(self.nodes[node].blocks) for node in matched if not self.nodes[node].users)
        if needed > self._obtainable() - revived:
            self.seen["admissions refused by memory"] += 1
            return None
        self.waiting.pop(0)
        for node in matched:
            self._use(node, sequence)
        sequence.blocks = self._take(needed)
        sequence.stored = cached
        self.running.append(sequence)
        if sequence.outcome.scheduled < 0:
            sequence.outcome.scheduled = self.clock
            sequence.outcome.cached_tokens = cached
            self.seen["cache hits"] += bool(matched)
        self._publish(sequence, cached + chunk)
        return sequence

    def _compose(self) -> list[tuple[Running, int]]:
        """Who runs in the next step, with how many tokens each; their memory is taken."""
        preempted = False
        while sum(self._missing(sequence) for sequence in self.running) > self._obtainable():
            self._preempt(self._victim())
            preempted = True
        work = [(sequence, self._wanted(sequence)) for sequence in self.running]
        work.sort(key=lambda item: not item[0].decodes)
        for sequence, tokens in work:
            sequence.blocks += self._take(self._missing(sequence))
            if not sequence.decodes:
                self._publish(sequence, sequence.stored + tokens)
        budget = self.limits.max_num_batched_tokens - sum(tokens for _, tokens in work)
        while not preempted and budget > 0 and self.waiting and len(self.running) < self.seats:
            sequence = self._admit(budget)
            if sequence is None:
                break
            chunk = self._chunk(sequence, budget)
            budget -= chunk
            work.append((sequence, chunk))
        return work

    def _duration(self, work: list[tuple[Running, int]]) -> int:
        costs = self.costs
        duration = costs.dense[sum(tokens for _, tokens in work)]
        duration += costs.sample[sum(sequence.stored + tokens == sequence.known for sequence, tokens in work)]
        pairs = 0
        for sequence, tokens in work:
            if not sequence.decodes:
                pairs += sum(sequence.stored + position for position in range(1, tokens + 1))
        prefill = sum(tokens for sequence, tokens in work if not sequence.decodes)
        if prefill > 0:
            alone = sum(range(1, prefill + 1))
            duration += max(0, costs.chunk[prefill] + costs.chunk_kv[prefill] * ((pairs - alone) // prefill))
            self.seen["several prompts in a step"] += pairs < alone
        reads = [sequence.stored + 1 for sequence, _ in work if sequence.decodes]
        if reads:
            rows = costs.mixed if prefill > 0 else costs.decode
            row = rows[min(len(reads), len(rows) - 1)]
            knot, base, slope = next(part for part in reversed(row) if part[0] <= sum(reads))
            self.seen["later segments"] += knot > 0
            duration += base + slope * (sum(reads) - knot) + costs.cross * len(reads) * prefill
        return duration

    def _step(self, stop: int | None = None) -> bool:
        """Take a step; False when the engine stops before its end, whose outcomes are then of no account."""
        work = self._compose()
        if not work:
            return True
        self.seen["mixed steps"] += len({sequence.decodes for sequence, _ in work}) > 1
        duration = self._duration(work)
        if stop is not None and self.clock + duration > stop:
            return False
        self.composed = self.clock
        self.clock += duration
        self.busy += duration
        self.undivided += duration
        each = self.undivided // sum(tokens for _, tokens in work)
        self.undivided -= each * sum(tokens for _, tokens in work)
        finished = 0
        for sequence, tokens in work:
            sequence.outcome.share += each * tokens
            sequence.stored += tokens
            if sequence.stored < sequence.known:
                self.seen["partial prefills"] += 1
                continue
            sequence.known += 1
            sequence.generated += 1
            sequence.decodes = True
            if sequence.outcome.first_token < 0:
                sequence.outcome.first_token = self.clock
            if sequence.generated == sequence.arrival.output:
                sequence.outcome.last_token = self.clock
                self.running.remove(sequence)
                finished += bool(sequence.nodes)
                self._release(sequence)
        self.seen["caching sequences that finish together"] += finished > 1
        return True
