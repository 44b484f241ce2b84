"""Aside: what takes the keeper longer than a look may wait, done in a thread between looks.

Limits, prices and bounds of workloads that had requests; the scatter of a partition's prompts once there are many more.
Decides nothing: what comes out is adopted by those who asked for it.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from gridctl.answers.deciders import work_out
from gridctl.answers.keeper import Keeper
from gridctl.cache.kinship import kinship_of

WORK_OUT_EVERY_S = 0.25
LEARN_EVERY_S = 0.5


class Aside:
    """One keeper's work of that kind."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._thread = ThreadPoolExecutor(1, "gridctl-answers-aside")

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def work_out_often(self) -> None:
        """Limits, prices and bounds, one workload after the other, of those that had requests since."""
        loop, deciders = asyncio.get_running_loop(), self._keeper.deciders
        seen: dict[str, tuple[object, ...]] = {}
        while True:
            await asyncio.sleep(WORK_OUT_EVERY_S)
            for name in deciders.names():
                copies = deciders.aside(name)
                if copies is None:
                    continue
                account, pace = copies
                state = (account.epoch, account.requests, account.record)
                if seen.get(name) != state:
                    seen[name] = state
                    bound = await loop.run_in_executor(self._thread, work_out, account, pace)
                    deciders.adopt(name, account, pace, bound)
                    await asyncio.sleep(WORK_OUT_EVERY_S / 10)

    async def learn_often(self) -> None:
        """How prompts of one answer scatter, one partition after the other, of those that have many more."""
        while True:
            await asyncio.sleep(LEARN_EVERY_S)
            groups = self._keeper.shelf.to_learn()
            if groups is not None:
                material = groups.to_learn_from()
                groups.adopt(await asyncio.get_running_loop().run_in_executor(self._thread, kinship_of, *material))
