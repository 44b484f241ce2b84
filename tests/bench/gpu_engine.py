"""A minimal continuously batching engine over `gpu_llama.py`, and the load it serves, for `gpu_step_times.py`.

Decodes go first, one token each; then the prefill in progress, then waiting requests, first come first served, within
the token budget of a step. Decode-only steps replay a CUDA graph of the next larger batch size, padded with rows that
write to a spare slot; steps with a prefill launch kernel by kernel. Each step waits for its tokens before the next.
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from dataclasses import dataclass

import torch
from gpu_llama import Llama, Prefill

MEDIAN_INPUT, INPUT_SIGMA, MEDIAN_OUTPUT, OUTPUT_SIGMA = 0.10, 0.7, 0.06, 0.6
"""Log-normal lengths; medians as shares of the capacity."""


class Clock:
    """Seconds: the wall clock of a GPU's machine; on a CPU this process's own processor time, which other work on a
    busy machine does not lengthen, and waiting is skipped."""

    def __init__(self, device: str) -> None:
        self.is_wall = device == "cuda"
        self.skipped_s = 0.0

    def now(self) -> float:
        return time.perf_counter() if self.is_wall else time.process_time() + self.skipped_s

    def wait(self, seconds: float) -> None:
        if self.is_wall:
            time.sleep(seconds)
        else:
            self.skipped_s += seconds


@dataclass(eq=False)
class Request:
    """One request of the load and when what happened to it, seconds on the load's clock."""

    name: str
    input_tokens: int
    output_tokens: int
    queued_s: float
    scheduled_s: float = -1.0
    first_token_s: float = -1.0
    last_token_s: float = -1.0
    slot: int = -1
    computed: int = 0
    made: int = 0
    last_token: int = 1


class Engine:
    """A minimal continuously batching engine: decodes first, then prefill chunks within the token budget."""

    def __init__(self, model: Llama, seqs: int, budget: int) -> None:
        self.model, self.seqs, self.budget, self.clock = model, seqs, budget, Clock(model.device)
        self.free = list(range(seqs))
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.inputs = torch.zeros(4, seqs, device=model.device, dtype=torch.int64)
        self.outputs: dict[int, torch.Tensor] = {}
        if model.can_split:
            self._capture()

    def _capture(self) -> None:
        """A graph per batch size; smaller batches are padded with rows that use the spare slot."""
        sizes = sorted({size for size in range(1, self.seqs + 1) if size <= 4 or size % 4 == 0} | {self.seqs})
        for size in reversed(sizes):
            self._pad(0)
            arguments = [self.inputs[row, :size] for row in range(4)]
            sampled = torch.arange(size, device=self.model.device)

            def step(a: list[torch.Tensor] = arguments, size: int = size, at: torch.Tensor = sampled) -> torch.Tensor:
                return self.model.step(a[0], a[1], a[2], size, a[3], [], at)

            step()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.outputs[size] = step()
            self.graphs[size] = graph

    def _pad(self, used: int) -> None:
        self.inputs[:, used:] = torch.tensor([[1], [0], [self.seqs], [1]], device=self.model.device)

    def compose(self) -> tuple[list[Request], list[tuple[Request, int]]]:
        """Who decodes, and whose prefill goes on by how many tokens."""
        decodes = [one for one in self.running if one.made > 0]
        budget = self.budget - len(decodes)
        chunks = []
        for one in self.running:
            if one.made == 0 and budget > 0:
                chunks.append((one, min(budget, one.input_tokens - one.computed)))
                budget -= chunks[-1][1]
        while self.waiting and self.free and budget > 0:
            one = self.waiting.popleft()
            one.slot = self.free.pop()
            self.running.append(one)
            chunks.append((one, min(budget, one.input_tokens)))
            budget -= chunks[-1][1]
        return decodes, chunks

    def run_step(self, decodes: list[Request], chunks: list[tuple[Request, int]]) -> None:
        """Run one step and give each request its token."""
        device = self.model.device
        at = [one.input_tokens + one.made - 1 for one in decodes]
        rows = [[one.last_token for one in decodes], at, [one.slot for one in decodes], [place + 1 for place in at]]
        if not chunks and self.graphs:
            count = len(decodes)
            size = min(size for size in self.graphs if size >= count)
            self.inputs[:, :count] = torch.tensor(rows, device=device)
            self._pad(count)
            self.graphs[size].replay()
            found = self.outputs[size][:count].tolist()
        else:
            sampled = list(range(len(decodes)))
            for one, tokens in chunks:
                rows[0] += [1] * tokens
                rows[1] += range(one.computed, one.computed + tokens)
                rows[2] += [one.slot] * tokens
                if one.computed + tokens == one.input_tokens:
                    sampled.append(len(rows[0]) - 1)
            ids, positions, slots = (torch.tensor(row, device=device) for row in rows[:3])
            prefills = [Prefill(one.slot, one.computed, tokens) for one, tokens in chunks]
            lengths, where = torch.tensor(rows[3], device=device), torch.tensor(sampled, device=device)
            step = self.model.step(ids, positions, slots, len(decodes), lengths, prefills, where.long())
            found = step.tolist()
        for one, tokens in chunks:
            one.computed += tokens
        emitting = [*decodes, *(one for one, _ in chunks if one.computed == one.input_tokens)]
        for one, token in zip(emitting, found, strict=True):
            one.made, one.last_token = one.made + 1, token

    def serve(self, requests: list[Request]) -> None:
        """Serve requests as they arrive; fills in their times."""
        begin = self.clock.now()
        coming = deque(sorted(requests, key=lambda one: one.queued_s))
        while coming or self.waiting or self.running:
            now = self.clock.now() - begin
            while coming and coming[0].queued_s <= now:
                self.waiting.append(coming.popleft())
            if not self.waiting and not self.running:
                self.clock.wait(coming[0].queued_s - now)
                continue
            decodes, chunks = self.compose()
            for one, _ in chunks:
                one.scheduled_s = now if one.scheduled_s < 0 else one.scheduled_s
            self.run_step(decodes, chunks)
            now = self.clock.now() - begin
            for one in list(self.running):
                if one.made == 1 and one.first_token_s < 0:
                    one.first_token_s = now
                if one.made == one.output_tokens:
                    one.last_token_s = now
                    self.running.remove(one)
                    self.free.append(one.slot)


def mean_output_tokens(capacity: int) -> float:
    """The mean of the log-normal output lengths."""
    return MEDIAN_OUTPUT * capacity * math.exp(OUTPUT_SIGMA**2 / 2)


def requests_of(count: int, rate: float, capacity: int, seed: int) -> list[Request]:
    """Poisson arrivals at `rate` a second; log-normal lengths that fit the capacity."""
    draw = random.Random(seed)
    now, requests = 0.0, []
    for number in range(count):
        now += draw.expovariate(rate)
        prompt = draw.lognormvariate(math.log(MEDIAN_INPUT * capacity), INPUT_SIGMA)
        output = draw.lognormvariate(math.log(MEDIAN_OUTPUT * capacity), OUTPUT_SIGMA)
        prompt, output = min(max(4, int(prompt)), capacity * 5 // 8), min(max(2, int(output)), capacity * 3 // 8 - 1)
        requests.append(Request(f"load-{number}", prompt, output, now))
    return requests
