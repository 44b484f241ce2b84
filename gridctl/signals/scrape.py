"""Scrape: asks every engine for its report and writes what it says to the board. One process does this for all workers.

What an engine does not say, or says wrongly, is NOT_REPORTED; an engine without a report is UNSUPPORTED, which is a
state and no zero. Nothing an engine answers stops the scraper. It reads its clock only through the function it is
given, which must be the clock of the board's other times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from gridctl.signals.board import Board, Scraped
from gridctl.signals.dialects import PATHS
from gridctl.signals.fetch import Fetched, Fetcher
from gridctl.signals.pace import Pace, Standing, jittered_ns, period_ns, stretched, telemetry_state
from gridctl.signals.report import Report, read_report
from gridctl.signals.rows import NEVER, NOT_REPORTED, TELEMETRY_STATES
from gridctl.units import NS_PER_S

PPM = 1_000_000
MOST_AT_ONCE = 256
LONGEST_SLEEP_S = 0.1
"""So soon a request in flight is noticed, and a list of other engines."""
SHORTEST_SLEEP_S = 0.005
SURVEY_NS = NS_PER_S // 2
"""How often old news is looked for, and the sum of all periods taken."""


@dataclass(frozen=True, slots=True)
class Target:
    """An engine to ask: its row on the board, where it listens, and what it need not say because it is declared.

    `url` is scheme://host:port[/prefix]; `kv_capacity_tokens` turns a share of KV cache into tokens where the engine
    reports only the share.
    """

    row: int
    url: str
    authorization: str | None = None
    kv_capacity_tokens: int = NOT_REPORTED
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """What support staff want to know of the asking of an engine; `cause` is a word, or empty when all is well."""

    state: str = TELEMETRY_STATES[NEVER]
    since_ns: int = 0
    cause: str = ""
    dialect: str | None = None
    problems: tuple[str, ...] = ()
    failures: int = 0


_NOTHING_SCRAPED, _NO_REPORT_YET, _UNASKED, _NO_NOTE = Scraped(), Report(), Standing(), Note()


@dataclass(slots=True)
class _Watched:
    """One engine, between two questions. `period_ns` is how often it is asked while it answers: news that is older than
    a few of these is stale, so an engine that fails and is asked less often for it does not pass for fresh."""

    target: Target
    fetcher: Fetcher
    scraped: Scraped = _NOTHING_SCRAPED
    report: Report = _NO_REPORT_YET
    standing: Standing = _UNASKED
    note: Note = _NO_NOTE
    path: int = 0
    turn: int = 0
    asked_ns: int = 0
    due_ns: int = 0
    period_ns: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Scraper:
    """Keeps the engines' rows of a board up to date. `run` until cancelled, `watch` whenever the engines change."""

    def __init__(self, board: Board, clock: Callable[[], int], pace: Pace | None = None) -> None:
        """`clock` tells nanoseconds of the monotonic clock."""
        self._board = board
        self._clock = clock
        self._pace = pace if pace is not None else Pace()
        self._watched: dict[int, _Watched] = {}
        self._stretch = 1.0
        self._surveyed_ns = 0
        self._next_ns = 0
        self._woken = asyncio.Event()
        self._loads = np.zeros((board.backends, 3), np.int64)

    def watch(self, targets: Iterable[Target]) -> None:
        """Ask these engines from now on, and no others. An engine that stays the same goes on without a question more;
        rows that are given up forget what was reported."""
        wanted = {target.row: target for target in targets if 0 <= target.row < self._board.backends}
        for row, watched in list(self._watched.items()):
            target = wanted.get(row)
            if target is None or replace(target, generation=watched.target.generation) != watched.target:
                self._give_up(watched)
        now_ns = self._clock()
        for row, target in wanted.items():
            if row not in self._watched:
                spread = jittered_ns(self._pace, self._pace.usual_ns, row, 0) - int(
                    self._pace.usual_ns * (1 - self._pace.jitter)
                )
                watched = _Watched(target, Fetcher(target.url, target.authorization), due_ns=now_ns + spread)
                watched.period_ns = self._pace.usual_ns
                watched.note = Note(since_ns=now_ns)
                self._watched[row] = watched
            self._watched[row].target = target
            self._board.engines[row]["generation"] = target.generation
        self._surveyed_ns = 0

    def note(self, row: int) -> Note:
        """What is to be said of an engine's report; of one that is not watched, that it was never asked."""
        watched = self._watched.get(row)
        return watched.note if watched is not None else Note()

    async def run(self) -> None:
        """Ask, until cancelled; then every connection is closed."""
        try:
            while True:
                self._next_ns = self._ask_who_is_due(self._clock())
                wait_s = (self._next_ns - self._clock()) / NS_PER_S
                await self._sleep(min(max(wait_s, SHORTEST_SLEEP_S), LONGEST_SLEEP_S))
        finally:
            for watched in list(self._watched.values()):
                self._close(watched)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the moment at which an engine that has just answered is due again."""
        loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        timer = loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    def _ask_who_is_due(self, now_ns: int) -> int:
        """Start the questions that are due; when the next one is."""
        in_flight = self._board.loads(self._loads)[:, 0].tolist()
        if now_ns - self._surveyed_ns >= SURVEY_NS:
            self._survey(now_ns, in_flight)
        asking = sum(1 for watched in self._watched.values() if watched.task is not None)
        next_ns = now_ns + NS_PER_S
        for row, watched in self._watched.items():
            if watched.task is not None:
                continue
            if in_flight[row] > 0 and watched.period_ns > self._pace.busy_ns:
                period = period_ns(self._pace, watched.standing, in_flight[row], now_ns)
                watched.due_ns = min(watched.due_ns, watched.asked_ns + int(period * self._stretch))
            if watched.due_ns <= now_ns and asking < MOST_AT_ONCE:
                asking += 1
                watched.task = asyncio.create_task(self._ask(watched))
            else:
                next_ns = min(next_ns, watched.due_ns)
        return next_ns

    def _survey(self, now_ns: int, in_flight: list[int]) -> None:
        """Mark news that has grown old, and see how far the periods must be stretched."""
        self._surveyed_ns = now_ns
        periods = []
        for row, watched in self._watched.items():
            periods.append(period_ns(self._pace, watched.standing, in_flight[row], now_ns))
            self._write(watched, now_ns)
        self._stretch = stretched(self._pace, periods)

    async def _ask(self, watched: _Watched) -> None:
        """One question and what follows from its answer. Never raises, but for cancellation."""
        try:
            watched.asked_ns = asked_ns = self._clock()
            fetched, report = await self._fetch(watched)
            self._learn(watched, fetched, report, asked_ns)
        finally:
            now_ns = self._clock()
            in_flight = int(self._board.slots.in_flight[:, watched.target.row].sum())
            period = int(period_ns(self._pace, watched.standing, in_flight, now_ns) * self._stretch)
            watched.turn += 1
            if not watched.standing.failures:  # an engine that takes longer to answer is asked as often as it answers
                watched.period_ns = max(period, now_ns - watched.asked_ns)
            watched.due_ns = max(
                now_ns, watched.asked_ns + jittered_ns(self._pace, period, watched.target.row, watched.turn)
            )
            watched.task = None
            if watched.due_ns < self._next_ns:
                self._woken.set()
            if self._watched.get(watched.target.row) is watched:
                self._write(watched, now_ns)

    async def _fetch(self, watched: _Watched) -> tuple[Fetched, Report]:
        """The report, from the path it was found at last, or from the first that has one."""
        fetched, report = Fetched(), Report()
        for offset in range(len(PATHS)):
            path = (watched.path + offset) % len(PATHS)
            fetched = await watched.fetcher.get(PATHS[path], self._pace.timeout_ns / NS_PER_S)
            if fetched.status == 200:
                report = read_report(fetched.body)
                if report.dialect is not None or report.problems:
                    watched.path = path
                    break
            elif fetched.status not in NO_REPORT:
                break
        return fetched, report

    def _learn(self, watched: _Watched, fetched: Fetched, report: Report, asked_ns: int) -> None:
        """The engine's standing, words and numbers after an answer."""
        standing = watched.standing
        cause = _cause(fetched, report)
        if fetched.status in NO_REPORT or (fetched.status == 200 and not cause and report.dialect is None):
            watched.standing = Standing(good_ns=0, is_unsupported=True)
            watched.scraped = Scraped(scrape_ns=asked_ns)
            cause = "no-report"
        elif cause:
            watched.standing = standing._replace(failures=standing.failures + 1, is_unsupported=False)
            self._board.engines[watched.target.row]["scrape_errors"] += 1
        else:
            is_quiet = not report.running and not report.waiting
            watched.standing = Standing(good_ns=asked_ns, quiet_ns=(standing.quiet_ns or asked_ns) if is_quiet else 0)
            watched.scraped = scraped_of(report, watched.report, watched.scraped, watched.target, asked_ns)
            watched.report = report
            if report.problems:
                self._board.engines[watched.target.row]["scrape_errors"] += 1
        problems = tuple(f"{problem.word} {problem.name}".strip() for problem in report.problems)
        watched.note = Note(
            watched.note.state, watched.note.since_ns, cause, report.dialect, problems, watched.standing.failures
        )

    def _write(self, watched: _Watched, now_ns: int) -> None:
        """The row on the board, if anything of it is new."""
        state = telemetry_state(self._pace, watched.standing, watched.period_ns, now_ns)
        scraped = watched.scraped._replace(telemetry_state=state, period_ns=watched.period_ns)
        if TELEMETRY_STATES[state] != watched.note.state:
            note = watched.note
            watched.note = Note(TELEMETRY_STATES[state], now_ns, note.cause, note.dialect, note.problems, note.failures)
        if scraped != self._board.scraped(watched.target.row):
            self._board.report(watched.target.row, scraped)

    def _give_up(self, watched: _Watched) -> None:
        del self._watched[watched.target.row]
        self._close(watched)
        self._board.report(watched.target.row, Scraped())
        self._board.engines[watched.target.row]["scrape_errors"] = 0

    def _close(self, watched: _Watched) -> None:
        if watched.task is not None:
            watched.task.cancel()
        watched.fetcher.close()


NO_REPORT = (404, 405, 501)


def scraped_of(report: Report, earlier: Report, scraped: Scraped, target: Target, asked_ns: int) -> Scraped:
    """The row of an engine after a report; `earlier` and `scraped` are its last report and row.

    Prefix hits are those since the earlier report; when nothing was looked up since, the share stays what it was; after
    a restart of the engine, which shows in counters that have gone back, all are since the restart.
    """
    capacity = report.kv_capacity_tokens
    if capacity is None and target.kv_capacity_tokens > 0:
        capacity = float(target.kv_capacity_tokens)
    used = report.kv_used_tokens
    if used is None and report.kv_share is not None and capacity is not None:
        used = report.kv_share * capacity
    return Scraped(
        scrape_ns=asked_ns,
        period_ns=scraped.period_ns,
        running=_whole(report.running),
        waiting=_whole(report.waiting),
        kv_used_tokens=_whole(used),
        kv_capacity_tokens=_whole(capacity),
        prefix_hit_ppm=_prefix_hit_ppm(report, earlier, scraped.prefix_hit_ppm),
        telemetry_state=scraped.telemetry_state,
        prompt_tokens=_whole(report.prompt_tokens),
        output_tokens=_whole(report.output_tokens),
    )


def _prefix_hit_ppm(report: Report, earlier: Report, known_ppm: int) -> int:
    hits, lookups = report.prefix_hits, report.prefix_lookups
    if hits is not None and lookups is not None:
        old_hits, old_lookups = earlier.prefix_hits or 0.0, earlier.prefix_lookups or 0.0
        if hits >= old_hits and lookups >= old_lookups:
            hits, lookups = hits - old_hits, lookups - old_lookups
        if lookups <= 0:
            return known_ppm
        return min(PPM, round(PPM * hits / lookups))
    if report.prefix_share is not None:
        return round(PPM * report.prefix_share)
    return NOT_REPORTED


def _whole(number: float | None) -> int:
    return NOT_REPORTED if number is None else round(number)


def _cause(fetched: Fetched, report: Report) -> str:
    """The word for what is wrong with an answer; empty when it tells of the engine's load."""
    if fetched.failure is not None:
        return fetched.failure
    if fetched.status in (401, 403):
        return "unauthorized"
    if 300 <= fetched.status < 400:
        return "redirect"
    if fetched.status != 200:
        return "" if fetched.status in NO_REPORT else f"status-{fetched.status}"
    if report.problems and report.running is None and report.waiting is None:
        return report.problems[0].word
    return ""
