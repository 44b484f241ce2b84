"""Access log: one line of JSON for every request that has ended. Never text of a prompt or an answer, never a key.

Lines are gathered and written together once a tick, by one system call, so that logging costs a request a microsecond
and no wait. A disk that is full loses lines, counts them and says so; it never fails a request.
"""

from __future__ import annotations

import os

import msgspec

from gridctl.signals.finished import Finished

FLUSH_BYTES = 256 * 1024
_encode = msgspec.json.Encoder().encode
NS_PER_MS = 1e6


class AccessLog:
    """Writes to an open descriptor; `lost` counts the lines that could not be written."""

    __slots__ = ("_descriptor", "_lines", "_size", "lost")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._size = 0
        self.lost = 0

    def write(self, request: Finished) -> None:
        """Add the request's line."""
        line = _encode(
            {
                "time_unix_ms": request.arrival_unix_ns // 1_000_000,
                "request_id": request.request_id,
                "traceparent": request.traceparent,
                "endpoint": request.endpoint,
                "status": request.status,
                "outcome": request.outcome,
                "reason": request.reason,
                "phase": request.phase,
                "tenant": request.tenant,
                "workload": request.workload,
                "origin": request.origin,
                "model": request.model,
                "site": request.site,
                "cluster": request.cluster,
                "variant": request.variant,
                "attempts": request.attempts,
                "stream": request.stream,
                "prompt_tokens": request.prompt_tokens,
                "cached_tokens": request.cached_tokens,
                "output_tokens": request.output_tokens,
                "is_estimated": request.is_estimated,
                "ttft_ms": _since(request.arrival_ns, request.first_token_ns),
                "e2e_ms": _since(request.arrival_ns, request.end_ns),
                "predicted_ttft_ms": round(request.predicted_ttft_us / 1000, 3),
                "usd": request.usd,
                "cache": request.cache,
                "cache_reason": request.cache_reason,
                "saved_usd": request.saved_usd,
                "objective_misses": request.objective_misses,
            }
        )
        self._lines.append(line)
        self._size += len(line)
        if self._size > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._lines:
            return
        count = len(self._lines)
        content = b"\n".join(self._lines) + b"\n"
        self._lines, self._size = [], 0
        try:
            written = os.write(self._descriptor, content)
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            self.lost += count


def _since(start_ns: int, then_ns: int) -> float | None:
    return round((then_ns - start_ns) / NS_PER_MS, 3) if then_ns >= 0 else None
