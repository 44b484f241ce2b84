"""Exchange: the life of one request, from its last byte read to exactly one end.

    ask ─▶ decide ─▶ try an engine ─▶ relay ─▶ end
             ▲            │ nothing relayed yet, budget, deadline, another engine left
             └────────────┘

It ends completed, refused, rejected, failed, cancelled or expired, once, whatever order client and engine break in; the
broker hears of the end of every choice, the meter of the end of the request. No task and no future of its own: what it
waits for calls it back. Which engine takes over from one that does not answer is decided in `trying`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gridctl.broker.refusal import Refusal
from gridctl.gateway import trying
from gridctl.gateway.ending import finished_of, outcome_of_refusal
from gridctl.gateway.reply import Reply
from gridctl.gateway.retries import MOST_LOST
from gridctl.gateway.sse import EventScanner
from gridctl.gateway.trace_context import child_of, request_id_of
from gridctl.gateway.usage import Usage, usage_at_end, usage_of_answer

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.head import Head
    from gridctl.gateway.recipient import Recipient
    from gridctl.gateway.serving import Serving
    from gridctl.gateway.visit import Visit
    from gridctl.signals.finished import Finished

_now_ns: Final = time.monotonic_ns
NEVER: Final = -1
NO_CACHE: Final = b"bypass"
SERVER_ERROR: Final = "server_error"
LEAST_PATIENCE_NS: Final = 5_000_000_000
"""An engine that has been silent for less than this, or than ten times what was predicted, has not failed."""
AFTER_END_NS: Final = 500_000_000
"""How long a stream that said it is over may take to end its response."""
LEAST_HEDGE_NS: Final = 50_000_000
"""A second copy is asked for after twice the time that was predicted, but not sooner than this."""


class Exchange:
    """One request of one client connection. `ask` is what the broker understood of it, `attempt` the try under way and
    `rival` a second one beside it, `relaying` the one whose answer the client is getting; `tried` are the rows of all
    engines that were asked, `lost_rows` of those that broke under it."""

    __slots__ = (
        "_comment_at_ns",
        "_endpoint",
        "_is_on_trial",
        "_reply",
        "arrival_ns",
        "ask",
        "attempt",
        "attempts",
        "body",
        "client",
        "decided_ns",
        "ended_ns",
        "first_token_ns",
        "head",
        "hedge_at_ns",
        "holds_retry",
        "is_over",
        "last_token_ns",
        "lost_engines",
        "lost_rows",
        "relaying",
        "request_id",
        "rival",
        "serving",
        "traceparent",
        "tried",
        "visit",
        "workload",
    )

    def __init__(self, serving: Serving, client: Recipient, head: Head, endpoint: str, body: bytes) -> None:
        self.serving = serving
        self.client = client
        self.head = head
        self.arrival_ns = _now_ns()
        self.attempt: Attempt | None = None
        self.relaying: Attempt | None = None
        self.attempts = 0
        self.decided_ns = self.first_token_ns = self.last_token_ns = self.ended_ns = NEVER
        self.is_over = False
        self.workload = ""
        self.request_id = request_id_of(head.headers.get(b"x-request-id"))
        self.traceparent = child_of(head.headers.get(b"traceparent"))
        self.ask: Ask | None = None
        self.body = body
        self._endpoint = endpoint
        self.tried: tuple[int, ...] = ()
        self.rival: Attempt | None = None
        self.holds_retry = False
        self._reply = Reply(client, endpoint)
        self._comment_at_ns = NEVER
        self.lost_engines = 0
        self.lost_rows: tuple[int, ...] = ()
        self._is_on_trial = False
        self.hedge_at_ns = NEVER
        self.visit: Visit | None = None
        """The request's dealings with the cache, where there are any."""

    @property
    def reply(self) -> Reply:
        """What has gone to the client."""
        return self._reply

    @property
    def cache_word(self) -> bytes:
        """What the answer's head tells of the cache."""
        return NO_CACHE if self.visit is None else self.visit.word

    # ── deciding ──

    def start(self) -> None:
        """Understand the request and have it answered, by the cache or an engine, or refuse it."""
        serving = self.serving
        serving.in_flight += 1
        serving.hedges.requests += 1
        try:
            if serving.suspects:
                self._is_on_trial = serving.suspects.check(self.head.path, self.body, self.arrival_ns)
                self.lost_engines = MOST_LOST if self._is_on_trial else 0
            ask = self.ask = serving.broker.ask(self.head, self.body, self.arrival_ns)
            ask.request_id = self.request_id.decode("ascii")
            ask.traceparent = self.traceparent.decode("ascii")
            self.workload = ask.workload
        except Refusal as refusal:
            self._refuse(refusal)
            return
        caching = serving.caching
        if caching is None or not caching.takes(self, ask, self.body):
            self.ask_an_engine()

    def ask_an_engine(self) -> None:
        """Give the request to the engine that the broker chooses, or refuse it."""
        serving, ask = self.serving, self.ask
        assert ask is not None
        try:
            attempt = trying.decide(self, ask)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self.attempt = attempt
        if serving.settings.hedge and ask.stream:
            self.hedge_at_ns = self.decided_ns + max(LEAST_HEDGE_NS, int(attempt.choice.predicted_ttft_us * 2000))
        if serving.sse_keep_alive_ns and ask.stream:
            self._comment_at_ns = self.decided_ns + serving.sse_keep_alive_ns
        attempt.start()
        self.look_again()

    def request_for(self, attempt: Attempt) -> bytes:
        """The bytes that ask an attempt's engine."""
        assert self.ask is not None
        body = self.serving.broker.upstream_body(self.ask, attempt.choice, self.body)
        return attempt.upstream.request(self._endpoint, self.head, self.request_id, self.traceparent, body)

    def scanner_for_stream(self) -> EventScanner:
        """What follows the engine's stream, and takes out the usage that only we asked for."""
        assert self.ask is not None
        return EventScanner(self._endpoint, drops_usage=self.ask.adds_usage)

    # ── what an attempt says when its engine does not answer ──

    def engine_declined(self, attempt: Attempt, kind: str) -> None:
        """An engine answered that it cannot."""
        trying.declined(self, attempt, kind)

    def attempt_failed(self, attempt: Attempt, kind: str, why: str = "") -> None:
        """An attempt broke. Nothing more comes of it."""
        trying.failed(self, attempt, kind, why)

    def without_room(self, attempt: Attempt, why: str) -> None:
        """This worker can open no connection to anybody."""
        trying.without_room(self, attempt, why)

    # ── relaying ──

    def first_token(self, attempt: Attempt, now_ns: int) -> None:
        """The first token of the answer has come."""
        if self.ask is not None and not attempt.is_over:
            self.first_token_ns = now_ns
            self.serving.broker.first_token(attempt.choice, self.ask, now_ns)

    def answered_whole(self, attempt: Attempt, body: bytes) -> None:
        """An answer in one piece is complete and nothing of it has gone to the client yet."""
        self._adopt(attempt)
        visit = self.visit
        self._reply.whole(attempt, body if visit is None else visit.heard_whole(attempt, body))
        head = attempt.head
        assert head is not None
        usage = usage_of_answer(body) if head.status < 300 and not head.is_encoded else None
        self._completed(attempt, usage, len(body))

    def relay(self, attempt: Attempt, data: bytes, is_last: bool) -> None:
        """Pass on a piece of an answer that does not come in one."""
        client = self.client
        if self.visit is not None:
            self.visit.heard(attempt, data)
        if self.relaying is attempt:
            self._reply.go_on(data, is_last=is_last)
        else:
            self._adopt(attempt)
            self._reply.begin(attempt, data, is_last=is_last)
            if not is_last:
                self.look_again()
        if is_last:
            scanner = attempt.scanner
            self._completed(attempt, scanner.usage if scanner else usage_at_end(attempt.relayed_tail), 0)
        elif client.is_paused and attempt.connection is not None:
            attempt.connection.pause()

    def _adopt(self, attempt: Attempt) -> None:
        """This attempt's answer is the one; a rival is cancelled."""
        self.relaying = attempt
        if self.rival is not None:
            loser = self.rival if attempt is self.attempt else self.attempt
            self.attempt, self.rival = attempt, None
            if loser is not None:
                loser.abandon()
                self.close(loser, "cancelled", 0, _now_ns())

    def _completed(self, attempt: Attempt, usage: Usage | None, body_bytes: int) -> None:
        """The whole answer has been written to the client."""
        head, scanner = attempt.head, attempt.scanner
        assert head is not None
        now, row = _now_ns(), attempt.choice.row
        if head.status >= 500:
            self.serving.broker.failed(row, "status-5xx", now)
        elif head.status != 429:
            self.serving.broker.succeeded(row, now)
            self.serving.suspects.served(row, now)
            if self._is_on_trial:
                self.serving.suspects.clear(self.head.path, self.body)
        outcome, reason = "completed", ""
        if scanner is not None and scanner.is_error:
            outcome, reason = "failed", "upstream-error"
        elif head.status >= 500:
            reason = "upstream-status"
        self._end(outcome, reason, self._reply.status, now, usage, body_bytes)

    # ── ending ──

    def client_gone(self, reason: str = "client-gone") -> None:
        """The client has left, or was cut off for not reading: the engine's connection is closed at once."""
        if self.is_over or (self.visit is not None and self.visit.goes_on_without(reason)):
            return
        self._end("cancelled", reason, 499, _now_ns())

    def answered_by_another(self, usage: Usage) -> None:
        """An answer that this request's own engine, if it has one, did not give has been written to the client."""
        self._end("completed", "", 200, _now_ns(), usage)

    def give_up(self, refusal: Refusal) -> None:
        """The answer that the client was getting broke off, and it was not our engine's."""
        self.fail(refusal, "failed")

    def has_lost_its_client(self, nobody: Recipient, reason: str) -> Finished:
        """Go on for others who wait for the same answer; what is known of the client's request, which has ended."""
        now = _now_ns()
        finished = finished_of(self, self.ask, self._endpoint, "cancelled", reason, 499, now, None, 0)
        self.client = nobody
        self._reply.turn_to(nobody)
        return finished

    def on_pause(self) -> None:
        """The client is slower than the engine."""
        attempt = self.relaying
        if attempt is not None and attempt.connection is not None:
            attempt.connection.pause()

    def on_resume(self) -> None:
        """The client has caught up."""
        attempt = self.relaying
        if attempt is not None and attempt.connection is not None:
            attempt.last_ns = _now_ns()
            attempt.connection.resume()
        elif self.visit is not None:
            self.visit.on_resume()

    def next_look_ns(self) -> int:
        """When something may be late: the deadline, the engine's first byte, its stream, or a hedge."""
        ask, attempt, serving = self.ask, self.attempt, self.serving
        assert ask is not None
        look = ask.deadline_ns
        if attempt is not None:
            if attempt.last_ns >= 0:
                stall = AFTER_END_NS if attempt.scanner and attempt.scanner.is_done else serving.stream_stall_ns
                late = attempt.last_ns + stall
            else:
                since = attempt.sent_ns if attempt.sent_ns >= 0 else self.decided_ns
                late = since + serving.first_byte_timeout_ns
            if late < look:
                look = late
        if 0 <= self.hedge_at_ns < look:
            look = self.hedge_at_ns
        if 0 <= self._comment_at_ns < look and self.relaying is None:
            look = self._comment_at_ns
        return look

    def look_again(self) -> None:
        """What is waited for has changed, and with it when that is late."""
        if not self.is_over:
            self.client.look_at(self.next_look_ns())

    def on_look(self, now_ns: int) -> None:
        """The time of `next_look_ns` has come."""
        ask, attempt = self.ask, self.attempt
        assert ask is not None
        if 0 <= self.hedge_at_ns <= now_ns:
            trying.hedge(self)
        if 0 <= self._comment_at_ns <= now_ns and self.relaying is None and attempt is not None:
            self._comment_at_ns = now_ns + self.serving.sse_keep_alive_ns
            self._reply.comment(attempt)
        if now_ns >= ask.deadline_ns:
            self._expire(now_ns)
        elif attempt is not None and now_ns >= self.next_look_ns():
            scanner = attempt.scanner
            if self.client.is_paused:
                attempt.last_ns = now_ns
            elif scanner is not None and scanner.is_whole and self.relaying is attempt:
                attempt.abandon()
                self.relay(attempt, b"", True)
            else:
                attempt.abandon()
                self.attempt_failed(attempt, "stall" if attempt.last_ns >= 0 else "timeout")

    def drain(self) -> None:
        """The worker has no more time: end now, with an error the client can read."""
        if not self.is_over:
            self.fail(self.serving.draining_refusal(), "rejected")

    def broke(self) -> None:
        """The gateway itself failed: end with an error that says so and nothing else."""
        if not self.is_over:
            refusal = Refusal(500, "The gateway failed.", reason="internal", type=SERVER_ERROR, code="internal_error")
            self.fail(refusal, "failed")

    def _expire(self, now_ns: int) -> None:
        attempt = self.attempt
        if attempt is not None and attempt.first_byte_ns < 0 and attempt.sent_ns >= 0:
            patience = max(LEAST_PATIENCE_NS, int(attempt.choice.predicted_ttft_us * 10_000))
            if now_ns - attempt.sent_ns > patience:
                self.serving.broker.failed(attempt.choice.row, "timeout", now_ns)
        refusal = Refusal(
            504,
            "The request's deadline passed before its answer was complete.",
            reason="deadline",
            type=SERVER_ERROR,
            code="deadline_exceeded",
            should_retry=False,
        )
        self.fail(refusal, "expired")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer for the broker, which gave the request to no engine."""
        self.fail(refusal, outcome_of_refusal(refusal))

    def fail(self, refusal: Refusal, outcome: str) -> None:
        """End with an error in the shape that the client still can read."""
        if self.visit is not None and self.visit.rescues(refusal):
            return
        self._reply.fail(refusal, self.request_id)
        self._end(outcome, refusal.reason, self._reply.status, _now_ns())

    def close(self, attempt: Attempt, outcome: str, output_tokens: int, now_ns: int, prompt_tokens: int = 0) -> None:
        """Tell the broker of the end of an attempt, once."""
        if attempt.is_over:
            return
        attempt.is_over = True
        assert self.ask is not None
        if outcome == "completed" and attempt.head is not None and attempt.head.status >= 400:
            # An error passed on whole is no answer: not one for the engine, and none to learn lengths and times from.
            outcome = "failed" if attempt.head.status >= 500 else "refused"
        self.serving.broker.ended(attempt.choice, self.ask, outcome, output_tokens, now_ns, prompt_tokens=prompt_tokens)

    def _end(
        self, outcome: str, reason: str, status: int, now_ns: int, usage: Usage | None = None, body_bytes: int = 0
    ) -> None:
        """The one end of every exchange."""
        if self.is_over:
            return
        self.is_over = True
        self.ended_ns = now_ns
        serving, attempt, rival = self.serving, self.attempt, self.rival
        serving.in_flight -= 1
        if self.holds_retry:
            serving.retries.give_back()
        finished = finished_of(self, self.ask, self._endpoint, outcome, reason, status, now_ns, usage, body_bytes)
        if rival is not None:
            rival.abandon()
            self.close(rival, "cancelled", 0, now_ns)
        if attempt is not None:
            attempt.abandon()
            reported = usage.prompt_tokens if usage is not None else None
            self.close(attempt, outcome, finished.output_tokens, now_ns, reported or 0)
        # Attempts know their exchange: without this a body would be held until the collector finds the circle.
        self.attempt = self.relaying = self.rival = None
        self.body = b""
        visit, self.visit = self.visit, None
        if visit is None or visit.ended(finished):
            serving.ended(finished, is_whole=outcome == "completed")
        self.client.ended(self)
