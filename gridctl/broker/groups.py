"""Groups: who may serve requests of one origin, workload and model, found when the first of them comes and kept.

The hard constraints are those of a replay (`grid.candidates`), over the engines that run; a group without candidates
has the reason, told from the whole grid: an engine that exists and does not run is another matter than none at all.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import REASONS, TOO_FAR
from gridctl.broker.live import Live
from gridctl.broker.menu import Meant
from gridctl.broker.origins import Where
from gridctl.broker.refusal import Refusal, forbidden, unavailable
from gridctl.engine.state import GPU
from gridctl.grid.candidates import ANY_RTT_US, NOWHERE, RequestClass, find_candidates, request_class
from gridctl.grid.image import GridImage

MOST_GROUPS = 4096
RETRY_OUTAGE_MS = 5_000
NO_ENDPOINT = "no-endpoint"
WINDOWS = 0xFFFF


@dataclass(slots=True)
class Group:
    """`engines` are the candidates' live engines, nearest first, `rtt_us` the round trips to them without the last
    mile; `turn` counts decisions. Without candidates `reason` says why."""

    generation: int
    where: Where
    meant: Meant
    workload: int
    engines: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: str = ""
    turn: int = 0


class Groups:
    """The groups of one generation of a plan; of too many, those longest not asked for are forgotten."""

    def __init__(self, live: Live, generation: int) -> None:
        self._live = live
        self._generation = generation
        self._numbers = {name: number for number, name in enumerate(live.workloads)}
        self._groups: OrderedDict[tuple[str, Meant], Group] = OrderedDict()
        self._images: dict[tuple[object, ...], tuple[GridImage, NDArray[np.int64]]] = {}

    def of(self, where: Where, meant: Meant) -> Group:
        """The group of requests that come from there and mean that."""
        key = (where.origin.name, meant)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._find(where, meant)
            if len(self._groups) > MOST_GROUPS:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(key)
        return group

    def _find(self, where: Where, meant: Meant) -> Group:
        image, numbers = self._engines(self._live.image, meant)
        found = self._listed(image, where, meant)
        return Group(
            generation=self._generation,
            where=where,
            meant=meant,
            workload=self._numbers[meant.workload],
            engines=numbers[found.engines],
            rtt_us=found.rtt_us,
            reason="" if len(found.engines) else self._why(where, meant),
        )

    def _listed(self, image: GridImage, where: Where, meant: Meant) -> _Listed:
        """The engines of an image that may serve, nearest first, and the round trips to them; or why there are none.

        From nowhere that is known every round trip is taken to be 0, and a bound on it to be exceeded."""
        asked = self.asked(meant)
        none = np.zeros(0, np.int64)
        if not image.engines:
            return _Listed(none, none, NO_ENDPOINT)
        if where.place is None and asked.max_rtt_us < ANY_RTT_US:
            return _Listed(none, none, REASONS[TOO_FAR])
        place = where.place or NOWHERE
        # Replicas beyond the list's end are shared out by origin: another one, another window.
        window = crc32(where.origin.name.encode()) & WINDOWS
        limit = self._live.policy.candidates
        found = find_candidates(image, [place], [where.origin], [asked], limit, numbers=[window])
        listed = int(found.of[0, 0])
        some = slice(int(found.offset[listed]), int(found.offset[listed + 1]))
        rtt_us = found.rtt_us[some].astype(np.int64)
        return _Listed(
            found.engine[some].astype(np.int64),
            np.zeros_like(rtt_us) if where.place is None else rtt_us,
            REASONS[int(found.reason[listed])],
        )

    def asked(self, meant: Meant) -> RequestClass:
        """Such requests, with what the policy allows them."""
        live = self._live
        return request_class(meant.workload, live.workloads[meant.workload], meant.model, live.policy)

    def _engines(self, image: GridImage, meant: Meant) -> tuple[GridImage, NDArray[np.int64]]:
        """The engines on GPUs that a pinned variant leaves of an image, and their numbers in it."""
        key = image is self._live.image, meant.variant and (meant.model, meant.variant)
        if key not in self._images:
            kept = [
                number
                for number, engine in enumerate(image.engines)
                if engine.spec.kind == GPU and (not key[1] or (engine.facts.model, engine.facts.variant) == key[1])
            ]
            some = dataclasses.replace(image, engines=tuple(image.engines[number] for number in kept))
            self._images[key] = some, np.array(kept, np.int64)
        return self._images[key]

    def _why(self, where: Where, meant: Meant) -> str:
        """What keeps the whole grid from serving such requests; if nothing does, it is that no engine runs."""
        image, _ = self._engines(self._live.whole, meant)
        return self._listed(image, where, meant).reason or NO_ENDPOINT


class _Listed(NamedTuple):
    engines: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: str


def refusal_of(group: Group) -> Refusal:
    """What a request of a group without candidates is told."""
    workload, origin = group.meant.workload, group.where.origin.name or "an unknown origin"
    what = group.meant.model or f"workload {workload}"
    if group.reason == "jurisdiction":
        return forbidden(
            f"Requests of workload {workload} from {origin} may not be served at any place that has {what}.",
            reason="jurisdiction",
        )
    if group.reason == "quality":
        return forbidden(
            f"No variant of {what} reaches the quality that workload {workload} asks for.", reason="quality"
        )
    if group.reason == "tier":
        return forbidden(f"The policy allows workload {workload} no tier that has {what}.", reason="no-candidate")
    if group.reason == "too-far":
        return forbidden(
            f"Every engine with {what} is farther from {origin} than the policy allows workload {workload}.",
            reason="no-candidate",
        )
    if group.reason == "outage":
        return unavailable(
            f"Every engine with {what} is out of service.", reason="outage", retry_after_ms=RETRY_OUTAGE_MS
        )
    return unavailable(f"No engine with {what} is running.", reason="no-model", retry_after_ms=RETRY_OUTAGE_MS)
