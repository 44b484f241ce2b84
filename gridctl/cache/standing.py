"""Standing: all of a decider's account that must survive a restart, in numbers.

Decides nothing; `decision` fills it in and begins anew from it, `answers` keeps it. Sums of predictions and counts of
labels are those of `account`; `certificate` and `counter` are the running sums of `certificate`.
"""

from __future__ import annotations

import msgspec


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """`awaited` labels that the account will count were promised and have not come; their predictions sum to
    `awaited_predicted`. `known_wrong` answers went out and were found wrong later."""

    error_rate: float
    confidence: float
    requests: float
    served: float
    spent: float
    wrong: float
    predicted: float
    next_wrong: float
    next_predicted: float
    certificate: float
    counter: float
    audits: float
    known_wrong: float
    awaited_predicted: float
    epoch: int
    next_ticket: int
    awaited: int
    is_stopped: int
