"""Prefixes: the prompt blocks an engine has seen, as the twin's prefix nodes, learnt as prompts come.

A replay knows its whole trace and counts blocks that always come together as one stretch; here every block is a stretch
of its own, and one that no engine memory and no request in flight holds is forgotten when room runs out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gridctl.engine.state import NIL, Fleet
from gridctl.engine.stretches import Stretches


def room_for(nodes: int, longest: int) -> Stretches:
    """Unused stretches for `nodes` blocks, and prompts of up to `longest` of them."""
    return Stretches(np.full(nodes, NIL, np.int32), np.zeros(nodes, np.int32), longest)


class Prefixes:
    """Names blocks by number. `fleet` was built with `room_for` as many as it may name."""

    def __init__(self, fleet: Fleet) -> None:
        self._parent = fleet.stretch_parent
        self._depth = fleet.stretch_depth
        self._holders = fleet.holders
        self._longest = len(fleet.engine_path) - 1
        self._known: dict[int, int] = {}
        self._hash_of = [0] * len(self._parent)
        self._free = list(range(len(self._parent) - 1, -1, -1))

    def path(self, blocks: Sequence[int], live: Iterable[int]) -> tuple[int, int]:
        """The last node of a prompt with these blocks and how many it has; `live` are the last nodes of the requests
        in flight. A prompt without a whole block has node `NIL`; where there is no room its end is left out."""
        leaf, depth = NIL, 0
        for block in blocks[: self._longest]:
            node = self._known.get(block, NIL)
            if node == NIL:
                if not self._free:
                    self._forget({*live, leaf})
                if not self._free:
                    break
                node = self._free.pop()
                self._known[block] = node
                self._hash_of[node] = block
                self._parent[node] = leaf
                self._depth[node] = depth + 1
            leaf = node
            depth += 1
        return leaf, depth

    def _forget(self, live: Iterable[int]) -> None:
        """Free every node that neither the engine's memory nor a request in flight holds. O(nodes)."""
        kept: set[int] = set()
        for leaf in live:
            node = leaf
            while node != NIL and node not in kept:
                kept.add(node)
                node = int(self._parent[node])
        for node in np.flatnonzero(self._holders[: len(self._parent)] == 0).tolist():
            block = self._hash_of[node]
            if node not in kept and self._known.get(block) == node:
                del self._known[block]
                self._free.append(node)
