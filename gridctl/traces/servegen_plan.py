"""ServeGen plan: what writing a span would cost, told before it is written.

Requests and tokens follow from the tables; bytes and seconds are estimated from a few windows, drawn and encoded as
they will be, on this machine. Must not write a file.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass

from gridctl.traces.servegen_stream import Forecast, ServegenStream
from gridctl.traces.writer import GZIP_LEVEL, encoded_rows

_SAMPLED_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class ServegenPlan:
    """What a span holds and what its file takes: `file_bytes` on disk, `write_s` seconds."""

    forecast: Forecast
    file_bytes: int
    write_s: float


def plan(stream: ServegenStream, *, compress: bool) -> ServegenPlan:
    """Estimate a span's file, gzip or plain. Draws three windows and encodes the beginning of each."""
    forecast = stream.forecast()
    drawn = encoded = size = 0
    draw_s = encode_s = 0.0
    for pieces in stream.sample(_SAMPLED_WINDOWS):
        started = time.perf_counter()
        first = next(pieces, None)
        if first is None:
            continue
        drawn += len(first) + sum(len(piece) for piece in pieces)
        draw_s += time.perf_counter() - started
        started = time.perf_counter()
        text = b"".join(encoded_rows(first))
        size += len(zlib.compress(text, GZIP_LEVEL)) if compress else len(text)
        encoded += len(first)
        encode_s += time.perf_counter() - started
    if not encoded:
        return ServegenPlan(forecast, 0, 0.0)
    return ServegenPlan(
        forecast,
        file_bytes=round(forecast.requests * size / encoded),
        write_s=forecast.requests * (draw_s / drawn + encode_s / encoded),
    )
