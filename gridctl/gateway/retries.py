"""Retries: whether a request may be tried on another engine, and which requests are never tried again.

Every layer that retries multiplies the load on what is already failing, so at most a share of the requests in flight
may be retries at a time (a floor lets single ones through). What broke two engines is suspected of breaking engines,
and refused for a while once nothing else explains it. Sources: gRPC A6, Envoy's retry budget (20 %, at least 3).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from gridctl.broker.refusal import Refusal, unavailable

REFUSED_NS: Final = 60 * 1_000_000_000
HELD_NS: Final = 5 * 1_000_000_000
KEPT_NS: Final = 10 * REFUSED_NS
"""How long a suspect that is not asked again is remembered."""
FINE_NS: Final = 10 * 1_000_000_000
"""An engine that served others within this time was fine."""
COLLATERAL_NS: Final = 100_000_000
"""What ends so soon after a break may have been under way before it."""
MOST_FINGERPRINTS: Final = 1024
MOST_BREAKS: Final = 16
"""Broken requests remembered of an engine."""

SAFE_KINDS: Final = frozenset(("connect-failed", "status-502", "status-503", "status-429"))
"""Failures after which the engine has certainly not run the request."""
BUDGETED_KINDS: Final = frozenset(("status-502", "status-503", "status-429", "timeout"))
"""Failures that say "too much": retrying them adds load to what has too much already, so they count in the budget. An
engine that took no connection got no load, and one that died under a request leaves work that somebody must do."""
MOST_LOST: Final = 1
"""Further engines a request may be given after one broke under it."""
MOST_UNREACHED: Final = 16
"""Engines that may take no connection before a request is given up: a lost site has many."""


class RetryBudget:
    """Counts retries under way: at most `share` of the requests in flight, but at least `floor`."""

    __slots__ = ("floor", "retrying", "share", "taken")

    def __init__(self, share: float = 0.2, floor: int = 3) -> None:
        self.share = share
        self.floor = floor
        self.retrying = 0
        self.taken = 0

    def take(self, in_flight: int) -> bool:
        """Count one more retry, if it may be made."""
        if self.retrying >= max(self.floor, int(self.share * in_flight)):
            return False
        self.retrying += 1
        self.taken += 1
        return True

    def give_back(self) -> None:
        """A request that was retried has ended."""
        self.retrying -= 1


class _Suspect:
    """A request under which `losses` engines broke, the last ones at `at_ns`: which, by board row."""

    __slots__ = ("at_ns", "is_on_trial", "is_sure", "losses", "rows")

    def __init__(self) -> None:
        self.losses = 0
        self.at_ns = 0
        self.rows: tuple[int, ...] = ()
        self.is_sure = False
        self.is_on_trial = False


class Suspects:
    """Requests under which two engines broke: does the request break engines, or did they break by themselves?

    `check` lets one that is not held pass. A suspect is told to come again until `HELD_NS` after the last engine broke;
    then it is tried on one engine alone. It is refused for `REFUSED_NS` once it is sure: when its engines had served
    others before it and serve others since, and nobody else's requests broke there; or when it broke another engine on
    trial while the engines of this worker served others in between. An outage breaks everybody's requests, so it makes
    nobody sure. An engine that dies is lost to a suspect at most twice, and then once in `HELD_NS` till it is sure."""

    __slots__ = ("_breaks", "_served_ns", "_suspects")

    def __init__(self) -> None:
        self._suspects: OrderedDict[int, _Suspect] = OrderedDict()
        self._served_ns: dict[int, int] = {}
        self._breaks: dict[int, deque[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._suspects)

    def served(self, row: int, now_ns: int) -> None:
        """The engine of that row answered a request as it should."""
        self._served_ns[row] = now_ns

    def broke(self, path: str, body: bytes, row: int, now_ns: int) -> None:
        """The engine of that row broke under a request."""
        breaks = self._breaks.get(row)
        if breaks is None:
            breaks = self._breaks[row] = deque(maxlen=MOST_BREAKS)
        breaks.append((now_ns, hash((path, body))))

    def add(self, path: str, body: bytes, rows: tuple[int, ...], now_ns: int) -> None:
        """The engines of these rows broke under that request, one after the other; the last one now."""
        fingerprint = hash((path, body))
        suspect = self._suspects.pop(fingerprint, None) or _Suspect()
        self._suspects[fingerprint] = suspect
        if suspect.losses and max(self._served_ns.values(), default=0) > suspect.at_ns + COLLATERAL_NS:
            suspect.is_sure = True
        elif not suspect.losses:
            suspect.rows = rows if all(self._was_fine(row, now_ns) for row in rows) else ()
        suspect.losses += len(rows)
        suspect.at_ns = now_ns
        suspect.is_on_trial = False
        if len(self._suspects) > MOST_FINGERPRINTS:
            self._suspects.popitem(last=False)

    def check(self, path: str, body: bytes, now_ns: int) -> bool:
        """Whether the request is a suspect on trial, which gets one engine. Raises Refusal for one that gets none."""
        fingerprint = hash((path, body))
        suspect = self._suspects.get(fingerprint)
        if suspect is None:
            return False
        if now_ns >= suspect.at_ns + KEPT_NS:
            del self._suspects[fingerprint]
            return False
        suspect.is_sure = suspect.is_sure or self._is_proven(suspect, fingerprint)
        until = suspect.at_ns + (REFUSED_NS if suspect.is_sure else HELD_NS)
        if now_ns < until or (suspect.is_on_trial and now_ns < until + HELD_NS):
            raise _sure() if suspect.is_sure else _unsure(max(until, now_ns) - now_ns)
        suspect.is_on_trial = True
        return True

    def clear(self, path: str, body: bytes) -> None:
        """A request on trial was answered."""
        self._suspects.pop(hash((path, body)), None)

    def _was_fine(self, row: int, now_ns: int) -> bool:
        """Whether the engine had served others shortly before it broke."""
        return now_ns - self._served_ns.get(row, -FINE_NS) < FINE_NS

    def _is_proven(self, suspect: _Suspect, fingerprint: int) -> bool:
        """Whether the engines it broke serve others since, and broke under nobody else's requests."""
        if not suspect.rows:
            return False
        for row in suspect.rows:
            if self._served_ns.get(row, 0) <= suspect.at_ns + COLLATERAL_NS:
                return False
            for at_ns, other in self._breaks.get(row, ()):
                if other != fingerprint and abs(at_ns - suspect.at_ns) < FINE_NS:
                    return False
        return True


def _sure() -> Refusal:
    return Refusal(
        400,
        "Engines that serve others broke while they served this very request; it is refused for a minute.",
        reason="upstream-reset",
        code="request_breaks_engines",
        should_retry=False,
    )


def _unsure(wait_ns: int) -> Refusal:
    return unavailable(
        "Two engines broke while they served this very request; it is tried again in a moment.",
        reason="upstream-reset",
        retry_after_ms=max(500, wait_ns // 1_000_000),
    )
