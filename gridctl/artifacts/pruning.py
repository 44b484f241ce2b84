"""What may be removed from a model, and when that needs the operator's word.

Measured by others on Llama-3.1-8B, perplexity of WikiText: dense 5.85, magnitude 30 % 8.5, magnitude 50 % 37.8, Wanda
50 % 9.0; Llama-2-7B 2:4 by magnitude 54.6 against 5.1 dense (arXiv 2306.11695 for the latter). Zeros are stored like
any other weight: no engine here runs a sparse model faster. Dropped layers make a smaller dense model, which every
engine runs faster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gridctl.errors import InputError, UsageError

MAX_MAGNITUDE = 0.30
MAX_WANDA = 0.50
MAX_LAYERS = 0.25
"""Shares from which a loss of quality must be accepted in so many words."""
LAYER = re.compile(r"^(?P<before>(?:.*\.)?(?:layers|h|blocks))\.(?P<number>\d+)\.(?P<rest>.+)$")
_COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers")


@dataclass(frozen=True, slots=True)
class Pruning:
    """`method` is magnitude, wanda or 2:4; `share` of each row's weights that go."""

    method: str
    share: float

    @property
    def text(self) -> str:
        """As on the command line."""
        return self.method if self.method == "2:4" else f"{self.method}={self.share:g}"


def read_pruning(text: str) -> Pruning:
    """`magnitude=0.2`, `wanda=0.5` or `2:4`. Raises: UsageError."""
    method, _, share_text = text.partition("=")
    if text == "2:4":
        return Pruning("2:4", 0.5)
    try:
        share = float(share_text)
    except ValueError:
        share = -1.0
    if method not in ("magnitude", "wanda") or not 0 < share < 1:
        raise UsageError(f"{text[:40]!r} says no pruning", where="--prune", fix="give magnitude=0.2, wanda=0.5 or 2:4")
    return Pruning(method, share)


def read_layers(text: str) -> tuple[int, ...]:
    """`3,7,10-12` as numbers from 0. Raises: UsageError."""
    found: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word.strip())
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"{word[:40]!r} names no layers", where="--drop-layers", fix="count from 0: 3,7,10-12")
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def quality_warnings(pruning: Pruning | None, dropped: int, layers: int) -> tuple[str, ...]:
    """Why this needs --accept-quality-loss; nothing where it does not."""
    found = []
    if pruning and pruning.method == "magnitude" and pruning.share >= MAX_MAGNITUDE:
        found.append(
            f"pruning {pruning.share:.0%} by magnitude ruins models: on Llama-3.1-8B 30 % took the perplexity from 5.85"
            " to 8.5, 50 % to 37.8"
        )
    if pruning and pruning.method == "wanda" and pruning.share >= MAX_WANDA:
        found.append(f"Wanda at {pruning.share:.0%} costs much: on Llama-3.1-8B 50 % took the perplexity to 9.0")
    if pruning and pruning.method == "2:4":
        found.append("2:4 costs much (Llama-2-7B: perplexity 5.1 to 54.6), and no engine here runs 2:4 faster")
    if layers and dropped / layers > MAX_LAYERS:
        found.append(f"{dropped} of {layers} layers are over a quarter of the model: it needs training afterwards")
    return tuple(found)


def layer_count(config: dict[str, Any]) -> int:
    """Layers of the text model. Raises: InputError."""
    part, key = _counted(config)
    return int(part[key])


def _counted(config: dict[str, Any]) -> tuple[dict[str, Any], str]:
    nested = config.get("text_config")
    for part in (config, nested if isinstance(nested, dict) else {}):
        for key in _COUNT_KEYS:
            if type(part.get(key)) is int and part[key] > 0:
                return part, key
    raise InputError("config.json does not say how many layers there are", where="num_hidden_layers")


def without_layers(config: dict[str, Any], dropped: tuple[int, ...]) -> None:
    """Change the configuration in place: the count, and every list that has an item for each layer.

    Raises: UsageError when a layer does not exist or none is left."""
    part, key = _counted(config)
    count = part[key]
    if dropped and dropped[-1] >= count:
        raise UsageError(f"there is no layer {dropped[-1]}; the last is {count - 1}", where="--drop-layers")
    if len(dropped) >= count:
        raise UsageError("no layer is left", where="--drop-layers")
    for name, value in part.items():
        if isinstance(value, list) and len(value) == count:
            part[name] = [item for number, item in enumerate(value) if number not in dropped]
    part[key] = count - len(dropped)
    if type(part.get("max_window_layers")) is int:
        part["max_window_layers"] = min(part["max_window_layers"], part[key])


def renamed(name: str, dropped: tuple[int, ...]) -> str | None:
    """The tensor's name once layers went, None if it goes with one."""
    match = LAYER.match(name)
    if match is None or not dropped:
        return name
    number = int(match["number"])
    if number in dropped:
        return None
    return f"{match['before']}.{number - sum(gone < number for gone in dropped)}.{match['rest']}"
