"""The registry, watched: every change of the grid becomes the next plan, while requests go on.

Decides when workers get a new plan. A grid that cannot be served (no engine any more, a policy that is gone) changes
nothing: the last plan that could be stays, and the status says why. A change that makes no difference to the workers
(a gate, a link's label) makes no plan.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from gridctl.broker.plan import Plan, write_plan
from gridctl.control.live import Live
from gridctl.control.plans import enrol, is_same_service, plan_of
from gridctl.control.services import Declared
from gridctl.control.weights import Weights
from gridctl.errors import GridctlError, StoreError
from gridctl.registry import Registry

PERIOD_S = 0.5


class Watch:
    """Follows the registry of `live`."""

    def __init__(self, live: Live, own_ports: Sequence[int], say: Callable[[str], None]) -> None:
        self._live = live
        self._own_ports = own_ports
        self._say = say
        self._mark: int | None = None
        self._mark_of_keys: int | None = None
        self._registry: Registry | None = None
        self._planning = asyncio.Lock()
        self._weights_changes = 0

    async def run(self) -> None:
        """Look twice a second, until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                try:
                    if self._has_changed() or self._weights.changes != self._weights_changes:
                        await self.refresh()
                except GridctlError as error:
                    self._complain(error)
        finally:
            self._close()

    async def refresh(self) -> None:
        """Read the grid and, where that makes a difference, have the workers follow it."""
        live = self._live
        async with self._planning:
            declared = await asyncio.to_thread(live.services.declared)
            live.learn_keys(declared.keys)
            changes = self._weights.changes
            if declared.version == live.declared.version and changes == self._weights_changes:
                return
            self._weights_changes = changes
            plan = await self._next(declared)
            if is_same_service(plan, live.plan):
                live.take(declared, live.plan)
                return
            await self._follow(declared, plan)

    async def renew_keys(self) -> None:
        """Know the keys as they are now, not as half a second ago. Microseconds when nobody wrote to the database."""
        try:
            registry = self._open_registry()
            mark = registry.change_mark()
            if mark != self._mark_of_keys:
                self._live.learn_keys(tuple(registry.access_keys()))
                self._mark_of_keys = mark
        except GridctlError as error:
            self._complain(error)

    async def record(self, recording: Path | None) -> None:
        """Have the workers record to this folder from now on, or no more."""
        async with self._planning:
            self._live.recording = recording
            await self._follow(self._live.declared, await self._next(self._live.declared))

    @property
    def _weights(self) -> Weights:
        """What sites say they serve."""
        return self._live.rollouts.weights

    async def _next(self, declared: Declared) -> Plan:
        live = self._live
        return await asyncio.to_thread(
            plan_of,
            declared,
            live.order,
            live.plan,
            own_ports=self._own_ports,
            recording=live.recording,
            digest_of=self._weights.digest_of,
        )

    async def _follow(self, declared: Declared, plan: Plan) -> None:
        live = self._live
        enrol(live.board, plan)
        path = live.folder.plan(plan.generation)
        await asyncio.to_thread(write_plan, path, plan)
        before = live.plan
        live.take(declared, plan)
        problems = await live.supervisor.follow(path, plan.generation)
        await live.keeper.follow(path, plan, before)
        if problems:
            live.problem = "; ".join(problems)
            self._say(f"plan {plan.generation} is not followed everywhere: {live.problem}")
        else:
            with contextlib.suppress(OSError):
                live.folder.plan(before.generation).unlink(missing_ok=True)
            self._say(f"plan {plan.generation}: version {declared.version} of the grid, {len(plan.backends)} engines")
        live.tell()

    def _has_changed(self) -> bool:
        """Whether anybody wrote to the database since the last look."""
        mark = self._open_registry().change_mark()
        changed, self._mark = mark != self._mark, mark
        return changed

    def _open_registry(self) -> Registry:
        if self._registry is None:
            self._registry = self._live.services.open_registry(None)
        return self._registry

    def _complain(self, error: GridctlError) -> None:
        if isinstance(error, StoreError):
            self._close()
        text = f"{error.what} ({error.where})" if error.where else error.what
        if text != self._live.problem:
            self._say(f"the grid as it is now cannot be served; plan {self._live.plan.generation} stays: {text}")
        self._live.problem = text

    def _close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None
        # A mark means nothing to another connection: look again.
        self._mark = self._mark_of_keys = None
