"""Digests of some random replays, one a line; as a program of its own, or interpreted, it prints the same."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

import msgspec
from smallgrids import make_grid, make_policy, make_trace

from gridctl.grid.image import build_image
from gridctl.replay.digest import digest_rows
from gridctl.replay.replay import Replayed, replay
from gridctl.resources import PolicyOverride
from gridctl.resources.policy import ALGORITHMS

OVERRIDDEN = 24
"""Cases from here on decide one workload by another algorithm."""
CASES = tuple(enumerate((*ALGORITHMS, *["grid"] * 16, *ALGORITHMS[1:], "grid")))
REQUESTS = 40


def replayed(case: int, algorithm: str, seed: int = 1) -> Replayed:
    pick = random.Random(case).randint
    resources = make_grid(pick)
    trace = make_trace(pick, resources, REQUESTS)
    policy = make_policy(pick, algorithm)
    if case >= OVERRIDDEN:
        other = PolicyOverride(algorithm=ALGORITHMS[case % len(ALGORITHMS)], reject_ratio=1.0, allow_serverless=False)
        policy = msgspec.structs.replace(policy, overrides={"w0": other})
    return replay(build_image(resources), trace, policy, seed=seed)


def digests() -> tuple[list[str], Counter[str]]:
    """The digests, and what the cases made happen."""
    lines, seen = [], Counter[str]()
    for case, algorithm in CASES:
        result = replayed(case, algorithm)
        lines.append(digest_rows(result))
        seen["reused"] += int((result.rows.cached_tokens > 0).sum())
        seen["preempted"] += int(result.rows.preemptions.sum())
        seen.update(result.engines[engine].kind for engine in result.rows.engine if engine >= 0)
    return lines, seen


if __name__ == "__main__":
    print("\n".join(digests()[0]))  # noqa: T201
