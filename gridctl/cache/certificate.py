"""Wrong answers served, at most, from nothing but the coins that chose the audits: no assumption on prompts or model.

Mathematics and one sum. A candidate that is wrong is audited with its probability a, else served. For
0 < η < −ln(1 − a) the product over wrong candidates of e^η (served) and (1 − (1 − a) e^η) / a (audited) has mean 1
whatever the candidates are and whoever chose them. So with probability 1 − α, at all times at once,

    L ≤ (ln(1/α) + Σ over audits found wrong of g(a)) / η,   g(a) = −ln((1 − (1 − a) e^η) / a).

The price of assuming nothing is that rare audits certify slowly: nothing found wrong, L ≤ about 1.4 ln(1/α) / a.
The same coins give a lower bound: with ζ > 0, e^−ζ for a wrong one served and (1 − (1 − a) e^−ζ) / a for one audited,

    L ≥ (Σ over audits found wrong of h(a) − ln(1/α)) / ζ,   h(a) = ln((1 − (1 − a) e^−ζ) / a).
"""

from __future__ import annotations

import math

from gridctl.cache.bound import between_zero_and_one
from gridctl.errors import InputError

_SHARE = 0.7
"""η as a share of its largest value; nearer to 1 certifies sooner and forgives a found error less."""
_ZETA = 0.5
"""Of the lower bound: smaller needs more audits and then sees more."""


class Certificate:
    """The running bound; every audit has at least the probability `least_audit`."""

    def __init__(self, least_audit: float, alpha: float = 0.05) -> None:
        self._least = between_zero_and_one(least_audit, "least_audit")
        self._eta = -_SHARE * math.log1p(-least_audit)
        self._alpha_cost = self._sum = -math.log(between_zero_and_one(alpha, "alpha"))
        self._found = 0.0

    @property
    def most(self) -> float:
        """Wrong answers served so far, at most."""
        return self._sum / self._eta

    @property
    def least(self) -> float:
        """Wrong answers served without an audit so far, at least."""
        return max(0.0, (self._found - self._alpha_cost) / _ZETA)

    @property
    def sums(self) -> tuple[float, float]:
        """What must be kept to go on later: `resume` takes it."""
        return self._sum, self._found

    def resume(self, sums: tuple[float, float]) -> None:
        """Go on from an earlier certificate's sums."""
        self._sum, self._found = sums

    def audited(self, probability: float, is_wrong: bool) -> None:
        """Count an audit's outcome; one that is overdue is counted as wrong."""
        if probability < self._least:
            raise InputError(f"an answer was audited with probability {probability}, less than {self._least}")
        if is_wrong and probability < 1.0:
            self._sum -= math.log((1.0 - (1.0 - probability) * math.exp(self._eta)) / probability)
            self._found += math.log((1.0 - (1.0 - probability) * math.exp(-_ZETA)) / probability)
