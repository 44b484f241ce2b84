"""A run as a row: what `replay run`, `run list` and `run get` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.render.rows import Column

if TYPE_CHECKING:
    from gridctl.accounts.rows import RunInfo


def _thousands(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, (int, float)) else ""


def _seconds(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else ""


RUN_COLUMNS = (
    Column("name", "NAME"),
    Column("trace", "TRACE"),
    Column("policy", "POLICY"),
    Column("seed", "SEED", align="right"),
    Column("requests", "REQUESTS", align="right", text=_thousands),
    Column("completed", "COMPLETED", align="right", text=_thousands),
    Column("rejected", "REJECTED", align="right", text=_thousands),
    Column("failed", "FAILED", align="right", text=_thousands),
    Column("wall_s", "WALL S", align="right", text=_seconds),
    Column("requests_per_s", "REQ/S", align="right", text=_thousands),
    Column("input_tokens", "INPUT TOKENS", wide=True, align="right", text=_thousands),
    Column("digest", "DIGEST", wide=True),
)


def run_item(info: RunInfo) -> dict[str, object]:
    """The run's description with its counts and digest; names as the JSON contract has them."""
    return {
        "name": info.name,
        "trace": info.trace,
        "policy": info.policy,
        "algorithm": info.algorithm,
        "seed": info.seed,
        "requests": info.requests,
        "completed": info.completed,
        "rejected": info.rejected,
        "failed": info.failed,
        "input_tokens": info.input_tokens,
        "output_tokens": info.output_tokens,
        "window_s": info.window_ns / 1e9,
        "wall_s": info.wall_s,
        "requests_per_s": info.requests / info.wall_s if info.wall_s > 0 else None,
        "digest": info.digest,
        "centralized": info.centralized or None,
        "created_ns": info.created_ns,
        "gridctl_version": info.gridctl_version,
        "notes": list(info.notes),
    }
