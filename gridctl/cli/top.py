"""`gridctl top`: the load of the last seconds, on a screen that stays or once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from gridctl.cli.output import OutputOption, emit, painted, width_of_terminal, write

if TYPE_CHECKING:
    from gridctl.health.reports import TopFrame
    from gridctl.orchestrator.live_client import LiveClient
    from gridctl.render.health import Sort

By = Literal["workload", "site", "cluster"]
SORTS: dict[str, str] = {"r": "requests", "n": "name", "t": "ttft", "g": "good", "f": "failed", "d": "usd"}
BYS: dict[str, By] = {"w": "workload", "s": "site", "c": "cluster"}
KEYS = "sort: r requests t TTFT g good f failed d dollars n name   by: w s c   q quit"
FEWEST_LINES = 8


def command(
    by: Annotated[By, typer.Option("--by", help="What a row is.")] = "workload",
    sort: Annotated[
        Literal["requests", "name", "ttft", "good", "failed", "usd"],
        typer.Option("--sort", help="Which rows come first: most requests, latest TTFT, fewest good, …"),
    ] = "requests",
    window: Annotated[
        int, typer.Option("--window", metavar="SECONDS", min=1, max=30, help="How far to look back.")
    ] = 10,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Between two looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print it once; so does everything that is no terminal.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Requests, latency, promises and dollars of the last seconds, by workload, site or cluster.

    On a terminal it stays, 80 columns and 24 lines are enough, and keys change the order: the last line names them.
    TTFT is counted by workload; sites and clusters show requests, promises and what their GPUs cost.

    Example:
      gridctl top
      gridctl top --by site --sort good
      gridctl top --once -o json
    """
    from gridctl.cli.watching import check_interval, is_watchable
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live_client import client_of

    check_interval(interval)
    with client_of(current_grid()) as client:
        if once or output != "table" or not is_watchable():
            _print(client.top(by, window), sort, output)
        else:
            _stay(client, by, sort, window, interval)


def _print(frame: TopFrame, sort: Sort, output: str) -> None:
    import msgspec

    from gridctl.render.health import TOP, sorted_rows, top_text

    if output in ("table", "wide", "markdown"):
        write(top_text(frame, output, sort, painted, width_of_terminal()))
        return
    rows = sorted_rows(frame, sort)
    if output in ("json", "yaml"):
        document = msgspec.to_builtins(msgspec.structs.replace(frame, rows=tuple(rows)))
        emit([{}], (), output, kind="Top", single=True, documents=[document])
    else:
        emit([msgspec.structs.asdict(row) for row in rows], TOP, output, kind="Top", documents=rows)


def _stay(client: LiveClient, by: By, sort: Sort, window_s: int, interval_s: float) -> None:
    from gridctl.cli.watching import watch
    from gridctl.render.health import top_text

    shown: dict[str, str] = {"by": by, "sort": sort}

    def draw(width: int, lines: int) -> str:
        frame = client.top(cast(By, shown["by"]), window_s)
        text = top_text(frame, "table", cast("Sort", shown["sort"]), painted, width, max(FEWEST_LINES, lines) - 2)
        padding = "\n" * max(1, lines - 1 - text.count("\n"))
        return text + padding + KEYS[:width]

    def on_key(key: str) -> bool:
        if key in SORTS:
            shown["sort"] = SORTS[key]
        elif key in BYS:
            shown["by"] = BYS[key]
        return True

    watch(draw, on_key, interval_s)
