"""Routing questions: where would a request go? Asked of the grid as declared, in this process.

Decides which policy and prices the question is asked under; the decision is the broker's own.
"""

from __future__ import annotations

import time

from gridctl.broker.broker import Broker
from gridctl.broker.dry_run import Question, dry_run
from gridctl.broker.refusal import Refusal
from gridctl.broker.scratch import idle_board, idle_plan
from gridctl.errors import InputError
from gridctl.grid.check import check_grid
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import resources_of
from gridctl.resources import Policy
from gridctl.routing.decision import Decision


def route_test(home: GridHome, question: Question, *, policy: str | None = None, prices: str = "default") -> Decision:
    """What the broker would decide over the grid at `home`, were every engine running and idle.

    Raises InputError or NotFoundError for names that the grid does not have and for a grid without engines."""
    resources = resources_of(home)
    check_grid(resources)
    chosen = choose_policy(resources, policy)
    others = [one for one in resources if not (isinstance(one, Policy) and one.name == chosen.name)]
    plan = idle_plan([*others, chosen], policy=chosen.name, price_book=prices)
    broker = Broker(plan, idle_board(max(1, len(plan.backends))), 0, seed=0)
    try:
        return dry_run(broker, question, time.monotonic_ns())
    except Refusal as refusal:
        raise InputError(refusal.message, where="--model", fix="gridctl model list; gridctl workload list") from None
