"""Groups: who may serve requests of one origin, workload and model, found when the first of them comes and kept.

The hard constraints are those of a replay (`grid.candidates`), over the engines that run; a group without candidates
has the reason, told from the whole grid: an engine that exists and does not run is another matter than none at all.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import NO_REASON, REASONS
from gridctl.broker.live import Live
from gridctl.broker.menu import Meant
from gridctl.broker.origins import Where
from gridctl.broker.refusal import Refusal, forbidden, unavailable
from gridctl.geography.place import Place
from gridctl.grid.candidates import NOWHERE, RequestClass, find_candidates, refusals, request_class
from gridctl.grid.image import GridImage

MOST_GROUPS = 4096
RETRY_OUTAGE_MS = 5_000
NO_ENDPOINT = "no-endpoint"


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
        self._images: dict[tuple[str, str], tuple[GridImage, NDArray[np.int64]]] = {}
        self._everything = live.image, np.arange(len(live.image.engines), dtype=np.int64)

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
        image, numbers = self._engines(meant)
        asked = self._asked(meant)
        engines = rtt_us = np.zeros(0, np.int64)
        if len(image.engines):
            place = where.place or Place(NOWHERE.name, NOWHERE.lat, NOWHERE.lon, NOWHERE.country)
            found = find_candidates(image, [place], [where.origin], [asked], self._live.policy.candidates)
            listed = int(found.of[0, 0])
            some = slice(int(found.offset[listed]), int(found.offset[listed + 1]))
            engines = numbers[found.engine[some]]
            rtt_us = found.rtt_us[some].astype(np.int64)
            if where.place is None:
                rtt_us = np.zeros_like(rtt_us)
        return Group(
            generation=self._generation,
            where=where,
            meant=meant,
            workload=self._numbers[meant.workload],
            engines=np.ascontiguousarray(engines),
            rtt_us=rtt_us,
            reason="" if len(engines) else self._why(where, meant, asked),
        )

    def _asked(self, meant: Meant) -> RequestClass:
        workload = self._live.workloads[meant.workload]
        return request_class(meant.workload, workload, meant.model, self._live.policy)

    def _engines(self, meant: Meant) -> tuple[GridImage, NDArray[np.int64]]:
        """The running engines that a pinned variant leaves, and their numbers among all that run."""
        if meant.variant is None or meant.model is None:
            return self._everything
        key = meant.model, meant.variant
        if key not in self._images:
            image, every = self._everything
            kept = [
                number
                for number, engine in enumerate(image.engines)
                if (engine.facts.model, engine.facts.variant) == key
            ]
            some = dataclasses.replace(image, engines=tuple(image.engines[number] for number in kept))
            self._images[key] = some, every[kept]
        return self._images[key]

    def _why(self, where: Where, meant: Meant, asked: RequestClass) -> str:
        """What keeps the whole grid from serving such requests; if nothing does, it is that no engine runs."""
        whole = self._live.whole
        reasons = refusals(whole, where.origin, asked, where.place)
        if meant.variant is not None:
            is_it = [(engine.facts.model, engine.facts.variant) == meant[1:] for engine in whole.engines]
            reasons = reasons[np.array(is_it, np.bool_)]
        if (reasons == NO_REASON).any():
            return NO_ENDPOINT
        return REASONS[int(reasons.max(initial=0))] or NO_ENDPOINT


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
    if group.reason == "outage":
        return unavailable(
            f"Every engine with {what} is out of service.", reason="outage", retry_after_ms=RETRY_OUTAGE_MS
        )
    return unavailable(f"No engine with {what} is running.", reason="no-model", retry_after_ms=RETRY_OUTAGE_MS)
