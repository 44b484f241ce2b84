"""Which engines may serve a request, per origin and class of request: the hard constraints, decided once per run.

A class is a workload and, where the trace says one, a model. Fail-closed, in this order, each with its reason: a
deployment of an accepted model exists; it stands where the jurisdiction rule allows; its quality is measured and
reaches the floor; it is of a tier the policy allows; its site and cluster take traffic, and there is a way to it; its
round trip is within the policy's. What is left is cut to the nearest engines, with room kept for the nearest core
ones, so that a decision costs the same in a grid of 44 sites and of 44,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import Origin
from gridctl.accounts.rows import JURISDICTION, NO_MODEL, NO_REASON, OUTAGE, QUALITY, TIER, TOO_FAR
from gridctl.engine.state import API, UNUSED
from gridctl.geography.place import Place
from gridctl.grid.image import Engine, GridImage
from gridctl.grid.paths import PathChange
from gridctl.grid.pick import pick_nearest
from gridctl.network.estimate import RttMatrix
from gridctl.resources import PolicySpec, WorkloadSpec

ORIGINS_AT_ONCE = 1024
"""Origins whose round trips to everywhere are in memory together."""
DEPLOYMENT_BITS = 24
NOWHERE = Place("", 0.0, 0.0, "FR")
"""Stands for the place of an API, whose round trips are replaced."""
NEAREST_FUNCTIONS = 2
"""Function sites offered to a request; they are billed by use, so more of them add nothing but distance."""


US_PER_MS = 1000
ANY_RTT_US = 1 << 40
"""No bound on a round trip: longer than any."""


@dataclass(frozen=True, slots=True)
class RequestClass:
    """A workload, the one model the trace asks for (None: any the workload accepts), and what its policy allows: the
    `tiers` (none named: every one), the longest round trip over the network, and how many batching engines (None: as
    many as `find_candidates` is told)."""

    workload: WorkloadSpec
    model: str | None = None
    tiers: tuple[str, ...] = ()
    max_rtt_us: int = ANY_RTT_US
    candidates: int | None = None


def request_class(name: str, workload: WorkloadSpec, model: str | None, policy: PolicySpec) -> RequestClass:
    """Requests of the workload called `name` under a policy, whose overrides for it hold; `model` is the one asked for.

    The bound on round trips is kept to the microsecond, as round trips are."""
    own = policy.for_workload(name)
    reach_us = ANY_RTT_US if own.max_rtt_ms is None else int(own.max_rtt_ms * US_PER_MS)
    return RequestClass(workload, model, tuple(own.tiers), reach_us, own.candidates)


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
    image: GridImage,
    places: Sequence[Place],
    origins: Sequence[Origin],
    classes: Sequence[RequestClass],
    limit: int,
    paths: Sequence[PathChange] = (),
    numbers: Sequence[int] | None = None,
) -> CandidateLists:
    """Candidate lists of at most `limit` batching engines, or as many as a class says, plus functions and the API,
    nearest first. `paths` are what became of round trips; `numbers` are those of the origins where they are some of
    many, so that replicas are shared out the same.

    Cost: O(origins · deployments) for the round trips and the walk, however many sites have no engine; memory for
    `ORIGINS_AT_ONCE` of them and the lists."""
    deployments = _group(image.engines)
    cuts = [deployments.touched(path) for path in paths]
    zone_of, zones = _zones(origins, paths)
    kinds = _Kinds()
    mask_of = np.zeros((len(zones), len(classes)), np.int64)
    for column, request_class in enumerate(classes):
        standing = _Standing(deployments, request_class)
        most = limit if request_class.candidates is None else request_class.candidates
        for zone, (country, jurisdiction, lost) in enumerate(zones):
            mask, reason = standing.allowed(country, jurisdiction, _union([cuts[number] for number in lost]))
            mask_of[zone, column] = kinds.number(mask, reason, most, request_class.max_rtt_us)
    count = max(1, len(kinds.masks))
    pairs = np.arange(len(origins))[:, None] * count + mask_of[zone_of]
    wanted, of = np.unique(pairs, return_inverse=True)
    origin_of, mask_number = np.divmod(wanted, count)
    width = max(kinds.most, default=limit) + NEAREST_FUNCTIONS + int((deployments.kind == API).sum())
    engine = np.zeros((len(wanted), width), np.int32)  # half the memory: every request reads its list anew
    times = np.zeros((len(wanted), width), np.int32)
    sizes = np.zeros(len(wanted), np.int64)
    round_trips = RttMatrix([place or NOWHERE for place in deployments.places], image.view.links)
    own = np.arange(len(origins)) if numbers is None else np.asarray(numbers, np.int64)
    for start in range(0, len(places) if kinds.masks else 0, ORIGINS_AT_ONCE):
        part = slice(start, start + ORIGINS_AT_ONCE)
        rtt = round_trips.from_places(places[part])
        rtt[:, deployments.kind == API] = 0  # its own latency holds its round trip
        for path, touched in zip(paths, cuts, strict=True):
            rtt[np.ix_(path.origins[part], touched)] += path.added_us
        some = slice(*np.searchsorted(origin_of, (start, start + ORIGINS_AT_ONCE)))
        pick_nearest(
            origin_of[some] - start,
            own[part],
            mask_number[some],
            np.array(kinds.masks, np.bool_).reshape(len(kinds.masks), -1),
            np.array(kinds.most, np.int64),
            np.array(kinds.reach_us, np.int64),
            _nearest_first(rtt),
            rtt,
            deployments.table,
            NEAREST_FUNCTIONS,
            np.zeros(len(deployments.table), np.int64),
            engine[some],
            times[some],
            sizes[some],
        )
    kept = np.arange(width)[None, :] < sizes[:, None]
    why = np.array(kinds.reasons or [NO_REASON], np.int64)[mask_number]
    return CandidateLists(
        of=of.reshape(pairs.shape).astype(np.int64),
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        engine=engine[kept],
        rtt_us=times[kept],
        # Somebody is allowed, and yet nobody is on the list: all of them are beyond the longest round trip.
        reason=np.where((sizes == 0) & (why == NO_REASON), TOO_FAR, why),
    )


def _zones(
    origins: Sequence[Origin], paths: Sequence[PathChange]
) -> tuple[NDArray[np.int64], list[tuple[str, str, tuple[int, ...]]]]:
    """Origins that are under the same law and cut off from the same engines: which zone each is in, and the zones."""
    lost = [number for number, path in enumerate(paths) if path.is_lost]
    found: dict[tuple[str, str, tuple[int, ...]], int] = {}
    of = [
        found.setdefault(
            (origin.country, origin.jurisdiction, tuple(one for one in lost if paths[one].origins[number])), len(found)
        )
        for number, origin in enumerate(origins)
    ]
    return np.array(of, np.int64), list(found)


def _union(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
    return np.logical_or.reduce(masks) if masks else None


class _Kinds:
    """The distinct kinds of list: who may be on it, why nobody may, how many, and how far away."""

    def __init__(self) -> None:
        self.masks: list[NDArray[np.bool_]] = []
        self.reasons: list[int] = []
        self.most: list[int] = []
        self.reach_us: list[int] = []
        self._known: dict[tuple[bytes, int, int, int], int] = {}

    def number(self, mask: NDArray[np.bool_], reason: int, most: int, reach_us: int) -> int:
        """The number of such a kind, a new one if there was none."""
        key = (mask.tobytes(), reason, most, reach_us)
        if key not in self._known:
            self._known[key] = len(self.masks)
            self.masks.append(mask)
            self.reasons.append(reason)
            self.most.append(most)
            self.reach_us.append(reach_us)
        return self._known[key]


def refusals(
    image: GridImage,
    origin: Origin,
    request_class: RequestClass,
    place: Place | None = None,
    paths: Sequence[PathChange] = (),
) -> NDArray[np.int64]:
    """Per engine of the image why it may not serve such a request from `place`: a code of accounts.rows.REASONS,
    NO_REASON where it may. GPUs that no deployment uses have no model. `paths` are of this one origin. O(engines)."""
    deployments = _group(image.engines)
    reasons = np.full(len(image.engines), NO_MODEL, np.int64)
    cuts = [deployments.touched(path) for path in paths if path.origins[0]]
    lost = [cut for path, cut in zip(paths, cuts, strict=True) if path.is_lost]
    found = _Standing(deployments, request_class).reasons(origin.country, origin.jurisdiction, _union(lost))
    if place is not None and request_class.max_rtt_us < ANY_RTT_US:
        stands = RttMatrix([one or NOWHERE for one in deployments.places], image.view.links)
        rtt = stands.from_places([place])[0]
        rtt[deployments.kind == API] = 0
        for path, cut in zip(paths, cuts, strict=True):
            rtt[cut] += path.added_us
        found[(found == NO_REASON) & (rtt > request_class.max_rtt_us)] = TOO_FAR
    for (first, replicas, _, _), reason in zip(deployments.table.tolist(), found.tolist(), strict=True):
        reasons[first : first + replicas] = reason
    return reasons


def revised(
    lists: CandidateLists,
    lost: NDArray[np.int64],
    image: GridImage,
    places: Sequence[Place],
    origins: Sequence[Origin],
    classes: Sequence[RequestClass],
    limit: int,
    paths: Sequence[PathChange] = (),
) -> CandidateLists:
    """What `find_candidates` gives for `image` and `paths`, where `lists` are of an image in which the engines `lost`
    still took traffic and of no changed paths. Only origins that had one of them in a list, or whose paths changed,
    are looked at: who is not among the nearest keeps nobody out."""
    owner = np.repeat(np.arange(len(lists.reason)), np.diff(lists.offset))
    is_hit = np.zeros(len(lists.reason), np.bool_)
    is_hit[owner[np.isin(lists.engine, lost)]] = True
    is_touched = is_hit[lists.of].any(axis=1)
    for path in paths:
        is_touched |= path.origins
    hit = np.flatnonzero(is_touched)
    if not len(hit):
        return lists
    there, whence = [places[one] for one in hit.tolist()], [origins[one] for one in hit.tolist()]
    found = find_candidates(
        image, there, whence, classes, limit, [path.of_origins(hit) for path in paths], hit.tolist()
    )
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

    def touched(self, path: PathChange) -> NDArray[np.bool_]:
        """Which deployments a path leads to; replicas stand together."""
        return path.engines[self.table[:, 0]]


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
        tiers = request_class.tiers
        self._is_of_tier = np.array([not tiers or engine.facts.tier in tiers for engine in engines], np.bool_)
        self._is_up = np.array([engine.takes_traffic for engine in engines], np.bool_)

    def allowed(
        self, country: str, jurisdiction: str, cut: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], int]:
        """The deployments that may serve requests from there, and the reason when there are none. There is no way to
        those that are `cut` off."""
        left = np.ones(len(self._engines), np.bool_)
        reason = NO_REASON
        for stage, passes in self._stages(country, jurisdiction, cut):
            left = left & passes
            if reason == NO_REASON and not left.any():
                reason = stage
        return left, reason

    def reasons(self, country: str, jurisdiction: str, cut: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Why each deployment may not serve requests from there: the first stage it fails; NO_REASON where it may."""
        reasons = np.full(len(self._engines), NO_REASON, np.int64)
        for stage, passes in self._stages(country, jurisdiction, cut):
            reasons[(reasons == NO_REASON) & ~passes] = stage
        return reasons

    def _stages(
        self, country: str, jurisdiction: str, cut: NDArray[np.bool_] | None
    ) -> tuple[tuple[int, NDArray[np.bool_]], ...]:
        return (
            (NO_MODEL, self._has_model),
            (JURISDICTION, self._legal(country, jurisdiction)),
            (QUALITY, self._is_good),
            (TIER, self._is_of_tier),
            (OUTAGE, self._is_up if cut is None else self._is_up & ~cut),
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
