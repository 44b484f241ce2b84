"""Recall: what a worker keeps of requests that have ended: the last few in memory, all of them in a recording.

The memory answers `explain` about a live request; the recording becomes a trace that can be replayed. Neither holds
text of a prompt or an answer.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gridctl.broker.menu import WORKLOAD_PREFIX
from gridctl.signals.finished import FIELDS, Finished, e2e_ns, ttft_ns, verdict
from gridctl.traces.recorded import Recorded, RecordedEngine
from gridctl.traces.recorder import Recorder

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.broker import Broker
    from gridctl.broker.choice import Choice

MOST_REMEMBERED: Final = 2048
MOST_WORST: Final = 10
MOST_ORIGINS: Final = 5
NS_PER_MS: Final = 1e6
MOST_MODELS: Final = 1024
NO_PROMPT: Final = ""
_LEFT_OUT: Final = frozenset(("ask", "choice"))
_NAMES: Final = tuple(name for name in FIELDS if name not in _LEFT_OUT)


class Memory:
    """The last requests."""

    __slots__ = ("_requests",)

    def __init__(self) -> None:
        self._requests: deque[Finished] = deque(maxlen=MOST_REMEMBERED)

    def remember(self, request: Finished) -> None:
        """Keep a request, of which nobody else needs to know any more what it asked, and forget the oldest."""
        request.ask = None  # thousands of them would be memory that every later request finds cold
        self._requests.append(request)

    def find(self, request_id: str) -> Finished | None:
        """The latest request of that id, if it is not too long ago. O(MOST_REMEMBERED)."""
        for request in reversed(self._requests):
            if request.request_id == request_id:
                return request
        return None

    def recent(self, site: str, since_ns: int) -> dict[str, Any]:
        """What was sent to a site and ended since a moment: per workload why and where from, and the worst requests.

        `reaches_ns` is how far back this memory goes, which may be less. O(MOST_REMEMBERED)."""
        requests = list(self._requests)
        is_full = len(requests) == MOST_REMEMBERED
        here = [request for request in requests if request.site == site and request.end_ns >= since_ns]
        workloads: dict[str, list[Finished]] = {}
        for request in here:
            workloads.setdefault(request.workload, []).append(request)
        return {
            "reaches_ns": max(since_ns, requests[0].end_ns) if is_full else since_ns,
            "worst": [_told(request) for request in sorted(here, key=_badness, reverse=True)[:MOST_WORST]],
            "routed": [
                {
                    "workload": name,
                    "requests": len(some),
                    "because": Counter(_because(request) for request in some),
                    "origins": dict(Counter(request.origin for request in some).most_common(MOST_ORIGINS)),
                }
                for name, some in workloads.items()
            ],
        }


def _badness(request: Finished) -> tuple[bool, int]:
    """What orders requests: those that count as bad, then by how long their client waited."""
    first = ttft_ns(request)
    waited = e2e_ns(request) if first is None else first
    return verdict(request.outcome, request.status, request.objective_misses) == "bad", waited or 0


def _because(request: Finished) -> str:
    choice = cast("Choice | None", request.choice)
    return choice.reason if choice is not None else ""


def _told(request: Finished) -> dict[str, Any]:
    first, whole = ttft_ns(request), e2e_ns(request)
    return {
        "request_id": request.request_id,
        "arrival_unix_ns": request.arrival_unix_ns,
        "workload": request.workload,
        "origin": request.origin,
        "cluster": request.cluster,
        "outcome": request.outcome,
        "reason": request.reason,
        "status": request.status,
        "verdict": verdict(request.outcome, request.status, request.objective_misses),
        "misses": request.objective_misses,
        "ttft_ms": None if first is None else first / NS_PER_MS,
        "predicted_ttft_ms": request.predicted_ttft_us / 1000,
        "e2e_ms": None if whole is None else whole / NS_PER_MS,
        "attempts": request.attempts,
    }


def named_engines(broker: Broker) -> list[RecordedEngine]:
    """Which engines the numbers in this broker's decisions mean, in their order."""
    live, hosts = broker.live, broker.sight.engines
    return [
        RecordedEngine(
            site=backend.site,
            cluster=backend.cluster,
            variant=backend.variant,
            replica=backend.replica,
            model=backend.model,
            tier=engine.facts.tier,
            batch_slots=int(host.max_num_seqs),
            kv_capacity_tokens=int(host.blocks_total * host.block_size),
        )
        for backend, engine, host in zip(live.backends, live.image.engines, hosts, strict=True)
    ]


def described(request: Finished, broker: Broker) -> dict[str, Any]:
    """A request as data that JSON can carry: its facts, and `decision` with what the router went by.

    `seen` in it are the candidate rows as `broker.seen` keeps them, in hexadecimal digits, and `engines` whom they
    number, unless the plan has changed since."""
    facts: dict[str, Any] = {name: getattr(request, name) for name in _NAMES}
    choice = cast("Choice | None", request.choice)
    if choice is not None:
        facts["decision"] = {
            "backend": msgspec.to_builtins(choice.backend),
            "generation": choice.generation,
            "candidates": choice.candidates,
            "reason": choice.reason,
            "runner_up": choice.runner_up,
            "cached_tokens": choice.cached_tokens,
            "seen": choice.seen.hex() if choice.seen is not None else None,
            "policy": broker.live.policy_name,
            "engines": msgspec.to_builtins(named_engines(broker)) if choice.generation == broker.generation else [],
        }
    return facts


class RecordingSink:
    """Writes requests that were understood into a recording; those refused before have no lengths to record.

    What arrived before `begun_ns` was decided before this recording, maybe by another plan: it is left out."""

    __slots__ = ("_models", "begun_ns", "recorder")

    def __init__(self, recorder: Recorder, begun_ns: int) -> None:
        self.recorder = recorder
        self.begun_ns = begun_ns
        self._models: dict[str, str] = {}

    def record(self, request: Finished) -> None:
        """Keep one request."""
        ask = cast("Ask | None", request.ask)
        if ask is None or request.arrival_ns < self.begun_ns:
            return
        choice = cast("Choice | None", request.choice)
        recorder = self.recorder
        first_ns = ttft_ns(request)
        model = self._models.get(request.model)
        if model is None:
            if len(self._models) >= MOST_MODELS:
                self._models.clear()
            model = self._models[request.model] = _model(request.model)
        # In the order of Recorded's fields: so many names would take longer to match than writing the row does.
        recorder.add(
            Recorded(
                recorder.timestamp(request.arrival_unix_ns),
                request.prompt_tokens,
                request.output_tokens or ask.output_tokens,
                ask.blocks.tolist() if len(ask.blocks) else [],
                request.origin,
                request.workload,
                request.tenant,
                model,
                ask.session if ask.session >= 0 else None,
                NO_PROMPT,
                request.request_id,
                request.outcome,
                request.reason,
                request.status,
                request.site,
                request.cluster,
                request.variant,
                None if first_ns is None else first_ns / NS_PER_MS,
                (request.end_ns - request.arrival_ns) / NS_PER_MS,
                request.predicted_ttft_us / 1000 if choice is not None else None,
                request.usd if choice is not None else None,
                request.attempts,
                request.is_estimated,
                choice.generation if choice is not None else 0,
            ),
            choice.seen or b"" if choice is not None else b"",
        )


def _model(asked: str) -> str:
    """The model that a request insisted on, for a trace: of `model/variant` the model, of `workload:name` none."""
    return "" if asked.startswith(WORKLOAD_PREFIX) else asked.partition("/")[0]
