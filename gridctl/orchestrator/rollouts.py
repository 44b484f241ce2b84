"""Rollouts as commands ask for them: which sites, in which waves, at what cost; begun, watched and operated.

Decides what a selection means and what a push to it would move; the orchestrator that runs decides everything after.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from gridctl.errors import NotFoundError, UsageError, did_you_mean
from gridctl.resources import Model, Resource, Site
from gridctl.rollout.sites import PlannedSite
from gridctl.units import BYTES_PER_GB

if TYPE_CHECKING:
    from gridctl.control.rollout_messages import RolloutHistory, RolloutReport, RolloutSummary, StartRollout
    from gridctl.orchestrator.context import GridHome
    from gridctl.rollout.state import Settings, Verb

BITS_PER_BYTE = 8
POLL_S = 0.5
WAITED_FOR = ("completed", "rolled_back", "stuck", "aborted", "paused")
"""Phases in which nothing goes on by itself."""


class Target(NamedTuple):
    """What should be rolled out: a version of a model, where it is, and the bytes of its files."""

    model: str
    variant: str
    reference: str
    digest: str
    disk_bytes: int


def waves_of(resources: Sequence[Resource], model: str, to: Sequence[str], waves: str) -> tuple[tuple[str, ...], ...]:
    """The sites of a selection that serve the model, in waves. Raises UsageError, NotFoundError."""
    from gridctl.orchestrator.selector import explain_nothing, parse_selector
    from gridctl.rollout.sites import serving_sites
    from gridctl.rollout.waves import Placed, parse_waves, plan_waves

    steps = parse_waves(waves)
    selector = parse_selector(to)
    sites = [one for one in resources if isinstance(one, Site)]
    chosen = [site for site in sites if selector.holds(site)]
    if not chosen:
        raise NotFoundError(explain_nothing(selector, Site, sites), where="--to", fix="gridctl site list")
    serving = serving_sites(resources, model)
    there = [site for site in chosen if site.name in serving]
    if not there:
        raise NotFoundError(
            f"none of the {len(chosen)} chosen sites serves {model}",
            where="--to",
            fix=f"declare deployments of {model} there first: gridctl explain cluster.deployments",
        )
    placed = [Placed(site.name, f"{site.spec.country}/{site.spec.city}") for site in there]
    return plan_waves(placed, steps)


def planned_sites(
    resources: Sequence[Resource],
    waves: Sequence[Sequence[str]],
    methods: Mapping[str, int],
    disk_bytes: int,
    bytes_per_s: float,
    region_bytes_per_s: float,
    usd_per_gb: float,
) -> list[PlannedSite]:
    """What each site would fetch, by the way that moves least, and what that takes. `methods` are bytes by way; a
    site gets `bytes_per_s`, or less where its jurisdiction's sites of the wave share `region_bytes_per_s`."""
    from gridctl.geography.regions import jurisdiction_of

    sites = {one.name: one.spec for one in resources if isinstance(one, Site)}
    regions = {name: spec.jurisdiction or jurisdiction_of(spec.country) for name, spec in sites.items()}
    beside = [Counter(regions[name] for name in names) for names in waves]
    method, count = min(methods.items(), key=lambda item: item[1])
    return [
        PlannedSite(
            name,
            number,
            sites[name].tier,
            sites[name].country,
            regions[name],
            method,
            count,
            count / min(bytes_per_s, region_bytes_per_s / beside[number - 1][regions[name]]),
            count * usd_per_gb / BYTES_PER_GB,
            disk_bytes,
        )
        for number, names in enumerate(waves, start=1)
        for name in names
    ]


def model_of(resources: Sequence[Resource], given: str | None, repository: str) -> str:
    """The model that is meant: as given, else the one that the repository is called after. Raises UsageError."""
    names = [one.name for one in resources if isinstance(one, Model)]
    wanted = given or repository.rpartition("/")[2]
    if wanted in names:
        return wanted
    near = did_you_mean(wanted, names)
    if given is not None:
        fix = f"did you mean {near}?" if near else "see them: gridctl model list"
        raise NotFoundError(f"the grid has no model {given}", where="--model", fix=fix)
    raise UsageError(
        f"no model of the grid is called {wanted}, as the repository is",
        where="--model",
        fix=f"say which it is: --model {near or 'NAME'}",
    )


def variant_of(given: str | None, annotated: str | None) -> str:
    """The variant that is meant: as given, else as its package says. Raises UsageError."""
    wanted = given or annotated
    if not wanted:
        raise UsageError("the package does not say which variant it is", where="--variant", fix="add --variant NAME")
    return wanted


# ── with the orchestrator that runs ─────────────────────────────────────────────────────────────────────────────────


def start(
    home: GridHome,
    name: str | None,
    target: Target,
    waves: tuple[tuple[str, ...], ...],
    settings: Settings,
    *,
    requires_signature: bool = False,
) -> RolloutReport:
    """Begin a rollout. Raises UnreachableError when no orchestrator runs."""
    from gridctl.control.rollout_messages import RolloutReport, StartRollout
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        body: StartRollout = StartRollout(
            name=name or f"{target.model}-{target.variant}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            model=target.model,
            variant=target.variant,
            reference=target.reference,
            digest=target.digest,
            disk_bytes=target.disk_bytes,
            waves=waves,
            settings=settings,
            requires_signature=requires_signature,
        )
        return client.post("/v1/rollouts", body, RolloutReport)


def rollouts(home: GridHome) -> list[RolloutSummary]:
    """Every rollout, the newest first."""
    from gridctl.control.rollout_messages import RolloutList
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return list(client.get("/v1/rollouts", RolloutList).items)


def rollout(home: GridHome, name: str | None) -> RolloutReport:
    """A rollout, the newest unless named. Raises NotFoundError."""
    from gridctl.control.rollout_messages import RolloutReport
    from gridctl.orchestrator.live_client import client_of

    name = name or newest(home)
    with client_of(home) as client:
        return client.get(f"/v1/rollouts/{quote(name, safe='')}", RolloutReport)


def newest(home: GridHome) -> str:
    """The name of the newest rollout. Raises NotFoundError."""
    known = rollouts(home)
    if not known:
        raise NotFoundError("there is no rollout yet", fix="gridctl model push REF --to tier=edge")
    return known[0].name


def operate(home: GridHome, name: str, verb: Verb, reason: str, undo_name: str = "") -> RolloutReport:
    """Pause, resume, promote, abort or undo a rollout. Raises ConflictError for what cannot be done now."""
    from gridctl.control.rollout_messages import Operate, RolloutReport
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        path = f"/v1/rollouts/{quote(name, safe='')}/{verb}"
        return client.post(path, Operate(reason=reason, name=undo_name or None), RolloutReport)


def history(home: GridHome, name: str | None, limit: int) -> RolloutHistory:
    """What happened to a rollout, the newest unless named."""
    from gridctl.control.rollout_messages import RolloutHistory
    from gridctl.orchestrator.live_client import client_of

    name = name or newest(home)
    with client_of(home) as client:
        return client.get(f"/v1/rollouts/{quote(name, safe='')}/history", RolloutHistory, limit=limit)


def release_key(home: GridHome) -> str:
    """The public key that agents pin, in PEM."""
    from gridctl.control.rollout_messages import ReleasePublicKey
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return client.get("/v1/release-key", ReleasePublicKey).pem


def wait_for(home: GridHome, name: str, told: Callable[[RolloutReport], None]) -> RolloutReport:
    """Wait until a rollout is over or wants a person; `told` hears of each change."""
    from gridctl.control.rollout_messages import RolloutReport
    from gridctl.orchestrator.live_client import client_of

    seen: tuple[object, ...] = ()
    with client_of(home) as client:
        while True:
            found = client.get(f"/v1/rollouts/{quote(name, safe='')}", RolloutReport)
            mark = (found.phase, found.wave, found.because)
            if mark != seen:
                seen = mark
                told(found)
            if found.phase in WAITED_FOR and not (found.phase == "paused" and "outside its hours" in found.because):
                return found
            time.sleep(POLL_S)
