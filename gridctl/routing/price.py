"""The cost of one candidate in dollars: cash, the GPU time taken from others, and the expected price of a miss.

Owned GPUs are paid for whether they work or not, so their time costs nothing by default: what a busy engine costs is
in the predicted latency. Where GPUs are billed by use or can be released, `gpu_weight` counts their time at its price
times the engine's load, because on an idle engine nobody goes without.

Predicted latency is taken to be right up to a log-logistic error of shape k, so the probability that an objective
with limit L is missed when p is predicted is r^k / (1 + r^k) with r = p / L; objectives are taken to be independent.
Powers are products, so that the same bits come out on every machine.
"""

from __future__ import annotations

import numpy as np

from gridctl.kernels import compiled, inner
from gridctl.routing.rows import NO_OBJECTIVE, REJECT

CERTAIN_RATIO = 100.0
"""A prediction a hundred times over its limit is a miss; larger ratios would overflow for nothing."""


@compiled
def miss_probability(ratio: float, shape: int) -> float:
    """P(miss) when the prediction is `ratio` times the limit."""
    base = min(ratio, CERTAIN_RATIO)
    power = 1.0
    while shape > 0:
        if shape & 1:
            power *= base
        base *= base
        shape >>= 1
    return power / (1.0 + power) if power < 1e300 else 1.0


@inner
def expected_miss(
    rtt_us: float, ttft_us: float, tpot_us: float, request: np.record, policy: np.record
) -> tuple[float, float]:
    """(worst ratio, P(miss)) of a request at this round trip, when the engine takes `ttft_us` and `tpot_us`."""
    client_ttft_us = rtt_us + request.overhead_us + ttft_us
    met = 1.0
    worst = 0.0
    for objective in range(4):
        if objective == 0:
            value, limit = rtt_us, request.network_us
        elif objective == 1:
            value, limit = client_ttft_us, request.ttft_us
        elif objective == 2:
            value, limit = tpot_us, request.tpot_us
        else:
            value, limit = client_ttft_us + max(0, request.output_tokens - 1) * tpot_us, request.e2e_us
        if limit != NO_OBJECTIVE:
            ratio = value / limit
            worst = max(worst, ratio)
            met *= 1.0 - miss_probability(ratio, policy.prediction_shape)
    return worst, 1.0 - met


@compiled
def price_candidate(row: np.record, request: np.record, policy: np.record) -> None:
    """Predict what the client sees at this candidate and what choosing it costs; writes the row's last five fields."""
    row.client_ttft_us = row.rtt_us + request.overhead_us + row.ttft_us
    row.client_e2e_us = row.client_ttft_us + max(0, request.output_tokens - 1) * row.tpot_us
    row.worst_ratio, row.miss_probability = expected_miss(row.rtt_us, row.ttft_us, row.tpot_us, request, policy)
    row.usd = policy.gpu_weight * row.load * row.usd_gpu + policy.cash_weight * row.usd_cash
    row.usd += policy.miss_weight * request.miss_usd * row.miss_probability
    row.is_priced = 1


@inner
def least(rtt_us: float, ttft_us: float, tpot_us: float, request: np.record, policy: np.record) -> tuple[float, float]:
    """(worst ratio, dollars of the expected miss) that a candidate at this round trip has at the very least, its
    engine taking `ttft_us` and `tpot_us` when it is idle and has as much of the prompt cached as it can have."""
    ratio, probability = expected_miss(rtt_us, ttft_us, tpot_us, request, policy)
    return ratio, policy.miss_weight * request.miss_usd * probability


@inner
def is_hopeless(row: np.record, request: np.record, policy: np.record) -> bool:
    """Whether even this candidate is predicted to miss so clearly that the request should be refused at once."""
    refuses = policy.allow_reject == 1 and request.when_infeasible == REJECT
    return refuses and row.worst_ratio > policy.reject_ratio
