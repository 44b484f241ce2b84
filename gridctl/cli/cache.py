"""`gridctl cache`: how the cache of answers does, what to forget, what it had to do with a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gridctl.cli.cacheforecast import forecast
from gridctl.cli.options import DryRunOption, ReasonOption, YesOption, complete_names
from gridctl.cli.output import OutputOption, emit, is_interactive, note
from gridctl.errors import UsageError
from gridctl.render.rows import Column
from gridctl.render.time import utc_text

if TYPE_CHECKING:
    from gridctl.control.cache_messages import CacheShared

app = typer.Typer(help="Answers kept to be given again.", no_args_is_help=True, add_completion=False)
app.command()(forecast)


def _share(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _bound(value: Any) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def _usd(value: Any) -> str:
    return f"{value:.6f}"


WORKLOADS = (
    Column("workload", "workload"),
    Column("mode", "mode"),
    Column("requests", "requests", align="right"),
    Column("hit_share", "hits", align="right", text=_share),
    Column("exact_hits", "exact", align="right"),
    Column("semantic_hits", "by meaning", align="right"),
    Column("shared_hits", "shared", align="right"),
    Column("bypasses", "bypassed", align="right"),
    Column("error_rate", "may err", align="right", text=_bound),
    Column("bound", "errs at most", align="right", text=_bound),
    Column("saved_usd", "saved $", align="right", text=_usd),
    Column("audits", "audits", align="right", wide=True),
    Column("explored", "explored", align="right", wide=True),
    Column("labels", "judged", align="right", wide=True),
    Column("wrong_labels", "judged wrong", align="right", wide=True),
    Column("stale_hits", "stale", align="right", wide=True),
    Column("asked_again", "asked again", align="right", wide=True),
    Column("stopped_because", "stopped", wide=True),
)
TENANTS = (
    Column("workload", "workload"),
    Column("tenant", "tenant"),
    Column("hits", "hits", align="right"),
    Column("semantic_hits", "by meaning", align="right"),
    Column("labels", "judged", align="right"),
    Column("wrong_labels", "judged wrong", align="right"),
    Column("saved_usd", "saved $", align="right", text=_usd),
)
PURGED = (
    Column("by", "by"),
    Column("value", "value"),
    Column("entries", "answers", align="right"),
    Column("number", "purge", align="right"),
    Column("dry_run", "dry run"),
    Column("shared", "gateways", wide=True),
)
ENTRIES = (
    Column("entry", "entry", align="right"),
    Column("made_for", "made for"),
    Column("workload", "workload"),
    Column("tenant", "tenant"),
    Column("site", "site"),
    Column("model", "model"),
    Column("variant", "variant"),
    Column("born", "since"),
    Column("served", "served", align="right"),
    Column("tags", "tags", wide=True),
)
BY = ("tag", "tenant", "workload", "model", "digest", "key", "entry", "request")
RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="The x-request-id of the answer.")]
WorkloadArgument = Annotated[
    str | None,
    typer.Argument(metavar="[WORKLOAD]", help="All, unless given.", autocompletion=complete_names("workload")),
]


@app.command()
def status(
    by: Annotated[
        Literal["workload", "tenant"], typer.Option(help="A row a workload, or a row a tenant of a workload.")
    ] = "workload",
    output: OutputOption = "table",
) -> None:
    """Hits by level, the error bound and what was saved, by workload; why requests were not answered; the room used.

    Counts are of the gateway since it started. "errs at most" is the most wrong answers over requests that is credible
    now; it is what the workload's error_rate is held against. What checks cost is taken off what was saved. By tenant:
    the last answers that went out, and of questions since the keeper's start how many were compared with an engine's
    answer, and how many differed. The promise is the workload's; a tenant with its own needs a workload of its own.

    Example:
      gridctl cache status
      gridctl cache status --by tenant
      gridctl cache status -o json
    """
    import msgspec

    from gridctl.orchestrator.caching import cache_status
    from gridctl.orchestrator.context import current_grid

    report = cache_status(current_grid())
    chosen = (report.workloads, WORKLOADS) if by == "workload" else (report.tenants, TENANTS)
    rows, columns = [msgspec.structs.asdict(one) for one in chosen[0]], chosen[1]
    if output in ("json", "yaml"):
        document = msgspec.to_builtins(report)
        emit([{}], columns, output, kind="CacheStatus", single=True, documents=[document])
        return
    emit(rows, columns, output, kind="CacheStatus", name_key=by)
    if report.state == "off":
        note("no workload caches; turn it on: gridctl explain workload.cache.mode")
        return
    note(
        f"keeper {report.state}, {report.entries:,} answer{'s' * (report.entries != 1)}, "
        f"{report.used_bytes / 1e6:,.1f} of "
        f"{report.capacity_bytes / 1e6:,.0f} MB{f'; {report.problem}' if report.problem else ''}"
    )
    if report.shared is not None:
        note(_shared_line(report.shared))
    if report.reasons:
        most = sorted(report.reasons.items(), key=lambda pair: -pair[1])
        note("not answered: " + ", ".join(f"{word} {count:,}" for word, count in most))


@app.command()
def purge(
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A tag of x-gridctl-cache-tags.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="All of a tenant.")] = None,
    workload: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="All of a workload.", autocompletion=complete_names("workload")),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME[/VARIANT]", help="All that a model said.", autocompletion=complete_names("model")),
    ] = None,
    digest: Annotated[str | None, typer.Option(metavar="DIGEST", help="All of one version's weights.")] = None,
    key: Annotated[str | None, typer.Option(metavar="HEX", help="One exact key.")] = None,
    entry: Annotated[str | None, typer.Option(metavar="NUMBER", help="An entry, with its group.")] = None,
    request: Annotated[
        str | None, typer.Option(metavar="REQUEST", help="What a request was served or brought, with its group.")
    ] = None,
    reason: ReasonOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = "table",
) -> None:
    """Forget answers, at once and for all that was asked before.

    Example:
      gridctl cache purge --tag doc:4711 --reason 'the document changed'
      gridctl cache purge --workload chat --dry-run
      gridctl cache purge --request req-2726c9076bec51da9ca377c00349139c
    """
    import msgspec

    from gridctl.orchestrator.caching import cache_purge
    from gridctl.orchestrator.context import current_grid

    given = [
        (by, value)
        for by, value in zip(BY, (tag, tenant, workload, model, digest, key, entry, request), strict=True)
        if value is not None
    ]
    if len(given) != 1:
        raise UsageError(
            "say what to forget" if not given else "one thing at a time",
            where="cache purge",
            fix="one of: " + ", ".join(f"--{by}" for by in BY),
        )
    by, value = given[0]
    if not dry_run and not yes and by in ("tenant", "workload", "model") and is_interactive():
        typer.confirm(f"forget every answer of {by} {value}?", abort=True, err=True)
    done = cache_purge(current_grid(), by, value, cause=reason or "", dry_run=dry_run)
    row = msgspec.structs.asdict(done)
    emit([row], PURGED, output, kind="CachePurge", name_key="value", single=True)
    if dry_run:
        note("dry run: nothing was forgotten")
    _check_told(done.shared, f"forgotten here; gateways that share answers were not told of {by} {value}")


@app.command()
def stop(
    workload: WorkloadArgument = None,
    reason: ReasonOption = None,
) -> None:
    """Serve exact repeats only: no answer by meaning any more, until resumed.

    Example:
      gridctl cache stop chat --reason 'answers of another order'
    """
    _switch("stop", workload, reason)


@app.command()
def resume(
    workload: WorkloadArgument = None,
    reason: ReasonOption = None,
) -> None:
    """Serve repeats in meaning again, as far as the error bound allows.

    Example:
      gridctl cache resume chat
    """
    _switch("resume", workload, reason)


def _switch(order: str, workload: str | None, reason: str | None) -> None:
    from gridctl.orchestrator.caching import cache_switch
    from gridctl.orchestrator.context import current_grid

    done = cache_switch(current_grid(), order, workload, cause=reason or "")
    word = "stopped" if order == "stop" else "resumed"
    note(f"{word}: {', '.join(done.workloads) or 'no workload caches'}")
    if order == "stop" and done.workloads:
        note('exact repeats are served on; to end those, too: cache.mode: "off" in the workload, gridctl apply')
    _check_told(done.shared, f"{word} here; gateways that share answers were not told")


def _check_told(shared: str, what: str) -> None:
    """Raise UnreachableError for an order that the shared tier could not be told of."""
    from gridctl.errors import UnreachableError

    if shared == "owed":
        raise UnreachableError(
            what,
            where="the shared cache",
            fix="it is told by itself as soon as it can be reached, also after a restart; see: gridctl cache status",
        )


def _shared_line(shared: CacheShared) -> str:
    """The shared tier in one line."""
    counts = shared.counts
    looks = sum(counts.get(word, 0) for word in ("hits", "misses", "void", "foreign", "late"))
    words = [f"shared at {shared.place}: {shared.state}, {counts.get('hits', 0):,} of {looks:,} looks answered"]
    words.append(f"{counts.get('stored', 0):,} answers given")
    for word, told in (
        ("late", "too late"), ("void", "void"), ("foreign", "NOT SEALED BY A GATEWAY"), ("tampered", "TAMPERED LISTS"),
        ("dropped", "dropped"), ("refused", "refused by the server"), ("too_large", "too large"),
    ):  # fmt: skip
        if counts.get(word):
            words.append(f"{counts[word]:,} {told}")
    if shared.owed:
        words.append(f"{shared.owed:,} orders owed to it")
    return ", ".join(words) + (f"; {shared.problem}" if shared.problem else "")


@app.command()
def feedback(
    request: RequestArgument,
    wrong: Annotated[
        bool, typer.Option("--wrong/--right", help="Praise counts for nothing: it could be bought.")
    ] = True,
    user: Annotated[str, typer.Option(metavar="NAME", help="Who says so; each counts a few times only.")] = "",
    output: OutputOption = "table",
) -> None:
    """Say that an answer from the cache was wrong: it is forgotten with its group, and counts against the bound.

    Example:
      gridctl cache feedback req-2726c9076bec51da9ca377c00349139c --wrong --user shop/42
    """
    import msgspec

    from gridctl.orchestrator.caching import cache_feedback
    from gridctl.orchestrator.context import current_grid

    taken = cache_feedback(current_grid(), request, wrong=wrong, user=user)
    columns = (
        Column("request_id", "request"),
        Column("is_counted", "counted"),
        Column("entries", "answers forgotten", align="right"),
        Column("shared", "gateways", wide=True),
    )
    row = msgspec.structs.asdict(taken)
    emit([row], columns, output, kind="CacheFeedback", name_key="request_id", single=True)
    _check_told(taken.shared, "forgotten here; gateways that share answers were not told")


@app.command()
def explain(request: RequestArgument, output: OutputOption = "table") -> None:
    """Where an answer came from: which request brought it, which engine gave it, and who else was served it.

    Example:
      gridctl cache explain req-2726c9076bec51da9ca377c00349139c
    """
    import msgspec

    from gridctl.orchestrator.caching import cache_trace
    from gridctl.orchestrator.context import current_grid

    trace = cache_trace(current_grid(), request)
    if output in ("json", "yaml"):
        document = msgspec.to_builtins(trace)
        emit([{}], ENTRIES, output, kind="CacheExplanation", single=True, documents=[document])
        return
    rows = [
        {
            **msgspec.structs.asdict(one),
            "born": utc_text(one.born_unix_ns) if one.born_unix_ns else None,
            "served": len(one.served),
        }
        for one in trace.entries
    ]
    emit(rows, ENTRIES, output, kind="CacheExplanation", name_key="entry")
    if not rows:
        note("the cache had nothing to do with this request, or it was too long ago")
