"""`gridctl status`: whether the grid is served, where, by which workers, and which plan they follow."""

from __future__ import annotations

from gridctl.cli.output import OutputOption, emit, note
from gridctl.render.rows import Column
from gridctl.render.time import utc_text

COLUMNS = (
    Column("grid", "grid"),
    Column("state", "state"),
    Column("data_url", "requests at"),
    Column("admin", "admin API"),
    Column("admin_url", "admin API, too"),
    Column("policy", "policy"),
    Column("price_book", "prices"),
    Column("backends", "engines"),
    Column("sites", "sites"),
    Column("callers", "callers"),
    Column("generation", "plan"),
    Column("registry_version", "of version"),
    Column("workers", "workers"),
    Column("in_flight", "in flight"),
    Column("connections", "connections"),
    Column("cache", "cache"),
    Column("recordings", "recording"),
    Column("since", "since"),
    Column("pid", "process"),
    Column("version", "gridctl"),
    Column("problem", "problem"),
)


def command(output: OutputOption = "table") -> None:
    """Show the orchestrator of this grid: addresses, plan, workers. Exit code 5 when none runs.

    Example:
      gridctl status
      gridctl --context prod status -o json
    """
    import msgspec

    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live_client import client_of

    with client_of(current_grid()) as client:
        status = client.status()
    ready = sum(1 for worker in status.workers if worker.state == "ready")
    row: dict[str, object] = {
        **msgspec.structs.asdict(status),
        "since": utc_text(status.started_unix_ns),
        "workers": f"{ready} of {len(status.workers)} ready",
        "in_flight": sum(worker.in_flight for worker in status.workers),
        "connections": sum(worker.connections for worker in status.workers),
        "callers": "anybody" if status.anonymous else f"holders of {status.keys} keys",
    }
    document = msgspec.to_builtins(status)
    emit([row], COLUMNS, output, kind="Status", name_key="data_url", single=True, documents=[document])
    if status.problem:
        note(f"problem: {status.problem}")
