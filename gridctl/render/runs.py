"""A run as a row: what `replay run`, `run list` and `run get` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gridctl.render.rows import Column
from gridctl.render.time import is_stamped, stamped_ns

if TYPE_CHECKING:
    from gridctl.accounts.facts import RunInfo
    from gridctl.accounts.intervals import Ensemble


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
DRAWN_COLUMNS = (
    *RUN_COLUMNS,
    Column("replays", "REPLAYS", wide=True, align="right", text=_thousands),
)


INPUT_COLUMNS = (
    Column("name", "NAME"),
    Column("policy", "POLICY"),
    Column("prices", "PRICES"),
    Column("seed", "SEED", align="right"),
    Column("trace", "TRACE"),
    Column("path", "PATH"),
    Column("shaped", "SHAPED", text=lambda value: ", ".join(f"{key} {one}" for key, one in value.items()) or "-"),
    Column("requests", "REQUESTS", align="right", text=_thousands),
    Column("trace_digest", "TRACE DIGEST"),
    Column("resources", "RESOURCES", align="right", text=_thousands),
    Column("gridctl_version", "GRIDCTL"),
    Column("live", "SENT TO", text=lambda value: value["url"] if value else "-"),
)


def run_item(info: RunInfo) -> dict[str, object]:
    """The run's description with its counts and digest; names as the JSON contract has them.

    Where SOURCE_DATE_EPOCH fixes the moment, the time the replay took is 0: it is no result of the inputs."""
    wall_s = 0.0 if is_stamped() else info.wall_s
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
        "wall_s": wall_s,
        "requests_per_s": info.requests / wall_s if wall_s > 0 else None,
        "digest": info.digest,
        "centralized": info.centralized or None,
        "live": info.live or None,
        "created_ns": stamped_ns(info.created_ns),
        "gridctl_version": info.gridctl_version,
        "notes": list(info.notes),
        **({"cache": list(msgspec.to_builtins(info.cache))} if info.cache else {}),
    }


def drawn_item(info: RunInfo, ensemble: Ensemble | None) -> dict[str, object]:
    """The same, and which replays beside it say how sure it is."""
    draws = () if ensemble is None else ensemble.draws
    return {
        **run_item(info),
        "replays": len(draws) + 1,
        "replays_asked": 1 if ensemble is None else ensemble.asked,
        "drawn": [] if ensemble is None else list(ensemble.drawn),
        "draws": [{"draw": draw.draw, "seed": draw.seed, "digest": draw.digest} for draw in draws],
    }


def cache_lines(info: RunInfo) -> list[str]:
    """What caches did, a line for each workload."""
    lines = []
    for one in info.cache:
        hits = one.exact_hits + one.shared_hits + one.semantic_hits + one.stale_hits + one.audits
        text = f"cache {one.workload}: {hits / one.requests:.1%} hits ({one.exact_hits:,} exact, {one.shared_hits:,} "
        text += f"shared, {one.semantic_hits:,} by meaning"
        text += f", {one.stale_hits:,} stale" if one.stale_hits else ""
        text += f", {one.audits:,} audited" if one.audits else ""
        text += f"), told by {one.told_by}"
        if one.wrong_per_request is not None and one.mode == "semantic":
            low, high = one.wrong_per_request_low or 0.0, one.wrong_per_request_high or 0.0
            text += f"; wrong {one.wrong_per_request:.2%} of requests"
            text += f" ({low:.2%} to {high:.2%}; {100 * one.error_rate:g} % allowed)"
        text += f"; saved ${one.saved_usd:,.4f}"
        if one.saved_ms_per_hit is not None:
            text += f" and {one.saved_ms_per_hit:,.0f} ms a hit"
        lines.append(text)
    return lines
