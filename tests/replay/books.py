"""The books of a replay, audited: what must hold of any grid, any trace and any policy."""

from __future__ import annotations

import dataclasses

import numpy as np

from gridctl.accounts.rows import (
    COMPLETED,
    FAILED,
    JURISDICTION,
    NO_MODEL,
    OUTAGE,
    QUALITY,
    REJECTED,
    TOO_LONG,
    RunRows,
)
from gridctl.geography.regions import jurisdiction_of
from gridctl.grid.image import GridImage
from gridctl.replay.replay import Replayed
from gridctl.resources import PolicySpec
from gridctl.traces.trace import Trace

COLUMNS = tuple(field.name for field in dataclasses.fields(RunRows))
TIMES = ("rtt_ns", "queue_ns", "compute_ns", "decode_ns", "gpu_ns", "serverless_ns")


def assert_equal_runs(first: Replayed, second: Replayed) -> None:
    """Every row and every engine's busy time are the same."""
    for column in COLUMNS:
        assert np.array_equal(getattr(first.rows, column), getattr(second.rows, column)), column
    assert first.engines == second.engines
    assert first.window_ns == second.window_ns


def audit(image: GridImage, trace: Trace, policy: PolicySpec, result: Replayed) -> None:
    """Conservation, signs, order of times, and the hard constraints."""
    rows = result.rows
    done = rows.outcome == COMPLETED
    assert len(rows) == len(trace)
    assert done.sum() + (rows.outcome == REJECTED).sum() + (rows.outcome == FAILED).sum() == len(trace)
    for column in ("arrival_ns", "input_tokens", "output_tokens", "origin", "workload", "tenant"):
        assert np.array_equal(getattr(rows, column), getattr(trace, column)), column
    assert np.array_equal(rows.engine >= 0, done)
    assert np.array_equal(rows.reason == 0, done)
    assert np.all((rows.reason == TOO_LONG) == (rows.outcome == FAILED))
    for column in (*TIMES, "cached_tokens", "preemptions"):
        values = getattr(rows, column)
        assert np.all(values >= 0), column
        assert np.all(values[~done] == 0), column
    assert np.all(rows.cached_tokens < np.maximum(rows.input_tokens, 1)), "one prompt token is always computed"
    assert np.all(rows.compute_ns[done] > 0)
    assert np.all(rows.decode_ns[done & (rows.output_tokens == 1)] == 0)
    assert np.all(rows.decode_ns[done & (rows.output_tokens > 1)] > 0)
    _audit_engines(image, rows, result)
    _audit_constraints(image, trace, policy, rows)
    if len(trace):
        last = (rows.arrival_ns + rows.rtt_ns // 2 + rows.queue_ns + rows.compute_ns + rows.decode_ns).max()
        assert result.window_ns == max(1, last - rows.arrival_ns[0])


def _audit_engines(image: GridImage, rows: RunRows, result: Replayed) -> None:
    """GPU time of the requests adds up to the engine's busy time, but for what rounding to tokens and ns takes."""
    for index, (engine, facts) in enumerate(zip(image.engines, result.engines, strict=True)):
        mine = rows.engine == index
        kind, gpus = facts.kind, facts.gpus
        if kind == "gpu":
            shared = int(rows.gpu_ns[mine].sum())
            # below: under a ps per batched token and step change, and a ns per request; above: busy is cut to a ns
            assert facts.busy_ns * gpus - shared <= mine.sum() + gpus * (1 + engine.spec.max_num_batched_tokens // 1000)
            assert shared < (facts.busy_ns + 1) * gpus
            assert not rows.serverless_ns[mine].any()
        elif kind == "serverless":
            billed = int(rows.serverless_ns[mine].sum())
            assert facts.busy_ns - mine.sum() <= billed <= facts.busy_ns
            answered = rows.compute_ns + rows.decode_ns
            assert np.all(np.abs(rows.serverless_ns[mine] - answered[mine]) <= 1)
            assert not rows.gpu_ns[mine].any()
        else:
            assert facts.busy_ns == 0
            assert not rows.gpu_ns[mine].any()
            assert not rows.serverless_ns[mine].any()
            assert kind == "api" or not mine.any()


def _audit_constraints(image: GridImage, trace: Trace, policy: PolicySpec, rows: RunRows) -> None:
    """Nobody serves who may not, by the declarations alone; and nobody who could be served was told there is none."""
    sites, clusters = image.view.sites, image.view.clusters
    for request in range(len(trace)):
        spec = image.view.workloads[trace.workloads[trace.workload[request]]].spec
        wanted = trace.models[trace.model[request]] if trace.model[request] >= 0 else None
        home = sites.get(trace.origins[trace.origin[request]])
        country = home.spec.country if home else "JP"
        law = (home.spec.jurisdiction if home else None) or jurisdiction_of(country)

        def lawful(index: int, spec=spec, country=country, law=law) -> bool:
            facts = image.engines[index].facts
            host = sites.get(facts.site)
            if host is None:
                stands, laws = None, image.prices.fallback.jurisdictions
            else:
                stands, laws = host.spec.country, (host.spec.jurisdiction or jurisdiction_of(host.spec.country),)
            rule = spec.jurisdiction
            return {
                "any": True,
                "same-country": stands == country,
                "same-jurisdiction": law in laws,
                "listed": bool({stands, *laws} & set(rule.allow)),
            }[rule.rule]

        serves = [
            index
            for index, engine in enumerate(image.engines)
            if engine.facts.kind != "unused"
            and engine.model in spec.models
            and wanted in (None, engine.model)
            and (engine.facts.kind != "api" or spec.when_infeasible == "fallback")
        ]
        legal = [index for index in serves if lawful(index)]
        good = [i for i in legal if spec.quality_floor == 0 or (image.engines[i].quality or 0) >= spec.quality_floor]
        up = [index for index in good if _is_up(image, index, sites, clusters)]
        chosen, reason = int(rows.engine[request]), int(rows.reason[request])
        if chosen >= 0:
            assert chosen in up
            kind = image.engines[chosen].facts.kind
            assert policy.algorithm == "grid" or kind == "gpu"
            assert kind != "serverless" or policy.allow_serverless
            assert kind != "api" or policy.allow_fallback
            assert policy.algorithm != "centralized" or image.engines[chosen].facts.tier == "core"
            used = trace.input_tokens[request] + trace.output_tokens[request]
            assert used <= image.engines[chosen].spec.max_context
        expected = (
            NO_MODEL
            if not serves
            else JURISDICTION
            if not legal
            else QUALITY
            if not good
            else OUTAGE
            if not up
            else None
        )
        if expected is not None:
            assert (rows.outcome[request], reason) == (REJECTED, expected)


def _is_up(image: GridImage, index: int, sites: dict, clusters: dict) -> bool:
    facts = image.engines[index].facts
    host, owner = sites.get(facts.site), clusters.get(facts.cluster)
    return all(one is None or one.spec.state == "active" for one in (host, owner))
