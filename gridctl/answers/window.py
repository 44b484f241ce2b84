"""Window: which kept answers the workers may find by themselves, through the presence table.

Decides by `sharing`: a worker that finds an entry does not ask who may have it, so only what anybody who can name its
key may have is shown. Invariant: nothing is shown before it is durable.
"""

from __future__ import annotations

from gridctl.answers.presence import Presence
from gridctl.answers.settings import Rules
from gridctl.answers.sharing import is_open
from gridctl.answers.shelf import Shelf
from gridctl.answers.store import Store


class Window:
    """The table's contents, out of the shelf's."""

    def __init__(self, shelf: Shelf, store: Store, presence: Presence, rules: dict[str, Rules]) -> None:
        self.shelf = shelf
        self._store, self._presence, self._rules = store, presence, rules

    def show(self, number: int) -> None:
        """Show an entry if anybody who asks may have it, and those of its group that it opens."""
        held = self.shelf.held.get(number)
        if held is None or self._store.waits(number):
            return
        rules = self._rules.get(held.section.workload)
        if rules is None or not rules.is_public:
            if not held.askers:
                self._presence.put(held.exact, number)
            return
        if is_open(self.shelf, number, rules):
            was_open = is_open(self.shelf, number, rules, without=True)
            for one in [number] if was_open else self.shelf.group_of(number):
                if not self._store.waits(one):
                    self._presence.put(self.shelf.held[one].exact, one)

    def follow(self, rules: dict[str, Rules]) -> None:
        """Take other rules; where answers go to others than before, look through all of them."""
        before, self._rules = self._rules, rules
        names = {name for name, one in rules.items() if _is_shared_otherwise(before.get(name), one)}
        if names:
            for number, held in self.shelf.held.items():
                if held.section.workload in names:
                    self._presence.remove(held.exact, number)
                    self.show(number)


def _is_shared_otherwise(before: Rules | None, rules: Rules) -> bool:
    if before is None:
        return rules.is_public
    return (before.is_public, before.public_after) != (rules.is_public, rules.public_after)
