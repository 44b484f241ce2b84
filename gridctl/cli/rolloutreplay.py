"""`gridctl replay run --rollout FILE`: what a rollout would do to the promises, wave by wave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridctl.cli.output import emit, note
from gridctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gridctl.accounts.rows import Run
    from gridctl.orchestrator.context import GridHome
    from gridctl.orchestrator.replaying import Order
    from gridctl.orchestrator.rolloutreplay import Prepared
    from gridctl.traces.trace import Traffic


def prepared(path: str, home: GridHome, trace: Traffic, order: Order, others: Sequence[tuple[str, bool]]) -> Prepared:
    """The rollout of a file on the grid and the trace. Raises UsageError for flags that cannot stand beside it."""
    from gridctl.orchestrator.rolloutfile import read_rollout
    from gridctl.orchestrator.rolloutreplay import Prepared

    for flag, given in others:
        if given:
            raise UsageError(
                f"{flag} and --rollout are both what goes on meanwhile", where=flag, fix="give one of them"
            )
    made = Prepared(read_rollout(path), home, trace, order)
    itinerary = made.itinerary
    factors = sorted(set(itinerary.step_time.values()))
    speed = f"steps × {factors[0]:g}" if len(factors) == 1 else f"steps × {factors[0]:g} to {factors[-1]:g}"
    note(
        f"{len(itinerary.moves):,} sites in {itinerary.moves[-1].wave} waves, {itinerary.fetch_bytes:,} bytes each, "
        f"+{itinerary.added_ms:.1f} ms on their links meanwhile; then {speed}"
    )
    return made


def emit_phases(made: Prepared, run: Run, calm: Run, output: str) -> None:
    """The run's phases on stdout."""
    import msgspec

    from gridctl.orchestrator.rolloutreplay import phases_of
    from gridctl.render.rolloutphases import PHASE_COLUMNS

    phases = phases_of(run, calm, made)
    emit([msgspec.to_builtins(one) for one in phases], PHASE_COLUMNS, output, kind="RolloutPhaseList", name_key="phase")
    for one in phases:
        if one.ttft_word == "fail":
            note(f"wave {one.wave} would go back: TTFT at its sites is {one.ttft_times:.2f} times what it was (p95)")
            break
    lost, requests = sum(one.good_lost for one in phases), sum(one.requests for one in phases)
    note(f"the rollout cost {lost:,} of {requests:,} requests their promise; next: gridctl tokenomics {run.info.name}")
