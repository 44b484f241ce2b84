"""Faults: what an engine is told to do wrong, when and how often, for game days and for tests of what stands before it.

    KIND[=VALUE][*SHARE][@START[+LENGTH]], several with commas

    die             the engine is gone, connections and all
    refuse          no new connection is taken
    stall           time stands: no token is made
    slow=FACTOR     every step takes FACTOR times as long
    status=CODE     requests are answered with this error
    silent          requests are taken and never answered, health and metrics included
    reset           connections are reset half-way through the answer
    truncate        answers end half-way, as if they were complete to HTTP
    garbage         bytes that are no HTTP in place of an answer
    lie=idle|full   metrics say the engine is idle, or full, whatever it does

START is seconds from the engine's start, 0 unless given; without LENGTH a fault lasts. SHARE is that of requests.
Pure: which faults act is a function of time and of how many requests came.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from gridctl.errors import UsageError, did_you_mean

KINDS: dict[str, str | None] = {
    "die": None,
    "refuse": None,
    "stall": None,
    "slow": "a factor above 1, such as slow=3",
    "status": "a code from 400 to 599, such as status=503",
    "silent": None,
    "reset": None,
    "truncate": None,
    "garbage": None,
    "lie": "idle or full, such as lie=idle",
}
"""Every kind, and what its value must be; None for those that take none."""

PER_REQUEST = ("status", "silent", "reset", "truncate", "garbage")
"""Kinds that strike one request at a time, the first that applies; only these take a share."""

_FORM = re.compile(
    r"(?P<kind>[a-z]+)(=(?P<value>[a-z0-9.]+))?(\*(?P<share>[0-9.]+))?"
    r"(@(?P<start>[0-9.]+)(?P<start_unit>s|m|ms)?(\+(?P<length>[0-9.]+)(?P<length_unit>s|m|ms)?)?)?"
)
_SECONDS = {None: 1.0, "s": 1.0, "m": 60.0, "ms": 0.001}
FIX = "KIND[=VALUE][*SHARE][@START[+LENGTH]], such as status=503*0.2@10s+30s"


@dataclass(slots=True)
class Fault:
    """One fault: what goes wrong with `share` of the requests, from `start_s` to `end_s` of the engine's life."""

    kind: str
    text: str
    number: float = 0.0
    share: float = 1.0
    start_s: float = 0.0
    end_s: float = math.inf
    is_full: bool = False
    seen: int = field(default=0, compare=False)

    def acts_at(self, now_s: float) -> bool:
        """Whether it is its time."""
        return self.start_s <= now_s < self.end_s

    def strikes(self) -> bool:
        """Whether it strikes the next request: evenly spread, `share` of all."""
        self.seen += 1
        return math.floor(self.seen * self.share + 1e-9) > math.floor((self.seen - 1) * self.share + 1e-9)


def parse_faults(spec: str) -> list[Fault]:
    """The faults of a text; none for an empty one. Raises UsageError."""
    return [_fault(part.strip()) for part in spec.split(",") if part.strip()]


def _fault(text: str) -> Fault:
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"{text[:80]!r} is no fault", where="--faults", fix=FIX)
    kind, value = found["kind"], found["value"]
    if kind not in KINDS:
        close = did_you_mean(kind, KINDS)
        raise UsageError(
            f"there is no fault {kind}",
            where="--faults",
            fix=f"did you mean {close}?" if close else f"one of {', '.join(KINDS)}",
        )
    wanted = KINDS[kind]
    fault = Fault(kind, text)
    if wanted is None and value is not None:
        raise UsageError(f"the fault {kind} takes no value", where="--faults", fix=kind)
    if wanted is not None and not _take_value(fault, value or ""):
        raise UsageError(f"the fault {text!r} needs {wanted.split(',')[0]}", where="--faults", fix=f"give {wanted}")
    if found["share"] is not None:
        fault.share = _number(found["share"], text)
        if kind not in PER_REQUEST or not 0 < fault.share <= 1:
            raise UsageError(
                f"the share in {text!r} cannot be", where="--faults",
                fix=f"above 0 and at most 1, of {', '.join(PER_REQUEST)} only",
            )  # fmt: skip
    if found["start"] is not None:
        fault.start_s = _number(found["start"], text) * _SECONDS[found["start_unit"]]
    if found["length"] is not None:
        fault.end_s = fault.start_s + _number(found["length"], text) * _SECONDS[found["length_unit"]]
    return fault


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} in {whole!r} is no number", where="--faults", fix=FIX) from None


def _take_value(fault: Fault, value: str) -> bool:
    """Keep the value of a fault that needs one; False when it cannot be."""
    if fault.kind == "lie":
        fault.is_full = value == "full"
        return value in ("idle", "full")
    try:
        fault.number = float(value)
    except ValueError:
        return False
    if fault.kind == "slow":
        return 1 < fault.number <= 1e6
    return fault.number == int(fault.number) and 400 <= fault.number < 600


class Faults:
    """The faults of one engine."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def acting(self, kind: str, now_s: float) -> Fault | None:
        """The first fault of a kind whose time it is."""
        return next((fault for fault in self._faults if fault.kind == kind and fault.acts_at(now_s)), None)

    def strike(self, now_s: float) -> Fault | None:
        """What happens to the next request, if anything. Call it once a request."""
        for fault in self._faults:
            if fault.kind in PER_REQUEST and fault.acts_at(now_s) and fault.strikes():
                return fault
        return None

    def changes_after(self, now_s: float) -> float:
        """When the next fault begins or ends; infinity when none does."""
        moments = [moment for fault in self._faults for moment in (fault.start_s, fault.end_s) if moment > now_s]
        return min(moments, default=math.inf)

    def __bool__(self) -> bool:
        return bool(self._faults)
