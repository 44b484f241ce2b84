"""Dry run: where a request would go now, with every candidate and why, and nothing counted or sent.

Runs the decision itself, `rows.decide_live` without the admit, then tells its rows; another pass without load says what
part of a prediction is queue. There is no prompt, so no prefix is cached.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gridctl.accounts.rows import NO_REASON, REASONS
from gridctl.broker.ask import NO_BLOCKS, Principal
from gridctl.broker.groups import Group
from gridctl.broker.live import Live
from gridctl.broker.refusing import NO_ENDPOINT
from gridctl.broker.rows import COUNT, FITTING, FULL, Sight, decide_live
from gridctl.engine.state import UNUSED
from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.grid.candidates import refusals, request_class
from gridctl.kernels import Records
from gridctl.resources import WorkloadSpec
from gridctl.resources.policy import ALGORITHMS
from gridctl.routing.decision import Candidate, Decision, Telemetry
from gridctl.routing.route import REFUSED, route
from gridctl.routing.telling import US_PER_MS, forecast_of, why_chosen, why_not
from gridctl.signals.rows import ALL_TRAFFIC_PPM, FRESH, TELEMETRY_STATES, UNSUPPORTED
from gridctl.units import NS_PER_MS

if TYPE_CHECKING:
    from gridctl.broker.broker import Broker

BEYOND_LIST = "beyond-list"
ROUTED = "routed"
_STATES = {"fresh": "fresh", "stale": "stale", "failing": "stale"}


@dataclass(frozen=True, slots=True)
class Question:
    """A request to be: from `origin` (a site, a city, LAT,LON; None: the default), for `workload`, of `model`
    (MODEL or MODEL/VARIANT; None: any it accepts). Lengths are the workload's means unless said."""

    workload: str
    origin: str | None = None
    model: str | None = None
    tenant: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    draw: int = 0


def dry_run(broker: Broker, question: Question, now_ns: int) -> Decision:
    """The decision that such a request would get now. Raises InputError or NotFoundError for names that mean nothing,
    Refusal for a model that the workload's tenants may not have."""
    live, sight = broker.live, broker.sight
    spec = _workload(live, question.workload)
    tenant = _tenant(question, spec)
    prompt = spec.traffic.mean_input_tokens if question.prompt_tokens is None else question.prompt_tokens
    output = question.output_tokens or broker.expected_output(question.workload)
    asked = question.model or f"workload:{question.workload}"
    group = broker.group_of(Principal("dry-run", "client", tenant, question.workload), question.origin, asked)
    idle = _idle_rows(sight, group, prompt, output, now_ns)
    choice, count = _decided(sight, group, prompt, output, question.draw, now_ns)
    is_full, is_too_long = sight.answer[FULL] > 0, sight.answer[FITTING] == 0
    rows = sight.rows[:count].copy().view(np.recarray)
    request, policy = sight.templates[group.workload], sight.policies[group.workload]
    telling = _Telling(live, sight, group, rows, idle, choice, request, policy, prompt, now_ns)
    outcome, reason = telling.outcome(is_full=is_full, is_too_long=is_too_long)
    return Decision(
        request=0,
        at_ms=0.0,
        policy=live.policy_name,
        origin=group.where.origin.name,
        workload=question.workload,
        tenant=tenant,
        prompt_tokens=prompt,
        expected_output_tokens=output,
        overhead_ms=spec.overhead_ms,
        when_infeasible=spec.when_infeasible,
        miss_usd=spec.miss_usd,
        outcome=outcome,
        reason=reason,
        chosen=telling.number(choice),
        runner_up=telling.number(telling.runner_up),
        candidates=telling.candidates(),
        passed_over=telling.passed_over(),
    )


def _workload(live: Live, name: str) -> WorkloadSpec:
    spec = live.workloads.get(name)
    if spec is None:
        close = did_you_mean(name, live.workloads)
        raise NotFoundError(
            f"workload {name} does not exist",
            where="--workload",
            fix=f"did you mean {close}?" if close else "gridctl workload list",
        )
    return spec


def _tenant(question: Question, spec: WorkloadSpec) -> str:
    if question.tenant is None:
        if not spec.tenants:
            raise InputError(f"workload {question.workload} has no tenant", fix="add one to spec.tenants")
        return spec.tenants[0]
    if question.tenant not in spec.tenants:
        raise InputError(
            f"tenant {question.tenant} may not use workload {question.workload}",
            where="--tenant",
            fix=f"its tenants: {', '.join(spec.tenants)}",
        )
    return question.tenant


def _decided(sight: Sight, group: Group, prompt: int, output: int, draw: int, now_ns: int) -> tuple[int, int]:
    """(index of the chosen row, rows) of a decision that leaves no trace."""
    choice = decide_live(
        sight,
        group.engines,
        group.rtt_us,
        NO_BLOCKS,
        group.workload,
        prompt,
        prompt + output,
        output,
        1,
        draw,
        draw,
        group.turn,
        0,
        now_ns,
        0,
    )
    return int(choice), int(sight.answer[COUNT])


def _idle_rows(sight: Sight, group: Group, prompt: int, output: int, now_ns: int) -> dict[int, np.record]:
    """Each candidate's row without load, by live engine."""
    scraped, own = sight.scraped.copy().view(np.recarray), sight.own.copy().view(np.recarray)
    scraped.telemetry_state, scraped.admit_ppm = UNSUPPORTED, ALL_TRAFFIC_PPM
    own.admit_ppm = ALL_TRAFFIC_PPM
    quiet = sight._replace(
        scraped=scraped, own=own, slots=np.zeros_like(sight.slots).view(np.recarray), rows=sight.rows.copy()
    )
    _, count = _decided(quiet, group, prompt, output, 0, now_ns)
    return {int(row.engine): row for row in quiet.rows[:count]}


class _Telling:
    """The rows of one decision in words."""

    def __init__(
        self,
        live: Live,
        sight: Sight,
        group: Group,
        rows: Records,
        idle: dict[int, np.record],
        choice: int,
        request: np.record,
        policy: np.record,
        prompt: int,
        now_ns: int,
    ) -> None:
        self._live = live
        self._sight = sight
        self._group = group
        self._rows = rows
        self._places = {int(row.engine): place for place, row in enumerate(rows)}
        self._idle = idle
        self._choice = choice
        self._request = request
        self._policy = policy
        self._prompt = prompt
        self._now_ns = now_ns
        self._algorithm = ALGORITHMS[int(policy.algorithm)]
        self.runner_up = self._next()

    def outcome(self, *, is_full: bool, is_too_long: bool) -> tuple[str, str]:
        """What would come of it, and the reason when it is nothing."""
        if self._choice >= 0:
            return ROUTED, ""
        if not len(self._group.engines):
            return "rejected", self._group.reason
        if self._choice == REFUSED:
            return "rejected", "infeasible"
        if is_too_long:
            return "rejected", "too-long"
        return ("rejected", "queue-full") if is_full else ("rejected", "unhealthy")

    def number(self, place: int) -> int | None:
        """The engine of a row, by its number in the grid; None for no row."""
        return self._live.numbers[int(self._rows[place].engine)] if place >= 0 else None

    def candidates(self) -> tuple[Candidate, ...]:
        """Every candidate, nearest first."""
        pairs = zip(self._group.engines.tolist(), self._group.rtt_us.tolist(), strict=True)
        return tuple(self._candidate(engine, rtt_us) for engine, rtt_us in pairs)

    def passed_over(self) -> dict[str, int]:
        """Engines of the grid that are no candidates, counted by reason."""
        live, meant = self._live, self._group.meant
        whole = live.whole
        asked = request_class(meant.workload, live.workloads[meant.workload], meant.model, live.policy)
        found = refusals(whole, self._group.where.origin, asked, self._group.where.place)
        listed = {live.numbers[engine] for engine in self._group.engines.tolist()}
        running = set(live.numbers)
        counts: Counter[str] = Counter()
        for number, (engine, reason) in enumerate(zip(whole.engines, found.tolist(), strict=True)):
            if number in listed or engine.spec.kind == UNUSED:
                continue
            if reason != NO_REASON:
                counts[REASONS[reason]] += 1
            elif meant.variant is not None and engine.facts.variant != meant.variant:
                counts["no-model"] += 1
            else:
                counts[BEYOND_LIST if number in running else NO_ENDPOINT] += 1
        return dict(counts.most_common())

    def _next(self) -> int:
        """The row that the router would take, were the chosen one not there."""
        if self._choice < 0:
            return -1
        rows = self._rows.copy().view(np.recarray)
        rows[self._choice].is_available = 0
        return int(route(rows, len(rows), self._request, self._policy))

    def _candidate(self, engine: int, rtt_us: int) -> Candidate:
        facts = self._live.image.engines[engine].facts
        place = self._places.get(engine)
        row = self._rows[place] if place is not None else None
        chosen = self._rows[self._choice] if self._choice >= 0 else None
        status, reason, because = self._fate(engine, place, chosen)
        idle = self._idle.get(engine)
        return Candidate(
            engine=self._live.numbers[engine],
            site=facts.site,
            tier=facts.tier,
            cluster=facts.cluster,
            model=facts.model,
            variant=facts.variant,
            kind=facts.kind,
            status=status,
            reason=reason,
            because=because,
            rtt_ms=(rtt_us + int(self._sight.access_us[self._group.workload])) / US_PER_MS,
            cached_prefix_tokens=int(row.cached_tokens) if row is not None else None,
            forecast=(
                forecast_of(row, idle, self._request, self._policy) if row is not None and idle is not None else None
            ),
            bound=None,
            telemetry=self._telemetry(engine),
            usd_more=float(row.usd - chosen.usd) if row is not None and chosen is not None else None,
        )

    def _fate(self, engine: int, place: int | None, chosen: np.record | None) -> tuple[str, str, str]:
        if place is None:
            return ("refused", *self._refusal(engine))
        row = self._rows[place]
        if place == self._choice:
            return "chosen", "chosen", why_chosen(row, self._algorithm)
        reason, because = why_not(row, chosen, self._algorithm)
        if place == self.runner_up:
            return "runner-up", reason, because
        return "refused" if reason in ("not-gpu", "not-core", "not-allowed") else "weighed", reason, because

    def _refusal(self, engine: int) -> tuple[str, str]:
        """Why a candidate has no row."""
        host, row = self._sight.engines[engine], int(self._sight.board_row[engine])
        tokens = self._prompt + int(self._request.output_tokens)
        if tokens > host.max_context:
            return "too-long", f"{tokens:,} tokens of prompt and answer, {int(host.max_context):,} fit"
        board, own = int(self._sight.scraped[row].admit_ppm), int(self._sight.own[row].admit_ppm)
        share = min(board, own)
        if share <= 0:
            return "unhealthy", "it is out: " + ("its probes say so" if board <= own else "its answers say so")
        if share < ALL_TRAFFIC_PPM:
            return "unhealthy", f"it is being tried with {share / 10_000:.0f} % of its traffic, not with this request"
        return "queue-full", f"{int(host.max_num_seqs)} slots and {int(host.max_waiting)} places in the queue are taken"

    def _telemetry(self, engine: int) -> Telemetry:
        """What is known of the engine now; what is true only the engine knows."""
        row, host = int(self._sight.board_row[engine]), self._sight.engines[engine]
        seen, slots = self._sight.scraped[row], self._sight.slots[:, row].view(np.recarray)
        place = self._places.get(engine)
        has_report = int(seen.telemetry_state) == FRESH
        own_in_flight, own_kv = max(0, int(slots.in_flight.sum())), max(0, int(slots.kv_tokens.sum()))
        return Telemetry(
            counts="own" if self._sight.counts_in_flight == 1 or not has_report else "scrape",
            state=_STATES.get(TELEMETRY_STATES[int(seen.telemetry_state)], "missing"),
            scrape_age_ms=max(0, self._now_ns - int(seen.scrape_ns)) / NS_PER_MS if int(seen.scrape_ns) > 0 else None,
            seen_in_flight=int(self._rows[place].in_flight) if place is not None else own_in_flight,
            seen_pending_tokens=max(0, int(slots.pending_tokens.sum())),
            seen_kv_tokens=int(seen.kv_used_tokens) if has_report and seen.kv_used_tokens >= 0 else own_kv,
            true_in_flight=None,
            true_running=None,
            true_waiting=None,
            true_pending_tokens=None,
            true_kv_tokens=None,
            kv_capacity_tokens=int(host.blocks_total) * int(host.block_size),
            batch_slots=int(host.max_num_seqs),
        )
