"""Keeping: answers that engines gave are handed to the keeper together, a few dozen at a time, as they came.

What can wait until then waits, for one at a time would find the code cold: counting, choosing, and putting in order;
reading them is the keeper's. Decides which answers are worth the way: those whose engine said that they are complete
and, where the workload keeps only what is asked for again, those asked for before. An answer too large for the
keeper's socket is read here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from gridctl.answers.handed import Handed, Kind, opened
from gridctl.answers.question import Fresh
from gridctl.cache.admission import AskedBefore
from gridctl.gateway.paces import Pace, Paces
from gridctl.gateway.shapes import is_complete
from gridctl.gateway.terms import question_of
from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.answers.client import Answers
    from gridctl.broker.choice import Choice
    from gridctl.broker.plan import Backend
    from gridctl.gateway.forms import Form
    from gridctl.gateway.terms import Caller, Understood
    from gridctl.signals.cache_counts import CacheCounts
    from gridctl.signals.finished import Finished

AFTER_S = 0.025
"""Answers are handed in together, so often: each for itself would cost a system call, and wake the keeper for one."""
MOST_TOGETHER = 128
MOST_BYTES, LARGEST_BYTES = 1 << 20, 3 << 20
"""Of what is said in one message, and of an answer that is handed in as it came."""
WEIGHT_OF_LAST = 0.05
"""In the mean of how long engines took of late: about twenty requests."""
US_PER_S = 1e6
RENEWED = "again"
"""The reason of a request that renews a kept answer: somebody asked for that again."""
END_BYTES = 160
COMPLETE = b'"stop"'
"""What an answer has in it whose engine says that it came to its end."""

Report = Callable[[BaseException], None]
Record = tuple["Caller", "Form", bytes, str, "Finished", bytes, bool, int | None, int, bool]
"""Who asked, the form, the exact key and the text (where meaning counts), the end of it, what was said, whether as a
stream, the ticket, the stamp, whether a miss is to be counted. Not the request itself: memory that is held for a while
is found cold by who gets it next."""


class Keeping:
    """One worker's answers on their way to the keeper. `report` is told of our own errors."""

    def __init__(self, answers: Answers, counts: CacheCounts, report: Report) -> None:
        self.after_s = AFTER_S
        self._answers = answers
        self._counts = counts
        self._report = report
        self._waiting: list[Record] = []
        self._timer: asyncio.TimerHandle | None = None
        self._took_us: dict[tuple[str, bool], float] = {}
        self._asked_before = AskedBefore()
        self.paces = Paces()

    def add(
        self,
        understood: Understood,
        finished: Finished,
        said: bytes,
        is_stream: bool,
        ticket: int | None,
        stamp: int,
        is_miss: bool,
    ) -> None:
        """Hand an answer in, soon."""
        waiting, caller = self._waiting, understood.caller
        text = understood.words if caller.is_by_meaning else ""
        waiting.append(
            (caller, understood.form, understood.exact, text, finished, said, is_stream, ticket, stamp, is_miss)
        )
        if self._timer is None or len(waiting) >= MOST_TOGETHER:
            self._soon()

    def saved_us(self, workload: str, is_stream: bool, took_us: float) -> int:
        """What an engine would have taken longer, going by how long engines took of late."""
        return max(0, int(self._took_us.get((workload, is_stream), took_us) - took_us))

    def hand_in(self) -> None:
        """Hand in what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        try:
            self._sort(waiting)
        except Exception as error:
            self._report(error)

    def _soon(self) -> None:
        if len(self._waiting) >= MOST_TOGETHER or not self.after_s:
            self.hand_in()
        else:
            self._timer = asyncio.get_running_loop().call_later(self.after_s, self.hand_in)

    def _sort(self, waiting: list[Record]) -> None:
        """Count, choose, and send what is worth it."""
        misses: dict[tuple[str, str], int] = {}
        took: dict[tuple[str, bool], list[float]] = {}
        parcel, size = Parcel(), 0
        for record in waiting:
            caller, _, exact, _, finished, said, _, ticket, _, is_miss = record
            workload, reason = finished.workload, finished.cache_reason
            if is_miss:
                misses[workload, reason] = misses.get((workload, reason), 0) + 1
            is_wanted = True
            if ticket is None:  # else a label is due, whatever was said
                # It stands near the end, mostly.
                is_stopped = said.find(COMPLETE, -END_BYTES) >= 0 or COMPLETE in said
                if not is_stopped and not is_complete(caller.endpoint, said):
                    continue
                is_wanted = not caller.terms.is_second or self._asked_before.note(exact) or reason == RENEWED
            took_us = took_us_of(finished)
            like = took.get((workload, finished.stream))
            if like is None:
                like = took[workload, finished.stream] = []
            like.append(took_us)
            if caller.terms.hides_hits:
                self._learn(caller, finished)
            if is_wanted:
                if size + len(said) > MOST_BYTES and size:
                    self._send(parcel)
                    parcel, size = Parcel(), 0
                size += len(said)
                parcel.add(record, took_us)
        self._send(parcel)
        self._note(took)
        for (workload, reason), count in misses.items():
            self._counts.add(workload, "misses", count)
            self._counts.reason(reason, count)

    def _note(self, took: dict[tuple[str, bool], list[float]]) -> None:
        """Engines took so long, microseconds as `took_us_of` has it: each weighs so much less than the one after it."""
        for like, durations in took.items():
            mean_us = self._took_us.get(like, durations[0])
            for took_us in durations:
                mean_us += WEIGHT_OF_LAST * (took_us - mean_us)
            self._took_us[like] = mean_us

    def _learn(self, caller: Caller, finished: Finished) -> None:
        """Hits of this class may take as long."""
        tokens, streamed_ns = finished.output_tokens - 1, finished.last_token_ns - finished.first_token_ns
        token_s = streamed_ns / tokens / NS_PER_S if finished.stream and tokens > 0 else 0.0
        pace = Pace(took_us_of(finished) / US_PER_S, max(0.0, token_s))
        self.paces.learn((*caller.kind, finished.stream), finished.prompt_tokens, finished.output_tokens, pace)

    def _send(self, parcel: Parcel) -> None:
        if not parcel.handed:
            return
        for kind, count in zip(parcel.kinds, parcel.counts, strict=True):
            self._counts.add(kind.question.workload, "kept", count)
        if len(parcel.handed) == 1 and len(parcel.handed[0].said) > LARGEST_BYTES:
            self._answers.keep(*opened(parcel.kinds, parcel.handed[0]))
        else:
            self._answers.hand_in(parcel.kinds, parcel.handed)


class Parcel:
    """Answers that go together. What many share goes once: the kinds of their questions and of who answered."""

    __slots__ = ("_last", "_places", "counts", "handed", "kinds")

    def __init__(self) -> None:
        self.kinds: list[Kind] = []
        self.counts: list[int] = []
        """Of answers, by kind."""
        self.handed: list[Handed] = []
        self._places: dict[tuple[Form, Caller, int], int] = {}
        self._last: tuple[Form | None, Caller | None, object, int] = (None, None, None, 0)

    def add(self, record: Record, took_us: float) -> None:
        """Put an answer in."""
        caller, form, exact, text, finished, said, is_stream, ticket, stamp, _ = record
        choice = cast("Choice | None", finished.choice)
        backend = None if choice is None else choice.backend
        last = self._last
        if last[0] is form and last[1] is caller and last[2] is backend:
            place = last[3]
        else:
            place = self._place(caller, form, finished, backend)
        self.counts[place] += 1
        self.handed.append(
            Handed(
                place, exact, text, finished.request_id, said, is_stream, finished.prompt_tokens,
                finished.output_tokens, finished.usd, took_us, ticket, stamp,
            )
        )  # fmt: skip

    def _place(self, caller: Caller, form: Form, finished: Finished, backend: Backend | None) -> int:
        key = form, caller, id(backend)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.kinds)
            self.kinds.append(_kind_of(caller, form, finished))
            self.counts.append(0)
        self._last = form, caller, backend, place
        return place


def _kind_of(caller: Caller, form: Form, finished: Finished) -> Kind:
    choice = cast("Choice | None", finished.choice)
    model, digest = ("", "") if choice is None else (choice.backend.model, choice.backend.digest)
    fresh = Fresh(b"", "", model, finished.variant, digest, finished.site, finished.cluster)
    return Kind(question_of(caller, form), fresh)


def took_us_of(finished: Finished) -> float:
    """To the first token of a stream, or to the end of an answer in one piece."""
    until_ns = finished.first_token_ns if finished.first_token_ns >= 0 else finished.end_ns
    return max(0.0, (until_ns - finished.arrival_ns) / 1000.0)
