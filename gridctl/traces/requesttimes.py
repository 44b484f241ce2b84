"""Request times: a renewal process of the wanted burstiness, stretched by day and night.

Gaps of mean 1 (gamma with shape 1/cv², so that standard deviation over mean is cv) are summed in operational time and
mapped back through the inverse of the cumulative rate, which is constant within a minute. With a flat rate this is
the renewal process itself; with cv 1 it is the non-homogeneous Poisson process of that rate.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import UsageError
from gridctl.traces.population import total_activity
from gridctl.traces.randomness import exponentials, gammas
from gridctl.units import NS_PER_S

Floats = NDArray[np.float64]
_STEP_S = 60.0
_S_PER_HOUR = 3600.0


class RateSpec(Protocol):
    """The part of a GenerateSpec that decides when requests come."""

    @property
    def duration_s(self) -> float: ...
    @property
    def rate_rps(self) -> float: ...
    @property
    def arrival_cv(self) -> float: ...
    @property
    def diurnal(self) -> float: ...
    @property
    def peak_hour(self) -> float: ...
    @property
    def start_hour(self) -> float: ...


def request_times(spec: RateSpec, weights: Floats, longitudes: Floats, seed: int) -> NDArray[np.int64]:
    """Nanoseconds from the start of the span, sorted; raises when the span is too short for any request."""
    edges, cumulative = _cumulative_rate(spec, weights, longitudes)
    operational = _renewals(float(cumulative[-1]), spec.arrival_cv, seed)
    if not len(operational):
        raise UsageError(
            f"no request in {spec.duration_s:g} s at {spec.rate_rps:g} requests/s",
            where="--duration",
            fix="raise --duration or --rate",
        )
    step = np.minimum(np.searchsorted(cumulative, operational, side="right") - 1, len(edges) - 2)
    into = (operational - cumulative[step]) / (cumulative[step + 1] - cumulative[step])
    seconds = edges[step] + into * (edges[step + 1] - edges[step])
    times = np.floor(seconds * NS_PER_S).astype(np.int64)
    # rounding may swap two arrivals within a nanosecond at a minute's edge
    ordered: NDArray[np.int64] = np.maximum.accumulate(times)
    return ordered


def _cumulative_rate(spec: RateSpec, weights: Floats, longitudes: Floats) -> tuple[Floats, Floats]:
    """Minute edges in seconds and the expected requests before each of them."""
    steps = int(np.ceil(spec.duration_s / _STEP_S)) if spec.diurnal else 1
    width = _STEP_S if spec.diurnal else spec.duration_s
    edges = np.minimum(np.arange(steps + 1) * width, spec.duration_s)
    middle_hours = spec.start_hour + (edges[:-1] + edges[1:]) / 2.0 / _S_PER_HOUR
    level = total_activity(middle_hours, weights, longitudes, spec.diurnal, spec.peak_hour)
    # a swing of 1 touches a rate of 0, which has no inverse
    rate = spec.rate_rps * np.maximum(level, 1e-9)
    return edges, np.concatenate([np.zeros(1), np.cumsum(rate * np.diff(edges))])


def _renewals(span: float, cv: float, seed: int) -> Floats:
    """Renewal epochs below `span`, gaps of mean 1 and coefficient of variation `cv`."""
    parts: list[Floats] = []
    done, index = 0.0, 0
    while done < span:
        left = span - done
        count = int(left + 6.0 * max(cv, 1.0) * np.sqrt(left) + 16.0)
        gaps = _gaps(np.arange(index, index + count), cv, seed)
        epochs = np.cumsum(np.concatenate([np.array([done]), gaps]))[1:]
        parts.append(epochs)
        done, index = float(epochs[-1]), index + count
    every = np.concatenate(parts)
    return every[: int(np.searchsorted(every, span, side="left"))]


def _gaps(index: NDArray[np.int64], cv: float, seed: int) -> Floats:
    if cv == 0.0:
        return np.ones(len(index))
    if cv == 1.0:
        return exponentials(seed, "gap", index)
    return gammas(seed, "gap", index, 1.0 / (cv * cv))
