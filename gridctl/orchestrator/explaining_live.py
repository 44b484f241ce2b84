"""Explaining live requests: the decision as it was made and what came of it, told by the worker that remembers it or by
a recording.

Decides where to ask. The decision is retold from the rows that the router saw; nothing is decided again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gridctl.broker.explanation import LiveExplanation, LiveStep
from gridctl.errors import InputError, NotFoundError
from gridctl.orchestrator.context import GridHome
from gridctl.routing.decision import Decision

NS_PER_MS = 1e6
HIT = "cache-"
"""How the reason of a request begins that the cache answered."""


def explain_live(home: GridHome, request_id: str) -> LiveExplanation:
    """What the orchestrator remembers of the request. Raises UnreachableError when none runs, NotFoundError when no
    worker remembers it."""
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        facts = client.request(request_id)
    return _from_memory(facts)


def explain_recorded(folder: str | Path, request_id: str) -> LiveExplanation:
    """What a recording holds of the request. Raises NotFoundError when it is not in it."""
    from gridctl.traces.recording import read_decisions, read_engines

    for row, kept in read_decisions(folder):
        if row.request_id != request_id:
            continue
        decision = None
        if kept:
            engines = read_engines(folder, row.generation)
            decision = _retold(kept, engines, "as recorded", row.origin, row.workload, row.tenant, row.timestamp)
        return LiveExplanation(
            request_id=row.request_id,
            outcome=row.outcome,
            reason=row.reason,
            status=row.status,
            attempts=row.attempts,
            workload=row.workload,
            tenant=row.tenant,
            origin=row.origin,
            model=row.model,
            input_tokens=row.input_length,
            output_tokens=row.output_length,
            is_estimated=row.is_estimated,
            predicted_ttft_ms=row.predicted_ttft_ms,
            ttft_ms=row.ttft_ms,
            tpot_ms=None,
            e2e_ms=row.e2e_ms,
            usd=row.usd,
            misses=(),
            steps=(),
            decision=decision,
            cache="hit" if row.reason.startswith(HIT) else "",
            cache_reason=row.reason.removeprefix(HIT) if row.reason.startswith(HIT) else "",
        )
    raise NotFoundError(
        f"the recording has no request {request_id}", where=str(folder), fix=f"gridctl trace head {folder}"
    )


def _from_memory(facts: dict[str, Any]) -> LiveExplanation:
    from gridctl.traces.recorded import RecordedEngine

    told: dict[str, Any] = facts.get("decision") or {}
    decision = None
    if told.get("seen") and told.get("engines"):
        engines = msgspec.convert(told["engines"], tuple[RecordedEngine, ...])
        kept, at_ms = bytes.fromhex(told["seen"]), facts["arrival_unix_ns"] / NS_PER_MS
        about = facts["origin"], facts["workload"], facts["tenant"]
        decision = _retold(kept, engines, told["policy"], *about, at_ms)
    first, last, end = (_after(facts, name) for name in ("first_token_ns", "last_token_ns", "end_ns"))
    tokens = facts["output_tokens"]
    return LiveExplanation(
        request_id=facts["request_id"],
        outcome=facts["outcome"],
        reason=facts["reason"],
        status=facts["status"],
        attempts=facts["attempts"],
        workload=facts["workload"],
        tenant=facts["tenant"],
        origin=facts["origin"],
        model=facts["model"],
        input_tokens=facts["prompt_tokens"],
        output_tokens=tokens,
        is_estimated=facts["is_estimated"],
        predicted_ttft_ms=facts["predicted_ttft_us"] / 1000 if told else None,
        ttft_ms=first if facts["stream"] else None,
        tpot_ms=(last - first) / (tokens - 1) if first is not None and last is not None and tokens > 1 else None,
        e2e_ms=end,
        usd=facts["usd"] if told else None,
        misses=tuple(facts["objective_misses"]),
        steps=_steps(facts),
        decision=decision,
        cache=facts.get("cache", ""),
        cache_reason=facts.get("cache_reason", ""),
        saved_usd=facts.get("saved_usd", 0.0),
    )


def _after(facts: dict[str, Any], name: str) -> float | None:
    """Milliseconds from the request's arrival to a moment, None when that never came."""
    return (facts[name] - facts["arrival_ns"]) / NS_PER_MS if facts[name] >= 0 else None


def _steps(facts: dict[str, Any]) -> tuple[LiveStep, ...]:
    moments = (
        ("read and decided", "decided_ns"),
        ("sent to the engine", "sent_ns"),
        ("until its first byte", "first_byte_ns"),
        ("until its first token", "first_token_ns"),
        ("until its last token", "last_token_ns"),
        ("until the end", "end_ns"),
    )
    steps, begin = [], 0.0
    for step, name in moments:
        at = _after(facts, name)
        if at is None or at < begin:
            continue
        steps.append(LiveStep(step=step, begin_ms=begin, took_ms=at - begin))
        begin = at
    return tuple(steps)


def _retold(kept: bytes, engines: Any, policy: str, origin: str, workload: str, tenant: str, at_ms: float) -> Decision:
    from gridctl.broker.retelling import Circumstances, retell
    from gridctl.broker.seen import read_seen

    return retell(read_seen(kept), engines, Circumstances(policy, origin, workload, tenant, at_ms))


def is_recorded(target: str) -> tuple[str, str] | None:
    """(folder, request id) of `FOLDER.recording/ID`, else None."""
    from gridctl.traces.recorded import SUFFIX

    folder, slash, request_id = target.rpartition("/")
    if not slash or not folder.rstrip("/").endswith(SUFFIX):
        return None
    if not request_id:
        raise InputError("which request of the recording?", where=target, fix=f"{folder}/REQUEST-ID")
    return folder, request_id
