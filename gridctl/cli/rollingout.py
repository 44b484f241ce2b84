"""`gridctl model push … --to`: from a version in a registry to a rollout of it, or to the plan of one.

Parses what the flags of a rollout mean; begins it through `orchestrator.rollouts`.
"""

# No postponed annotations here: typer reads them.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridctl.cli.amounts import bytes_of, seconds_of
from gridctl.cli.output import emit, note
from gridctl.errors import InputError, NotFoundError, UsageError

if TYPE_CHECKING:
    from gridctl.artifacts.registry_client import RegistryClient
    from gridctl.orchestrator.rollouts import Target
    from gridctl.rollout.state import Settings

BITS_PER_BYTE = 8
BITS_PER_MBIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Flags:
    """What was asked for with --to."""

    to: list[str]
    waves: str | None
    soak: str
    windows: list[str]
    max_unavailable: str
    min_samples: int
    max_ttft_ratio: float
    auto_rollback: bool
    bandwidth: str | None
    model: str | None
    variant: str | None
    name: str | None
    wait: bool
    requires_signature: bool
    region_bandwidth: str | None = None


def settings_of(flags: Flags) -> "Settings":
    """The flags as a rollout's settings. Raises UsageError."""
    from gridctl.rollout.analysis import LEAST_TTFT_RATIO, MOST_TTFT_RATIO, Limits
    from gridctl.rollout.state import Settings
    from gridctl.rollout.windows import parse_window

    if not LEAST_TTFT_RATIO <= flags.max_ttft_ratio <= MOST_TTFT_RATIO:
        raise UsageError(
            f"TTFT {flags.max_ttft_ratio:g} times as long cannot be judged: it is known to 5 %",
            where="--max-ttft-ratio",
            fix=f"{LEAST_TTFT_RATIO:g} to {MOST_TTFT_RATIO:g}, as 1.5",
        )
    bandwidth = None
    if flags.bandwidth is not None:
        bandwidth = bytes_of(flags.bandwidth.removesuffix("/s"), "--bandwidth")
    region = None
    if flags.region_bandwidth is not None:
        region = bytes_of(flags.region_bandwidth.removesuffix("/s"), "--region-bandwidth")
    return Settings(
        soak_s=seconds_of(flags.soak, "--soak"),
        max_unavailable=share_of(flags.max_unavailable, "--max-unavailable"),
        auto_rollback=flags.auto_rollback,
        bandwidth_bytes_per_s=bandwidth,
        region_bytes_per_s=region,
        windows=tuple(parse_window(text) for text in flags.windows),
        limits=Limits(min_samples=flags.min_samples, max_ttft_ratio=flags.max_ttft_ratio),
    )


def check_flags(flags: Flags) -> None:
    """Refuse flags that no rollout could be made of, before anybody is asked. Raises UsageError."""
    from gridctl.rollout.waves import DEFAULT, parse_waves

    if not flags.to:
        alone = [name for name, given in (("--waves", flags.waves), ("--window", flags.windows),
                 ("--wait", flags.wait), ("--name", flags.name),
                 ("--require-signature", flags.requires_signature),
                 ("--region-bandwidth", flags.region_bandwidth)) if given]  # fmt: skip
        if alone:
            raise UsageError(f"{alone[0]} is of a rollout, and none is asked for", where=alone[0], fix="add --to SITES")
        return
    settings_of(flags)
    parse_waves(flags.waves or DEFAULT)
    if flags.name is not None:
        check_name(flags.name, "--name")


def check_name(name: str, flag: str) -> None:
    """Refuse what cannot be the name of a rollout. Raises UsageError."""
    import re

    from gridctl.control.rollout_messages import NAME_PATTERN

    if re.match(NAME_PATTERN, name) is None:
        raise UsageError(
            f"no rollout can be called {name[:40]!r}", where=flag, fix="small letters, digits, . _ and -, as llama-v2"
        )


def share_of(text: str, flag: str) -> float:
    """A share written as 10% or 0.1. Raises UsageError.

    >>> share_of("10%", "--max-unavailable")
    0.1
    """
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"not a share: {text[:40]!r}", where=flag, fix="write 10%, or 0.1")
    return share


def target_of(client: "RegistryClient", flags: Flags) -> "Target":
    """The version that the client's reference names. Raises NotFoundError, InputError."""
    from gridctl.artifacts.contents import bytes_digest
    from gridctl.artifacts.manifest import MODEL_TYPE, VARIANT, layer_names, read_manifest
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import Target, model_of, variant_of

    where = str(client.reference)
    data = client.manifest()
    if data is None:
        raise NotFoundError("no such artefact", where=where, fix="push it first: gridctl model push REF --from DIR")
    manifest = read_manifest(data, where)
    if manifest.artifactType != MODEL_TYPE:
        raise InputError("this artefact is no model", where=where, fix="gridctl model package, gridctl model push")
    layer_names(manifest, where)
    with current_grid().open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    return Target(
        model=model_of(resources, flags.model, client.reference.repository),
        variant=variant_of(flags.variant, manifest.annotations.get(VARIANT)),
        reference=where,
        digest=bytes_digest(data),
        disk_bytes=manifest.total_bytes,
    )


def check_before_push(flags: Flags, repository: str, annotated: str | None) -> None:
    """Refuse what the rollout would be refused for, before anything moves."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live_client import client_of
    from gridctl.orchestrator.rollouts import model_of, variant_of, waves_of
    from gridctl.rollout.sites import check_variant
    from gridctl.rollout.waves import DEFAULT

    home = current_grid()
    with home.open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    model = model_of(resources, flags.model, repository)
    check_variant(model, variant_of(flags.variant, annotated), resources)
    waves_of(resources, model, flags.to, flags.waves or DEFAULT)
    with client_of(home) as client:
        client.status()


def counted(number: int, noun: str) -> str:
    """So many of something.

    >>> counted(1, "site"), counted(4400, "site")
    ('1 site', '4,400 sites')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def check_signed(client: "RegistryClient", digest: str) -> None:
    """Refuse to begin what every site would refuse: a version that the grid's release key, which agents pin, has not
    signed. Raises UnsignedError, UnreachableError."""
    import tempfile

    from gridctl.artifacts.pull import UnsignedError, require_signature
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import release_key

    home = current_grid()
    with tempfile.NamedTemporaryFile("w", suffix=".pub") as key:
        key.write(release_key(home))
        key.flush()
        try:
            require_signature(client, digest, Path(key.name))
        except UnsignedError as error:
            raise UnsignedError(
                f"sites would refuse it: {error.what.removesuffix(': refused')}",
                where=str(client.reference),
                fix=f"push it with the grid's release key: --sign-key {home.database.parent / 'live' / 'release.pem'}",
            ) from None


def begin(target: "Target", flags: Flags, output: str) -> None:
    """Begin the rollout; with --wait, see it to its end."""
    from gridctl.cli.rollout import leave_unless_completed, print_rollout, told
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import start, wait_for, waves_of
    from gridctl.rollout.sites import check_variant
    from gridctl.rollout.waves import DEFAULT

    settings = settings_of(flags)
    home = current_grid()
    with home.open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    check_variant(target.model, target.variant, resources)
    waves = waves_of(resources, target.model, flags.to, flags.waves or DEFAULT)
    found = start(home, flags.name, target, waves, settings, requires_signature=flags.requires_signature)
    note(f"rollout {found.name}: {counted(found.sites, 'site')} in {counted(found.waves, 'wave')}")
    unheard = [site.site for site in found.progress if site.heard_s_ago is None]
    if unheard:
        note(
            f"nobody has reported for {counted(len(unheard), 'site')} yet, {unheard[0]} first: "
            "an agent must run there, see gridctl agent run --help"
        )
    if flags.wait:
        found = wait_for(home, found.name, told)
    print_rollout(found, output)
    if flags.wait:
        leave_unless_completed(found)
    else:
        note(f"next: gridctl rollout status {found.name} --watch")


def print_site_plan(
    methods: Mapping[str, int],
    disk_bytes: int,
    repository: str,
    annotated: str | None,
    flags: Flags,
    link_mbit: float,
    usd_per_gb: float,
    output: str,
) -> None:
    """What each site of the rollout would fetch, with nothing begun."""
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.rollouts import model_of, planned_sites, variant_of, waves_of
    from gridctl.render.rollouts import PLAN_COLUMNS, plan_items
    from gridctl.rollout.sites import check_variant
    from gridctl.rollout.waves import DEFAULT

    settings = settings_of(flags)
    with current_grid().open_registry() as registry:
        resources = [stored.resource for stored in registry.all()]
    model = model_of(resources, flags.model, repository)
    check_variant(model, variant_of(flags.variant, annotated), resources)
    waves = waves_of(resources, model, flags.to, flags.waves or DEFAULT)
    link = link_mbit * BITS_PER_MBIT / BITS_PER_BYTE
    speed = min(link, settings.bandwidth_bytes_per_s or link)
    sites = planned_sites(
        resources, waves, methods, disk_bytes, speed, settings.region_bytes_per_s or math.inf, usd_per_gb
    )
    emit(plan_items(sites), PLAN_COLUMNS, output, kind="RolloutPlanList", name_key="site")
    total, dollars = sum(site.bytes for site in sites), sum(site.usd for site in sites)
    naive = methods["whole"] * len(sites)
    places = f"{counted(len(sites), 'site')} in {counted(len(waves), 'wave')}"
    note(
        f"{places}: {total:,} bytes ({total / naive:.2%} of whole copies), ${dollars:,.2f} of egress; nothing was moved"
    )
