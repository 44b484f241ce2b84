"""Warm-up: compile (or load) the kernel of live decisions by deciding one request over the smallest grid there is."""

from __future__ import annotations

from gridctl.broker.broker import Broker
from gridctl.broker.dry_run import Question, dry_run
from gridctl.broker.scratch import idle_board, idle_plan
from gridctl.grid.smallest import smallest_grid


def warm_up_decisions() -> None:
    """Make the next decision of a broker start at full speed: seconds on a machine that never ran this version."""
    plan = idle_plan(smallest_grid())
    broker = Broker(plan, idle_board(len(plan.backends)), 0, seed=1)
    dry_run(broker, Question(workload="warmup", origin="warmup"), 0)
