"""Which engines may serve a request, per origin and class of request: the hard constraints, decided once per run.

A class is a workload and, where the trace says one, a model. Fail-closed, in this order, each with its reason: a
deployment of an accepted model exists; it stands where the jurisdiction rule allows; its quality is measured and
reaches the floor; its site and cluster take traffic. What is left is cut to the nearest engines, with room kept for
the nearest core ones, so that a decision costs the same in a grid of 44 sites and of 44,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import JURISDICTION, NO_MODEL, NO_REASON, OUTAGE, QUALITY, Origin
from gridctl.engine.state import API, UNUSED
from gridctl.geography.place import Place
from gridctl.grid.image import Engine, GridImage
from gridctl.grid.pick import pick_nearest
from gridctl.network.estimate import RttMatrix
from gridctl.resources import WorkloadSpec

ORIGINS_AT_ONCE = 1024
"""Origins whose round trips to everywhere are in memory together."""
DEPLOYMENT_BITS = 24
NOWHERE = Place("", 0.0, 0.0, "FR")
"""Stands for the place of an API, whose round trips are replaced."""
NEAREST_FUNCTIONS = 2
"""Function sites offered to a request; they are billed by use, so more of them add nothing but distance."""


@dataclass(frozen=True, slots=True)
class RequestClass:
    """A workload, and the one model the trace asks for (None: any the workload accepts)."""

    workload: WorkloadSpec
    model: str | None = None


@dataclass(frozen=True, slots=True)
class CandidateLists:
    """Ragged lists: list l holds `engine[offset[l]:offset[l + 1]]` and the round trips to them in `rtt_us`.

    `of[origin, class]` names the list; an empty list has a `reason` (a code of accounts.rows.REASONS)."""

    of: NDArray[np.int64]
    offset: NDArray[np.int64]
    engine: NDArray[np.int32]
    rtt_us: NDArray[np.int32]
    reason: NDArray[np.int64]


def find_candidates(
    image: GridImage, places: Sequence[Place], origins: Sequence[Origin], classes: Sequence[RequestClass], limit: int
) -> CandidateLists:
    """Candidate lists of at most `limit` batching engines, plus functions and the API, nearest first.

    Cost: O(origins · deployments) for the round trips and the walk, however many sites have no engine; memory for
    `ORIGINS_AT_ONCE` of them and the lists."""
    deployments = _group(image.engines)
    zones: dict[tuple[str, str], int] = {}
    zone_of = np.array([zones.setdefault((o.country, o.jurisdiction), len(zones)) for o in origins], np.int64)
    masks: dict[bytes, int] = {}
    distinct: list[NDArray[np.bool_]] = []
    reasons: list[int] = []
    mask_of = np.zeros((len(zones), len(classes)), np.int64)
    for column, request_class in enumerate(classes):
        standing = _Standing(deployments, request_class)
        for (country, jurisdiction), zone in zones.items():
            mask, reason = standing.allowed(country, jurisdiction)
            key = mask.tobytes() + bytes([reason])
            if key not in masks:
                masks[key] = len(distinct)
                distinct.append(mask)
                reasons.append(reason)
            mask_of[zone, column] = masks[key]
    pairs = np.arange(len(origins))[:, None] * max(1, len(distinct)) + mask_of[zone_of]
    wanted, of = np.unique(pairs, return_inverse=True)
    origin_of, mask_number = np.divmod(wanted, max(1, len(distinct)))
    width = limit + NEAREST_FUNCTIONS + int((deployments.kind == API).sum())
    engine = np.zeros((len(wanted), width), np.int32)  # half the memory: every request reads its list anew
    times = np.zeros((len(wanted), width), np.int32)
    sizes = np.zeros(len(wanted), np.int64)
    round_trips = RttMatrix([place or NOWHERE for place in deployments.places], image.view.links)
    for start in range(0, len(places) if distinct else 0, ORIGINS_AT_ONCE):
        rtt = round_trips.from_places(places[start : start + ORIGINS_AT_ONCE])
        rtt[:, deployments.kind == API] = 0  # its own latency holds its round trip
        some = slice(*np.searchsorted(origin_of, (start, start + ORIGINS_AT_ONCE)))
        pick_nearest(
            start,
            origin_of[some],
            mask_number[some],
            np.array(distinct, np.bool_).reshape(len(distinct), -1),
            _nearest_first(rtt),
            rtt,
            deployments.table,
            limit,
            NEAREST_FUNCTIONS,
            np.zeros(len(deployments.table), np.int64),
            engine[some],
            times[some],
            sizes[some],
        )
    kept = np.arange(width)[None, :] < sizes[:, None]
    return CandidateLists(
        of=of.reshape(pairs.shape).astype(np.int64),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        engine=engine[kept],
        rtt_us=times[kept],
        reason=np.array(reasons or [NO_REASON], np.int64)[mask_number],
    )


def refusals(image: GridImage, origin: Origin, request_class: RequestClass) -> NDArray[np.int64]:
    """Per engine of the image why it may not serve such a request: a code of accounts.rows.REASONS, NO_REASON where it
    may. GPUs that no deployment uses have no model. O(engines)."""
    deployments = _group(image.engines)
    reasons = np.full(len(image.engines), NO_MODEL, np.int64)
    found = _Standing(deployments, request_class).reasons(origin.country, origin.jurisdiction)
    for (first, replicas, _, _), reason in zip(deployments.table.tolist(), found.tolist(), strict=True):
        reasons[first : first + replicas] = reason
    return reasons


def without_engines(
    lists: CandidateLists,
    lost: NDArray[np.int64],
    image: GridImage,
    places: Sequence[Place],
    origins: Sequence[Origin],
    classes: Sequence[RequestClass],
    limit: int,
) -> CandidateLists:
    """What `find_candidates` gives for `image`, which differs from the one that `lists` are of in that the engines
    `lost` take no traffic. Only origins that had one of them in a list are looked at: who is not among the nearest
    keeps nobody out."""
    owner = np.repeat(np.arange(len(lists.reason)), np.diff(lists.offset))
    is_hit = np.zeros(len(lists.reason), np.bool_)
    is_hit[owner[np.isin(lists.engine, lost)]] = True
    hit = np.flatnonzero(is_hit[lists.of].any(axis=1)).tolist()
    if not hit:
        return lists
    found = find_candidates(image, [places[one] for one in hit], [origins[one] for one in hit], classes, limit)
    of = lists.of.copy()
    of[hit] = found.of + len(lists.reason)
    return CandidateLists(
        of=of,
        offset=np.concatenate([lists.offset, found.offset[1:] + lists.offset[-1]]),
        engine=np.concatenate([lists.engine, found.engine]),
        rtt_us=np.concatenate([lists.rtt_us, found.rtt_us]),
        reason=np.concatenate([lists.reason, found.reason]),
    )


@dataclass(frozen=True, slots=True)
class _Deployments:
    """Engines grouped by deployment: replicas are adjacent, so a first engine and a count describe each.

    `table` has the columns of `pick`: first engine, replicas, kind, whether it is core; `places` is where each stands
    (None: the API)."""

    table: NDArray[np.int64]
    places: tuple[Place | None, ...]
    kind: NDArray[np.int64]
    engines: tuple[Engine, ...]


def _group(engines: tuple[Engine, ...]) -> _Deployments:
    heads: dict[int, int] = {}
    replicas: dict[int, int] = {}
    for index, engine in enumerate(engines):
        if engine.spec.kind != UNUSED:
            heads.setdefault(engine.deployment, index)
            replicas[engine.deployment] = replicas.get(engine.deployment, 0) + 1
    members = tuple(engines[first] for first in heads.values())
    rows = [
        (first, replicas[deployment], engine.spec.kind, int(engine.facts.tier == "core"))
        for (deployment, first), engine in zip(heads.items(), members, strict=True)
    ]
    table = np.array(rows, np.int64).reshape(-1, 4)
    return _Deployments(table, tuple(engine.place for engine in members), table[:, 2], members)


def _nearest_first(rtt: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per origin the deployments by round trip, equal ones by number: as one key of both, which sorts fastest."""
    keys = (rtt << DEPLOYMENT_BITS) | np.arange(rtt.shape[1])
    keys.sort(axis=1)
    return keys & ((1 << DEPLOYMENT_BITS) - 1)


class _Standing:
    """What the hard constraints say of every deployment for one class of request."""

    def __init__(self, deployments: _Deployments, request_class: RequestClass) -> None:
        spec = request_class.workload
        engines = deployments.engines
        models = set(spec.models) & ({request_class.model} if request_class.model is not None else set(spec.models))
        floor = spec.quality_floor
        self._engines = engines
        self._rule = spec.jurisdiction
        # A public API sees traffic only of workloads that ask for it: nothing leaves the grid silently.
        may_leave = spec.when_infeasible == "fallback"
        self._has_model = np.array(
            [engine.model in models and (may_leave or engine.spec.kind != API) for engine in engines], np.bool_
        )
        self._is_good = np.array(
            [floor == 0 or (engine.quality is not None and engine.quality >= floor) for engine in engines], np.bool_
        )
        self._is_up = np.array([engine.takes_traffic for engine in engines], np.bool_)

    def allowed(self, country: str, jurisdiction: str) -> tuple[NDArray[np.bool_], int]:
        """The deployments that may serve requests from there, and the reason when there are none."""
        left = np.ones(len(self._engines), np.bool_)
        reason = NO_REASON
        for stage, passes in self._stages(country, jurisdiction):
            left = left & passes
            if reason == NO_REASON and not left.any():
                reason = stage
        return left, reason

    def reasons(self, country: str, jurisdiction: str) -> NDArray[np.int64]:
        """Why each deployment may not serve requests from there: the first stage it fails; NO_REASON where it may."""
        reasons = np.full(len(self._engines), NO_REASON, np.int64)
        for stage, passes in self._stages(country, jurisdiction):
            reasons[(reasons == NO_REASON) & ~passes] = stage
        return reasons

    def _stages(self, country: str, jurisdiction: str) -> tuple[tuple[int, NDArray[np.bool_]], ...]:
        return (
            (NO_MODEL, self._has_model),
            (JURISDICTION, self._legal(country, jurisdiction)),
            (QUALITY, self._is_good),
            (OUTAGE, self._is_up),
        )

    def _legal(self, country: str, jurisdiction: str) -> NDArray[np.bool_]:
        rule = self._rule
        if rule.rule == "any":
            return np.ones(len(self._engines), np.bool_)
        if rule.rule == "same-country":
            return np.array([bool(country) and engine.country == country for engine in self._engines], np.bool_)
        if rule.rule == "same-jurisdiction":
            return np.array(
                [bool(jurisdiction) and jurisdiction in engine.jurisdictions for engine in self._engines], np.bool_
            )
        return np.array(
            [
                engine.country in rule.allow or any(code in rule.allow for code in engine.jurisdictions)
                for engine in self._engines
            ],
            np.bool_,
        )
