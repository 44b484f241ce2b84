"""Replays as jobs that park midway, in a module that workers can import."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tasks import announce

from gridctl.orchestrator.scenario import Job, Outcome, Stage, run_job


def parked_replay(stage: Stage, job: Job, advanced: Callable[[int], None]) -> Outcome:
    """A replay whose second draw parks in the middle, the first time."""
    folder = Path(os.environ["PARKED_IN"])

    def midway(requests: int) -> None:
        mark = folder / "parked"
        if job.draw == 2 and not mark.exists():
            mark.touch()
            announce(folder)

    return run_job(stage, job, midway)
