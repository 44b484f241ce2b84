"""`gridctl agent`: the agent of a site, and what it holds on its disk.

Parses, calls `agent`, prints. A running agent says on stderr what it does; prompts and answers are never said.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridctl.cli.amounts import bytes_of, seconds_of
from gridctl.cli.options import DryRunOption, complete_names
from gridctl.cli.output import OutputOption, emit, note
from gridctl.errors import InputError, UsageError
from gridctl.render.cell import counted
from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.agent.order import Order
    from gridctl.rollout.protocol import Actual

app = typer.Typer(
    help="The agent of a site: fetches models, has the engine load them, goes back by itself.",
    no_args_is_help=True,
    add_completion=False,
)


def _short(digest: str) -> str:
    return digest[:19]


COLUMNS = (
    Column("model", "model"),
    Column("role", "role"),
    Column("variant", "variant"),
    Column("counter", "counter", align="right"),
    Column("digest", "digest", text=_short),
    Column("bytes", "bytes", align="right", text=counted),
    Column("state", "state"),
    Column("folder", "folder", wide=True),
)
GONE_COLUMNS = (
    Column("what", "what"),
    Column("model", "model"),
    Column("digest", "digest", text=_short),
    Column("bytes", "bytes", align="right", text=counted),
    Column("age_s", "age s", align="right", text=lambda value: f"{value:,.0f}"),
    Column("folder", "path", wide=True),
)
FolderOption = Annotated[Path, typer.Option(metavar="DIR", help="The agent's folder: models, pointers, journal.")]


@app.command()
def run(
    context: typer.Context,
    site: Annotated[
        str, typer.Option(metavar="NAME", help="The site it is for.", autocompletion=complete_names("site"))
    ],
    url: Annotated[str, typer.Option(metavar="URL", help="The orchestrator's admin API: https://HOST[:PORT].")],
    token_file: Annotated[Path, typer.Option(metavar="FILE", help="A token of role agent for this site, read anew.")],
    folder: FolderOption,
    engine_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The site's engine: its health and its answers to --probes.")
    ] = None,
    reload_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="Has the engine load $GRIDCTL_FOLDER ($GRIDCTL_MODEL, _VARIANT, _DIGEST); no shell."
        ),
    ] = None,
    reload_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The same by a POST of model, variant, digest, folder.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The orchestrator's release key (PEM, public); then pinned.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="PEM", help="Certificates to trust --url by.")] = None,
    interval: Annotated[str, typer.Option(metavar="TIME", help="Between syncs, unless the orchestrator says.")] = "30s",
    bandwidth: Annotated[str | None, typer.Option(metavar="AMOUNT", help="Bytes per second at most: 20MB.")] = None,
    architecture: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="A model_type that the engine loads; may be given again.")
    ] = None,
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Take only models that --key has signed.")
    ] = False,
    probes: Annotated[
        Path | None, typer.Option(metavar="FILE", help='JSON lines {"prompt": …, "max_tokens": …, "expect": …}.')
    ] = None,
    ready: Annotated[str, typer.Option(metavar="TIME", help="What the engine gets to load a model.")] = "10m",
    keep_free: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Of the disk, in bytes; a tenth of it unless given.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Sync, do what is wanted now, and end.")] = False,
    output: OutputOption = "table",
) -> None:
    """Keep a site's models as the orchestrator wishes them, or as they last worked. `gridctl agent --site …` for short.

    Only calls out, so it works behind NAT. Fetches what the site lacks, verifies it, has the engine load it on trial,
    and goes back by itself when the engine fails or the orchestrator is not heard of. Ctrl-C or SIGTERM ends it.

    Example:
      gridctl agent run --site fr-paris-01 --url https://grid.example.com --token-file token --folder /var/lib/gridctl
      gridctl agent --site fr-paris-01 --url https://grid.example.com --token-file token --folder /var/lib/gridctl \\
        --key release.pub --engine-url http://127.0.0.1:8000 --reload-command '/usr/local/bin/reload-vllm'
    """
    import asyncio

    order = _order(dict(context.params))
    if not once:
        asyncio.run(_serve(order))
        _leave()
        return
    from gridctl.agent.site_agent import run_once

    actual = asyncio.run(run_once(order, _say))
    emit(_rows_of(actual, order.folder), COLUMNS, output, kind="AgentVersionList", name_key="digest")


@app.command()
def status(
    folder: FolderOption,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte and compare it with its digest.")] = False,
    output: OutputOption = "table",
) -> None:
    """Show what an agent's folder holds, with the agent running or not.

    Example:
      gridctl agent status --folder /var/lib/gridctl --verify
    """
    from gridctl.agent.folder import AgentFolder
    from gridctl.agent.journal import read_journal
    from gridctl.agent.versions import Versions

    here = AgentFolder(folder)
    here.require()
    journal = read_journal(here.journal)
    versions = Versions(here)
    rows = [
        _row(versions, model, digest, versions.damage(model, digest) if verify else None)
        for model in versions.models
        for digest in sorted(versions.whole(model), key=lambda digest: _order_of(versions, model, digest))
    ]
    # What a running agent removed since was not damaged.
    rows = [row for row in rows if Path(str(row["folder"])).exists()]
    under_way = journal.transfers if journal is not None else ()
    rows += [_transfer_row(here, t.model, t.digest) for t in under_way if t.digest not in versions.whole(t.model)]
    emit(rows, COLUMNS, output, kind="AgentVersionList", name_key="digest")
    free, total = here.disk()
    if journal is not None:
        note(f"site {journal.site}, generation {journal.generation}, counter {journal.highest}")
    note(f"{free:,} of {total:,} bytes of the disk are free")
    for model in versions.models:
        failed = versions.pointers(model).failed
        if failed is not None:
            note(f"{model}: {failed.digest[:19]}… failed: {failed.reason}: {failed.detail}")
    if any(str(row["state"]).startswith("damaged") for row in rows):
        note("a version is damaged; restart the agent: it drops it and fetches it again")
        raise typer.Exit(InputError.exit_code)


@app.command()
def gc(
    folder: FolderOption,
    dry_run: DryRunOption = False,
    output: OutputOption = "table",
) -> None:
    """Remove versions that nobody needs: never the committed, previous, tried or wanted, nor any of the last day.

    A running agent does this by itself, after each commit and every hour, and when the disk is full.

    Example:
      gridctl agent gc --folder /var/lib/gridctl --dry-run
    """
    import contextlib
    import time

    from gridctl.agent.collecting import collect, removable
    from gridctl.agent.folder import AgentFolder
    from gridctl.agent.journal import Journal, read_journal
    from gridctl.agent.versions import Versions

    here = AgentFolder(folder)
    here.require()
    with contextlib.nullcontext() if dry_run else here.held():
        versions = Versions(here)
        journal = read_journal(here.journal) or Journal(site="")
        found = removable(here, versions, journal, time.time())
        if not dry_run:
            collect(versions, found)
    rows = [
        {
            "what": item.what,
            "model": item.model,
            "digest": item.digest,
            "bytes": item.bytes,
            "age_s": item.age_s,
            "folder": str(item.path),
        }
        for item in found
    ]
    emit(rows, GONE_COLUMNS, output, kind="AgentRemovalList", name_key="digest")
    note(f"{sum(item.bytes for item in found):,} bytes {'would come' if dry_run else 'came'} free")


async def _serve(order: Order) -> None:
    import asyncio
    import signal

    from gridctl.agent.site_agent import run_agent

    stop, insist = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            insist.set()
        else:
            note("ending: versions on trial go back first; a second signal ends now")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    _say(f"agent of {order.site}: {order.url}, {order.folder}")
    await run_agent(order, _say, stop, insist)


def _say(text: str) -> None:
    """One line, whatever a peer put into it."""
    note("".join(letter if letter.isprintable() else "?" for letter in text))


def _leave() -> None:
    """End although a thread may still wait for a silent registry: what came is on the disk, and is a whole prefix."""
    import os
    import sys
    import threading

    if threading.active_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _order(flags: dict[str, Any]) -> Order:
    import shlex

    from gridctl.agent.order import Order, check_url
    from gridctl.agent.probing import read_probes
    from gridctl.agent.talking import read_token

    interval_s, ready_s = seconds_of(flags["interval"], "--interval"), seconds_of(flags["ready"], "--ready")
    if not 0.1 <= interval_s <= 86_400:
        raise UsageError(f"an interval of {interval_s:g} s", where="--interval", fix="100ms to 24h")
    bandwidth = bytes_of(flags["bandwidth"], "--bandwidth") if flags["bandwidth"] is not None else None
    if bandwidth == 0:
        raise UsageError("nothing moves at 0 bytes per second", where="--bandwidth", fix="write 10MB")
    try:
        command = tuple(shlex.split(flags["reload_command"] or ""))
    except ValueError as error:
        raise UsageError(f"not a command: {error}", where="--reload-command", fix="close the quotes") from None
    token_file = Path(flags["token_file"]).absolute()
    read_token(token_file)
    return Order(
        site=flags["site"],
        url=check_url(flags["url"], "--url"),
        token_file=token_file,
        folder=Path(flags["folder"]).absolute(),
        engine_url=_engine(flags["engine_url"], "--engine-url"),
        reload_command=command,
        reload_url=_engine(flags["reload_url"], "--reload-url"),
        key_pem=_key(flags["key"]),
        certificates=Path(flags["ca"]) if flags["ca"] is not None else None,
        interval_s=interval_s,
        bandwidth_bytes_per_s=bandwidth,
        architectures=tuple(flags["architecture"] or ()),
        requires_signature=flags["require_signature"],
        probes=read_probes(Path(flags["probes"])) if flags["probes"] is not None else (),
        ready_s=ready_s,
        keep_free_bytes=bytes_of(flags["keep_free"], "--keep-free") if flags["keep_free"] is not None else None,
    )


def _engine(url: str | None, flag: str) -> str | None:
    """An engine's address: also in clear text, for no secret is sent there."""
    if url is not None and not url.startswith(("http://", "https://")):
        raise UsageError(f"not a URL: {url[:100]!r}", where=flag, fix="http://HOST:PORT")
    return url.rstrip("/") if url is not None else None


def _key(path: str | Path | None) -> str | None:
    if path is None:
        return None
    from gridctl.rollout.releasekey import read_public_key

    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not PEM"
        raise InputError(f"the key cannot be read: {reason}", where=str(path), fix="name the release key") from None
    read_public_key(text, str(path))
    return text


def _order_of(versions: Any, model: str, digest: str) -> tuple[int, str]:
    role = versions.pointers(model).role(digest)
    return ("committed", "trial", "previous", "staged").index(role), digest


def _row(versions: Any, model: str, digest: str, damage: str | None) -> dict[str, object]:
    from gridctl.errors import GridctlError

    pointers = versions.pointers(model)
    known = {v.digest: v for v in (pointers.previous, pointers.trial, pointers.committed) if v is not None}
    version = known.get(digest)
    state = "whole" if damage is None else f"damaged: {damage}" if damage else "verified"
    try:
        size = versions.package(model, digest).manifest.total_bytes
    except (GridctlError, OSError) as error:
        size, state = 0, f"damaged: {error}"
    return {
        "model": model,
        "role": pointers.role(digest),
        "variant": version.variant if version is not None else None,
        "counter": version.counter if version is not None else None,
        "digest": digest,
        "bytes": size,
        "state": state,
        "folder": str(versions.path(model, digest)),
    }


def _transfer_row(folder: Any, model: str, digest: str) -> dict[str, object]:
    from gridctl.agent.folder import files_below

    stage = folder.stage(model, digest)
    size = sum(status.st_size for _, status in files_below(stage))
    return {
        "model": model,
        "role": "staging",
        "variant": None,
        "counter": None,
        "digest": digest,
        "bytes": size,
        "state": "fetching",
        "folder": str(stage),
    }


def _rows_of(actual: tuple[Actual, ...], folder: Path) -> list[dict[str, object]]:
    from gridctl.agent.folder import AgentFolder
    from gridctl.agent.versions import Versions

    versions = Versions(AgentFolder(folder))
    return [_row(versions, one.model, digest, None) for one in actual for digest in sorted(versions.whole(one.model))]
