"""Recording the running orchestrator's traffic for a while: what `gridctl trace record` does.

The recording goes on at the orchestrator whatever becomes of this process; Ctrl-C ends it in order.
"""

from __future__ import annotations

import time
from pathlib import Path

from gridctl.cli.output import note, progress
from gridctl.traces.recorded import SUFFIX

TICK_S = 0.2


def record_for(target: str, duration_s: float | None, *, detach: bool) -> None:
    """Record to `target` for so long, or until Ctrl-C."""
    from gridctl.errors import UsageError
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live_client import client_of

    if Path(target).suffix != SUFFIX:
        raise UsageError(f"a recording's name ends in {SUFFIX}", where="OUT", fix=f"{target}{SUFFIX}")
    home = current_grid()
    # Here and on the orchestrator's machine a relative name means different places; elsewhere it lies with its own.
    place = target if home.remote is not None else str(Path(target).absolute())
    with client_of(home) as client:
        made = client.record(place)
        note(f"recording to {made.folder}")
        if detach:
            note("end it with: gridctl trace record --stop")
            return
        ends = None if duration_s is None else time.monotonic() + duration_s
        try:
            with progress("recording", None if duration_s is None else round(duration_s)) as advance:
                _wait(ends, advance)
        except KeyboardInterrupt:
            pass  # the usual end of one without --for
        finally:
            client.record(None)
    _tell(made.folder or place, is_here=home.remote is None)


def end_recording() -> None:
    """End the recording that runs."""
    from gridctl.errors import NotFoundError
    from gridctl.orchestrator.context import current_grid
    from gridctl.orchestrator.live_client import client_of

    home = current_grid()
    with client_of(home) as client:
        ended = client.record(None).ended
    if ended is None:
        raise NotFoundError("nothing is recorded", fix="begin: gridctl trace record day.recording --detach")
    _tell(ended, is_here=home.remote is None)


def _wait(ends: float | None, advance: object) -> None:
    begun, told = time.monotonic(), 0
    while ends is None or time.monotonic() < ends:
        time.sleep(TICK_S)
        elapsed = int(time.monotonic() - begun)
        if callable(advance) and elapsed > told:
            advance(elapsed - told)
            told = elapsed


def _tell(folder: str, *, is_here: bool) -> None:
    if is_here:
        rows = sum(path.read_bytes().count(b"\n") for path in Path(folder).glob("worker-*.jsonl"))
        note(f"{rows:,} requests in {folder}; next: gridctl replay run {folder}")
    else:
        note(f"recorded to {folder} on the orchestrator's machine")
