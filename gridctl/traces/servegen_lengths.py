"""ServeGen lengths: how many tokens a request takes in and gives out, drawn from its client's quantiles.

Between two quantiles a length is linear in its probability; below the lowest and above the highest it is that quantile.
Input and output are drawn apart: the tables hold no joint distribution, and ServeGen found the two weakly correlated
within a client; what correlation a trace has comes from clients differing.
Clients without lengths: each of their requests borrows those of a client drawn among the measured ones of the same
6 hours, in proportion to what these send; a measured client's period without lengths takes the nearest that has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.randomness import choices, uniforms
from gridctl.traces.servegen_pool import FIELDS, WINDOWS_PER_PERIOD, ServegenPool

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LengthTables:
    """`quantile` of shape `(2, clients, periods, k)` at `probability`; where `is_measured`, of shape `(clients,)`, is
    false, a donor is drawn by `weight`, of shape `(periods, clients)`. `mean` has shape `(2, clients, periods)`."""

    probability: Floats
    quantile: Floats
    is_measured: Bools
    weight: Floats
    mean: Floats

    def draw(self, client: Ints, period: int, key: Ints, seed: int) -> tuple[Ints, Ints]:
        """Input and output tokens, at least 1, of requests with these keys."""
        source = client
        borrowing = np.flatnonzero(~self.is_measured[client])
        if len(borrowing):
            source = client.copy()
            source[borrowing] = choices(self.weight[period], uniforms(seed, "servegen/donor", key[borrowing]))
        drawn = [
            self._interpolated(self.quantile[field, :, period], source, uniforms(seed, f"servegen/{name}", key))
            for field, name in enumerate(FIELDS)
        ]
        return drawn[0], drawn[1]

    def _interpolated(self, quantile: Floats, source: Ints, uniform: Floats) -> Ints:
        last = len(self.probability) - 2
        step = np.clip(np.searchsorted(self.probability, uniform, side="right") - 1, 0, last)
        low, high = self.probability[step], self.probability[step + 1]
        into = np.clip((uniform - low) / (high - low), 0.0, 1.0)
        below = quantile[source, step]
        values = below + into * (quantile[source, step + 1] - below)
        tokens: Ints = np.maximum(np.rint(values), 1.0).astype(np.int64)
        return tokens


def length_tables(pool: ServegenPool) -> LengthTables:
    """The pool's quantiles with their gaps filled, and whose lengths the clients without any borrow."""
    periods = pool.is_measured.shape[1]
    quantile = pool.quantile.copy()
    measured: Bools = np.any(pool.is_measured, axis=1)
    for client in np.flatnonzero(measured):
        known = np.flatnonzero(pool.is_measured[client])
        # of two equally near periods the earlier
        nearest = known[np.argmin(np.abs(np.arange(periods)[:, None] - known[None, :]), axis=1)]
        quantile[:, client] = pool.quantile[:, client, nearest]
    weight = _sent(pool, periods).T * measured
    silent = ~weight.any(axis=1)
    weight[silent] = np.cumsum(weight, axis=0)[-1]  # nobody measured asks in these hours: as on the whole
    mean = _means(quantile, pool.probability)
    share = weight / np.cumsum(weight, axis=1)[:, -1:]
    borrowed = np.einsum("pc,fcp->fp", share, mean)
    mean[:, ~measured] = borrowed[:, None, :]
    return LengthTables(pool.probability, quantile, measured, weight, mean)


def _sent(pool: ServegenPool, periods: int) -> Floats:
    """What each client sends in each period, in rates summed (one by one: the same bits everywhere)."""
    missing = periods * WINDOWS_PER_PERIOD - pool.windows
    rates = np.pad(pool.rate_rps, ((0, 0), (0, missing)))
    sent: Floats = np.cumsum(rates.reshape(len(pool.clients), periods, WINDOWS_PER_PERIOD), axis=2)[:, :, -1]
    return sent


def _means(quantile: Floats, probability: Floats) -> Floats:
    """Mean of the distribution `draw` draws from: trapezia between the quantiles, level beyond them."""
    widths = np.diff(probability)
    inner = ((quantile[..., :-1] + quantile[..., 1:]) / 2.0 * widths).sum(axis=-1)
    means: Floats = inner + quantile[..., 0] * probability[0] + quantile[..., -1] * (1.0 - probability[-1])
    return means
