"""Where live traffic is recorded to: one recording for each life of an orchestrator, made before its workers are."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from gridctl.broker.blocks import WINDOW_BYTES
from gridctl.errors import InputError
from gridctl.traces.recorded import SUFFIX
from gridctl.traces.recorder import start_recording

USUAL_BYTES_PER_TOKEN = 4
"""Of English text; what a window of a prompt stands for in the recorded trace."""


def recording_of(wanted: Path) -> Path:
    """The folder to record to: `wanted` itself if it is named as a recording, else a new one in it by the time."""
    if wanted.suffix == SUFFIX:
        return wanted.absolute()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return wanted.absolute() / f"live-{stamp}{SUFFIX}"


def begin_recording(wanted: Path) -> Path:
    """Make the recording. Raises InputError when it is there already, or cannot be made."""
    folder = recording_of(wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"no recording can be made here: {error.strerror}", where=f"--record {wanted}", fix="choose another folder"
        ) from None
    start_recording(folder, started_unix_ns=time.time_ns(), block_tokens=max(1, WINDOW_BYTES // USUAL_BYTES_PER_TOKEN))
    return folder
