"""The live replay service: a grid's registry, a trace and an address in; a run of what was really answered out.

Decides what is asked for, under which declarations the answers are judged, and what a live run says of itself. The run
has the format of a replay's, so every table and comparison takes it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from gridctl import __version__
from gridctl.accounts.facts import Origin, RunInfo
from gridctl.accounts.rows import COMPLETED, FAILED, REJECTED, ROW_TYPES
from gridctl.errors import GridctlError, InputError, Interrupted, UnreachableError
from gridctl.geography.place import Place, place_of
from gridctl.grid.image import GridImage, build_image
from gridctl.liveload.heard import Heard, Limits
from gridctl.liveload.lag import Lag, lag_of
from gridctl.liveload.load import run_load
from gridctl.liveload.request import Manner, RequestWriter
from gridctl.liveload.results import SHOWN_FAILURES, Distances, Results, results_of
from gridctl.liveload.target import Target, model_for, models_at
from gridctl.network.estimate import RttField
from gridctl.network.overrides import Overrides
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.inputs import VERSION, InputsHeader, LiveSource, RunInputs, encode_inputs
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Order, overlaid, resources_of, run_name
from gridctl.orchestrator.runs import columns_of
from gridctl.replay.declared import workload_specs
from gridctl.replay.digest import digest_columns, pieces
from gridctl.replay.origins import resolve_origins
from gridctl.replay.stage import Played
from gridctl.resources import Resource, WorkloadSpec
from gridctl.traces.identity import trace_digest
from gridctl.traces.slicing import take
from gridctl.traces.trace import Trace, Traffic
from gridctl.units import NS_PER_MS, NS_PER_S, NS_PER_US

SEED_BITS = 32
LIVE = "live"
"""What a live run's policy is called: the gateway's own, which a client cannot see."""


@dataclass(frozen=True, slots=True)
class LiveOrder:
    """What a person asked for: `run` as for a replay, where it goes and how. `model` is asked for where it is given;
    `adds_distance` adds the modelled network to what was measured; `is_plain` sends OpenAI's own fields only. Without a
    `prompt_seed` the prompts have words that no load before had."""

    run: Order
    target: Target
    limits: Limits
    model: str = ""
    adds_distance: bool = True
    is_plain: bool = False
    prompt_seed: int | None = None


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What a load will do: `served` are the models at the endpoint, `resources` the grid as it is now,
    `trace_digest` of the trace as it was given."""

    name: str
    trace: Trace
    image: GridImage
    workloads: dict[str, WorkloadSpec]
    places: list[Place]
    origins: tuple[Origin, ...]
    served: tuple[str, ...]
    models: tuple[str, ...]
    resources: tuple[Resource, ...]
    trace_digest: str

    @property
    def duration_s(self) -> float:
        """From the first request to the last, were none late."""
        return self.trace.duration_ns / NS_PER_S

    @property
    def turns(self) -> int:
        """Requests that wait for the answer before them."""
        session = self.trace.session[self.trace.session >= 0]
        return len(session) - len(np.unique(session))


def plan_load(home: GridHome, traffic: Traffic, order: LiveOrder, say: Callable[[str], None]) -> LivePlan:
    """Check everything a load would stumble over, the endpoint included; sends no completion.

    Raises InputError, NotFoundError, and UnreachableError when nobody answers there."""
    resources = resources_of(home)
    name = run_name(home, order.run)
    trace = overlaid(traffic, resources, order.run.seed, say).whole()
    image = build_image(resources, price_book=order.run.prices)
    workloads = workload_specs(image.view, trace)
    places, origins = resolve_origins(image.view, trace)
    served = models_at(order.target)
    models = _models(trace, order, served)
    digest = trace_digest(traffic)
    return LivePlan(name, trace, image, workloads, places, origins, served, models, tuple(resources), digest)


def _models(trace: Trace, order: LiveOrder, served: tuple[str, ...]) -> tuple[str, ...]:
    """The name to ask for, per pair of model and workload of the trace (unsaid last). Raises NotFoundError."""
    width = len(trace.workloads) + 1
    used = set(np.unique(trace.model.astype(np.int64) * width + trace.workload).tolist())
    names = []
    for model in range(-1, len(trace.models)):
        for workload in range(-1, len(trace.workloads)):
            said = trace.models[model] if model >= 0 else None
            asked_by = trace.workloads[workload] if workload >= 0 else None
            is_used = model * width + workload in used
            where = order.target.url
            names.append(model_for(order.model, said, asked_by, served, where) if is_used else "")
    return tuple(names)


def replay_live(
    home: GridHome, traffic: Traffic, order: LiveOrder, say: Callable[[str], None], advanced: Callable[[int], None]
) -> RunInfo:
    """Send a trace to a running endpoint in real time and save the run.

    Raises UnreachableError when nothing was answered at all, Interrupted when a person stopped it (what came is kept),
    InputError, with the run kept, when the generator was too late for the run to count."""
    plan = plan_load(home, traffic, order, say)
    if plan.turns:
        say(f"{plan.turns:,} requests are turns of a session: none is sent before the answer to the turn before it")
    width = len(plan.trace.workloads) + 1
    column, workload = plan.trace.model, plan.trace.workload

    def model(row: int) -> str:
        return plan.models[(int(column[row]) + 1) * width + int(workload[row]) + 1]

    if order.prompt_seed is None:
        order = replace(order, prompt_seed=secrets.randbits(SEED_BITS))
    manner = Manner(model=model, run=plan.name, seed=order.prompt_seed or 0, is_plain=order.is_plain)
    writer = RequestWriter(plan.trace, order.target, manner)
    started_ns = time.time_ns()
    heard = run_load(plan.trace, order.target, writer, order.limits, advanced)
    distances = _distances(plan) if order.adds_distance else None
    engines = [engine.facts for engine in plan.image.engines]
    results = results_of(heard, plan.trace, engines, next((name for name in plan.models if name), LIVE), distances)
    if not len(results.rows):
        raise Interrupted("stopped before the first answer; no run was saved", fix="let it run longer")
    if not _anything_answered(heard):
        raise UnreachableError(
            f"no request was answered: {results.failures.most_common(1)[0][0]}",
            where=order.target.url,
            fix="check that it still runs; no run was saved",
        )
    lag = lag_of(results.lag_ns, results.rows.workload, plan.trace.workloads, plan.workloads)
    info = _saved(home, plan, order, heard, results, lag, started_ns)
    error = _ending(info, plan, heard, lag)
    if error is not None:
        raise error
    return info


def _anything_answered(heard: Heard) -> bool:
    return any(reply is not None and reply.status > 0 for reply in heard.replies)


def _ending(info: RunInfo, plan: LivePlan, heard: Heard, lag: Lag) -> GridctlError | None:
    """Why a run that was kept is not what was asked for."""
    if heard.is_stopped:
        return Interrupted(
            f"stopped after {info.requests:,} of {len(plan.trace):,} requests; they are kept as run {info.name}",
            fix=f"gridctl tokenomics {info.name}",
        )
    if lag.broken:
        return InputError(
            f"the run is void, the generator was late: {'; '.join(lag.broken)}; it is kept as run {info.name}",
            where="generator lag",
            fix="generate from a machine with idle processors, or less: --speed 0.5, --limit; more --max-connections",
        )
    return None


def _distances(plan: LivePlan) -> Distances:
    """Round trips from the trace's origins to the grid's sites."""
    view = plan.image.view
    sites = [view.sites[name] for name in sorted(view.sites)]
    field = RttField([place_of(site) for site in sites], Overrides(view.links.values()))
    rows = [field.from_place(place) for place in plan.places]
    rtt = np.array(rows, np.int64).reshape(len(plan.places), len(sites)) * NS_PER_US
    access = [round(plan.workloads[name].access_rtt_ms * NS_PER_MS) for name in plan.trace.workloads]
    return Distances(rtt, tuple(site.name for site in sites), np.array(access or [0], np.int64))


def _saved(
    home: GridHome,
    plan: LivePlan,
    order: LiveOrder,
    heard: Heard,
    results: Results,
    lag: Lag,
    started_ns: int,
) -> RunInfo:
    """Write the run, whole or not at all."""
    trace = plan.trace if len(results.kept) == len(plan.trace) else take(plan.trace, results.kept)
    notes = (*plan.trace.notes, *plan.image.notes, *_notes(plan, order, heard, results, lag))
    played = Played(results.engines, plan.origins, plan.workloads, trace.tenants, results.window_ns, notes, ())
    rows = results.rows
    outcomes = np.bincount(rows.outcome, minlength=3)
    info = RunInfo(
        name=plan.name,
        trace=plan.trace.name,
        policy=LIVE,
        algorithm=LIVE,
        seed=order.run.seed,
        created_ns=started_ns,
        wall_s=heard.wall_s,
        requests=len(rows),
        completed=int(outcomes[COMPLETED]),
        rejected=int(outcomes[REJECTED]),
        failed=int(outcomes[FAILED]),
        input_tokens=int(rows.input_tokens.sum()),
        output_tokens=int(rows.output_tokens.sum()),
        window_ns=results.window_ns,
        digest=digest_columns(lambda name: pieces(getattr(rows, name)), played),
        gridctl_version=__version__,
        engines=results.engines,
        origins=plan.origins,
        workloads=plan.workloads,
        workload_names=plan.trace.workloads,
        tenant_names=plan.trace.tenants,
        notes=notes,
        live=order.target.url,
    )
    with home.open_runs().writing(plan.name, ROW_TYPES, len(rows), replace=order.run.replace) as draft:
        draft.append(columns_of(rows))
        draft.finish(msgspec.json.encode(info), encode_inputs(_inputs(plan, order)))
    return info


def _inputs(plan: LivePlan, order: LiveOrder) -> RunInputs:
    """What the run was made from, kept beside it as a replay's is."""
    header = InputsHeader(
        gridctl_run=VERSION,
        gridctl_version=__version__,
        policy=choose_policy(plan.resources, None),
        prices=order.run.prices,
        seed=order.run.seed,
        trace_name=plan.trace.name,
        trace_digest=plan.trace_digest,
        requests=len(plan.trace),
        source=order.run.source,
        live=LiveSource(
            url=order.target.url,
            model=order.model,
            prompt_seed=order.prompt_seed,
            network="modelled" if order.adds_distance else "measured",
            is_plain=order.is_plain,
            max_connections=order.limits.connections,
            answer_timeout_s=order.limits.timeout_s,
            think_s=order.limits.think_s,
        ),
    )
    return RunInputs(header, plan.resources)


def _notes(plan: LivePlan, order: LiveOrder, heard: Heard, results: Results, lag: Lag) -> Sequence[str]:
    """What a live run must say of itself."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    notes = [
        f"live: {order.target.url}, over at {moment} after {heard.wall_s:.1f} s of machine time,"
        f" {heard.connections:,} connections at most",
        f"generator lag: p50 {lag.p50_ms:.2f} ms, p99 {lag.p99_ms:.2f} ms, at most {lag.most_ms:.2f} ms",
    ]
    if plan.trace.prompts is None:
        notes.append(f"prompts were made up: --prompt-seed {order.prompt_seed} makes the same again")
    if lag.broken:
        notes.append(f"void: the generator was late: {'; '.join(lag.broken)}")
    if heard.is_stopped:
        notes.append(f"stopped by hand: {len(results.rows):,} of {len(plan.trace):,} requests")
    if heard.turns_late:
        notes.append(f"{heard.turns_late:,} session turns waited for the answer before them and began when it ended")
    completed = int((results.rows.outcome == COMPLETED).sum())
    if order.adds_distance and completed:
        notes.append("network: the modelled round trip from origin to site is added to what was measured")
    if results.usd_stated < completed:
        notes.append(f"cost unknown: {completed - results.usd_stated:,} answers do not state dollars and count as none")
    if results.estimated:
        notes.append(f"{results.estimated:,} answers state no usage: their tokens are their chunks")
    if results.other_prompts:
        notes.append(f"{results.other_prompts:,} prompts had other token counts at the engine than in the trace")
    if results.met:
        notes.append(f"not in the grid, so without prices: {', '.join(dict.fromkeys(results.met))}")
    for text, count in results.failures.most_common(SHOWN_FAILURES):
        notes.append(f"{count:,} not answered: {text}")
    return notes
