"""Redeciding: recorded decisions made again from the very rows the router saw, under the same policy or another one.

Under the policy they were made with they come out the same, to the last bit: that is the promise that replay and live
share one router. Under another policy they say, before it is applied, which of yesterday's requests would have gone
elsewhere. Loads are as they were seen: what the other choices would have changed afterwards is for a replay to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from gridctl.errors import InputError
from gridctl.resources import PolicySpec

if TYPE_CHECKING:  # the commands of everyday do without columns and kernels
    from gridctl.broker.seen import Seen
    from gridctl.traces.recorded import Recorded

NOBODY = "nobody"
REFUSED = "refused"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a workload that were sent `before` and would now be sent `after`: site/cluster/variant#replica, or
    `refused`, or `nobody`."""

    workload: str
    before: str
    after: str
    requests: int
    example: str


class Redecided(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded requests, those that the router decided (others were refused before that), and what became of these."""

    recording: str
    policy: str
    requests: int
    decided: int
    same: int
    moved: int
    moves: tuple[Move, ...]


class Redecision(NamedTuple):
    """One decision: what it was and what it is now."""

    request_id: str
    workload: str
    before: str
    after: str


def redecide(
    folder: str | Path,
    policy: PolicySpec | None = None,
    *,
    policy_name: str = "as recorded",
    advanced: Callable[[int], None] = lambda requests: None,
) -> Redecided:
    """Every recorded decision made again, under `policy` or as recorded. O(candidates) each.

    Raises InputError for a folder that is no recording, or one without decisions, or a damaged one."""
    from gridctl.traces.recording import read_decisions

    requests = decided = moved = 0
    moves: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    for again in _again(folder, read_decisions(folder), policy):
        requests += 1
        advanced(1)
        if again is None:
            continue
        decided += 1
        if again.before != again.after:
            moved += 1
            key = (again.workload, again.before, again.after)
            moves[key] += 1
            examples.setdefault(key, again.request_id)
    if not decided:
        raise InputError(
            "no decision was recorded" if requests else "nothing was recorded yet",
            where=str(folder),
            fix="record with decisions: gridctl up --record FOLDER",
        )
    return Redecided(
        recording=str(folder),
        policy=policy_name,
        requests=requests,
        decided=decided,
        same=decided - moved,
        moved=moved,
        moves=tuple(
            Move(workload=key[0], before=key[1], after=key[2], requests=count, example=examples[key])
            for key, count in sorted(moves.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _again(
    folder: str | Path, rows: Iterator[tuple[Recorded, bytes]], policy: PolicySpec | None
) -> Iterator[Redecision | None]:
    """Each decision made again; None for a request that was refused before it came to a decision."""
    from gridctl.broker.seen import read_seen
    from gridctl.routing.route import route
    from gridctl.routing.rows import policy_records

    names = _Names(folder)
    records: dict[str, Any] = {}
    for row, kept in rows:
        if not kept:
            yield None
            continue
        seen = read_seen(kept)
        record = seen.policy
        if policy is not None:
            if row.workload not in records:
                records[row.workload] = policy_records([policy.for_workload(row.workload)])[0]
            record = records[row.workload]
        seen.rows.is_priced = 0  # prices follow from the policy
        index = int(route(seen.rows, len(seen.rows), seen.request, record))
        before, after = (names.of(row.generation, seen, choice) for choice in (seen.choice, index))
        yield Redecision(row.request_id, row.workload, before, after)


class _Names:
    """What the engine numbers of a recording mean."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._known: dict[int, list[str]] = {}

    def of(self, generation: int, seen: Seen, choice: int) -> str:
        """The engine of a choice, in words."""
        from gridctl.routing.route import REFUSED as REFUSED_INDEX
        from gridctl.traces.recording import read_engines

        if choice < 0:
            return REFUSED if choice == REFUSED_INDEX else NOBODY
        if generation not in self._known:
            self._known[generation] = [
                f"{one.site}/{one.cluster}/{one.variant}#{one.replica}"
                for one in read_engines(self._folder, generation)
            ]
        number, known = int(seen.rows[choice].engine), self._known[generation]
        if number >= len(known):
            raise InputError(
                f"a decision names engine {number}, generation {generation} has {len(known)}",
                where=str(self._folder),
                fix="copy the whole folder of the recording",
            )
        return known[number]
