"""The first screen: is anything wrong. Of a running orchestrator, or of what is declared when none runs.

Decides the verdict and the one sentence above it. Must not gather or render. `failing`: somebody must act now;
`attention`: something is wrong and holds; `ok`; `unknown`: nothing can be told, which is not ok.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gridctl.health.facts import Facts
from gridctl.health.panic import AVAILABLE
from gridctl.health.problems import budgets_of, operator_problem, problems_of
from gridctl.health.reports import Affected, Counts, HealthReport, Problem, Verdict
from gridctl.health.words import STATES, OperatorState, State, badness
from gridctl.resources import Cluster, Resource, Site, Workload


def health_report(facts: Facts) -> HealthReport:
    """The screen of a running orchestrator."""
    budgets = budgets_of(facts)
    problems = problems_of(facts, budgets)
    states = [facts.conditions[engine.row].state for engine in facts.engines]
    sites = Counter(
        site_state(
            site.spec.state, [state for engine, state in zip(facts.engines, states, strict=True) if engine.site == name]
        )
        for name, site in facts.sites().items()
        if any(engine.site == name for engine in facts.engines) or site.spec.state != "active"
    )
    verdict = _verdict(problems, states)
    return HealthReport(
        grid=facts.grid,
        at_unix_ns=facts.now_unix_ns,
        is_live=True,
        verdict=verdict,
        headline=_headline(verdict, problems, states),
        problems=problems,
        counts=Counts(engines=_counted(states), sites=_counted(sites.elements())),
        budgets=budgets,
    )


def declared_report(grid: str, at_unix_ns: int, resources: Sequence[Resource]) -> HealthReport:
    """What the declarations alone tell: what operators took out, and what that leaves unserved."""
    sites = {one.name: one for one in resources if isinstance(one, Site)}
    clusters = [one for one in resources if isinstance(one, Cluster)]
    problems = [
        *_unserved(clusters, sites, [one for one in resources if isinstance(one, Workload)]),
        *(
            operator_problem("site", name, site.spec.state, Affected(sites=(name,)))
            for name, site in sorted(sites.items())
            if site.spec.state != "active"
        ),
        *(
            operator_problem("cluster", one.name, one.spec.state, Affected(sites=(one.spec.site,)))
            for one in clusters
            if one.spec.state != "active"
        ),
    ]
    live = sum(bool(_endpoints(one)) for one in clusters)
    return HealthReport(
        grid=grid,
        at_unix_ns=at_unix_ns,
        is_live=False,
        verdict="unknown",
        headline=(
            f"no orchestrator runs, so nothing is known of {f'{live} clusters' if live > 1 else 'the cluster'} with "
            "endpoints"
            if live
            else "no orchestrator runs, and no cluster has an endpoint"
        ),
        problems=tuple(problems),
        counts=Counts(engines={}, sites=_counted(site.spec.state for site in sites.values())),
    )


def _endpoints(cluster: Cluster) -> tuple[str, ...]:
    return cluster.spec.endpoints or tuple(url for one in cluster.spec.deployments for url in one.endpoints)


def site_state(declared: OperatorState, engines: Sequence[State]) -> State:
    """A site's state from what an operator said and its engines' states: degraded while some of them are out.

    >>> site_state("active", ["healthy", "ejected"]), site_state("active", ["ejected"]), site_state("down", ["healthy"])
    ('degraded', 'ejected', 'down')
    """
    if declared != "active":
        return declared
    if not engines:
        return "unknown"
    best, worst = min(engines, key=badness), max(engines, key=badness)
    if best == worst or best not in AVAILABLE:
        return best
    if worst in ("healthy", "unknown"):
        return "healthy"
    return "degraded"


def _verdict(problems: Iterable[Problem], states: Sequence[State]) -> Verdict:
    severities = {problem.severity for problem in problems}
    if "page" in severities:
        return "failing"
    if severities & {"ticket", "warning"}:
        return "attention"
    if not states or all(state == "unknown" for state in states):
        return "unknown"
    return "ok"


def _headline(verdict: Verdict, problems: Sequence[Problem], states: Sequence[State]) -> str:
    if not states:
        return "no engine has an endpoint: declare one in a cluster's deployments"
    available = sum(state in AVAILABLE for state in states)
    engines = f"{available} of {len(states)} engines available"
    if verdict == "unknown":
        return f"{engines}; none has been heard of yet"
    wrong = [problem for problem in problems if problem.severity != "info"]
    if not wrong:
        return f"all is well; {engines}"
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0].what}{more}; {engines}"


def _unserved(clusters: Sequence[Cluster], sites: dict[str, Site], workloads: Sequence[Workload]) -> Iterable[Problem]:
    """Workloads whose every cluster an operator took out."""
    for workload in workloads:
        models = set(workload.spec.models)
        serving = [
            cluster
            for cluster in clusters
            if any(one.variant.partition("/")[0] in models for one in cluster.spec.deployments)
        ]
        active = [
            one
            for one in serving
            if one.spec.state == "active"
            and (one.spec.site not in sites or sites[one.spec.site].spec.state == "active")
        ]
        if serving and not active:
            yield Problem(
                severity="page",
                kind="outage",
                about=f"workload/{workload.name}",
                what=f"no cluster may serve workload {workload.name}",
                cause=f"operators took out all {len(serving)} clusters that serve its models",
                affects=Affected(workloads=(workload.name,), sites=tuple(sorted({one.spec.site for one in serving}))),
                do=f"gridctl cluster uncordon {serving[0].name}",
            )


def _counted(states: Iterable[str]) -> dict[str, int]:
    """How many of each, the worst state last; what is declared active comes first."""
    ranks: dict[str, int] = {"active": -1, **{state: badness(state) for state in STATES}}
    return dict(sorted(Counter(states).items(), key=lambda one: ranks[one[0]]))
