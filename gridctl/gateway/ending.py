"""Ending: what is known of an exchange when it has ended, put into the words that the meter and the log share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gridctl.signals.finished import Finished

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.refusal import Refusal
    from gridctl.gateway.attempt import Attempt
    from gridctl.gateway.exchange import Exchange
    from gridctl.gateway.usage import Usage

BYTES_PER_TOKEN: Final = 4
"""Of English text, roughly: only where an engine reports no usage and sends no stream."""
GENERATING: Final = frozenset(("chat", "completions", "messages", "responses"))
NO_MISSES: Final[tuple[str, ...]] = ()

_wall_offset_ns = time.time_ns() - time.monotonic_ns()


def set_wall_clock() -> None:
    """Read the wall clock anew; called once in a while, so that a request needs only the monotonic one."""
    global _wall_offset_ns
    _wall_offset_ns = time.time_ns() - time.monotonic_ns()


def outcome_of_refusal(refusal: Refusal) -> str:
    """`rejected` when we would not serve a request that somebody could have; `refused` when the request is at fault, or
    its client asks for more than it may."""
    if refusal.reason == "quota":
        return "refused"
    return "rejected" if refusal.status in (429, 503, 504) or refusal.status >= 500 else "refused"


def refused_early(refusal: Refusal, request_id: bytes, arrival_ns: int, endpoint: str) -> Finished:
    """A request whose head or body could not be read."""
    return Finished(
        request_id=request_id.decode("ascii"),
        endpoint=endpoint,
        outcome=outcome_of_refusal(refusal),
        reason=refusal.reason,
        status=refusal.status,
        arrival_unix_ns=arrival_ns + _wall_offset_ns,
        arrival_ns=arrival_ns,
        end_ns=time.monotonic_ns(),
    )


def finished_of(
    exchange: Exchange,
    ask: Ask | None,
    endpoint: str,
    outcome: str,
    reason: str,
    status: int,
    now_ns: int,
    usage: Usage | None,
    body_bytes: int,
) -> Finished:
    """Everything about a request that has ended. O(1)."""
    attempt = exchange.relaying
    if attempt is None:
        attempt = exchange.attempt
    if ask is None or attempt is None:
        return _undecided(exchange, ask, endpoint, outcome, reason, status, now_ns)
    choice, arrival_ns = attempt.choice, exchange.arrival_ns
    backend = choice.backend
    # In the order of Finished's fields: so many names would take longer to match than all else here.
    finished = Finished(
        ask.request_id, endpoint, ask.workload, ask.tenant, ask.origin, ask.model, choice.row,
        backend.site, backend.cluster, backend.variant, outcome, reason, status, _phase(exchange, attempt, outcome),
        arrival_ns + _wall_offset_ns, arrival_ns, exchange.decided_ns, attempt.sent_ns, attempt.first_byte_ns,
        exchange.first_token_ns, exchange.last_token_ns, now_ns, ask.prompt_tokens, 0, 0, False,
        choice.predicted_ttft_us, choice.predicted_tpot_us, choice.usd, choice.rtt_us, exchange.attempts, ask.stream,
        NO_MISSES, ask.traceparent, ask, choice,
    )  # fmt: skip
    scanner = attempt.scanner
    if usage is None and scanner is not None:
        usage = scanner.usage
    _count_tokens(finished, usage, scanner.deltas if scanner is not None else -1, body_bytes)
    return finished


def _undecided(
    exchange: Exchange, ask: Ask | None, endpoint: str, outcome: str, reason: str, status: int, now_ns: int
) -> Finished:
    """A request that was given to no engine."""
    finished = Finished(exchange.request_id.decode("ascii"), endpoint)
    finished.outcome, finished.reason, finished.status = outcome, reason, status
    finished.arrival_ns, finished.end_ns = exchange.arrival_ns, now_ns
    finished.arrival_unix_ns = exchange.arrival_ns + _wall_offset_ns
    finished.decided_ns = exchange.decided_ns
    finished.first_token_ns, finished.last_token_ns = exchange.first_token_ns, exchange.last_token_ns
    finished.attempts = exchange.attempts
    finished.traceparent = exchange.traceparent.decode("ascii")
    if ask is not None:
        finished.request_id, finished.traceparent, finished.ask = ask.request_id, ask.traceparent, ask
        finished.workload, finished.tenant, finished.origin = ask.workload, ask.tenant, ask.origin
        finished.model, finished.stream, finished.prompt_tokens = ask.model, ask.stream, ask.prompt_tokens
    return finished


def _phase(exchange: Exchange, attempt: Attempt, outcome: str) -> str:
    if outcome == "completed":
        return "done"
    if attempt.sent_ns < 0:
        return "queued"
    return "streaming" if exchange.relaying is not None else "before-first-byte"


def _count_tokens(finished: Finished, usage: Usage | None, deltas: int, body_bytes: int) -> None:
    """The engine's own numbers where it gives them; else ours, marked as estimates."""
    if usage is not None:
        if usage.prompt_tokens is not None:
            finished.prompt_tokens = usage.prompt_tokens
        finished.cached_tokens = usage.cached_tokens or 0
    if usage is not None and usage.output_tokens is not None:
        finished.output_tokens = usage.output_tokens
        return
    if deltas >= 0:
        finished.output_tokens, finished.is_estimated = deltas, True
    elif finished.endpoint in GENERATING and finished.status < 300:
        finished.output_tokens, finished.is_estimated = body_bytes // BYTES_PER_TOKEN, True
    else:
        finished.is_estimated = usage is None
