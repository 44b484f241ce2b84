"""What the loop knows of a candidate list before it walks it."""

from __future__ import annotations

import numpy as np

from gridctl.replay.scene import list_ends


def test_a_list_ends_after_its_last_candidate_without_a_gpu_and_holds_so_many_profiles() -> None:
    """Engines 0, 1, 2 have profiles 0, 0, 1; engine 3 has no GPU, so row 2. Three lists: a function in the middle,
    none at all, and an empty one."""
    offset = np.array([0, 4, 6, 6])
    candidate = np.array([0, 3, 2, 1, 0, 1], np.int32)
    last, profiles = list_ends(offset, candidate, np.array([0, 0, 1, 2]), 2)
    assert last.tolist() == [1, -1, -1]
    assert profiles.tolist() == [2, 1, 0]
