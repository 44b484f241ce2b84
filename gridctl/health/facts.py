"""Facts: everything the screens of health are made from, gathered at one moment by whoever runs the orchestrator.

Must not judge. `readings` remembers what had been counted a while ago, because a rate takes two looks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gridctl.health.burn import Count
from gridctl.health.condition import Condition
from gridctl.health.outcome import Outcome
from gridctl.health.outliers import Suspect
from gridctl.health.panic import Panic
from gridctl.resources import Cluster, PriceBook, Resource, Site, Workload
from gridctl.signals.board import Board
from gridctl.signals.series import Key, Series
from gridctl.signals.totals import Totals
from gridctl.units import NS_PER_S

HOUR_S = 3_600.0
KEPT_READINGS = 7


class Engine(Protocol):
    """An engine of the plan: its row on the board and what it serves where."""

    @property
    def row(self) -> int: ...
    @property
    def site(self) -> str: ...
    @property
    def cluster(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def replica(self) -> int: ...


class Readings:
    """The latest readings of the meters, oldest first, each with its monotonic time in nanoseconds."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Totals]] = deque(maxlen=KEPT_READINGS)

    def take(self, at_ns: int, totals: Totals) -> None:
        """Keep a reading."""
        self._kept.append((at_ns, totals))

    def before(self, at_ns: int, window_s: float) -> tuple[int, Totals] | None:
        """The reading nearest to `window_s` seconds before, at least one second old; None when there is none."""
        old = [kept for kept in self._kept if kept[0] <= at_ns - NS_PER_S]
        return min(old, key=lambda kept: abs(at_ns - kept[0] - window_s * NS_PER_S), default=None)


@dataclass(frozen=True, slots=True)
class Facts:
    """A running orchestrator at one moment. `now_ns` is the monotonic clock, `now_unix_ns` the wall's; `notices` are
    troubles of the orchestrator itself, in words, each with what to do."""

    grid: str
    now_ns: int
    now_unix_ns: int
    resources: Sequence[Resource]
    engines: Sequence[Engine]
    conditions: Mapping[int, Condition]
    outcomes: Mapping[int, Sequence[Outcome]]
    panics: Mapping[str, Panic]
    suspects: Sequence[Suspect]
    board: Board
    series: Series
    price_book: str = "default"
    notices: Sequence[tuple[str, str]] = field(default=())

    def unix_ns(self, at_ns: int) -> int:
        """A moment of the monotonic clock on the wall's, as that is set now."""
        return self.now_unix_ns - (self.now_ns - at_ns)

    def sites(self) -> dict[str, Site]:
        """Declared sites by name."""
        return {one.name: one for one in self.resources if isinstance(one, Site)}

    def clusters(self) -> dict[str, Cluster]:
        """Declared clusters by name."""
        return {one.name: one for one in self.resources if isinstance(one, Cluster)}

    def workloads(self) -> dict[str, Workload]:
        """Declared workloads by name."""
        return {one.name: one for one in self.resources if isinstance(one, Workload)}

    def gpu_usd_per_hour(self, clusters: Sequence[str]) -> float | None:
        """What the GPUs of these clusters cost an hour; None where nothing says a price."""
        book = next((one for one in self.resources if isinstance(one, PriceBook) and one.name == self.price_book), None)
        prices = book.spec.gpu_hour_usd if book is not None else {}
        declared = self.clusters()
        known = [declared[name].spec for name in clusters if name in declared]
        each = [prices.get(one.gpu) if one.usd_per_gpu_hour is None else one.usd_per_gpu_hour for one in known]
        said = [price * one.gpus for price, one in zip(each, known, strict=True) if price is not None]
        return sum(said) if said and len(said) == len(known) else None

    def count(self, key: Key, window_s: float) -> Count:
        """Requests of a key that ended in the last `window_s` seconds."""
        window = self.series.between(key, window_s)
        # A window is right to a sample, so one that is covered but for a sample is covered.
        covered_s = window_s if window.covered_s >= window_s - 15 else window.covered_s
        return Count(window.valid, window.bad, covered_s)

    def traffic_share(self, sites: Sequence[str]) -> float | None:
        """The share of the last hour's requests that these sites served; None when there were none."""
        every = self.series.between(Key(), HOUR_S)
        total = every.valid + every.excluded
        if not total:
            return None
        parts = [self.series.between(Key("", site), HOUR_S) for site in sites]
        return sum(part.valid + part.excluded for part in parts) / total
