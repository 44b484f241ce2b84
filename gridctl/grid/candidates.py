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
from gridctl.engine.state import API, GPU, SERVERLESS, UNUSED
from gridctl.geography.place import Place
from gridctl.grid.image import Engine, GridImage
from gridctl.network.estimate import rtt_matrix_us
from gridctl.resources import WorkloadSpec

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
    engine: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Deployments:
    """Engines grouped by deployment: replicas are adjacent, so a first engine and a count describe each."""

    first: NDArray[np.int64]
    replicas: NDArray[np.int64]
    place: NDArray[np.int64]
    kind: NDArray[np.int64]
    is_core: NDArray[np.bool_]
    engines: tuple[Engine, ...]


def find_candidates(
    image: GridImage, places: Sequence[Place], origins: Sequence[Origin], classes: Sequence[RequestClass], limit: int
) -> CandidateLists:
    """Candidate lists of at most `limit` batching engines, plus functions and the API, nearest first."""
    deployments, sites = _group(image.engines)
    rtt = rtt_matrix_us(places, sites, image.view.links)
    of = np.zeros((len(places), len(classes)), np.int64)
    lists: list[tuple[NDArray[np.int64], NDArray[np.int64], int]] = []
    selections: dict[bytes, dict[int, int]] = {}
    zones: dict[tuple[str, str], list[int]] = {}
    for index, origin in enumerate(origins):
        zones.setdefault((origin.country, origin.jurisdiction), []).append(index)
    for column, request_class in enumerate(classes):
        for (country, jurisdiction), members in zones.items():
            allowed, reason = _allowed(deployments, request_class, country, jurisdiction)
            known = selections.setdefault(allowed.tobytes() + bytes([reason]), {})
            missing = [member for member in members if member not in known]
            if missing:
                picked = _pick(deployments, allowed, rtt, np.array(missing), limit)
                for member, (engines, times) in zip(missing, picked, strict=True):
                    known[member] = len(lists)
                    lists.append((engines, times, reason))
            of[members, column] = [known[member] for member in members]
    sizes = [len(engines) for engines, _, _ in lists]
    return CandidateLists(
        of=of,
        offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        engine=np.concatenate([engines for engines, _, _ in lists] or [np.zeros(0, np.int64)]),
        rtt_us=np.concatenate([times for _, times, _ in lists] or [np.zeros(0, np.int64)]),
        reason=np.array([reason for _, _, reason in lists], np.int64),
    )


def _group(engines: tuple[Engine, ...]) -> tuple[_Deployments, list[Place]]:
    sites: dict[str, int] = {}
    places: list[Place] = []
    rows: list[tuple[int, int, int, int, bool]] = []
    heads: list[Engine] = []
    previous = -1
    for index, engine in enumerate(engines):
        if engine.spec.kind == UNUSED:
            continue
        if engine.deployment == previous:
            first, replicas, place, kind, is_core = rows[-1]
            rows[-1] = (first, replicas + 1, place, kind, is_core)
            continue
        previous = engine.deployment
        place = -1
        if engine.place is not None:
            if engine.place.name not in sites:
                sites[engine.place.name] = len(places)
                places.append(engine.place)
            place = sites[engine.place.name]
        rows.append((index, 1, place, engine.spec.kind, engine.facts.tier == "core"))
        heads.append(engine)
    table = np.array([row[:4] for row in rows], np.int64).reshape(-1, 4)
    return (
        _Deployments(
            table[:, 0],
            table[:, 1],
            table[:, 2],
            table[:, 3],
            np.array([row[4] for row in rows], np.bool_),
            tuple(heads),
        ),
        places,
    )


def _allowed(
    deployments: _Deployments, request_class: RequestClass, country: str, jurisdiction: str
) -> tuple[NDArray[np.int64], int]:
    """Deployments that may serve the class for an origin there, and why there are none."""
    spec = request_class.workload
    models = spec.models if request_class.model is None else (request_class.model,)
    stages = (
        (NO_MODEL, lambda e: e.model in models and e.model in spec.models),
        (JURISDICTION, lambda e: _is_legal(e, spec, country, jurisdiction)),
        (QUALITY, lambda e: spec.quality_floor == 0 or (e.quality is not None and e.quality >= spec.quality_floor)),
        (OUTAGE, lambda e: e.takes_traffic),
    )
    left = list(range(len(deployments.engines)))
    for reason, passes in stages:
        left = [index for index in left if passes(deployments.engines[index])]
        # The API alone is no grid capacity: it keeps the request alive but does not hide why the grid cannot serve.
        if not left:
            return np.zeros(0, np.int64), reason
    return np.array(left, np.int64), NO_REASON


def _is_legal(engine: Engine, spec: WorkloadSpec, country: str, jurisdiction: str) -> bool:
    rule = spec.jurisdiction
    if rule.rule == "any":
        return True
    if rule.rule == "same-country":
        return bool(country) and engine.country == country
    if rule.rule == "same-jurisdiction":
        return bool(jurisdiction) and jurisdiction in engine.jurisdictions
    return engine.country in rule.allow or any(code in rule.allow for code in engine.jurisdictions)


def _pick(
    deployments: _Deployments, allowed: NDArray[np.int64], rtt: NDArray[np.int64], members: NDArray[np.int64], limit: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For each member origin: the nearest engines among the allowed deployments, nearest first."""
    gpu = allowed[deployments.kind[allowed] == GPU]
    core = gpu[deployments.is_core[gpu]]
    functions = allowed[deployments.kind[allowed] == SERVERLESS]
    apis = allowed[deployments.kind[allowed] == API]
    kept = min(limit // 2, int(deployments.replicas[core].sum()))
    near = _nearest(deployments, gpu, rtt, members, limit - kept)
    central = _nearest(deployments, core, rtt, members, limit)
    by_function = _nearest(deployments, functions, rtt, members, NEAREST_FUNCTIONS)
    picked = []
    for row, member in enumerate(members):
        chosen: dict[int, int] = {}
        for deployment, take in near[row]:
            chosen[deployment] = take
        room = limit - sum(chosen.values())
        for deployment, take in central[row]:
            if room <= 0:
                break
            more = min(take, deployments.replicas[deployment], room + chosen.get(deployment, 0))
            room -= more - chosen.get(deployment, 0)
            chosen[deployment] = max(more, chosen.get(deployment, 0))
        for deployment, take in by_function[row]:
            chosen[deployment] = take
        engines: list[int] = []
        times: list[int] = []
        for deployment, take in chosen.items():
            engines.extend(_replicas(deployments, deployment, take, int(member)))
            times.extend([int(rtt[member, deployments.place[deployment]])] * take)
        order = np.argsort(np.array(times, np.int64), kind="stable")
        ids = np.array(engines, np.int64)[order]
        milliseconds = np.array(times, np.int64)[order]
        picked.append(
            (np.append(ids, deployments.first[apis]), np.append(milliseconds, np.zeros(len(apis), np.int64)))
        )
    return picked


def _nearest(
    deployments: _Deployments, among: NDArray[np.int64], rtt: NDArray[np.int64], members: NDArray[np.int64], limit: int
) -> list[list[tuple[int, int]]]:
    """Per member: (deployment, replicas taken), nearest first, until `limit` engines are taken."""
    if len(among) == 0 or limit <= 0:
        return [[] for _ in members]
    times = rtt[np.ix_(members, deployments.place[among])]
    reach = min(len(among), limit)
    order = np.argsort(times, axis=1, kind="stable")[:, :reach]
    chosen = among[order]
    ends = np.cumsum(deployments.replicas[chosen], axis=1)
    taken = np.clip(limit - (ends - deployments.replicas[chosen]), 0, deployments.replicas[chosen])
    return [
        [(int(d), int(t)) for d, t in zip(row, take, strict=True) if t > 0]
        for row, take in zip(chosen, taken, strict=True)
    ]


def _replicas(deployments: _Deployments, deployment: int, take: int, member: int) -> list[int]:
    """Which replicas an origin sees when it sees only some: a window that moves with the origin."""
    first, count = int(deployments.first[deployment]), int(deployments.replicas[deployment])
    return [first + (member * take + step) % count for step in range(take)]
