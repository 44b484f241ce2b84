"""Groups: who may serve requests of one origin, workload and model, found when the first of them comes and kept.

The hard constraints are those of a replay (`grid.candidates`), over the engines that run; a group without candidates
has the reason, told from the whole grid: an engine that exists and does not run is another matter than none at all.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import REASONS, TOO_FAR
from gridctl.broker.live import Live
from gridctl.broker.menu import Meant
from gridctl.broker.origins import Where
from gridctl.broker.refusal import Refusal
from gridctl.broker.refusing import NO_ENDPOINT, Emptied, emptied, refusal_of_emptied
from gridctl.engine.state import GPU
from gridctl.grid.candidates import ANY_RTT_US, NOWHERE, RequestClass, find_candidates, request_class
from gridctl.grid.image import GridImage

MOST_GROUPS: Final = 4096
WINDOWS: Final = 0xFFFF


@dataclass(slots=True)
class Group:
    """`engines` are the candidates' live engines, nearest first, `rtt_us` the round trips to them without the last
    mile; `turn` counts decisions. Without candidates `reason` says which rule left none, `why` by what facts."""

    generation: int
    where: Where
    meant: Meant
    workload: int
    engines: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: str = ""
    turn: int = 0
    why: str = ""


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
        asked = self.asked(meant)
        found = self._listed(image, where, asked)
        why = Emptied("") if len(found.engines) else self._why(where, meant, asked)
        return Group(
            generation=self._generation,
            where=where,
            meant=meant,
            workload=self._numbers[meant.workload],
            engines=numbers[found.engines],
            rtt_us=found.rtt_us,
            reason=why.reason,
            why=why.facts,
        )

    def _listed(self, image: GridImage, where: Where, asked: RequestClass) -> _Listed:
        """The engines of an image that may serve, nearest first, and the round trips to them; or why there are none.

        From nowhere that is known round trips are those from the gateway's own place, 0 where that is not known either,
        and a bound on them is taken to be exceeded."""
        none = np.zeros(0, np.int64)
        if not image.engines:
            return _Listed(none, none, NO_ENDPOINT)
        if where.place is None and asked.max_rtt_us < ANY_RTT_US:
            return _Listed(none, none, REASONS[TOO_FAR])
        place = where.place or where.gateway or NOWHERE
        # Replicas beyond the list's end are shared out by origin: another one, another window.
        window = crc32(where.origin.name.encode()) & WINDOWS
        limit = self._live.policy.candidates
        found = find_candidates(image, [place], [where.origin], [asked], limit, numbers=[window])
        listed = int(found.of[0, 0])
        some = slice(int(found.offset[listed]), int(found.offset[listed + 1]))
        rtt_us = found.rtt_us[some].astype(np.int64)
        return _Listed(
            found.engine[some].astype(np.int64),
            np.zeros_like(rtt_us) if place is NOWHERE else rtt_us,
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

    def _why(self, where: Where, meant: Meant, asked: RequestClass) -> Emptied:
        """Which rule keeps the whole grid from serving such requests; if none does, it is that no engine runs."""
        image, _ = self._engines(self._live.whole, meant)
        reason = self._listed(image, where, asked).reason or NO_ENDPOINT
        nearest_us = None
        if reason == REASONS[TOO_FAR] and where.place is not None:
            unbounded = self._listed(image, where, dataclasses.replace(asked, max_rtt_us=ANY_RTT_US))
            nearest_us = int(unbounded.rtt_us.min(initial=ANY_RTT_US))
        return emptied(reason, image, where, meant, asked, nearest_us)


class _Listed(NamedTuple):
    engines: NDArray[np.int64]
    rtt_us: NDArray[np.int64]
    reason: str


def refusal_of(group: Group) -> Refusal:
    """What a request of a group without candidates is told."""
    return refusal_of_emptied(Emptied(group.reason, group.why), group.meant, group.where)
