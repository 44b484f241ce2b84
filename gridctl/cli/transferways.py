"""What each way of bringing a model to sites would move: the plan of a push or a pull, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.cli.output import emit, note
from gridctl.cli.rollingout import Flags, print_site_plan
from gridctl.cli.transferparts import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gridctl.artifacts.registry_client import RegistryClient
    from gridctl.artifacts.transferplan import Method
    from gridctl.cli.modeltransfer import Transfer


def print_push_plan(
    methods: Mapping[Method, int],
    disk_bytes: int,
    client: RegistryClient,
    annotated: str | None,
    flags: Flags,
    transfer: Transfer,
) -> None:
    """What a push would move: by method, or, where waves are given, by site. `annotated` is the variant that the
    package says it is."""
    given, output = transfer.egress_usd_per_gb, transfer.output
    if flags.waves is None or not flags.to:
        print_ways(methods, flags.to, transfer.link_mbit, given, output)
        return
    usd_per_gb = sites_and_price(flags.to)[1] if given is None else given
    by_way = {str(method): count for method, count in methods.items()}
    repository = client.reference.repository
    print_site_plan(by_way, disk_bytes, repository, annotated, flags, transfer.link_mbit, usd_per_gb, output)


def print_ways(
    methods: Mapping[Method, int],
    to: list[str] | None,
    link_mbit: float,
    egress_usd_per_gb: float | None,
    output: str,
) -> None:
    """What each way would move, for one site and for all."""
    from dataclasses import asdict

    from gridctl.artifacts.transferplan import ways
    from gridctl.render.rows import Column

    sites, price = sites_and_price(to)
    usd_per_gb = price if egress_usd_per_gb is None else egress_usd_per_gb
    rows = [asdict(way) for way in ways(methods, sites, link_mbit, usd_per_gb)]
    columns = [
        Column("method", "method"),
        Column("bytes_per_site", "bytes/site", align="right", text=counted),
        Column("share", "share", align="right", text=lambda share: f"{share:.2%}"),
        Column("seconds_per_site", "seconds/site", align="right", text=lambda seconds: f"{seconds:,.1f}"),
        Column("sites", "sites", align="right", text=counted),
        Column("total_bytes", "bytes", align="right", text=counted),
        Column("usd", "egress $", align="right", text=lambda usd: f"{usd:,.2f}"),
        Column("is_cheapest", "cheapest", text=lambda cheapest: "yes" if cheapest else ""),
    ]
    emit(rows, columns, output, kind="TransferPlanList", name_key="method")
    note(f"at {link_mbit:g} Mbit/s per site and ${usd_per_gb:g} per GB; nothing was moved")


def sites_and_price(to: list[str] | None) -> tuple[int, float]:
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
