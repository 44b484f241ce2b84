"""Pace: when a request's tokens come. What the twin and the plain engine have in common, and what a request must be.

A pace is told of a request once, tells the request how many tokens it has been given as they come, and is told once
when its client leaves. It knows no bytes and no sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class EngineFullError(Exception):
    """The engine has no room for another request."""


class Answer(Protocol):
    """A request in the engine. `blocks` are the hashes of its prompt's whole blocks, each with all before it."""

    @property
    def prompt_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def priority(self) -> int: ...
    @property
    def blocks(self) -> Sequence[int]: ...

    def given(self, tokens: int, cached_tokens: int) -> None:
        """The request has been given `tokens` so far, more than when last told; all of them at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Gauges:
    """What an engine's telemetry says of its present state. Token counts are of KV memory; prefix counts of prompt
    tokens looked up, and found, since it started."""

    running: int = 0
    waiting: int = 0
    kv_used_tokens: int = 0
    kv_capacity_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0


class Pace(Protocol):
    """An engine's timing."""

    block_size: int
    longest_context: int

    def submit(self, answer: Answer) -> None:
        """Begin a request now. May tell it of tokens before it returns. Raises EngineFullError."""
        ...

    def leave(self, answer: Answer) -> None:
        """The request's client has gone: what it holds is freed at the next step. No more is told of it."""
        ...

    def set_speed(self, speed: float) -> None:
        """From now on time passes at `speed`; 0 stops it."""
        ...

    def gauges(self) -> Gauges:
        """The state now."""
        ...

    def close(self) -> None:
        """Stop telling anybody anything."""
        ...
