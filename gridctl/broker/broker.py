"""Broker: one worker's decisions: a request understood, an engine chosen, what became of it taken in.

The choice is `routing.route`'s, over the rows that `broker.rows` fills; hard constraints come before it and nothing
here relaxes them. Invariant: what `decide` counts on the board, `first_token` and `ended` take back, exactly once,
however the request ends. Not for several threads; knows no clock but the caller's, save for the expiry of keys.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final

from gridctl.broker.ask import Ask, Principal
from gridctl.broker.choice import NOT_YET, Choice
from gridctl.broker.groups import Group, refusal_of
from gridctl.broker.head import Head
from gridctl.broker.idleness import have_idle_slots
from gridctl.broker.live import MOST_TRIED, Live, check_rows, make_sight, resolve
from gridctl.broker.plan import Plan
from gridctl.broker.reception import Lessons, Reception
from gridctl.broker.refusal import Refusal, bad_request, too_busy, unavailable
from gridctl.broker.refusing import nobody_usable
from gridctl.broker.rows import (
    AHEAD,
    CACHED,
    CLOSED,
    COUNT,
    ENGINE_INDEX,
    ENGINE_TPOT,
    ENGINE_TTFT,
    FITTING,
    FULL,
    KV,
    PENDING,
    ROW,
    RTT,
    RUNNER_UP,
    TPOT,
    TTFT,
    USD,
    WORST,
    Sight,
    decision_over,
)
from gridctl.broker.seen import SeenRows
from gridctl.broker.splice import rewrite
from gridctl.broker.standing import Standing
from gridctl.routing.route import REFUSED
from gridctl.signals.board import Board
from gridctl.signals.rows import SLOT_AT, SLOT_WORDS
from gridctl.units import NS_PER_US

RETRY_BUSY_MS: Final = 1_000

_IN_FLIGHT: Final = SLOT_AT["in_flight"]
_PENDING: Final = SLOT_AT["pending_tokens"]
_KV: Final = SLOT_AT["kv_tokens"]
_ENDED_AS: Final = {"completed": SLOT_AT["completed"], "failed": SLOT_AT["failures"], "cancelled": SLOT_AT["cancels"]}
_CONNECT_FAILURES: Final = SLOT_AT["connect_failures"]
_BREAKS: Final = SLOT_AT["breaks"]


class Broker:
    """The decisions of one worker under a plan; `reload` takes the next one."""

    def __init__(self, plan: Plan, board: Board, worker: int, *, seed: int | None = None) -> None:
        self._board = board
        self._worker = worker
        self._words = board.slot_words(worker)
        self._standing = Standing(board.backends)
        self._lessons = Lessons(worker)
        self._random = random.Random(seed)
        self._adopt(plan)

    # ── the plan ──

    @property
    def generation(self) -> int:
        """Of the plan in use."""
        return self._generation

    @property
    def live(self) -> Live:
        """The plan in use, resolved."""
        return self._live

    @property
    def sight(self) -> Sight:
        """What decisions read; rows and answer are those of the last one."""
        return self._sight

    def expected_output(self, workload: str) -> int:
        """Tokens that an answer of the workload is expected to have."""
        return self._lessons.lengths.expected(workload, None)

    def group_of(self, principal: Principal, origin: str | None, model: str) -> Group:
        """The candidates of such requests; `origin` may be any place, None is the default. Raises what `ask` does, and
        InputError or NotFoundError for an origin that nobody knows."""
        return self._reception.group_of(principal, origin, model)

    def reload(self, plan: Plan) -> None:
        """Go on under another plan. What is known of engines and workloads that stay is kept; a plan that cannot be
        resolved raises, and the one in use stays."""
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        live = resolve(plan)
        check_rows(live, self._board)
        reception = Reception(plan, live, self._lessons, self._random)
        self._lessons.adopt(live)
        self._standing.adopt(live.backends)
        self._sight: Sight = make_sight(live, self._board, self._worker, self._standing.own, self._standing.prefixes)
        self._live: Live = live
        self._reception = reception
        self._generation, self._records = plan.generation, plan.settings.records_decisions
        self._answer = self._sight.answer
        self._engines = [
            (backend, engine.facts) for backend, engine in zip(live.backends, live.image.engines, strict=True)
        ]
        self._seen = SeenRows(self._sight.rows, self._sight.facts, self._sight.templates, self._sight.policies)
        self._decide = decision_over(self._sight)
        self._reasons = [
            "" if policy.algorithm == "grid" else policy.algorithm
            for policy in (live.policy.for_workload(name) for name in live.workloads)
        ]

    # ── a request ──

    def principal(self, head: Head) -> Principal:
        """Who asks. Raises Refusal: 401 or 403."""
        return self._reception.principal(head)

    def models(self, principal: Principal) -> list[dict[str, object]]:
        """The entries of `/v1/models` for a caller."""
        names = self._reception.offered(principal)
        return [{"id": name, "object": "model", "created": 0, "owned_by": "gridctl"} for name in names]

    def ask(self, head: Head, body: bytes, now_ns: int) -> Ask:
        """Understand a request. Raises Refusal for one that cannot be, or that its caller may not make."""
        return self._reception.ask(head, body, now_ns)

    def decide(self, ask: Ask, now_ns: int, tried: Collection[int] = ()) -> Choice:
        """Choose an engine and count the request there; `tried` are rows not to use again. Raises Refusal."""
        group = ask.group
        if group is None or group.generation != self._generation:
            group = self._regrouped(ask)
        if not len(group.engines):
            raise refusal_of(group)
        if now_ns >= self._standing.due_ns:
            self._standing.tick(now_ns, self._board.engines)
        sight = self._sight
        count = 0
        for row in tried:
            sight.tried[count % MOST_TRIED] = row
            count += 1
        turn = group.turn
        group.turn = turn + 1
        index = self._decide(
            sight,
            group.engines,
            group.rtt_us,
            ask.blocks,
            group.workload,
            ask.prompt_tokens,
            ask.least_tokens,
            ask.output_tokens,
            ask.tokens_per_block,
            ask.draw,
            ask.draw if ask.session < 0 else ask.session,
            turn,
            min(count, MOST_TRIED),
            now_ns,
            1,
        )
        told = self._answer.tolist()
        if index < 0:
            raise self._refusal(ask, group, index, told, now_ns)
        return self._choice(group, index, told, now_ns)

    def spare(self, ask: Ask, now_ns: int, tried: tuple[int, ...]) -> Choice | None:
        """An engine with an idle slot for a second copy of a request under way, counted there; None when there is none,
        or so many are busy that the grid has no room for copies."""
        group, sight = ask.group, self._sight
        if group is None or group.generation != self._generation:
            group = self._regrouped(ask)
        rows = sight.board_row[group.engines]
        idle = have_idle_slots(self._board, rows, sight.engines.max_num_seqs[group.engines])
        excluded = {*tried, *rows[~idle].tolist()}
        if len(excluded) > MOST_TRIED:
            return None
        try:
            return self.decide(ask, now_ns, tuple(excluded))
        except Refusal:
            return None

    def _choice(self, group: Group, index: int, told: list[float], now_ns: int) -> Choice:
        number, count = int(told[ENGINE_INDEX]), int(told[COUNT])
        backend, facts = self._engines[number]
        return Choice(
            backend,
            int(told[ROW]),
            facts,
            self._generation,
            now_ns,
            told[TTFT],
            told[TPOT],
            told[ENGINE_TTFT],
            told[ENGINE_TPOT],
            told[USD],
            told[RTT],
            int(told[CACHED]),
            count,
            self._reasons[group.workload] or ("cheapest" if told[WORST] <= 1.0 else "least-late"),
            int(told[RUNNER_UP]),
            self._seen.keep(group.workload, count, index) if self._records else None,
            int(told[PENDING]),
            int(told[KV]),
            NOT_YET,
            False,
            int(told[AHEAD]),
        )

    def _regrouped(self, ask: Ask) -> Group:
        """The request's candidates under the plan in use, which is not the one it was understood under."""
        before = ask.group
        assert before is not None, "an ask comes from this broker"
        if before.meant.workload not in self._live.workloads:
            raise unavailable("The request's workload is no longer served.", reason="no-candidate", retry_after_ms=0)
        ask.group = self._reception.group(before.where, before.meant)
        return ask.group

    def _refusal(self, ask: Ask, group: Group, index: int, told: list[float], now_ns: int) -> Refusal:
        """Why nobody was chosen of a group that has candidates."""
        what = group.meant.model or f"workload {group.meant.workload}"
        if index == REFUSED:
            return too_busy(
                f"No engine with {what} is expected to answer in the time that workload {ask.workload} promises.",
                reason="infeasible",
                retry_after_ms=RETRY_BUSY_MS,
            )
        if told[FITTING] == 0:
            return bad_request(
                f"The prompt of about {ask.prompt_tokens:,} tokens is longer than any engine with {what} can hold.",
                param="prompt" if ask.endpoint == "completions" else "messages",
                code="context_length_exceeded",
                reason="too-long",
            )
        if told[FULL] > 0:
            return too_busy(
                f"Every engine with {what} has a full queue.", reason="queue-full", retry_after_ms=RETRY_BUSY_MS
            )
        return nobody_usable(
            what,
            closed=int(told[CLOSED]),
            listed=len(group.engines),
            retry_after_ms=self._standing.retry_after_ms(now_ns),
        )

    # ── what became of it ──

    def first_token(self, choice: Choice, ask: Ask, now_ns: int) -> None:
        """The engine has read the prompt: it waits for nobody's prefill any more."""
        if choice.first_token_ns < 0 and not choice.is_ended:
            choice.first_token_ns = now_ns
            self._words[choice.row * SLOT_WORDS + _PENDING] -= choice.pending_tokens

    def ended(
        self,
        choice: Choice,
        ask: Ask,
        outcome: str,
        output_tokens: int,
        now_ns: int,
        *,
        prompt_tokens: int = 0,
    ) -> None:
        """One attempt is over: give back what was counted for it, and learn from it if it was completed.

        `prompt_tokens` is what the engine reported, 0 where it did not."""
        if choice.is_ended:
            return
        choice.is_ended = True
        words, start = self._words, choice.row * SLOT_WORDS
        words[start + _IN_FLIGHT] -= 1
        words[start + _KV] -= choice.kv_tokens
        if choice.first_token_ns < 0:
            words[start + _PENDING] -= choice.pending_tokens
        counter = _ENDED_AS.get(outcome)
        if counter is not None:
            words[start + counter] += 1
        if outcome != "completed":
            return
        self._lessons.learn(ask, prompt_tokens, output_tokens)
        if choice.generation == self._generation:
            self._compare(choice, ask, output_tokens, now_ns)

    def _compare(self, choice: Choice, ask: Ask, output_tokens: int, now_ns: int) -> None:
        """Predictions against what happened, where it can be told apart: in streams, or for answers in one piece."""
        ttft = tpot = 0.0
        predicted = (choice.engine_ttft_us, choice.engine_tpot_us)
        if ask.stream and choice.first_token_ns >= 0:
            ttft = (choice.first_token_ns - choice.decided_ns) / NS_PER_US
            if output_tokens > 1:
                tpot = (now_ns - choice.first_token_ns) / NS_PER_US / (output_tokens - 1)
        elif not ask.stream and output_tokens > 0:
            ttft, tpot = self._apart(choice, predicted, output_tokens, (now_ns - choice.decided_ns) / NS_PER_US)
        if ttft > 0.0:
            self._standing.learn(
                choice.row, predicted, choice.ahead, (ttft, tpot), decided_ns=choice.decided_ns, now_ns=now_ns
            )

    def _apart(
        self, choice: Choice, predicted: tuple[float, float], output_tokens: int, whole_us: float
    ) -> tuple[float, float]:
        """What (TTFT, TPOT) were of an answer that came in one piece; 0 where that cannot be told.

        With nobody ahead both are taken to be off by the same factor. With others ahead the time beyond what is known
        of decoding is taken for a wait, if it is longer; what is shorter tells of both again."""
        ttft, tpot = predicted
        if choice.ahead:
            ttft, tpot = self._standing.expected(choice.row, predicted, choice.ahead)
        decode_us = (output_tokens - 1) * tpot
        if choice.ahead and whole_us >= ttft + decode_us:
            return whole_us - decode_us, 0.0
        factor = whole_us / max(1.0, ttft + decode_us)
        return ttft * factor, (tpot * factor if output_tokens > 1 else 0.0)

    def failed(self, row: int, kind: str, now_ns: int) -> None:
        """An engine failed a request: a word of `health.words.FAILURES`."""
        if kind == "connect-failed":
            self._words[row * SLOT_WORDS + _CONNECT_FAILURES] += 1
        elif kind in ("reset", "truncated"):
            self._words[row * SLOT_WORDS + _BREAKS] += 1
        self._standing.observe(row, kind, now_ns)

    def succeeded(self, row: int, now_ns: int) -> None:
        """An engine answered a request as it should."""
        self._standing.observe(row, "success", now_ns)

    def upstream_body(self, ask: Ask, choice: Choice, body: bytes) -> bytes:
        """The body for the chosen engine: another name of the model if it has one, usage asked for where the client
        did not; byte for byte the same elsewhere."""
        served = choice.backend.served_model
        return rewrite(body, ask.model, None if served == ask.model else served, reports_usage=ask.adds_usage)
