"""Outliers: engines, model versions and regions that fail more than their peers, and how many may be ejected for it.

Decides by counts of one interval; must not hold state or read a clock. Three comparisons, because each is blind where
another sees:

- absolute: a share of failures no engine may have, whatever its peers do. It alone sees what fails everywhere.
- by engine, among engines that serve one model variant: the success rate against the median of the peers by the median
  absolute deviation. The usual mean − 1.9·σ cannot see k of n that fail alike unless k/n < 1/(1 + 1.9²) = 21.7 %: one
  failing engine of four is never found. The median sees up to half.
- by group (a model version, a region) against all others that serve the model: two proportions and their difference in
  standard errors. A group is never ejected, only told: a version that was pushed badly is an operator's to take back.

Of what the comparison finds at most a share of the peers is ejected, but always one; absolute failures know no such
cap, and `health.panic` says what happens when too few are left. Sources: Envoy's outlier detection for the least counts
(5 engines, 100 requests; 50 for the absolute share) and the cap of 10 %; 1.4826 makes a median absolute deviation a
standard deviation for normal data (Hampel 1974).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Literal

import msgspec

MAD_TO_SIGMA = 1.4826


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of the comparisons; shares 0 to 1."""

    absolute_failed_share: float = 0.5
    absolute_requests: int = 50
    peers: int = 4  # engines with enough requests, the judged one included
    peer_requests: int = 100
    deviations: float = 5.0  # robust standard deviations below the median
    least_gap: float = 0.05  # and at least so far below it
    max_ejected_share: float = 0.1
    group_requests: int = 200
    group_errors: float = 5.0  # standard errors between a group and the others
    group_gap: float = 0.02


DEFAULTS = Settings()


class Sample(msgspec.Struct, frozen=True):
    """What one engine answered in the interval. `region` is free text; `variant` is `model/variant`."""

    row: int
    name: str
    model: str
    variant: str
    region: str
    requests: int
    failed: int

    @property
    def failed_share(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


class Outlier(msgspec.Struct, frozen=True):
    """An engine to eject, and why. `is_held_back`: found, but enough of its peers are ejected already."""

    row: int
    name: str
    cause: str
    is_held_back: bool = False


class Suspect(msgspec.Struct, frozen=True):
    """A group that fails more than the rest of the grid that serves the same model."""

    kind: Literal["model version", "region"]
    name: str
    model: str
    failed_share: float
    others_failed_share: float
    requests: int
    engines: int

    @property
    def cause(self) -> str:
        return (
            f"{self.kind} {self.name} fails {self.failed_share:.1%} of its requests, "
            f"the rest of {self.model} {self.others_failed_share:.1%}"
        )


def outliers(
    samples: Sequence[Sample], ejected: Iterable[int] = (), settings: Settings = DEFAULTS
) -> tuple[Outlier, ...]:
    """The engines to eject now, worst first. `ejected` are rows that are out already: they fill the cap.

    Cost: O(n log n)."""
    out = set(ejected)
    found = []
    for sample in _worst_first(sample for sample in samples if sample.row not in out):
        is_enough = sample.requests >= settings.absolute_requests
        if is_enough and sample.failed_share >= settings.absolute_failed_share:
            out.add(sample.row)
            found.append(Outlier(sample.row, sample.name, f"{sample.failed} of {sample.requests} requests failed"))
    for peers in _grouped(samples, lambda sample: sample.variant).values():
        found += _among_peers(peers, out, settings)
    return tuple(found)


def _among_peers(peers: Sequence[Sample], out: set[int], settings: Settings) -> list[Outlier]:
    """Those that fail far more than the median of the engines that serve the same variant, as far as the cap lets."""
    judged = [peer for peer in peers if peer.requests >= settings.peer_requests]
    if len(judged) < settings.peers:
        return []
    rates = [1 - peer.failed_share for peer in judged]
    middle = median(rates)
    spread = MAD_TO_SIGMA * median(abs(rate - middle) for rate in rates)
    floor = middle - max(settings.deviations * spread, settings.least_gap)
    room = max(1, math.floor(len(peers) * settings.max_ejected_share)) - sum(peer.row in out for peer in peers)
    found = []
    for peer in _worst_first(judged):
        if peer.row in out or 1 - peer.failed_share >= floor:
            continue
        cause = f"it fails {peer.failed_share:.1%} of its requests, its peers {1 - middle:.1%} (median)"
        found.append(Outlier(peer.row, peer.name, cause, is_held_back=room <= 0))
        if room > 0:
            out.add(peer.row)
        room -= 1
    return found


def suspects(samples: Sequence[Sample], settings: Settings = DEFAULTS) -> tuple[Suspect, ...]:
    """Model versions and regions that fail more than the rest of what serves the same model, worst first.

    The difference in standard errors is (p₁ − p₂)/√(p(1 − p)(1/n₁ + 1/n₂)), p the pooled share. Cost: O(n)."""
    found = []
    for model, peers in _grouped(samples, lambda sample: sample.model).items():
        for kind, group_of in _GROUPS:
            for name, inside in _grouped(peers, group_of).items():
                suspect = _suspect(kind, name, model, inside, peers, settings)
                if suspect is not None:
                    found.append(suspect)
    return tuple(sorted(found, key=lambda one: (one.others_failed_share - one.failed_share, one.kind, one.name)))


def _suspect(
    kind: Literal["model version", "region"],
    name: str,
    model: str,
    inside: Sequence[Sample],
    peers: Sequence[Sample],
    settings: Settings,
) -> Suspect | None:
    requests, failed = sum(one.requests for one in inside), sum(one.failed for one in inside)
    all_requests, all_failed = sum(one.requests for one in peers), sum(one.failed for one in peers)
    others, others_failed = all_requests - requests, all_failed - failed
    if min(requests, others) < settings.group_requests:
        return None
    share, others_share, pooled = failed / requests, others_failed / others, all_failed / all_requests
    error = math.sqrt(pooled * (1 - pooled) * (1 / requests + 1 / others))
    if share - others_share < settings.group_gap or share - others_share < settings.group_errors * error:
        return None
    return Suspect(kind, name, model, share, others_share, requests, len(inside))


_GROUPS: tuple[tuple[Literal["model version", "region"], Callable[[Sample], str]], ...] = (
    ("model version", lambda sample: sample.variant),
    ("region", lambda sample: sample.region),
)


def _grouped(samples: Iterable[Sample], group_of: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(group_of(sample), []).append(sample)
    return groups


def _worst_first(samples: Iterable[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda sample: (-sample.failed_share, -sample.requests, sample.row))
