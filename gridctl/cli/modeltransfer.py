"""`gridctl model package | push | pull`: models to registries and back, and what that costs before it is done.

Parses, calls `artifacts`, prints. What was done goes to stdout as one row, how cheaper ways failed to stderr.
"""

# No postponed annotations here: typer reads them.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.amounts import bytes_of
from gridctl.cli.options import DryRunOption
from gridctl.cli.output import OutputOption, emit, note, progress
from gridctl.cli.rollingout import (
    Flags,
    ModelOption,
    NameOption,
    RollbackOption,
    SamplesOption,
    SoakOption,
    ToOption,
    UnavailableOption,
    VariantOption,
    WaitOption,
    WavesOption,
    WindowOption,
    begin,
    check_before_push,
    print_site_plan,
    target_of,
)
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gridctl.artifacts.pace import Pace
    from gridctl.artifacts.registry_client import RegistryClient
    from gridctl.artifacts.transferplan import Method


def _complete_reference(incomplete: str) -> list[str]:
    """Hosts that docker knows, then models of the grid; nothing is asked over the network."""
    from gridctl.artifacts.credentials import known_hosts
    from gridctl.cli.options import names_of

    host, slash, name = incomplete.rpartition("/")
    if not slash:
        return [f"{known}/" for known in known_hosts() if known.startswith(incomplete)]
    return [f"{host}/{model}:" for model in names_of("model", name)]


ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="REF", help="HOST/NAME:TAG, or HOST/NAME@sha256:….", autocompletion=_complete_reference),
]
BaseOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The package or pulled folder that sites hold now; only differences travel."),
]
BandwidthOption = Annotated[
    str | None, typer.Option(metavar="AMOUNT", help="Bytes per second at most, such as 10MB; of each site with --to.")
]
ParallelOption = Annotated[int, typer.Option(min=1, max=32, help="Transfers at a time.")]
LinkOption = Annotated[float, typer.Option(min=0.001, help="Speed of a site's link in Mbit/s, for the plan.")]


def package(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The model's files: *.safetensors, config.json, …")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the package goes: an OCI image layout.")],
    base: BaseOption = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the variant, kept with it.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON with name, version, parameters: how sites make it from --base."),
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Package a model's folder as an OCI artefact of the CNCF ModelPack specification.

    Files are linked, not copied, where the disk allows. Pickles and symbolic links are refused; hidden files stay.
    With --base, what gridctl model optimize made of that base takes its recipe along: sites then make it themselves.

    Example:
      gridctl model package llama-fp8/ --out llama-fp8.package --variant fp8 --base llama.package
    """
    from gridctl import __version__
    from gridctl.artifacts.manifest import BASE, RECIPE, TOOL, VARIANT
    from gridctl.artifacts.package import build, load, write_layout
    from gridctl.artifacts.recipe import read_recipe
    from gridctl.artifacts.record import recorded_recipe

    if recipe is not None and base is None:
        raise UsageError("a recipe needs the base it starts from", where="--recipe", fix="add --base DIR")
    annotations = {TOOL: f"gridctl {__version__}"}
    if variant is not None:
        annotations[VARIANT] = variant
    if base is not None:
        annotations[BASE] = load(base).digest
    if recipe is not None:
        annotations[RECIPE] = read_recipe(recipe.read_text(encoding="utf-8"), str(recipe)).text
    elif base is not None:
        found = recorded_recipe(source, load(base))
        if isinstance(found, str):
            note(f"sites cannot make this of the base, and fetch what differs: {found}")
        else:
            annotations[RECIPE] = found.text
    with progress("reading") as advance:
        made = build(source, annotations, advance=_one_by_one(advance))
    if not dry_run:
        made = write_layout(made, out)
    row = {
        "digest": made.digest,
        "files": len(made.files),
        "bytes": made.manifest.total_bytes,
        "folder": None if dry_run else str(out),
    }
    _one(row, output, "ModelPackage")
    if not dry_run:
        note(f"next: gridctl model push HOST/NAME:TAG --from {out}")


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
    to: ToOption = None,
    waves: WavesOption = None,
    soak: SoakOption = "30m",
    windows: WindowOption = None,
    max_unavailable: UnavailableOption = "10%",
    min_samples: SamplesOption = 100,
    auto_rollback: RollbackOption = True,
    model: ModelOption = None,
    variant: VariantOption = None,
    name: NameOption = None,
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
    flags = Flags(
        to or [], waves, soak, windows or [], max_unavailable, min_samples, auto_rollback, bandwidth, model, variant,
        name, wait, sign_key is not None,
    )  # fmt: skip
    if source is None:
        _roll_out(reference, flags, parallel, dry_run, link_mbit, egress_usd_per_gb, output)
        return
    _push(reference, source, base, sign_key, mount_from, parallel, flags, dry_run, link_mbit, egress_usd_per_gb, output)


def _push(
    reference: str,
    source: Path,
    base: Path | None,
    sign_key: Path | None,
    mount_from: list[str] | None,
    parallel: int,
    flags: Flags,
    dry_run: bool,
    link_mbit: float,
    egress_usd_per_gb: float | None,
    output: str,
) -> None:
    import tempfile

    from gridctl.artifacts import push as pushing
    from gridctl.artifacts.delta import encode
    from gridctl.artifacts.manifest import VARIANT
    from gridctl.artifacts.package import load
    from gridctl.artifacts.rederivation import DERIVATIONS
    from gridctl.artifacts.reference import parse_reference
    from gridctl.artifacts.transferplan import bytes_by_method

    made = load(source)
    held = load(base) if base is not None else None
    if flags.to and not dry_run:
        check_before_push(flags, parse_reference(reference).repository, made.manifest.annotations.get(VARIANT))
    with tempfile.TemporaryDirectory(prefix=".gridctl-", dir=made.folder) as scratch:
        delta = Path(scratch, "delta")
        with _client(reference, parallel) as client:
            if dry_run:
                methods = bytes_by_method(made, held, delta, DERIVATIONS)
                disk_bytes = made.manifest.total_bytes
                _print_push_plan(methods, disk_bytes, client, flags, link_mbit, egress_usd_per_gb, output)
                return
            if held is not None:
                with progress("making the delta", made.manifest.total_bytes) as advance:
                    encode(held, made, delta, advance=_one_by_one(advance))
            with progress("pushing", made.manifest.total_bytes) as advance:
                report = pushing.push(
                    made,
                    client,
                    delta=delta if held is not None else None,
                    key=sign_key,
                    mount_from=tuple(mount_from or ()),
                    pace=_pace(flags.bandwidth),
                    advance=_one_by_one(advance),
                )
            if flags.to:
                begin(target_of(client, flags), flags, output)
                return
    row = {
        "reference": str(client.reference),
        "digest": report.digest,
        "blobs": report.blobs,
        "sent_bytes": report.sent_bytes,
        "present_bytes": report.present_bytes,
        "mounted_bytes": report.mounted_bytes,
    }
    _one(row, output, "PushedModel")


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

    held = load(base) if base is not None else None
    if dry_run:
        with _client(reference, parallel) as client:
            methods = published_methods(client, held, DERIVATIONS)
        _print_plan(methods, None, link_mbit, None, output)
        return
    with _client(reference, parallel) as client, progress("pulling") as advance:
        report = pulling.pull(
            client, out, base=held, key=verify_key, pace=_pace(bandwidth), advance=_one_by_one(advance)
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
    _one(row, output, "PulledModel")


def _roll_out(
    reference: str,
    flags: Flags,
    parallel: int,
    dry_run: bool,
    link_mbit: float,
    egress_usd_per_gb: float | None,
    output: str,
) -> None:
    """Roll out what the registry holds already."""
    if not flags.to:
        raise UsageError("nothing to push", where="--from", fix="--from DIR; or --to SITES, to roll out what REF holds")
    with _client(reference, parallel) as client:
        if not dry_run:
            begin(target_of(client, flags), flags, output)
            return
        from gridctl.artifacts.transferplan import published_methods

        methods = published_methods(client, None, {})
        disk_bytes = target_of(client, flags).disk_bytes
        _print_push_plan(methods, disk_bytes, client, flags, link_mbit, egress_usd_per_gb, output)


def _print_push_plan(
    methods: "Mapping[Method, int]",
    disk_bytes: int,
    client: "RegistryClient",
    flags: Flags,
    link_mbit: float,
    egress_usd_per_gb: float | None,
    output: str,
) -> None:
    """What a push would move: by method, or, where waves are given, by site."""
    if flags.waves is None or not flags.to:
        _print_plan(methods, flags.to, link_mbit, egress_usd_per_gb, output)
        return
    usd_per_gb = _sites_and_price(flags.to)[1] if egress_usd_per_gb is None else egress_usd_per_gb
    by_way = {str(method): count for method, count in methods.items()}
    print_site_plan(by_way, disk_bytes, client.reference.repository, flags, link_mbit, usd_per_gb, output)


def _print_plan(
    methods: "Mapping[Method, int]",
    to: list[str] | None,
    link_mbit: float,
    egress_usd_per_gb: float | None,
    output: str,
) -> None:
    """What each way would move, for one site and for all."""
    from dataclasses import asdict

    from gridctl.artifacts.transferplan import ways
    from gridctl.render.rows import Column

    sites, price = _sites_and_price(to)
    usd_per_gb = price if egress_usd_per_gb is None else egress_usd_per_gb
    rows = [asdict(way) for way in ways(methods, sites, link_mbit, usd_per_gb)]
    columns = [
        Column("method", "method"),
        Column("bytes_per_site", "bytes/site", align="right", text=_counted),
        Column("share", "share", align="right", text=lambda share: f"{share:.2%}"),
        Column("seconds_per_site", "seconds/site", align="right", text=lambda seconds: f"{seconds:,.1f}"),
        Column("sites", "sites", align="right", text=_counted),
        Column("total_bytes", "bytes", align="right", text=_counted),
        Column("usd", "egress $", align="right", text=lambda usd: f"{usd:,.2f}"),
        Column("is_cheapest", "cheapest", text=lambda cheapest: "yes" if cheapest else ""),
    ]
    emit(rows, columns, output, kind="TransferPlanList", name_key="method")
    note(f"at {link_mbit:g} Mbit/s per site and ${usd_per_gb:g} per GB; nothing was moved")


def _sites_and_price(to: list[str] | None) -> tuple[int, float]:
    """How many sites are meant, and what egress costs by the grid's price book. Without a grid: one, nothing."""
    from gridctl.errors import NotFoundError
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.selector import explain_nothing, parse_selector
    from gridctl.resources import PriceBook, Site

    try:
        home = current_grid()
    except NotFoundError:
        if to:
            raise
        return 1, 0.0
    with home.open_registry() as registry:
        sites = [entry.resource for entry in registry.list(Site)]
        books = [entry.resource for entry in registry.list(PriceBook)]
    price = next((b.spec.egress_usd_per_gb for b in books if isinstance(b, PriceBook) and b.name == "default"), 0.0)
    if not to:
        return 1, price
    selector = parse_selector(to)
    chosen = [site for site in sites if selector.holds(site)]
    if not chosen:
        raise NotFoundError(explain_nothing(selector, Site, sites), where="--to", fix="gridctl site list")
    return len(chosen), price


def _client(reference: str, parallel: int) -> "RegistryClient":
    from gridctl.artifacts.reference import parse_reference
    from gridctl.artifacts.registry_client import RegistryClient

    return RegistryClient(parse_reference(reference), parallel=parallel)


def _one_by_one(advance: "Callable[[int], None]") -> "Callable[[int], None]":
    """A progress bar that several threads may advance."""
    import threading

    lock = threading.Lock()

    def advanced(count: int) -> None:
        with lock:
            advance(count)

    return advanced


def _pace(bandwidth: str | None) -> "Pace":
    from gridctl.artifacts.pace import Pace

    rate = bytes_of(bandwidth.removesuffix("/s"), "--bandwidth") if bandwidth is not None else None
    if rate == 0:
        raise UsageError("nothing moves at 0 bytes per second", where="--bandwidth", fix="write 10MB")
    return Pace(rate)


def _one(row: dict[str, Any], output: str, kind: str) -> None:
    from gridctl.render.rows import Column

    columns = [
        Column(key, key.replace("_", " "), align="right" if isinstance(value, int) else "left", text=_shown(value))
        for key, value in row.items()
    ]
    emit([row], columns, output, kind=kind, name_key="digest", single=True)


def _shown(value: object) -> Any:
    return _counted if isinstance(value, int) else None


def _counted(value: int) -> str:
    return f"{value:,}"
