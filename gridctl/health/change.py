"""Change: one change of a thing's state, as events and operators are told of it. Data only; `condition` decides."""

from __future__ import annotations

import msgspec

from gridctl.health.words import State


class Change(msgspec.Struct, frozen=True):
    """A change of state. While a thing flaps its changes are `is_quiet`: the flapping itself was the one event."""

    at_ns: int
    before: State
    after: State
    cause: str
    is_quiet: bool = False
