"""Steps: the moments between which an agent may die, in the order in which a version goes through them.

Each is reached after its effect is on the disk, or in the engine. Whoever observes them sees the agent's progress; a
test that ends the process at any of them finds out whether a restart still ends right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

Step = Literal[
    "accepted",
    "journalled",
    "linked",
    "pulled",
    "installed",
    "unjournalled",
    "attempt-noted",
    "loaded",
    "proved",
    "committed",
    "pointed",
    "engine-restored",
    "reverted",
    "collected",
]
STEPS: tuple[Step, ...] = get_args(Step)
Reached = Callable[[Step], None]


def unobserved(_step: Step) -> None:
    """Nobody looks."""
