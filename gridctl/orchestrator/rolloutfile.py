"""Rollout file: a rollout as a question to a replay — which sites get a variant when, over which link, with what pause.

Decides what the file means on a grid and a trace: for every site a time of transfer, a time in which its engines load
the variant and serve nobody, and the time from which they serve it. Those become faults of a game day, so the replay
knows nothing of rollouts. Transfer and traffic share the site's link: with the transfer at the share ρ of it, what is
sent waits for bursts of the transfer, on average W = ρ / (2(1 − ρ)) · S, S the time that a burst takes on the link.
Source: Pollaczek–Khinchine for constant service times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from gridctl.errors import InputError, NotFoundError, UsageError, did_you_mean, raise_all
from gridctl.manifest.gameday_file import GameDayFile
from gridctl.manifest.reader import dotted, parse_items
from gridctl.manifest.source import sources
from gridctl.orchestrator.rollouts import waves_of
from gridctl.resources import Cluster, Model, Resource
from gridctl.resources.gameday import (
    Duration,
    FaultSpec,
    GameDay,
    GameDaySpec,
    Path,
    Slow,
    Whence,
    Where,
    nanoseconds_of,
)
from gridctl.resources.quantity import Name, VariantRef
from gridctl.resources.resource import Metadata
from gridctl.rollout.analysis import LEAST_TTFT_RATIO, MOST_TTFT_RATIO
from gridctl.units import NS_PER_S

KIND = "Rollout"
BURST_BYTES = 64 * 1024
"""What a TCP sender puts on the wire at once: a common limit of segmentation offload."""
MOST_FAULTS = 5_000
"""Each is held against every other, so twice as many take four times as long."""
BITS_PER_BYTE = 8
MEGA = 1_000_000
GIGA = 1_000_000_000
Share = Annotated[float, Meta(gt=0, lt=1)]


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout in a trace. `at` counts from its first request. A site's link carries `link_mbit`, of which the
    transfer takes `link_share`; `fetch_gb` is what each site fetches, the variant's weights unless said. `reload` is
    how long an engine serves nobody while it loads, `noticed_after` how long the router goes on sending to it.
    `step_time` is how long a step of the new variant takes, as a multiple of the old one's; from the profiles unless
    said. A wave whose TTFT is more than `max_ttft_ratio` times what it was would go back."""

    variant: VariantRef
    to: str
    at: Duration
    waves: str = "1,5%,25%,100%"
    soak: Duration = "30m"
    reload: Duration = "90s"
    noticed_after: Duration = "3s"
    fetch_gb: Annotated[float, Meta(ge=0)] | None = None
    link_mbit: Annotated[float, Meta(gt=0)] = 200.0
    link_share: Share = 0.8
    max_unavailable: Annotated[float, Meta(gt=0, le=1)] = 0.1
    step_time: Annotated[float, Meta(gt=0, le=1000)] | None = None
    max_ttft_ratio: Annotated[float, Meta(ge=LEAST_TTFT_RATIO, le=MOST_TTFT_RATIO)] = 1.5


class RolloutFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: kind, name, spec."""

    metadata: Metadata
    spec: RolloutSpec


class Move(NamedTuple):
    """A site of the rollout, in nanoseconds of the trace: it fetches, loads, serves."""

    wave: int
    site: str
    clusters: tuple[str, ...]
    fetch_ns: int
    load_ns: int
    serve_ns: int


class Itinerary(NamedTuple):
    """The rollout on a grid: its sites in order, and how many bytes each fetches over how much added delay."""

    name: Name
    model: Name
    moves: tuple[Move, ...]
    fetch_bytes: int
    added_ms: float
    step_time: dict[str, float]


def read_rollout(path: str) -> RolloutFile:
    """The rollout that a file describes. Raises InputError."""
    problems: list[InputError] = []
    found: list[RolloutFile] = []
    see = "kind: Rollout, metadata and spec; see gridctl help rollout"
    for source in sources([path], None, problems):
        items = parse_items(source.data, source.name, problems)
        if len(items) != 1 and not problems:
            raise InputError(f"the file has {len(items)} documents, not one rollout", where=path, fix=see)
        for item in items:
            value = item.value
            if not isinstance(value, dict) or value.get("kind") != KIND:
                raise InputError("the file declares no rollout", where=item.where(source.name), fix=see)
            fields = {field: entry for field, entry in value.items() if field not in ("kind", "apiVersion")}
            try:
                found.append(msgspec.convert(fields, RolloutFile, strict=True))
            except msgspec.ValidationError as error:
                from gridctl.manifest.diagnosis import diagnose

                for problem in diagnose(fields, RolloutFile):
                    place = item.where(source.name, problem.path, key=problem.at_key)
                    problems.append(InputError(f"{dotted(problem.path)} {problem.text}", where=place, fix=problem.fix))
                if not problems:
                    problems.append(InputError(str(error), where=item.where(source.name), fix=see))
    raise_all(problems)
    return found[0]


def itinerary_of(file: RolloutFile, resources: Sequence[Resource], step_time: dict[str, float]) -> Itinerary:
    """When each site fetches, loads and serves. `step_time`: the new variant's steps as a multiple, by cluster; used
    where the file does not say. Raises InputError, NotFoundError."""
    spec = file.spec
    model_name = spec.variant.partition("/")[0]
    fetch_bytes = _fetch_bytes(spec, resources)
    waves = waves_of(resources, model_name, [spec.to], spec.waves)
    clusters = clusters_of(resources, model_name)
    link_bytes_per_s = spec.link_mbit * MEGA / BITS_PER_BYTE
    fetch_ns = round(fetch_bytes / (link_bytes_per_s * spec.link_share) * NS_PER_S)
    reload_ns, soak_ns = nanoseconds_of(spec.reload), nanoseconds_of(spec.soak)
    at_ns, moves = nanoseconds_of(spec.at), []
    for number, names in enumerate(waves, start=1):
        batch = max(1, int(spec.max_unavailable * len(names) + 1e-9))
        loads_ns = at_ns + fetch_ns
        for place, name in enumerate(names):
            begin_ns = loads_ns + place // batch * reload_ns
            moves.append(Move(number, name, clusters.get(name, ()), at_ns, begin_ns, begin_ns + reload_ns))
        at_ns = max(move.serve_ns for move in moves) + soak_ns
    known = {cluster: spec.step_time or step_time.get(cluster, 1.0) for names in clusters.values() for cluster in names}
    return Itinerary(file.metadata.name, model_name, tuple(moves), fetch_bytes, added_delay_ms(spec), known)


def added_delay_ms(spec: RolloutSpec) -> float:
    """What a round trip waits for the transfer's bursts, in milliseconds.

    >>> round(added_delay_ms(RolloutSpec(variant="m/v", to="tier=edge", at="1m", link_mbit=200.0)), 2)
    5.24
    """
    burst_s = BURST_BYTES * BITS_PER_BYTE / (spec.link_mbit * MEGA)
    return spec.link_share / (2 * (1 - spec.link_share)) * burst_s * 1000


def game_day_of(itinerary: Itinerary, regions: Sequence[str], duration_ns: int, noticed_after: str) -> GameDayFile:
    """The rollout as a game day over a trace whose clients are in `regions`. What would begin after the trace is left
    out. Raises UsageError when that is everything."""
    faults: list[FaultSpec] = []
    for move in itinerary.moves:
        if move.fetch_ns < duration_ns and move.load_ns > move.fetch_ns and round(itinerary.added_ms, 3) > 0:
            for region in regions:
                path = Path(whence=Whence(region=region), to=Where(site=move.site), add_ms=itinerary.added_ms)
                faults.append(FaultSpec(at=_text(move.fetch_ns), lasts=_text(move.load_ns - move.fetch_ns), link=path))
        for cluster in move.clusters:
            if move.load_ns < duration_ns:
                lasts = _text(move.serve_ns - move.load_ns)
                faults.append(
                    FaultSpec(at=_text(move.load_ns), lasts=lasts, lose=Where(cluster=cluster, model=itinerary.model))
                )
            factor = itinerary.step_time.get(cluster, 1.0)
            if move.serve_ns < duration_ns and factor != 1.0:
                lasts = _text(duration_ns - move.serve_ns + NS_PER_S)
                slow = Slow(cluster=cluster, model=itinerary.model, factor=factor)
                faults.append(FaultSpec(at=_text(move.serve_ns), lasts=lasts, slow=slow))
    if len(faults) > MOST_FAULTS:
        raise UsageError(
            f"the rollout comes to {len(faults):,} faults, of which a replay takes {MOST_FAULTS:,}",
            where="--rollout",
            fix="choose fewer sites in spec.to, or a shorter trace",
        )
    if not faults:
        raise UsageError("the rollout begins after the trace has ended", where="--rollout", fix="a smaller spec.at")
    day = GameDay(
        metadata=Metadata(name=itinerary.name),
        spec=GameDaySpec(faults=tuple(faults), noticed_after=noticed_after),
    )
    return GameDayFile(day, itinerary.name)


def clusters_of(resources: Sequence[Resource], model: str) -> dict[str, tuple[str, ...]]:
    """Clusters with engines of the model, by site."""
    found: dict[str, tuple[str, ...]] = {}
    for one in resources:
        if isinstance(one, Cluster) and any(
            deployment.variant.partition("/")[0] == model for deployment in one.spec.deployments
        ):
            found[one.spec.site] = (*found.get(one.spec.site, ()), one.name)
    return found


def _fetch_bytes(spec: RolloutSpec, resources: Sequence[Resource]) -> int:
    model_name, _, variant_name = spec.variant.partition("/")
    models = {one.name: one for one in resources if isinstance(one, Model)}
    if model_name not in models:
        near = did_you_mean(model_name, models)
        fix = f"did you mean {near}?" if near else "see them: gridctl model list"
        raise NotFoundError(f"the grid has no model {model_name}", where="spec.variant", fix=fix)
    model = models[model_name].spec
    variant = model.variant(variant_name)
    if variant is None:
        names = [one.name for one in model.variants]
        near = did_you_mean(variant_name, names)
        fix = f"did you mean {near}?" if near else f"one of: {', '.join(names)}"
        raise NotFoundError(f"model {model_name} has no variant {variant_name}", where="spec.variant", fix=fix)
    return round(spec.fetch_gb * GIGA) if spec.fetch_gb is not None else model.weight_bytes(variant)


def _text(nanoseconds: int) -> str:
    """A duration as a game day's file writes it, exact to the nanosecond."""
    return f"{nanoseconds // NS_PER_S}.{nanoseconds % NS_PER_S:09d}s"
