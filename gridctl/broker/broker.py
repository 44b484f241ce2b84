"""Broker: one worker's decisions: a request understood, an engine chosen, what became of it taken in.

The choice is `routing.route`'s, over the rows that `broker.rows` fills; hard constraints come before it and nothing
here relaxes them. Invariant: what `decide` counts on the board, `first_token` and `ended` take back, exactly once,
however the request ends. Not for several threads; knows no clock but the caller's, save for the expiry of keys.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from gridctl.broker.ask import UNNAMED_SESSION, Ask, Principal
from gridctl.broker.blocks import WINDOW_BYTES, prompt_blocks, tenant_seed
from gridctl.broker.body import ANSWERS_IN_ONE, read_body
from gridctl.broker.choice import Choice
from gridctl.broker.courtesies import USAGE_ON_REQUEST, deadline_of, endpoint_of, request_id_of, session_of
from gridctl.broker.groups import Group, Groups, refusal_of
from gridctl.broker.head import Head
from gridctl.broker.keys import Keyring
from gridctl.broker.learning import Lengths, TokenRates
from gridctl.broker.live import MOST_TRIED, Live, check_rows, make_sight, resolve
from gridctl.broker.menu import Menu
from gridctl.broker.origins import Origins
from gridctl.broker.plan import Plan
from gridctl.broker.refusal import Refusal, bad_request, too_busy, unavailable
from gridctl.broker.rows import (
    CLOSED,
    COUNT,
    FITTING,
    FULL,
    Sight,
    decision_over,
)
from gridctl.broker.seen import keep_seen
from gridctl.broker.splice import rewrite
from gridctl.broker.standing import Standing
from gridctl.routing.route import REFUSED
from gridctl.signals.board import Board
from gridctl.signals.rows import SLOT_AT, SLOT_WORDS
from gridctl.units import NS_PER_US

DRAW_BITS = 31
RETRY_BUSY_MS = 1_000
LEAST_SHARE_OF_ESTIMATE = 2
"""A prompt has at least so much less than its estimated tokens, for sure: engines count, we only refuse what is
certain."""

_IN_FLIGHT, _PENDING, _KV = (SLOT_AT[name] for name in ("in_flight", "pending_tokens", "kv_tokens"))
_ENDED_AS = {"completed": SLOT_AT["completed"], "failed": SLOT_AT["failures"], "cancelled": SLOT_AT["cancels"]}
_CONNECT_FAILURES = SLOT_AT["connect_failures"]


class Broker:
    """The decisions of one worker under a plan; `reload` takes the next one."""

    def __init__(self, plan: Plan, board: Board, worker: int, *, seed: int | None = None) -> None:
        self._board = board
        self._worker = worker
        self._words = board.slot_words(worker)
        self._standing = Standing(board.backends)
        self._rates = TokenRates()
        self._lengths = Lengths({})
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits
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
        return self._lengths.expected(workload, None)

    def group_of(self, principal: Principal, origin: str | None, model: str) -> Group:
        """The candidates of such requests; `origin` may be any place, None is the default. Raises what `ask` does, and
        InputError or NotFoundError for an origin that nobody knows."""
        where = self._origins.default if origin is None else self._origins.named(origin)
        return self._groups.of(where, self._menu.meaning(principal, "", model))

    def reload(self, plan: Plan) -> None:
        """Go on under another plan. What is known of engines and workloads that stay is kept; a plan that cannot be
        resolved raises, and the one in use stays."""
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        live = resolve(plan)
        check_rows(live, self._board)
        view = live.whole.view
        origins = Origins(view.sites, plan.settings)
        menu = Menu(view.workloads, view.models, live.backends, plan.settings)
        keyring = Keyring(plan.keys, plan.settings)
        lengths = Lengths({name: spec.traffic.mean_output_tokens for name, spec in live.workloads.items()})
        lengths.adopt(self._lengths)
        self._standing.adopt(live.backends)
        self._sight: Sight = make_sight(live, self._board, self._worker, self._standing.own, self._standing.prefixes)
        self._live: Live = live
        self._lengths, self._origins, self._menu, self._keyring = lengths, origins, menu, keyring
        self._settings, self._generation, self._salt = plan.settings, plan.generation, plan.salt
        self._seeds: dict[str, bytes] = {}
        self._groups = Groups(live, plan.generation)
        self._answer = self._sight.answer
        self._decide = decision_over(self._sight)
        self._reasons = [
            "" if policy.algorithm == "grid" else policy.algorithm
            for policy in (live.policy.for_workload(name) for name in live.workloads)
        ]

    # ── a request ──

    def principal(self, head: Head) -> Principal:
        """Who asks. Raises Refusal: 401 or 403."""
        return self._keyring.principal(head.headers)

    def models(self, principal: Principal) -> list[dict[str, object]]:
        """The entries of `/v1/models` for a caller."""
        return [
            {"id": name, "object": "model", "created": 0, "owned_by": "gridctl"}
            for name in self._menu.offered(principal)
        ]

    def ask(self, head: Head, body: bytes, now_ns: int) -> Ask:
        """Understand a request. Raises Refusal for one that cannot be, or that its caller may not make."""
        headers, settings = head.headers, self._settings
        endpoint = endpoint_of(head.method, head.path)
        principal = self._keyring.principal(headers)
        read = read_body(endpoint, body)
        wanted = headers.get(b"x-gridctl-workload")
        meant = self._menu.meaning(principal, wanted.decode("latin-1") if wanted is not None else "", read.model)
        where = self._origins.of(head)
        group = self._groups.of(where, meant)
        tenant = principal.tenant
        seed = self._seeds.get(tenant)
        if seed is None:
            seed = self._seeds[tenant] = tenant_seed(self._salt, tenant)
        prompt = read.prompt
        rate = self._rates.rate(meant.model or "")
        exact = prompt.exact_tokens
        tokens = exact if exact is not None else max(1, int(prompt.text_bytes * rate)) + prompt.media_tokens
        in_one = endpoint in ANSWERS_IN_ONE
        session = session_of(headers, read.affinity, seed)
        spec = self._live.workloads[meant.workload]
        return Ask(
            request_id=request_id_of(headers),
            endpoint=endpoint,
            principal=principal,
            workload=meant.workload,
            tenant=tenant,
            origin=where.origin.name,
            model=read.model,
            arrival_ns=now_ns,
            deadline_ns=deadline_of(headers, settings.deadline_ms, now_ns),
            stream=read.stream,
            wants_usage=read.wants_usage,
            prompt_tokens=tokens,
            least_tokens=exact if exact is not None else tokens // LEAST_SHARE_OF_ESTIMATE,
            text_bytes=prompt.text_bytes if exact is None else 0,
            media_tokens=prompt.media_tokens,
            max_tokens=read.max_tokens,
            output_tokens=1 if in_one else self._lengths.expected(meant.workload, read.max_tokens),
            draw=self._bits(DRAW_BITS),
            session=UNNAMED_SESSION if session is None else session,
            blocks=prompt_blocks(seed, prompt.text),
            tokens_per_block=max(1, int(WINDOW_BYTES * rate)),
            when_infeasible=spec.when_infeasible,
            jurisdiction=where.origin.jurisdiction,
            adds_usage=(read.stream and not read.wants_usage and settings.adds_usage and endpoint in USAGE_ON_REQUEST),
            group=group,
        )

    def decide(self, ask: Ask, now_ns: int, tried: Collection[int] = ()) -> Choice:
        """Choose an engine and count the request there; `tried` are rows not to use again. Raises Refusal."""
        group = ask.group
        if group is None or group.generation != self._generation:
            group = self._regrouped(ask)
        if not len(group.engines):
            raise refusal_of(group)
        if now_ns >= self._standing.due_ns:
            self._standing.tick(now_ns)
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

    def _choice(self, group: Group, index: int, told: list[float], now_ns: int) -> Choice:
        row, engine, ttft, tpot, engine_ttft, engine_tpot, usd, rtt, cached, pending, kv, other, worst, *_ = told
        number, seen = int(engine), None
        if self._settings.records_decisions:
            sight, one = self._sight, slice(group.workload, group.workload + 1)
            seen = keep_seen(sight.rows, int(told[COUNT]), sight.templates[one], sight.policies[one], index)
        return Choice(
            self._live.backends[number],
            int(row),
            self._live.image.engines[number].facts,
            self._generation,
            now_ns,
            ttft,
            tpot,
            engine_ttft,
            engine_tpot,
            usd,
            rtt,
            int(cached),
            int(told[COUNT]),
            self._reasons[group.workload] or ("cheapest" if worst <= 1.0 else "least-late"),
            int(other),
            seen,
            int(pending),
            int(kv),
        )

    def _regrouped(self, ask: Ask) -> Group:
        """The request's candidates under the plan in use, which is not the one it was understood under."""
        before = ask.group
        assert before is not None, "an ask comes from this broker"
        if before.meant.workload not in self._live.workloads:
            raise unavailable("The request's workload is no longer served.", reason="no-candidate", retry_after_ms=0)
        ask.group = self._groups.of(before.where, before.meant)
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
        return unavailable(
            f"No engine with {what} is in a state to answer."
            if told[CLOSED] > 0
            else f"No engine with {what} may be used.",
            reason="no-candidate",
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
        if output_tokens > 0:
            self._lengths.learn(ask.workload, output_tokens)
        if prompt_tokens > 0 and ask.text_bytes > 0 and ask.media_tokens == 0 and ask.group is not None:
            self._rates.learn(ask.group.meant.model or "", ask.text_bytes, prompt_tokens)
        if choice.generation == self._generation:
            self._compare(choice, ask, output_tokens, now_ns)

    def _compare(self, choice: Choice, ask: Ask, output_tokens: int, now_ns: int) -> None:
        """Predictions against what happened, where it can be told apart: in streams, or for answers in one piece."""
        ttft = tpot = 0.0
        if ask.stream and choice.first_token_ns >= 0:
            ttft = (choice.first_token_ns - choice.decided_ns) / NS_PER_US
            if output_tokens > 1:
                tpot = (now_ns - choice.first_token_ns) / NS_PER_US / (output_tokens - 1)
        elif not ask.stream and output_tokens > 0:
            # The whole in one: both are taken to be off by the same factor.
            whole = choice.engine_ttft_us + (output_tokens - 1) * choice.engine_tpot_us
            factor = (now_ns - choice.decided_ns) / NS_PER_US / max(1.0, whole)
            ttft = factor * choice.engine_ttft_us
            tpot = factor * choice.engine_tpot_us if output_tokens > 1 else 0.0
        if ttft > 0.0:
            self._standing.learn(choice.row, (choice.engine_ttft_us, choice.engine_tpot_us), (ttft, tpot))

    def failed(self, row: int, kind: str, now_ns: int) -> None:
        """An engine failed a request: a word of `health.words.FAILURES`."""
        if kind == "connect-failed":
            self._words[row * SLOT_WORDS + _CONNECT_FAILURES] += 1
        self._standing.observe(row, kind, now_ns)

    def succeeded(self, row: int, now_ns: int) -> None:
        """An engine answered a request as it should."""
        self._standing.observe(row, "success", now_ns)

    def upstream_body(self, ask: Ask, choice: Choice, body: bytes) -> bytes:
        """The body for the chosen engine: another name of the model if it has one, usage asked for where the client
        did not; byte for byte the same elsewhere."""
        served = choice.backend.served_model
        return rewrite(body, ask.model, None if served == ask.model else served, reports_usage=ask.adds_usage)
