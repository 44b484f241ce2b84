"""Recall: what a worker keeps of requests that have ended: the last few in memory, all of them in a recording.

The memory answers `explain` about a live request; the recording becomes a trace that can be replayed. Neither holds
text of a prompt or an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import msgspec

from gridctl.signals.finished import Finished, ttft_ns
from gridctl.traces.recorder import Recorded, Recorder

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.choice import Choice

MOST_REMEMBERED = 2048
NS_PER_MS = 1e6
_LEFT_OUT = frozenset(("ask", "choice"))
_NAMES = tuple(name for name in Finished.__dataclass_fields__ if name not in _LEFT_OUT)


class Memory:
    """The last requests by id."""

    __slots__ = ("_requests",)

    def __init__(self) -> None:
        self._requests: OrderedDict[str, Finished] = OrderedDict()

    def remember(self, request: Finished) -> None:
        """Keep a request; the oldest is forgotten."""
        self._requests[request.request_id] = request
        if len(self._requests) > MOST_REMEMBERED:
            self._requests.popitem(last=False)

    def find(self, request_id: str) -> Finished | None:
        """The request of that id, if it is not too long ago."""
        return self._requests.get(request_id)


def described(request: Finished) -> dict[str, Any]:
    """A request as data that JSON can carry: its facts, and `decision` with what the router went by.

    `seen` in it are the candidate rows as `broker.seen` keeps them, in hexadecimal digits."""
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
        }
    return facts


class RecordingSink:
    """Writes requests that were understood into a recording; those refused before have no lengths to record."""

    __slots__ = ("recorder",)

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def record(self, request: Finished) -> None:
        """Keep one request."""
        ask = cast("Ask | None", request.ask)
        if ask is None:
            return
        choice = cast("Choice | None", request.choice)
        recorder = self.recorder
        first_ns = ttft_ns(request)
        recorder.add(
            Recorded(
                timestamp=recorder.timestamp(request.arrival_unix_ns),
                input_length=request.prompt_tokens,
                output_length=request.output_tokens or ask.output_tokens,
                hash_ids=ask.blocks.tolist(),
                origin=request.origin,
                workload=request.workload,
                tenant=request.tenant,
                model=request.model,
                session=ask.session if ask.session >= 0 else None,
                request_id=request.request_id,
                outcome=request.outcome,
                reason=request.reason,
                status=request.status,
                site=request.site,
                cluster=request.cluster,
                variant=request.variant,
                ttft_ms=None if first_ns is None else first_ns / NS_PER_MS,
                e2e_ms=(request.end_ns - request.arrival_ns) / NS_PER_MS,
                predicted_ttft_ms=request.predicted_ttft_us / 1000 if choice is not None else None,
                usd=request.usd if choice is not None else None,
                attempts=request.attempts,
                is_estimated=request.is_estimated,
            ),
            choice.seen or b"" if choice is not None else b"",
        )
