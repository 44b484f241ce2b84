"""Retries: whether a request may be tried on another engine, and which requests are never tried again.

Every layer that retries multiplies the load on what is already failing, so at most a share of the requests in flight
may be retries at a time (a floor lets single ones through). What broke two engines is suspected of breaking engines:
its fingerprint is refused for a while. Sources: gRPC A6, Envoy's retry budget (20 %, at least 3).
"""

from __future__ import annotations

from collections import OrderedDict

from gridctl.broker.refusal import Refusal

REFUSED_NS = 60 * 1_000_000_000
MOST_FINGERPRINTS = 1024

SAFE_KINDS = frozenset(("connect-failed", "status-502", "status-503", "status-429"))
"""Failures after which the engine has certainly not run the request."""
BUDGETED_KINDS = frozenset(("status-502", "status-503", "status-429", "timeout"))
"""Failures that say "too much": retrying them adds load to what has too much already, so they count in the budget. An
engine that took no connection got no load, and one that died under a request leaves work that somebody must do."""
MOST_LOST = 1
"""Further engines a request may be given after one broke under it."""
MOST_UNREACHED = 16
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


class HedgeBudget:
    """Lets at most a share of all requests have a second copy."""

    __slots__ = ("hedged", "requests", "share")

    def __init__(self, share: float = 0.02) -> None:
        self.share = share
        self.requests = 0
        self.hedged = 0

    def take(self) -> bool:
        """Count one more hedge, if it may be made."""
        if self.hedged + 1 > self.share * self.requests:
            return False
        self.hedged += 1
        return True


class Suspects:
    """Fingerprints of requests under which two engines broke, each refused for REFUSED_NS."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, path: str, body: bytes, now_ns: int) -> None:
        """Refuse that request from now on."""
        self._until[hash((path, body))] = now_ns + REFUSED_NS
        if len(self._until) > MOST_FINGERPRINTS:
            self._until.popitem(last=False)

    def check(self, path: str, body: bytes, now_ns: int) -> None:
        """Raise Refusal for a request that is refused."""
        fingerprint = hash((path, body))
        until = self._until.get(fingerprint)
        if until is None:
            return
        if until <= now_ns:
            del self._until[fingerprint]
            return
        raise Refusal(
            400,
            "Two engines broke while they served this very request; it is refused for a minute.",
            reason="upstream-reset",
            code="request_breaks_engines",
            should_retry=False,
        )
