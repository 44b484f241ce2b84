"""Problems: what is wrong with a running grid, why, what it affects and the command that helps; the worst first.

Decides what is worth telling and in which words. Must not gather: facts come in. One trouble is one problem: engines of
a cluster that are out for like reasons are told together, and a flapping engine once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from gridctl.health.burn import Budget, Counting, budget, span_text
from gridctl.health.condition import Condition
from gridctl.health.facts import Engine, Facts
from gridctl.health.panic import AVAILABLE, OPERATORS
from gridctl.health.reports import SEVERITIES, Affected, Problem, Severity
from gridctl.health.words import ALL_PPM, State, badness
from gridctl.signals.rows import FAILING, STALE
from gridctl.signals.series import Key
from gridctl.units import NS_PER_S

_TOLD: dict[State, tuple[Severity, str]] = {
    "ejected": ("ticket", "gets no traffic"),
    "probation": ("warning", "is tried with little traffic"),
    "degraded": ("warning", "gets part of its traffic"),
    "unknown": ("warning", "has not been heard of"),
}
_STARTING_S = 60.0
"""So long after the start nobody need have been heard of."""


def problems_of(facts: Facts, budgets: Sequence[Budget]) -> tuple[Problem, ...]:
    """Everything that is wrong, the worst first, then the longest."""
    found = [
        *_notices(facts),
        *_burning(facts, budgets),
        *_unserved(facts),
        *_panics(facts),
        *_suspects(facts),
        *_engines(facts),
        *_telemetry(facts),
        *_operators(facts),
    ]
    latest = facts.now_unix_ns
    return tuple(sorted(found, key=lambda one: (SEVERITIES.index(one.severity), one.since_unix_ns or latest)))


def budgets_of(facts: Facts) -> tuple[Budget, ...]:
    """The error budget of every workload over 30 days, with its alarms; thresholds no outage could reach are capped."""
    return tuple(
        budget(name, workload.spec.attainment, _counting(facts, name), cap=True)
        for name, workload in sorted(facts.workloads().items())
    )


def _counting(facts: Facts, workload: str) -> Counting:
    return lambda window_s: facts.count(Key(workload), window_s)


def next_text(condition: Condition, now_ns: int) -> str:
    """What happens to an engine by itself, and when, in words; empty when nothing does."""
    state, due_ns = condition.state, condition.next_change_ns
    when = None if due_ns is None else f"in {span_text(max(1.0, (due_ns - now_ns) / NS_PER_S))}"
    if state == "ejected":
        return f"tried again with little traffic {when}, or sooner if a probe passes" if when else ""
    if state == "probation":
        share = f"{condition.admit_ppm / ALL_PPM:.0%} of its traffic now"
        if condition.flapping:
            return f"{share}; no more until it has been steady for some minutes"
        return f"{share}; more {when}" if when else f"{share}; more after three answers"
    if state == "degraded":
        return "all of its traffic again when few requests fail"
    if state in OPERATORS:
        return "nothing: it stays so until an operator says otherwise"
    return ""


def _notices(facts: Facts) -> Iterator[Problem]:
    for what, do in facts.notices:
        yield Problem(severity="ticket", kind="orchestrator", about="orchestrator", what=what, cause=what, do=do)


def _burning(facts: Facts, budgets: Iterable[Budget]) -> Iterator[Problem]:
    for one in budgets:
        alarm = next((alarm for alarm in one.alarms if alarm.verdict == "firing"), None)
        if alarm is None:
            continue
        left = "its budget is spent" if one.empty_in_s == 0 else ""
        if one.empty_in_s:
            left = f"its budget is spent in {span_text(one.empty_in_s)}"
        yield Problem(
            severity=alarm.severity,
            kind="burn",
            about=f"workload/{one.name}",
            what=f"workload {one.name} misses its promise of {one.target:.4g}: {alarm.why}",
            cause=f"{alarm.bad} of {alarm.valid} requests were bad in {span_text(alarm.long_s)}",
            affects=Affected(workloads=(one.name,), sites=_sites_of(facts, one.name)),
            do="gridctl top --by site; gridctl event list",
            next=left,
        )


def _sites_of(facts: Facts, workload: str) -> tuple[str, ...]:
    """Sites at which most of a workload's bad requests of the last hour were, the worst first, five at most."""
    bad = {site: facts.count(Key(workload, site), 3600.0).bad for site in {engine.site for engine in facts.engines}}
    return tuple(sorted((site for site in bad if bad[site]), key=lambda site: (-bad[site], site))[:5])


def _unserved(facts: Facts) -> Iterator[Problem]:
    """Workloads none of whose models has an engine that may be used."""
    usable = {
        engine.model for engine in facts.engines if facts.conditions[engine.row].state in (*AVAILABLE, "probation")
    }
    running = {engine.model for engine in facts.engines}
    for name, workload in sorted(facts.workloads().items()):
        models = set(workload.spec.models)
        if models & running and not models & usable:
            concerned = [engine for engine in facts.engines if engine.model in models]
            yield Problem(
                severity="page",
                kind="outage",
                about=f"workload/{name}",
                what=f"no engine can serve workload {name}",
                cause=f"all {len(concerned)} engines of {', '.join(sorted(models & running))} are out",
                since_unix_ns=max(facts.unix_ns(facts.conditions[engine.row].since_ns) for engine in concerned),
                affects=Affected(workloads=(name,), sites=_names(one.site for one in concerned)),
                do=f"gridctl site inspect {concerned[0].site}",
            )


def _panics(facts: Facts) -> Iterator[Problem]:
    for model, panic in sorted(facts.panics.items()):
        concerned = [engine for engine in facts.engines if engine.model == model]
        yield Problem(
            severity="page" if panic.level == "last-resort" else "ticket",
            kind="panic",
            about=f"model/{model}",
            what=f"too few engines of {model} are well",
            cause=panic.cause,
            affects=_affected(facts, concerned),
            do=f"gridctl site inspect {concerned[0].site}" if concerned else "gridctl health",
            next="jurisdictions, cordons and tenants are kept apart all the same",
        )


def _suspects(facts: Facts) -> Iterator[Problem]:
    for suspect in facts.suspects:
        by_region = {name: site.spec.country for name, site in facts.sites().items()}
        concerned = [
            engine
            for engine in facts.engines
            if engine.model == suspect.model
            and (
                f"{engine.model}/{engine.variant}" == suspect.name
                if suspect.kind == "model version"
                else by_region.get(engine.site) == suspect.name
            )
        ]
        yield Problem(
            severity="ticket",
            kind="suspect",
            about=f"{suspect.kind.replace(' ', '-')}/{suspect.name}",
            what=f"{suspect.kind} {suspect.name} fails more than its peers",
            cause=suspect.cause,
            affects=_affected(facts, concerned),
            do="gridctl event list --for cluster",
        )


def _engines(facts: Facts) -> Iterator[Problem]:
    """Engines that get less than their traffic, together by cluster and state."""
    told = [
        (engine, facts.conditions[engine.row])
        for engine in facts.engines
        if facts.conditions[engine.row].state in _TOLD and not _is_new(facts, facts.conditions[engine.row])
    ]
    order = sorted(told, key=lambda one: (one[0].cluster, badness(one[1].state), one[0].replica))
    for (cluster, state), members in groupby(order, key=lambda one: (one[0].cluster, one[1].state)):
        group = list(members)
        yield _engine_problem(facts, cluster, state, [one for one, _ in group], [one for _, one in group])


def _engine_problem(
    facts: Facts, cluster: str, state: State, engines: Sequence[Engine], conditions: Sequence[Condition]
) -> Problem:
    severity, verb = _TOLD[state]
    first = min(range(len(engines)), key=lambda place: conditions[place].since_ns)
    every = sum(engine.cluster == cluster for engine in facts.engines)
    site = engines[0].site
    if every == 1:
        what = f"{cluster} at {site} {verb}"
    else:
        what = f"{len(engines)} of {every} engines of {cluster} at {site}: each {verb}"
    others = f" (and {len(engines) - 1} more)" if len(engines) > 1 else ""
    flapping = "; it flaps, so recovery is not believed for some minutes" if conditions[first].flapping else ""
    probes = facts.outcomes.get(engines[first].row, ())
    return Problem(
        severity=severity,
        kind=state,
        about=f"cluster/{cluster}",
        what=what,
        cause=f"{conditions[first].cause}{others}{flapping}",
        since_unix_ns=facts.unix_ns(conditions[first].since_ns),
        affects=_affected(facts, engines),
        do=remedy(engines[first], probes[-1].cause if probes else "ok"),
        next=next_text(conditions[first], facts.now_ns),
    )


def remedy(engine: Engine, probe_cause: str) -> str:
    """The command to look at or to mend an engine with, by what its last probe found."""
    if probe_cause in ("dns", "wrong-model", "forbidden", "tls"):
        return f"gridctl cluster get {engine.cluster} -o yaml   # correct its endpoint or served_model, then apply"
    if probe_cause in ("refused", "unreachable", "reset"):
        return f"start the engine at {engine.url}, or: gridctl cluster cordon {engine.cluster}"
    return f"gridctl site inspect {engine.site}"


def _is_new(facts: Facts, condition: Condition) -> bool:
    is_early = facts.now_ns - condition.since_ns < _STARTING_S * NS_PER_S
    return condition.state == "unknown" and is_early


def _telemetry(facts: Facts) -> Iterator[Problem]:
    """Engines that do not report any more; those that never could are no problem."""
    silent = [
        engine
        for engine in facts.engines
        if facts.board.scraped(engine.row).telemetry_state in (STALE, FAILING)
        and facts.conditions[engine.row].state in AVAILABLE
    ]
    if silent:
        names = ", ".join(_names(engine.cluster for engine in silent)[:3])
        yield Problem(
            severity="warning",
            kind="telemetry",
            about=f"cluster/{silent[0].cluster}",
            what=f"{len(silent)} engine{'s do' if len(silent) > 1 else ' does'} not report load ({names})",
            cause="their /metrics is old or cannot be read: they are judged by what the gateway itself counts",
            affects=_affected(facts, silent),
            do=f"gridctl site inspect {silent[0].site}",
        )


def _operators(facts: Facts) -> Iterator[Problem]:
    for site in sorted(facts.sites().values(), key=lambda one: one.name):
        if site.spec.state != "active":
            concerned = [engine for engine in facts.engines if engine.site == site.name]
            yield operator_problem("site", site.name, site.spec.state, _affected(facts, concerned))
    for cluster in sorted(facts.clusters().values(), key=lambda one: one.name):
        if cluster.spec.state != "active":
            concerned = [engine for engine in facts.engines if engine.cluster == cluster.name]
            yield operator_problem("cluster", cluster.name, cluster.spec.state, _affected(facts, concerned))


def operator_problem(noun: str, name: str, state: str, affects: Affected) -> Problem:
    """What an operator took out, as a reminder."""
    return Problem(
        severity="info",
        kind=state,
        about=f"{noun}/{name}",
        what=f"{noun} {name} is {state}",
        cause="an operator said so",
        affects=affects,
        do=f"gridctl {noun} uncordon {name}",
        next="nothing: it stays so until an operator says otherwise",
    )


def _affected(facts: Facts, engines: Sequence[Engine]) -> Affected:
    models = {engine.model for engine in engines}
    sites = _names(engine.site for engine in engines)
    return Affected(
        workloads=_names(name for name, one in facts.workloads().items() if models & set(one.spec.models)),
        sites=sites,
        engines=len(engines),
        traffic_share=facts.traffic_share(sites) if sites else None,
    )


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
