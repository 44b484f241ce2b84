"""ServeGen arrivals: when each client's requests of one 10-minute window come.

A client and window is a renewal process whose gaps are Gamma or Weibull, as its row says, with the row's coefficient of
variation; ServeGen found these two to describe production inter-arrival times where a Poisson process does not. The
process is laid on the window as on a ring: n gaps, scaled to fill it, from a random starting point. So the window has
the row's number of requests, to within one, however bursty they are, and no burst is drawn to the window's edges.
With Gamma gaps this is the renewal process given that count (a Gamma sequence is independent of its sum).
A fraction scales the rate and keeps the coefficient of variation: fewer requests, as bursty as before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.randomness import exp, gammas, log, uniforms
from gridctl.traces.servegen_pool import MOST_CLIENTS, MOST_PER_WINDOW, WINDOW_S, ServegenPool
from gridctl.units import NS_PER_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WINDOW_NS = WINDOW_S * NS_PER_S
_ROWS_AT_ONCE = 32_768
_BISECTIONS = 60
_HALF_LOG_TAU = 0.9189385332046727
_SMALLEST_CV = 0.002  # below it gaps are even to the eye, and the bisection would lose its digits
_SMALLEST_SPREAD, _LARGEST_SPREAD = 1e-3, 64.0  # of 1/k: cv 0.0013 to over 1e19


def request_keys(window: int, clients: Ints) -> Ints:
    """The key of the first request of each client in a window; request i has the key plus i."""
    keys: Ints = (np.int64(window) * MOST_CLIENTS + clients) * MOST_PER_WINDOW
    return keys


def window_counts(pool: ServegenPool, window: int, fraction: float, seed: int) -> Ints:
    """How many requests each client sends in a window: its share of the data's count, rounded at random."""
    expected = pool.rate_rps[:, window] * WINDOW_S * fraction
    keys = request_keys(window, np.arange(len(pool.clients)))
    counts: Ints = np.floor(expected + uniforms(seed, "servegen/count", keys)).astype(np.int64)
    return counts


def window_arrivals(
    pool: ServegenPool, spreads: Floats, window: int, counts: Ints, seed: int
) -> tuple[Ints, Ints, Ints]:
    """Nanoseconds into the window, client and key of each request, in order of arrival; `spreads` are the window's
    column of `gap_spreads`. O(n log n)."""
    clients = np.flatnonzero(counts)
    some = counts[clients]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(some)])
    client = np.repeat(clients, some)
    first_keys = request_keys(window, clients)
    key = np.repeat(first_keys - starts[:-1], some) + np.arange(starts[-1])
    gaps = _gaps(spreads[client], pool.is_weibull[client, window], pool.cv[client, window] == 0.0, key, seed)
    phases = uniforms(seed, "servegen/phase", first_keys)
    time = np.empty(len(gaps), np.int64)
    for row in range(len(clients)):
        part = slice(starts[row], starts[row + 1])
        time[part] = _on_the_ring(gaps[part], float(phases[row]))
    # numpy's stable sort merges the clients' runs, which are in order already
    order = np.argsort(time, kind="stable")
    return time[order], client[order], key[order]


def _on_the_ring(gaps: Floats, phase: float) -> Ints:
    """Times of a window whose successive gaps are in proportion to `gaps`, starting at `phase` of it."""
    places = np.cumsum(gaps)
    places /= places[-1]
    places += phase
    over = int(np.searchsorted(places, 1.0, side="left"))
    turned = np.concatenate([places[over:] - 1.0, places[:over]])
    times: Ints = np.minimum(np.floor(turned * WINDOW_NS), WINDOW_NS - 1).astype(np.int64)
    return times


def gap_spreads(cv: Floats, is_weibull: NDArray[np.bool_]) -> Floats:
    """One over the shape parameters that give these coefficients of variation: cv² for Gamma, by bisection for
    Weibull."""
    safe = np.maximum(cv, _SMALLEST_CV)
    spreads = safe * safe
    spreads[is_weibull] = weibull_spread(safe[is_weibull])
    return spreads


def weibull_spread(cv: Floats) -> Floats:
    """1/k of the Weibull distribution with this coefficient of variation: cv² + 1 = Γ(1 + 2/k) / Γ(1 + 1/k)²."""
    wanted = log(cv * cv + 1.0)
    low, high = np.full(len(cv), _SMALLEST_SPREAD), np.full(len(cv), _LARGEST_SPREAD)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        below = log_gamma(1.0 + 2.0 * middle) - 2.0 * log_gamma(1.0 + middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    spread: Floats = (low + high) / 2.0
    return spread


def log_gamma(z: Floats) -> Floats:
    """ln Γ(z) for z ≥ 1, the same bits everywhere: Stirling's series at z + 8, stepped back by Γ(z + 1) = z·Γ(z)."""
    product = np.ones_like(z)
    for step in range(8):
        product = product * (z + step)
    x = z + 8.0
    square = x * x
    series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x
    value: Floats = (x - 0.5) * log(x) - x + _HALF_LOG_TAU + series - log(product)
    return value


def _gaps(spread: Floats, is_weibull: NDArray[np.bool_], is_even: NDArray[np.bool_], key: Ints, seed: int) -> Floats:
    """A gap per request, of any scale: gamma of shape 1/spread, or an exponential to the power of `spread`: Weibull."""
    gaps = np.ones(len(key))
    for first in range(0, len(key), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        uneven = ~is_even[rows]
        gamma = first + np.flatnonzero(uneven & ~is_weibull[rows])
        weibull = first + np.flatnonzero(uneven & is_weibull[rows])
        gaps[gamma] = gammas(seed, "servegen/gap", key[gamma], 1.0 / spread[gamma])
        exponential = -log(uniforms(seed, "servegen/gap", key[weibull]))
        gaps[weibull] = exp(spread[weibull] * log(exponential))
    return gaps
