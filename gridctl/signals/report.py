"""Report: what an engine says of itself, read from Prometheus text by a scan for the names that matter.

Not a parser of the format: lines of other names are skipped unread, so a report of megabytes costs one pass. Whatever
the bytes are, the result is a Report and its problems, never an exception; a number that cannot be is no number.
"""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from gridctl.signals.dialects import (
    CONFIG,
    CONFIG_BLOCK_TOKENS,
    CONFIG_BLOCKS,
    CONFIG_TOKENS,
    COPYING_RANKS,
    HIGHEST,
    KINDS,
    SOURCES,
    Field,
    Source,
)

MOST_BYTES = 4 << 20
MOST_LINES = 1 << 16
MOST_LINE_BYTES = 16 << 10
MOST_SAMPLES = 4096
"""Samples of known names that are read."""
MOST_SERIES = 1024
"""Samples of one name that are read: an engine has no more ranks."""
MOST_PROBLEMS = 8

Word = Literal[
    "too-large",
    "too-many-lines",
    "line-too-long",
    "too-many-series",
    "not-a-number",
    "not-finite",
    "negative",
    "too-high",
]


class Problem(NamedTuple):
    """What is wrong with a part of a report; `name` is the sample's."""

    word: Word
    name: str


class Report(NamedTuple):
    """An engine's own numbers; None where it does not say. Shares are 0 to 1; counters since the engine started."""

    dialect: str | None = None
    running: float | None = None
    waiting: float | None = None
    kv_share: float | None = None
    kv_used_tokens: float | None = None
    kv_capacity_tokens: float | None = None
    prefix_hits: float | None = None
    prefix_lookups: float | None = None
    prefix_share: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    problems: tuple[Problem, ...] = ()


# Disjoint alternatives, each possessive: linear in the line, whatever is in it.
_SAMPLE = re.compile(
    rb'[ \t]*+([A-Za-z_:][A-Za-z0-9_:]*+)[ \t]*+(?:\{((?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\})?[ \t]*+(\S++)'
)
_LABEL = re.compile(rb'([A-Za-z_][A-Za-z0-9_]*+)[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+")')
_NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?|[+-]?(?:inf|nan)", re.IGNORECASE)
_COPYING = frozenset(COPYING_RANKS)


class _Scan:
    """One pass over one report: the samples of known names, by their source and their part of the engine."""

    def __init__(self) -> None:
        self.parts: dict[Source, dict[bytes, float]] = {}
        self.problems: list[Problem] = []
        self.spoiled: set[Source] = set()
        self.configured = 0.0

    def note(self, word: Word, name: bytes) -> None:
        problem = Problem(word, name[:80].decode("ascii", "replace"))
        if len(self.problems) < MOST_PROBLEMS and problem not in self.problems:
            self.problems.append(problem)

    def sample(self, line: bytes, name: bytes) -> None:
        """A line that begins with a known name."""
        if len(line) > MOST_LINE_BYTES:
            self.note("line-too-long", name)
            return
        match = _SAMPLE.match(line)
        labels = dict(_LABEL.findall(match[2])) if match is not None and match[2] else {}
        if name == CONFIG:
            self.configured += _capacity(labels)
            return
        for source in SOURCES[name]:
            pair, _, wanted = source.label.partition(b"=")
            if pair and labels.get(pair) != wanted:
                continue
            value = self._value(match[3] if match is not None else b"", source, name)
            if value is None:
                self.spoiled.add(source)
                continue
            parts = self.parts.setdefault(source, {})
            part = b",".join(sorted(b"=".join(label) for label in labels.items() if label[0] not in _COPYING))
            if part in parts or len(parts) < MOST_SERIES:
                parts[part] = max(value, parts.get(part, 0.0))
            else:
                self.note("too-many-series", name)
                self.spoiled.add(source)

    def _value(self, text: bytes, source: Source, name: bytes) -> float | None:
        """The number, unless it cannot be one of that kind."""
        if not _NUMBER.fullmatch(text):
            self.note("not-a-number", name)
            return None
        value = float(text)
        if not math.isfinite(value):
            self.note("not-finite", name)
        elif value < 0:
            self.note("negative", name)
        elif value > HIGHEST[KINDS[source.field]]:
            self.note("too-high", name)
        else:
            return value
        return None

    def report(self) -> Report:
        """The fields, each of its best name; a name that had one impossible sample tells nothing."""
        best: dict[Field, Source] = {}
        for source in self.parts:
            if source in self.spoiled:
                continue
            known = best.get(source.field)
            if known is None or source.rank < known.rank:
                best[source.field] = source
        values = {field: _combined(source, list(self.parts[source].values())) for field, source in best.items()}
        blocks, tokens = values.pop("kv_blocks", 0.0), values.pop("kv_block_tokens", 0.0)
        capacity = values.pop("kv_capacity_tokens", 0.0) or self.configured or blocks * tokens
        dialects = [source.dialect for source in best.values()]
        return Report(
            dialect=max(set(dialects), key=lambda word: (dialects.count(word), word)) if dialects else None,
            kv_capacity_tokens=capacity if 0 < capacity <= HIGHEST["tokens"] else None,
            problems=tuple(self.problems),
            **values,
        )


def read_report(body: bytes) -> Report:
    """The report in these bytes. O(bytes); never raises.

    >>> read_report(b'vllm:num_requests_running{engine="0"} 3\\nvllm:num_requests_running{engine="1"} 4\\n').running
    7.0
    """
    scan = _Scan()
    if len(body) > MOST_BYTES:
        scan.note("too-large", b"")
        return scan.report()
    if body.count(b"\n") > MOST_LINES:
        scan.note("too-many-lines", b"")
        return scan.report()
    samples = 0
    for line in body.split(b"\n"):
        name, brace, _ = line.partition(b"{")
        if not brace:
            name = (name.split(None, 1) or (b"",))[0]
        elif name[-1:].isspace() or name[:1].isspace():
            name = name.strip()
        if name in SOURCES or name == CONFIG:
            samples += 1
            if samples > MOST_SAMPLES:
                scan.note("too-many-series", b"")
                scan.parts.clear()
                break
            scan.sample(line, name)
    return scan.report()


def _combined(source: Source, values: list[float]) -> float:
    if source.combined == "max":
        return max(values)
    total = math.fsum(values)
    return total / len(values) if source.combined == "mean" else total


def _capacity(labels: dict[bytes, bytes]) -> float:
    """Tokens of KV cache that a sample of vLLM's configuration tells of; 0 when it does not."""
    numbers = {}
    for label in (CONFIG_TOKENS, CONFIG_BLOCKS, CONFIG_BLOCK_TOKENS):
        text = labels.get(label, b"").strip(b'"')
        numbers[label] = float(text) if text.isdigit() and len(text) <= 15 else 0.0
    return numbers[CONFIG_TOKENS] or numbers[CONFIG_BLOCKS] * numbers[CONFIG_BLOCK_TOKENS]
