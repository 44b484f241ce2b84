"""Probe: put a short, bounded load on a live engine and time it.

After the introduction the plan's rounds run one by one. An error status ends the measurement with the engine's own
words; a dead or silent peer ends the load, and what was measured is kept. Nothing waits without a bound. Decides what
is asked next and when to stop, no coefficient.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gridctl.errors import NotFoundError, UnreachableError
from gridctl.profiling.client import EngineClient
from gridctl.profiling.endpoint import SHOWN_MODELS, BrokenError, Endpoint, RefusedError, refusal
from gridctl.profiling.introduction import Introduction, introduce, served_models
from gridctl.profiling.load import LoadPlan, Round
from gridctl.profiling.observation import MeasuredRound, Observations, RequestTiming, is_burst
from gridctl.profiling.prompts import PromptSource

INTRODUCTION_S = 180.0
"""An engine may compile kernels for its first requests, but not for longer."""
MAX_BROKEN_ROUNDS = 3
CUT_AFTER = 1.25
"""A round still running at this multiple of the duration is cut."""
BUSY_CLIENT = 0.8
"""Above this share of a core the client's own work shows in what it measures."""
TEMPLATE_TOKENS = 64
"""Cached tokens of a new prompt up to here are a chat template's."""
TOO_LONG = (400, 413, 422)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the load is: requests answered, seconds gone of those allowed, and what is being asked."""

    requests: int
    elapsed_s: float
    duration_s: float
    doing: str


Listener = Callable[[Progress], None]


def measure(
    endpoint: Endpoint, plan: LoadPlan, listener: Listener | None = None, seed: int | None = None
) -> Observations:
    """Load the endpoint as planned and return every timing. Takes up to `plan.duration_s` and an introduction before.

    `seed` makes the prompts repeatable, which an engine that caches prefixes must not be asked twice.
    Raises UnreachableError (no engine there), NotFoundError (no such model) and InputError (it refuses or answers no
    stream). A peer that dies during the load is no error here: `Observations.stopped` says so.
    """
    return asyncio.run(_measure(endpoint, plan, listener or (lambda _: None), PromptSource(seed)))


def only_model(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the one model it serves filled in.

    Raises UnreachableError when nothing answers, NotFoundError when it lists none or several."""
    return asyncio.run(_only_model(endpoint))


async def _only_model(endpoint: Endpoint) -> Endpoint:
    async with EngineClient(endpoint, 1) as client:
        try:
            models, _ = await served_models(client)
        except BrokenError as error:
            raise UnreachableError(
                f"the endpoint gives no usable answer: {error}",
                where=client.base,
                fix=f"check that an OpenAI-compatible engine listens there: curl {client.base}/models",
            ) from None
    if len(models) != 1:
        listed = ", ".join(models[:SHOWN_MODELS]) or "none"
        raise NotFoundError(f"the endpoint lists {listed}", where=endpoint.base, fix="say which: --model-name NAME")
    return replace(endpoint, model=models[0])


async def _measure(endpoint: Endpoint, plan: LoadPlan, listener: Listener, prompts: PromptSource) -> Observations:
    async with EngineClient(endpoint, max(plan.concurrency)) as client:
        listener(Progress(0, 0.0, plan.duration_s, "warming up"))
        try:
            async with asyncio.timeout(INTRODUCTION_S):
                known = await introduce(client, prompts, max(plan.concurrency))
        except TimeoutError:
            raise UnreachableError(
                f"the endpoint did not answer a first few requests within {INTRODUCTION_S:.0f} s",
                where=client.base,
                fix="calibrate an idle engine, or ask for a smaller --concurrency",
            ) from None
        load = _Load(client, plan, listener, prompts, known)
        await load.run()
        return load.observations()


@dataclass
class _Load:
    """One load in progress."""

    client: EngineClient
    plan: LoadPlan
    listener: Listener
    prompts: PromptSource
    known: Introduction
    begin_s: float = field(default_factory=time.perf_counter)
    rounds: list[MeasuredRound] = field(default_factory=list)
    limit: int | None = None
    failed: int = 0
    broken_rounds: int = 0
    client_share: float = 0.0
    stopped: str | None = None
    notes: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """The plan's rounds, until it, its budget or the peer ends."""
        self.limit = self.known.longest
        for one in self.plan.rounds():
            elapsed = time.perf_counter() - self.begin_s
            if elapsed >= self.plan.duration_s or self.stopped is not None:
                break
            if self._is_affordable(one, self.plan.duration_s - elapsed):
                doing = f"{one.streams} × {one.prompt_tokens} prompt tokens"
                answered = sum(len(done.requests) for done in self.rounds)
                self.listener(Progress(answered, elapsed, self.plan.duration_s, doing))
                await self._try(one, self.plan.duration_s * CUT_AFTER - elapsed)

    async def _try(self, one: Round, seconds: float) -> None:
        """Run a round within `seconds` and keep it, or learn from how it failed."""
        try:
            async with asyncio.timeout(seconds):
                self.rounds.append(await self._round(one))
            self.broken_rounds = 0
        except TimeoutError:
            self._note(f"{one.streams} × {one.prompt_tokens} prompt tokens: cut, they outlasted the duration")
        except RefusedError as error:
            self._learn_limit(one, error)
        except BrokenError as error:
            self.failed += one.streams
            self.broken_rounds += 1
            if self.broken_rounds == MAX_BROKEN_ROUNDS:
                self.stopped = str(error)

    async def _round(self, one: Round) -> MeasuredRound:
        """All requests of a round at once. Raises when any of them fails: a batch with a hole has no known size."""
        words = self.known.law.words_for(one.prompt_tokens)
        guess = self.known.law.tokens_of(words)
        prompts = [self.prompts.prompt(words) for _ in range(one.streams)]
        wall, cpu = time.perf_counter(), time.process_time()
        answers = await asyncio.gather(
            *(self.client.complete(self.known.dialect, prompt, one.output_tokens, guess) for prompt in prompts),
            return_exceptions=True,
        )
        share = (time.process_time() - cpu) / max(time.perf_counter() - wall, 1e-9)
        timings: list[RequestTiming] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            timings.append(answer)
        if one.streams > 1:
            self.client_share = max(self.client_share, share)
        return MeasuredRound(one, tuple(timings))

    def _is_affordable(self, one: Round, left_s: float) -> bool:
        """Whether a round fits the context limit and, judged by shorter lone ones, the time that is left."""
        if self.limit is not None and one.prompt_tokens + one.output_tokens > self.limit:
            self._note(f"prompts of {one.prompt_tokens} tokens: not asked, the engine takes {self.limit} in all")
            return False
        lone = [done.requests[0] for done in self.rounds if done.plan.streams == 1]
        slowest = max(lone, key=lambda timing: timing.prompt_tokens, default=None)
        if slowest is None or one.streams > 1 or one.prompt_tokens <= slowest.prompt_tokens:
            return True
        if slowest.ttft_s * one.prompt_tokens / slowest.prompt_tokens > left_s / 2:
            self._note(f"prompts of {one.prompt_tokens} tokens: not asked, one would take most of the duration")
            return False
        return True

    def _learn_limit(self, one: Round, error: RefusedError) -> None:
        """A prompt longer than any answered one may be too long for the engine; any other refusal ends it all."""
        answered = [done.plan.prompt_tokens for done in self.rounds]
        if error.status in TOO_LONG and answered and one.prompt_tokens > max(answered):
            self.limit = one.prompt_tokens + one.output_tokens - 1
            self._note(f"prompts of {one.prompt_tokens} tokens: refused ({error.message})")
        elif error.status == 429:
            self.stopped = f"the endpoint keeps answering 429: {error.message}"
        else:
            raise refusal(error, self.client.endpoint, self.known.models)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def observations(self) -> Observations:
        """What was measured, with what looks odd about it."""
        timings = [timing for one in self.rounds for timing in one.requests]
        if timings and sum(map(is_burst, timings)) > len(timings) / 2:
            self._note("tokens arrive in one burst: something on the way to the engine buffers the stream")
        if any(timing.cached_tokens > TEMPLATE_TOKENS for timing in timings):
            self._note("the engine took prompts as cached although each was new: it shares a long template")
        if self.client_share > BUSY_CLIENT:
            self._note(f"this client used {self.client_share:.0%} of a core: its own work is in the times")
        if self.client.endpoint.is_key_in_the_clear:
            self._note("the API key crossed the network unencrypted: use an https endpoint")
        return Observations(
            endpoint=self.client.base,
            model=self.client.endpoint.model,
            round_trip_s=self.known.round_trip_s,
            rounds=tuple(self.rounds),
            warmup_requests=self.known.requests,
            throttled=self.client.throttled,
            failed=self.failed,
            client_share=self.client_share,
            stopped=self.stopped,
            notes=(*self.known.notes, *self.notes),
        )
