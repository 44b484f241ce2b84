"""Deadlines: one wheel for every connection of a worker, in place of a timer for every request.

A thing on the wheel states when it wants to be looked at (`deadline_ns`); moving that time later costs one assignment,
because the wheel finds out only when the old time comes. The wheel turns when the worker's tick calls `expire`; a
deadline is noticed at most one slot and one tick late, never early. No clock of its own: time is an argument.
"""

from __future__ import annotations

from typing import Final

SLOT_NS: Final = 20_000_000
NEVER_NS: Final = (1 << 62) - 1


class Timed:
    """What the wheel holds. Only the wheel writes `wheel_slot` (0 = not on the wheel)."""

    __slots__ = ("deadline_ns", "wheel_slot")

    def __init__(self) -> None:
        self.deadline_ns = NEVER_NS
        self.wheel_slot = 0

    def on_deadline(self, now_ns: int) -> None:
        """The deadline has passed. The thing has left the wheel; it may arm itself anew."""
        raise NotImplementedError


class Deadlines:
    """Things by the slot of time in which they are next looked at."""

    __slots__ = ("_slots", "_turned")

    def __init__(self, now_ns: int) -> None:
        self._slots: dict[int, set[Timed]] = {}
        self._turned = now_ns // SLOT_NS

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def arm(self, item: Timed, deadline_ns: int) -> None:
        """Look at `item` once `deadline_ns` has passed; replaces its earlier deadline. O(1), mostly one comparison."""
        item.deadline_ns = deadline_ns
        held = item.wheel_slot
        slot = deadline_ns // SLOT_NS + 1
        if held:
            if slot >= held:
                return
            self._slots[held].discard(item)
        self._place(item, slot)

    def drop(self, item: Timed) -> None:
        """Forget `item`, and hold no reference to it."""
        item.deadline_ns = NEVER_NS
        if item.wheel_slot:
            self._slots[item.wheel_slot].discard(item)
            item.wheel_slot = 0

    def expire(self, now_ns: int) -> None:
        """Call `on_deadline` of everything whose deadline has passed; put back what was moved later."""
        slot = now_ns // SLOT_NS
        due = [number for number in self._slots if number <= slot] if self._slots else []
        self._turned = slot
        for number in sorted(due):
            for item in self._slots.pop(number):
                item.wheel_slot = 0
                if item.deadline_ns > now_ns:
                    if item.deadline_ns != NEVER_NS:
                        self._place(item, item.deadline_ns // SLOT_NS + 1)
                else:
                    item.on_deadline(now_ns)

    def _place(self, item: Timed, slot: int) -> None:
        slot = max(slot, self._turned + 1)
        item.wheel_slot = slot
        held = self._slots.get(slot)
        if held is None:
            held = self._slots[slot] = set()
        held.add(item)
