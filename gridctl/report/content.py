"""Content: everything a report shows, settled before anything is drawn.

Decides what is computed and from what: one run, what may stand beside it (its centralised alternative, a run to compare
with), and what its caller knows of it (places, draws, gates, faults, the command that made it). Parts that a run does
not have are empty, and their sections are left out. Must not render.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridctl.accounts.by_place import PlaceShare, by_origin, by_site
from gridctl.accounts.comparison import Comparison, compare
from gridctl.accounts.distribution import Distributions, ttft_distributions
from gridctl.accounts.facts import FOREVER_NS, FaultFacts, RunInfo
from gridctl.accounts.flows import Flows, flows
from gridctl.accounts.gate_report import GateReport
from gridctl.accounts.intervals import (
    Ensemble,
    PromiseRanges,
    Ranges,
    TokenomicsRanges,
    promise_ranges,
    sla_total_ranges,
    tokenomics_ranges,
)
from gridctl.accounts.pairing import unpaired
from gridctl.accounts.rows import Run
from gridctl.accounts.series import Series, series
from gridctl.accounts.site_misses import worst_sites
from gridctl.accounts.sla import sla
from gridctl.accounts.stack import CostStack, cost_stack
from gridctl.accounts.tables import SiteMisses, Sla, SlaRow, Tokenomics
from gridctl.accounts.tokenomics import DIMENSIONS, tokenomics
from gridctl.geography.place import Place
from gridctl.report.time_charts import Fault
from gridctl.units import NS_PER_S

WORST_SITES = 20


@dataclass(frozen=True, slots=True)
class Drawn:
    """How sure the numbers are: a run's draws, and the ranges of its tables over them."""

    ensemble: Ensemble
    tokenomics: TokenomicsRanges
    total: Ranges
    promises: tuple[PromiseRanges, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Another run, and the given one compared with it."""

    name: str
    policy: str
    tokenomics: Tokenomics
    sla: Sla
    comparisons: tuple[Comparison, ...]
    distributions: Distributions
    stack: CostStack
    unpaired: str  # why its requests are not the same; empty when they are


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows. `made_ns` is when the run was made, or what fixes that moment."""

    info: RunInfo
    made_ns: int
    tokenomics: Tokenomics
    sla: Sla
    finer: tuple[SlaRow, ...]
    worst: tuple[SiteMisses, ...]
    series: Series
    distributions: Distributions
    stack: CostStack
    flows: Flows
    origins: tuple[PlaceShare, ...]
    sites: tuple[PlaceShare, ...]
    places: Mapping[str, Place]
    centralized: Beside | None = None
    compared: Beside | None = None
    drawn: Drawn | None = None
    gates: GateReport | None = None
    faults: tuple[Fault, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def beside(self) -> tuple[Beside, ...]:
        """The runs that stand beside this one: the one compared with, then the centralised alternative."""
        return tuple(one for one in (self.compared, self.centralized) if one is not None)


def report_of(
    run: Run,
    *,
    made_ns: int,
    places: Mapping[str, Place],
    centralized: Run | None = None,
    compared: Run | None = None,
    ensemble: Ensemble | None = None,
    gates: GateReport | None = None,
    faults: Sequence[Fault] | None = None,
    commands: Sequence[str] = (),
) -> Report:
    """Everything a report of the run shows; without `faults`, those of the run. O(n log n)."""
    costs, promises = tokenomics(run), sla(run)
    distributions = ttft_distributions(run)

    def beside(other: Run | None) -> Beside | None:
        if other is None or other.info.name == run.info.name:
            return None
        theirs = tokenomics(other)
        return Beside(
            name=other.info.name,
            policy=other.info.policy,
            tokenomics=theirs,
            sla=sla(other, ["workload"]),
            comparisons=compare(costs, theirs),
            distributions=ttft_distributions(other, distributions.edges_ms),
            stack=cost_stack(theirs),
            unpaired=unpaired(run, other),
        )

    same = centralized is not None and compared is not None and centralized.info.name == compared.info.name
    return Report(
        info=run.info,
        made_ns=made_ns,
        tokenomics=costs,
        sla=promises,
        finer=promises.rows if promises.rows != promises.workloads else (),
        worst=worst_sites(run, WORST_SITES),
        series=series(run),
        distributions=distributions,
        stack=cost_stack(costs),
        flows=flows(run),
        origins=by_origin(run),
        sites=by_site(run),
        places=places,
        centralized=None if same else beside(centralized),
        compared=beside(compared),
        drawn=None if ensemble is None else _drawn(ensemble, costs, promises),
        gates=gates,
        faults=faults_of(run.info) if faults is None else tuple(faults),
        commands=tuple(commands),
    )


def _drawn(ensemble: Ensemble, costs: Tokenomics, promises: Sla) -> Drawn:
    return Drawn(
        ensemble=ensemble,
        tokenomics=tokenomics_ranges(costs, DIMENSIONS, ensemble),
        total=sla_total_ranges(ensemble),
        promises=promise_ranges(promises.workloads, ["workload"], ensemble),
    )


def faults_of(info: RunInfo) -> tuple[Fault, ...]:
    """The faults of a run's game day, in seconds of the run."""
    return tuple(
        Fault(
            label=fault.text,
            what=_consequence(fault),
            start_s=fault.at_ns / NS_PER_S,
            end_s=None if fault.until_ns >= FOREVER_NS else fault.until_ns / NS_PER_S,
        )
        for fault in info.faults
    )


def _consequence(fault: FaultFacts) -> str:
    """What a fault did, in a sentence."""
    if fault.kind == "crowd":
        return f"{fault.added:,} requests more"
    if fault.kind == "price":
        return f"{fault.engines:,} engines cost {fault.amount:g} times as much"
    held = f"{fault.engines:,} engines at {len(fault.sites):,} sites"
    if fault.kind == "lose" or fault.lost:
        noticed = (fault.noticed_ns - fault.at_ns) / NS_PER_S
        return (
            f"{held}, noticed after {noticed:g} s: {fault.lost:,} requests lost, {fault.restarted:,} restarted, "
            f"{fault.refused + fault.failed:,} not served"
        )
    return held
