"""`gridctl up`: the router of the grid, live, in front of its engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridctl.cli.amounts import bytes_of, seconds_of
from gridctl.cli.options import DryRunOption, complete_names
from gridctl.cli.output import OutputOption, emit, note, write
from gridctl.errors import InputError, UsageError
from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.broker.plan import Settings
    from gridctl.control.live import Live
    from gridctl.control.order import Order, Shared
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.live import Preview

MOST_HEDGED = 0.2
"""A hedge that starts is work for nothing; of more than this, engines are late because there is too much of it."""
COLUMNS = (
    Column("row", "row", align="right"),
    Column("site", "site"),
    Column("cluster", "cluster"),
    Column("model", "model"),
    Column("variant", "variant"),
    Column("replica", "replica", align="right"),
    Column("url", "url"),
    Column("served_model", "served model", wide=True),
    Column("dialect", "dialect", wide=True),
    Column("credential_env", "credential", wide=True),
)


def command(
    context: typer.Context,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where requests come in: HOST:PORT, or unix:/PATH.")
    ] = "127.0.0.1:8080",
    admin: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A further address of the admin API, beside its Unix socket."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve requests; at most one a core.")] = 1,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="A policy's name, a manifest file, or an algorithm.",
            autocompletion=complete_names("policy"),
        ),
    ] = None,
    price_book: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Prices to decide by.", autocompletion=complete_names("price")),
    ] = None,
    anonymous: Annotated[
        bool | None,
        typer.Option("--anonymous/--require-key", help="Serve callers without a key. Only on loopback by default."),
    ] = None,
    default_workload: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For callers who name none.", autocompletion=complete_names("workload")),
    ] = None,
    origin_header: Annotated[
        str | None, typer.Option(metavar="HEADER", help="The header in which a trusted proxy says where callers are.")
    ] = None,
    default_origin: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Where callers are of whom nothing else is known.")
    ] = None,
    gateway_place: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Where this gateway is: the way of callers of unknown place begins there."),
    ] = None,
    origins: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where networks are: CSV lines of CIDR,PLACE.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record the traffic as a trace, without texts.")
    ] = None,
    new_salt: Annotated[
        bool,
        typer.Option("--new-salt", help="Hash prompts anew: recordings from here on match none from before."),
    ] = False,
    hedge: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Ask a second engine for streams that begin late, at most for this share: 0.02."
        ),
    ] = None,
    allow_link_local: Annotated[
        bool, typer.Option("--allow-link-local", help="Let engines be at link-local and metadata addresses.")
    ] = False,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="A line of JSON for every request.")] = False,
    max_body: Annotated[str, typer.Option(metavar="SIZE", help="Longest body of a request.")] = "8MiB",
    deadline: Annotated[str, typer.Option(metavar="TIME", help="Longest life of a request.")] = "10m",
    grace: Annotated[str, typer.Option(metavar="TIME", help="What requests under way get when stopped.")] = "30s",
    agent_sync: Annotated[
        str, typer.Option(metavar="TIME", help="How often sites' agents report; six times that ends a trial.")
    ] = "30s",
    backends: Annotated[int, typer.Option(min=1, help="Room for so many engines.")] = 1024,
    cache_shared: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A Redis or Valkey on which gateways keep exact answers together."),
    ] = None,
    cache_shared_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that those gateways share, for the owner only.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate chain, to serve TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen on the network without TLS, or without keys.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running, once it is ready.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Serve the grid: one OpenAI-compatible address in front of every engine that has an endpoint.

    Changes of the grid reach it by themselves. Ctrl-C or `gridctl down` ends it, letting requests finish.

    Example:
      gridctl up --dry-run
      gridctl up --workers 4 --record recordings/
      gridctl up --detach --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem
      gridctl up --cache-shared rediss://cache.example:6380/0 --cache-shared-key-file cache.key
    """
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live import LocalServices, preview, up

    flags = dict(context.params)
    home = current_grid()
    if home.remote is not None:
        raise InputError(
            f"context {home.folder} is an orchestrator that runs already, at {home.remote.url}",
            where=home.origin,
            fix="to serve a grid of this machine: gridctl --store FOLDER up",
        )
    order = _order(home, flags)
    services = LocalServices(home, policy, price_book)
    if dry_run:
        _emit_preview(preview(order, services), output)
        return
    if detach:
        from gridctl.orchestrator.detaching import detached

        preview(order, services)
        address = detached(home).data_url
        note(f"log: {home.database.parent / 'live' / 'log' / 'up.log'}")
        write(f"{address}\n")
        return
    if order.insecure and not order.listen.is_private:
        note(f"INSECURE: anybody who reaches {order.listen.url()} can read and send requests")
    up(order, services, _say, _announce)


def _order(home: GridHome, flags: dict[str, object]) -> Order:
    from gridctl.control.listening import parse_address
    from gridctl.control.order import Order, Tls
    from gridctl.rollout.desired import timing_of

    certificate, key = _path(flags["tls_cert"]), _path(flags["tls_key"])
    if (certificate is None) != (key is None):
        raise UsageError("TLS needs a certificate and its key", where="--tls-cert, --tls-key", fix="give both")
    tls = Tls(certificate.absolute(), key.absolute()) if certificate is not None and key is not None else None
    listen = parse_address(str(flags["listen"]), "--listen")
    admin = flags["admin"]
    anonymous = flags["anonymous"]
    return Order(
        database=home.database,
        grid=home.folder.name,
        listen=listen,
        admin=parse_address(str(admin), "--admin", unix=False) if admin is not None else None,
        workers=int(str(flags["workers"])),
        backends=int(str(flags["backends"])),
        grace_s=seconds_of(str(flags["grace"]), "--grace"),
        sync=timing_of(seconds_of(str(flags["agent_sync"]), "--agent-sync")),
        tls=tls,
        insecure=bool(flags["insecure"]),
        log_requests=bool(flags["log_requests"]),
        recordings=_path(flags["record"]),
        renews_salt=bool(flags["new_salt"]),
        shared=_shared(_text(flags["cache_shared"]), _text(flags["cache_shared_key_file"])),
        settings=_settings(flags, anonymous=listen.is_private if anonymous is None else bool(anonymous)),
    )


def _shared(url: str | None, key_file: str | None) -> Shared | None:
    """Where exact answers are shared: by the options, the environment, or the configuration."""
    from gridctl.control.order import Shared
    from gridctl.orchestrator.config import setting

    place, key = setting("cache_shared", flag=url).value, setting("cache_shared_key_file", flag=key_file).value
    if not place and not key:
        return None
    if not place or not key:
        raise UsageError(
            "a shared cache needs a server and a key that its gateways share",
            where="--cache-shared, --cache-shared-key-file",
            fix="give both; a key: (umask 077; openssl rand -hex 32 > FILE)",
        )
    return Shared(place, Path(key).expanduser().absolute())


def _settings(flags: dict[str, object], *, anonymous: bool) -> Settings:
    from gridctl.broker.plan import Settings
    from gridctl.orchestrator.live import origins_from

    origins, header = _path(flags["origins"]), flags["origin_header"]
    deadline_s = seconds_of(str(flags["deadline"]), "--deadline")
    if not 0.001 <= deadline_s <= 86_400:
        raise UsageError(f"a deadline of {deadline_s:g} s", where="--deadline", fix="1ms to 24h")
    max_body = bytes_of(str(flags["max_body"]), "--max-body")
    if not 1 <= max_body <= 1 << 30:
        raise UsageError(f"bodies of {max_body} bytes", where="--max-body", fix="1 to 1GiB")
    named = Settings()
    hedged = _hedged(_text(flags["hedge"]))
    return Settings(
        anonymous=anonymous,
        default_workload=_text(flags["default_workload"]),
        origin_header=_header(str(header)) if header is not None else named.origin_header,
        default_origin=_text(flags["default_origin"]),
        gateway_place=_text(flags["gateway_place"]),
        allow_link_local=bool(flags["allow_link_local"]),
        hedge=hedged > 0,
        hedge_budget=hedged or named.hedge_budget,
        address_map=origins_from(origins) if origins is not None else (),
        max_body_bytes=max_body,
        deadline_ms=round(deadline_s * 1000),
        drain_ms=round(seconds_of(str(flags["grace"]), "--grace") * 1000),
    )


def _hedged(text: str | None) -> float:
    """The share of requests that may have a second copy; 0 without one."""
    if text is None:
        return 0.0
    number = text.strip()
    try:
        share = float(number.removesuffix("%")) / (100.0 if number.endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= MOST_HEDGED:
        raise UsageError(f"hedges for {text[:40]!r} of requests", where="--hedge", fix=f"0 to {MOST_HEDGED:g}, or 2%")
    return share


def _path(value: object) -> Path | None:
    """A path; the parser's own parameters are still text."""
    return None if value is None else Path(str(value))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _header(name: str) -> str:
    """A header's name in lower case, if it is one that clients cannot mean otherwise."""
    import re

    low = name.strip().lower()
    taken = {"authorization", "x-api-key", "host", "content-length", "transfer-encoding", "connection", "cookie"}
    if not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}", low) or low in taken:
        raise UsageError(f"{name[:64]!r} cannot carry an origin", where="--origin-header", fix="x-gridctl-origin")
    return low


def _emit_preview(found: Preview, output: str) -> None:
    import msgspec

    from gridctl.control.plans import unplaced

    plan, order = found.plan, found.order
    rows = [msgspec.structs.asdict(backend) for backend in plan.backends]
    emit(rows, COLUMNS, output, kind="BackendList", name_key="url")
    callers = "anybody" if plan.settings.anonymous else f"holders of {len(plan.keys)} key{'s' * (len(plan.keys) != 1)}"
    note(
        f"would serve {callers} at {order.listen.url(tls=order.tls is not None)} with {order.workers} "
        f"worker{'s' * (order.workers > 1)}, policy {plan.policy}, prices {plan.price_book} "
        "(dry run: nothing was started)"
    )
    if (doubt := unplaced(plan)) is not None:
        note(f"warning: {doubt}")


def _announce(live: Live) -> None:
    base = live.data_url if live.data_url.startswith("unix:") else f"{live.data_url}/v1"
    count = len(live.plan.backends)
    note(f"serving {count} engine{'' if count == 1 else 's'} at {base}; see also: gridctl status, gridctl health")
    write(f"{live.data_url}\n")


def _say(text: str) -> None:
    note(text)
