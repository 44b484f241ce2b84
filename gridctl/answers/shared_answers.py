"""Between the keeper and the shared tier: which questions and answers go there, and what comes back becomes ours.

Decides by the workload's rules what may leave this gateway at all. An answer from there is stored here first and then
found as any other, so purges, traces and limits hold for it; one that is kept here is offered there. Orders that hold
for all gateways are owed to them in the very turn in which they are obeyed here, so nothing can slip in between.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from gridctl.answers.keeper import PARTITION, Keeper
from gridctl.answers.orders import carry_out, notices_of
from gridctl.answers.question import Question
from gridctl.answers.settings import Rules
from gridctl.answers.shared_place import SharedKeys, SharedPlace
from gridctl.answers.shared_record import Notice, Record, entry_from
from gridctl.answers.shared_tier import SharedTier

TOLD_WITHIN_S = 2.0
"""What an order waits for the server to have heard of it."""


class SharedAnswers:
    """One keeper's part in the tier. `swept` is called when a purge of others leaves something to sweep up."""

    def __init__(
        self,
        keeper: Keeper,
        where: tuple[SharedPlace, SharedKeys],
        folder: Path,
        commit: Callable[[], Awaitable[object]],
        swept: Callable[[], None],
        disk: Executor,
    ) -> None:
        self._keeper, self._swept = keeper, swept
        self.tier = SharedTier(*where, folder, self._carry_out, commit, disk)

    @property
    def budget_ms(self) -> float:
        """What a look may take longer for it."""
        return self.tier.place.budget_ms

    def fetches(self, question: Question, rules: Rules | None) -> bool:
        """Whether a question is looked for there: not where there is an answer here."""
        may_be = rules is not None and rules.is_shared and question.may_serve
        if not may_be or PARTITION.fullmatch(question.partition) is None:
            return False
        return not self._keeper.has(question, time.time_ns())

    def fetch(self, question: Question, then: Callable[[], None]) -> None:
        """Have another gateway's answer to the question here, if there is one; then go on, once, within the budget."""

        def found(record: Record | None) -> None:
            if record is not None:
                store = self._keeper.store
                entry = entry_from(record, question, store.next_number(), store.last_purge)
                is_ours = self._keeper.adopt(entry, time.time_ns())
                self._keeper.deciders.count(question.workload, "adopted" if is_ours else "not-adopted")
            then()

        self.tier.fetch(question, found)

    def offer(self, question: Question) -> None:
        """Let the others have the answer that was kept just now."""
        keeper = self._keeper
        rules, number = keeper.settings.rules.get(question.workload), keeper.shelf.by_exact.get(question.exact)
        entry = keeper.store.read(number) if rules is not None and rules.is_shared and number is not None else None
        if entry is not None:
            self.tier.offer(entry)

    def owe(self, order: str, words: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
        """An order was obeyed here: whether there is something in it that the others must hear."""
        notices = notices_of(order, words, told, time.time_ns())
        self.tier.owe(notices)
        return bool(notices)

    async def tell(self) -> str:
        """Tell the server what is owed; a word for who gave the order."""
        return "told" if await self.tier.told(TOLD_WITHIN_S) else "owed"

    def _carry_out(self, notices: Sequence[Notice]) -> int:
        if any(notice.kind == "purge" for notice in notices):
            self._swept()
        return carry_out(self._keeper, notices)
