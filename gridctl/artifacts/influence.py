"""Influence: which layers change what passes through them least, and so may go first.

Block influence of layer i is 1 − E[cos(x_i, x_{i+1})] over all tokens, x_i what enters and x_{i+1} what leaves it
(Men et al., ShortGPT, arXiv 2403.03853, section 3). All K are chosen in one pass, as the paper does: the influence of
one layer once another is gone is not measured again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridctl.artifacts.rounding import Floats
from gridctl.errors import UsageError

AUTO = "auto="


def block_influence(before: Floats, after: Floats) -> float:
    """1 − mean cosine of `before` and `after` (…, hidden). A token that is nothing on either side counts as changed.

    >>> block_influence(np.float32([[1, 0], [0, 2]]), np.float32([[3, 0], [2, 0]]))
    0.5
    """
    dots = np.einsum("...i,...i->...", before, after, dtype=np.float64)
    sizes = np.sqrt(
        np.einsum("...i,...i->...", before, before, dtype=np.float64)
        * np.einsum("...i,...i->...", after, after, dtype=np.float64)
    )
    return float(1 - np.mean(np.divide(dots, sizes, out=np.zeros_like(dots), where=sizes > 0)))


def read_auto(text: str) -> int | None:
    """K of `auto=K`; None for layers by number. Raises: UsageError."""
    if not text.startswith("auto"):
        return None
    count = text.removeprefix(AUTO)
    if not text.startswith(AUTO) or not count.isascii() or not count.isdigit() or not 0 < int(count[:5]) < 10_000:
        raise UsageError(f"{text[:40]!r} says no number of layers", where="--drop-layers", fix="write auto=4")
    return int(count)


def least(influence: Sequence[float], count: int) -> tuple[int, ...]:
    """The `count` layers of least influence, in order; of equal ones the later goes. Raises: UsageError.

    >>> least([0.9, 0.1, 0.3, 0.1], 2)
    (1, 3)
    """
    if count >= len(influence):
        raise UsageError(f"the model has {len(influence)} layers, and none would be left", where="--drop-layers")
    ordered = sorted(range(len(influence)), key=lambda layer: (influence[layer], -layer))
    return tuple(sorted(ordered[:count]))
