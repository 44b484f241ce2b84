"""`gridctl model push | pull`: models to registries and back, and what that costs before it is done.

Parses, calls `artifacts`, prints. What was done goes to stdout as one row, how cheaper ways failed to stderr.
"""

# No postponed annotations here: typer reads them.

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, note, progress
from gridctl.cli.rollingout import Flags, begin, check_before_push, check_flags, check_signed, target_of
from gridctl.cli.rolloutoptions import (
    ModelOption,
    NameOption,
    RegionBandwidthOption,
    RollbackOption,
    SamplesOption,
    SignatureOption,
    SoakOption,
    ToOption,
    TtftRatioOption,
    UnavailableOption,
    VariantOption,
    WaitOption,
    WavesOption,
    WindowOption,
)
from gridctl.cli.transferparts import (
    BandwidthOption,
    BaseOption,
    LinkOption,
    ParallelOption,
    ReferenceArgument,
    client_of,
    one_by_one,
    pace_of,
    print_row,
)
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from gridctl.artifacts.package import Package
    from gridctl.artifacts.push import PushReport
    from gridctl.artifacts.registry_client import RegistryClient


@dataclass(frozen=True, slots=True)
class Transfer:
    """A push as asked for: where to, of what, and how its plan is reckoned and printed."""

    reference: str
    base: Path | None
    sign_key: Path | None
    mount_from: tuple[str, ...]
    parallel: int
    dry_run: bool
    link_mbit: float
    egress_usd_per_gb: float | None
    output: str


def push(
    reference: ReferenceArgument,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A package: gridctl model package. With --to, what REF holds."),
    ] = None,
    base: BaseOption = None,
    sign_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Sign with this ed25519 key (PEM).")] = None,
    mount_from: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repository of the same registry that may hold blobs.")
    ] = None,
    bandwidth: BandwidthOption = None,
    parallel: ParallelOption = 4,
    region_bandwidth: RegionBandwidthOption = None,
    to: ToOption = None,
    waves: WavesOption = None,
    soak: SoakOption = "30m",
    windows: WindowOption = None,
    max_unavailable: UnavailableOption = "10%",
    min_samples: SamplesOption = 100,
    max_ttft_ratio: TtftRatioOption = 1.5,
    auto_rollback: RollbackOption = True,
    model: ModelOption = None,
    variant: VariantOption = None,
    name: NameOption = None,
    require_signature: SignatureOption = False,
    wait: WaitOption = False,
    link_mbit: LinkOption = 50.0,
    egress_usd_per_gb: Annotated[
        float | None, typer.Option(min=0, help="Price of a GB leaving the registry; the grid's price book by default.")
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Push a package to a registry, and with --to roll it out to sites, in waves that go back by themselves.

    With --base a delta is made, so that sites fetch little. A push that was stopped goes on where the registry is.
    --dry-run makes the delta and prints what each way costs; with --waves, what each site would get and when.
    gridctl help rollout tells how waves are judged.

    Example:
      gridctl model push registry.example.com/models/llama:v2 --from llama-v2.package --base llama-v1.package
      gridctl model push localhost:5000/llama:v2 --from v2.package --base v1.package --dry-run --to tier=edge
      gridctl model push localhost:5000/llama:v2 --to tier=edge,country=FR --waves 1,5%,25%,100% --soak 30m --wait
    """
    is_signed = require_signature or (sign_key is not None and bool(to))
    flags = Flags(
        to or [], waves, soak, windows or [], max_unavailable, min_samples, max_ttft_ratio, auto_rollback, bandwidth,
        model, variant, name, wait, is_signed, region_bandwidth,
    )  # fmt: skip
    check_flags(flags)
    transfer = Transfer(
        reference, base, sign_key, tuple(mount_from or ()), parallel, dry_run, link_mbit, egress_usd_per_gb, output
    )
    if source is None:
        _roll_out(transfer, flags)
    else:
        _push(transfer, source, flags)


def pull(
    reference: ReferenceArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the model's plain files.")],
    base: BaseOption = None,
    verify_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Refuse what this ed25519 key (PEM, public) has not signed.")
    ] = None,
    bandwidth: BandwidthOption = None,
    parallel: ParallelOption = 4,
    link_mbit: LinkOption = 50.0,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Pull a model into a folder that an engine can load, fetching only what --base lacks.

    Every file is checked by digest before it gets its name. A pull that was stopped goes on where it was.
    --dry-run prints what each way would fetch, from manifests and indexes alone.

    Example:
      gridctl model pull registry.example.com/models/llama:v2 --out llama-v2/ --base llama-v1/ --verify-key key.pub
    """
    from gridctl.artifacts import pull as pulling
    from gridctl.artifacts.package import load
    from gridctl.artifacts.rederivation import DERIVATIONS
    from gridctl.artifacts.transferplan import published_methods
    from gridctl.cli.transferways import print_ways

    held = load(base) if base is not None else None
    if dry_run:
        with client_of(reference, parallel) as client:
            methods = published_methods(client, held, DERIVATIONS)
        print_ways(methods, None, link_mbit, None, output)
        return
    with client_of(reference, parallel) as client, progress("pulling") as advance:
        report = pulling.pull(
            client, out, base=held, key=verify_key, pace=pace_of(bandwidth), advance=one_by_one(advance)
        )
    for text in report.notes:
        note(text)
    row = {
        "reference": str(client.reference),
        "digest": report.package.digest,
        "files": len(report.ways),
        "bytes": report.package.manifest.total_bytes,
        "moved_bytes": report.moved_bytes,
        "ways": ",".join(sorted(set(report.ways.values()))),
        "folder": str(out),
    }
    print_row(row, output, "PulledModel")


def _push(transfer: Transfer, source: Path, flags: Flags) -> None:
    """Push a package, or print what that would move; then roll it out where that is asked for."""
    import tempfile

    from gridctl.artifacts.manifest import VARIANT
    from gridctl.artifacts.package import load
    from gridctl.artifacts.rederivation import DERIVATIONS
    from gridctl.artifacts.reference import parse_reference
    from gridctl.artifacts.transferplan import bytes_by_method
    from gridctl.cli.transferways import print_push_plan

    made = load(source)
    annotated = made.manifest.annotations.get(VARIANT)
    held = load(transfer.base) if transfer.base is not None else None
    if flags.to and not transfer.dry_run:
        repository = parse_reference(transfer.reference).repository
        check_before_push(flags, repository, annotated)
    with tempfile.TemporaryDirectory(prefix=".gridctl-", dir=made.folder) as scratch:
        delta = Path(scratch, "delta")
        with client_of(transfer.reference, transfer.parallel) as client:
            if transfer.dry_run:
                methods = bytes_by_method(made, held, delta, DERIVATIONS)
                print_push_plan(methods, made.manifest.total_bytes, client, annotated, flags, transfer)
                return
            report = _send(transfer, made, held, delta, client, flags.bandwidth)
            if flags.to:
                _begin(client, transfer, flags)
                return
    row = {
        "reference": str(client.reference),
        "digest": report.digest,
        "blobs": report.blobs,
        "sent_bytes": report.sent_bytes,
        "present_bytes": report.present_bytes,
        "mounted_bytes": report.mounted_bytes,
    }
    print_row(row, transfer.output, "PushedModel")


def _send(
    transfer: Transfer,
    made: "Package",
    held: "Package | None",
    delta: Path,
    client: "RegistryClient",
    bandwidth: str | None,
) -> "PushReport":
    """Make the delta where there is a base, and push."""
    from gridctl.artifacts import push as pushing
    from gridctl.artifacts.delta import encode

    if held is not None:
        with progress("making the delta", made.manifest.total_bytes) as advance:
            encode(held, made, delta, advance=one_by_one(advance))
    with progress("pushing", made.manifest.total_bytes) as advance:
        return pushing.push(
            made,
            client,
            delta=delta if held is not None else None,
            key=transfer.sign_key,
            mount_from=transfer.mount_from,
            pace=pace_of(bandwidth),
            advance=one_by_one(advance),
        )


def _roll_out(transfer: Transfer, flags: Flags) -> None:
    """Roll out what the registry holds already."""
    from gridctl.artifacts.transferplan import published_methods
    from gridctl.cli.transferways import print_push_plan

    if not flags.to:
        raise UsageError("nothing to push", where="--from", fix="--from DIR; or --to SITES, to roll out what REF holds")
    with client_of(transfer.reference, transfer.parallel) as client:
        if not transfer.dry_run:
            _begin(client, transfer, flags)
            return
        methods = published_methods(client, None, {})
        target = target_of(client, flags)
        print_push_plan(methods, target.disk_bytes, client, target.variant, flags, transfer)


def _begin(client: "RegistryClient", transfer: Transfer, flags: Flags) -> None:
    target = target_of(client, flags)
    if flags.requires_signature:
        check_signed(client, target.digest)
    begin(target, flags, transfer.output)
