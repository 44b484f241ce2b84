"""Questions of where a request would go now: the broker's own decision over the board as it is, nothing counted.

The broker is made when the first question comes, because it loads compiled code that the control process otherwise
does not need, and follows the plan from then on. Questions are answered one at a time, off the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from gridctl.broker.plan import Plan
from gridctl.broker.refusal import Refusal
from gridctl.control.messages import RouteTestMessage
from gridctl.errors import InputError
from gridctl.routing.decision import Decision
from gridctl.signals.board import Board

if TYPE_CHECKING:
    from gridctl.broker.broker import Broker

ANY_WORKER = 0
"""A dry run counts nothing, so whose slots it would count in does not matter."""


class Questions:
    """Answers over one board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._broker: Broker | None = None
        self._lock = threading.Lock()

    async def ask(self, question: RouteTestMessage, plan: Plan) -> Decision:
        """Where it would go under this plan. Raises InputError, NotFoundError."""
        return await asyncio.to_thread(self._answer, question, plan)

    def _answer(self, question: RouteTestMessage, plan: Plan) -> Decision:
        from gridctl.broker.broker import Broker
        from gridctl.broker.dry_run import Question, dry_run

        asked = Question(**msgspec.structs.asdict(question))
        with self._lock:
            if self._broker is None:
                self._broker = Broker(plan, self._board, ANY_WORKER, seed=0)
            elif self._broker.generation != plan.generation:
                self._broker.reload(plan)
            try:
                return dry_run(self._broker, asked, time.monotonic_ns())
            except Refusal as refusal:
                raise InputError(
                    refusal.message, where="model", fix="gridctl model list; gridctl workload list"
                ) from None
