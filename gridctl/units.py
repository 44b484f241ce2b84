"""Units used across rooms: time is int64 inside, milliseconds as floats at the borders; sizes are bytes or GiB.

Virtual time is counted in picoseconds inside an engine (a step of 93 ns per KV token must not round away) and in
nanoseconds everywhere else. 2**62 ps is 53 days, the longest run one replay can hold.
"""

from __future__ import annotations

from typing import Final

PS_PER_NS: Final = 1_000
PS_PER_US: Final = 1_000_000
PS_PER_MS: Final = 1_000_000_000
PS_PER_S: Final = 1_000_000_000_000
NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
SECONDS_PER_HOUR: Final = 3_600
NS_PER_HOUR: Final = SECONDS_PER_HOUR * NS_PER_S
GIB: Final = 1 << 30
BYTES_PER_GB: Final = 1_000_000_000
TOKENS_PER_MTOK: Final = 1_000_000


def ms(nanoseconds: int) -> float:
    """Nanoseconds as milliseconds.

    >>> ms(1_500_000)
    1.5
    """
    return nanoseconds / NS_PER_MS
