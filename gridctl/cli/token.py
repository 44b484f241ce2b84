"""`gridctl token`: keys for clients of the gateway, and for the admin API."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gridctl.cli.amounts import seconds_of
from gridctl.cli.options import DryRunOption, ReasonOption, YesOption, complete_names
from gridctl.cli.output import OutputOption, emit, is_interactive, note, write
from gridctl.registry.keys import DEFAULT_TENANT, AccessKey, Role, WantedKey, check_key
from gridctl.render.rows import Column
from gridctl.render.time import utc_text
from gridctl.units import NS_PER_S

app = typer.Typer(help="Keys for clients, and for the admin API.", no_args_is_help=True, add_completion=False)

COLUMNS = (
    Column("name", "name"),
    Column("role", "role"),
    Column("state", "state"),
    Column("tenant", "tenant"),
    Column("workload", "workload"),
    Column("site", "site"),
    Column("expires", "expires"),
    Column("requests_per_s", "req/s", align="right"),
    Column("tokens_per_minute", "tokens/min", align="right"),
    Column("created", "created", wide=True),
    Column("created_by", "created by", wide=True),
    Column("revoked", "revoked", wide=True),
)


def complete_keys(incomplete: str) -> list[str]:
    """Names of keys that are not revoked; none, and no error, when there is no grid to ask."""
    try:
        from gridctl.orchestrator.context import current_grid

        with current_grid().open_registry() as registry:
            keys = registry.access_keys()
    except Exception:
        return []
    return [key.name for key in keys if key.revoked_ns is None and key.name.startswith(incomplete)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What events and lists call it; for good.")],
    role: Annotated[
        Role,
        typer.Option(help="client sends requests; viewer, operator and admin use the admin API; agent reports."),
    ] = "client",
    tenant: Annotated[str, typer.Option(help="Whose requests they are.")] = DEFAULT_TENANT,
    site: Annotated[
        str | None,
        typer.Option(metavar="SITE", help="The site that an agent reports for.", autocompletion=complete_names("site")),
    ] = None,
    workload: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The only workload it may ask for.", autocompletion=complete_names("workload")
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it ends: 90d, 12h; never unless given.")
    ] = None,
    requests_per_s: Annotated[
        float | None, typer.Option(metavar="N", help="Most requests a second; more are answered 429.")
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(metavar="N", help="Most tokens a minute, prompts and answers as expected.")
    ] = None,
    dry_run: DryRunOption = False,
    reason: ReasonOption = None,
    output: OutputOption = "table",
) -> None:
    """Make a key and print its token: once, here. Only its SHA-256 is kept.

    Example:
      gridctl token create shop --tenant shop --workload chat --expires 90d
      gridctl token create trial --requests-per-s 5 --tokens-per-minute 60000
      gridctl token create ci --role viewer > ci.token
      gridctl token create agent-paris --role agent --site fr-paris-01 > agent.token
    """
    from gridctl.orchestrator.context import current_grid

    expires_ns = None if expires is None else time.time_ns() + round(seconds_of(expires, "--expires") * NS_PER_S)
    wanted = WantedKey(
        name=name,
        role=role,
        tenant=tenant,
        workload=workload,
        expires_ns=expires_ns,
        requests_per_s=requests_per_s,
        tokens_per_minute=tokens_per_minute,
        site=site,
    )
    with current_grid().open_registry() as registry:
        if site is not None:
            registry.get("site", site)
        if workload is not None:
            named = registry.get("workload", workload).resource
            if tenant not in named.spec.tenants:
                note(
                    f"workload {workload} does not list tenant {tenant}: until it does, this key's requests are refused"
                )
        if dry_run:
            check_key(wanted, next((key for key in registry.access_keys() if key.name == name), None))
            note(f"would make the {role} key {name} (dry run: nothing was written)")
            return
        key, token = registry.create_key(wanted, cause="token create" + (f": {reason}" if reason else ""))
    row = {**row_of(key), "token": token}
    if output == "table":
        write(f"{token}\n")
    else:
        emit([row], (*COLUMNS, Column("token", "token")), output, kind="MadeKey", single=True)
    note(f"this is the token of {name}; it cannot be shown again")


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Revoked and expired ones, too.")] = False,
    output: OutputOption = "table",
) -> None:
    """List keys. Their tokens are not kept, so nobody can list those.

    Example:
      gridctl token list --all -o wide
    """
    from gridctl.orchestrator.context import current_grid

    with current_grid().open_registry() as registry:
        keys = registry.access_keys()
    rows = [row_of(key) for key in keys]
    shown = [row for row in rows if all_ or row["state"] == "active"]
    emit(shown, COLUMNS, output, kind="KeyList")
    if hidden := len(rows) - len(shown):
        note(f"{hidden} revoked or expired; see them: gridctl token list --all")
    elif not rows:
        note("no keys; make one: gridctl token create NAME")


@app.command()
def revoke(
    name: Annotated[list[str], typer.Argument(metavar="NAME...", autocompletion=complete_keys)],
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """End keys for good. A running orchestrator refuses them within a second.

    Example:
      gridctl token revoke shop --reason 'leaked in a log'
    """
    from gridctl.orchestrator.context import current_grid

    with current_grid().open_registry() as registry:
        known = {key.name for key in registry.access_keys()}
        missing = [one for one in name if one not in known]
        if missing:
            registry.revoke_key(missing[0], cause="")  # says which one there is no key of, and the nearest
        if dry_run:
            note(f"would revoke {', '.join(name)} (dry run: nothing was written)")
            return
        if not yes and is_interactive():
            typer.confirm(f"revoke {', '.join(name)}?", abort=True, err=True)
        for one in dict.fromkeys(name):
            registry.revoke_key(one, cause="token revoke" + (f": {reason}" if reason else ""))
            note(f"revoked {one}")


def row_of(key: AccessKey) -> dict[str, object]:
    """The item behind a row."""
    return {
        "name": key.name,
        "role": key.role,
        "state": key.state(time.time_ns()),
        "tenant": key.tenant if key.role == "client" else None,
        "workload": key.workload,
        "site": key.site,
        "expires": None if key.expires_ns is None else utc_text(key.expires_ns),
        "requests_per_s": key.requests_per_s,
        "tokens_per_minute": key.tokens_per_minute,
        "created": utc_text(key.created_ns),
        "created_by": key.created_by,
        "revoked": None if key.revoked_ns is None else utc_text(key.revoked_ns),
    }
