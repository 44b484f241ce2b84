"""Probing: a few fixed prompts to an engine, and what came back.

Decides how answers are asked for (greedy, few tokens, streamed, so that the first token's time is seen) and compared
(by their whole text). Answers stay in memory; prompts and answers go into no log. Must not judge: figures go to the
orchestrator, which has other sites to compare with.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gridctl.agent.order import Probe
from gridctl.errors import InputError

if TYPE_CHECKING:
    import httpx

PROBE_S = 30.0
"""Seconds an engine may take for one prompt."""
GIVEN_UP = 2
"""Failures in a row after which the other prompts are not asked: an engine that hangs must not hold up a revert."""
MAX_PROBES = 256
MAX_LINE_BYTES = 1 << 20
MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One prompt's answer: its text, None when the engine failed; milliseconds to the first and per further token."""

    text: str | None
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    max_tokens: int = 16
    expect: str | None = None


def read_probes(path: Path) -> tuple[Probe, ...]:
    """Prompts from JSON lines: `prompt`, and where wished `max_tokens` and `expect`. Raises: InputError."""
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        found = tuple(_probe(line) for line in lines)
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path), fix="name a file of JSON lines") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError(
            f"not probes: {error}", where=str(path), fix='lines such as {"prompt": "2 + 2 =", "max_tokens": 4}'
        ) from None
    if not 0 < len(found) <= MAX_PROBES:
        raise InputError(f"{len(found)} probes", where=str(path), fix=f"1 to {MAX_PROBES}")
    return found


def ask_all(engine_url: str, probes: Sequence[Probe], client: httpx.Client) -> list[Answered]:
    """Each prompt's answer, one after the other; an engine that does not answer is an answer, too."""
    import httpx

    try:
        model = _served_model(engine_url, client)
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return [Answered(None) for _ in probes]
    answers: list[Answered] = []
    for probe in probes:
        is_dead = len(answers) >= GIVEN_UP and all(one.text is None for one in answers[-GIVEN_UP:])
        answers.append(Answered(None) if is_dead else _ask(engine_url, model, probe, client))
    return answers


def figures(answers: Sequence[Answered], before: Sequence[Answered], probes: Sequence[Probe]) -> dict[str, float]:
    """What is told of the answers. `match_share` is of the prompts with a known right answer, by `expect` or by what
    the committed version said; it is left out when there is none.

    >>> figures([Answered("4", 10.0, 2.0)], [Answered("4")], [Probe(prompt="2 + 2 =")])["match_share"]
    1.0
    """
    well = [answer for answer in answers if answer.text is not None]
    told = {"requests": float(len(answers)), "errors": float(len(answers) - len(well))}
    if well:
        told["ttft_ms_p95"] = _nearest_rank([answer.ttft_ms for answer in well], 0.95)
        told["tpot_ms_p50"] = _nearest_rank([answer.tpot_ms for answer in well], 0.50)
    right = [
        probe.expect if probe.expect is not None else (before[index].text if index < len(before) else None)
        for index, probe in enumerate(probes)
    ]
    known = [(answer.text, text) for answer, text in zip(answers, right, strict=True) if text is not None]
    if known:
        told["match_share"] = sum(1 for text, wanted in known if text == wanted) / len(known)
    return told


def _probe(line: bytes) -> Probe:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError("a line is longer than 1 MiB")
    found = msgspec.json.decode(line, type=_Line)
    if not found.prompt or not 1 <= found.max_tokens <= 4096:
        raise ValueError("a probe needs a prompt and 1 to 4096 max_tokens")
    return Probe(prompt=found.prompt, max_tokens=found.max_tokens, expect=found.expect)


def _served_model(engine_url: str, client: httpx.Client) -> str:
    response = client.get(f"{engine_url}/v1/models", timeout=PROBE_S)
    response.raise_for_status()
    return str(response.json()["data"][0]["id"])


def _ask(engine_url: str, model: str, probe: Probe, client: httpx.Client) -> Answered:
    import httpx

    body = {
        "model": model,
        "prompt": probe.prompt,
        "max_tokens": probe.max_tokens,
        "temperature": 0,
        "seed": 0,
        "stream": True,
    }
    sent = time.monotonic()
    first = last = 0.0
    pieces: list[str] = []
    try:
        with client.stream("POST", f"{engine_url}/v1/completions", json=body, timeout=PROBE_S) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    break
                if not line.startswith("data:"):
                    continue
                text = _text_of(line[5:])
                if text:
                    last = time.monotonic()
                    first = first or last
                    pieces.append(text)
                if last - sent > PROBE_S:
                    return Answered(None)
    except (httpx.HTTPError, ValueError):
        return Answered(None)
    if not pieces:
        return Answered(None)
    return Answered("".join(pieces), (first - sent) * MS_PER_S, (last - first) * MS_PER_S / max(1, len(pieces) - 1))


def _text_of(data: str) -> str:
    told = json.loads(data)
    try:
        return str(told["choices"][0].get("text") or "")
    except (LookupError, TypeError, AttributeError):
        return ""


def _nearest_rank(values: Sequence[float], quantile: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * quantile) - 1)]
