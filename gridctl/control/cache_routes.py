"""Routes of the cache: how it does, what to forget, stopping it, what users say of its answers, where one came from.

The keeper obeys; here callers are known, orders become events with their names, and counts of the gateway are put
beside what the keeper knows. No route tells a prompt or an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gridctl.control import cache_messages as messages
from gridctl.control.admin import Call, Route
from gridctl.errors import GridctlError, InputError, UnreachableError, UsageError, did_you_mean
from gridctl.registry.ledger import CACHE
from gridctl.resources import Workload
from gridctl.signals.cache_counts import cache_counts, cache_reasons
from gridctl.signals.totals import read_totals

NANO = 1e-9
LONGEST_REQUEST_ID = 128


async def _report(call: Call) -> object:
    keeper = call.live.keeper
    problem, told = "", dict[str, Any]()
    if keeper.is_wanted:
        try:
            told = await keeper.order("status", {}, timeout_s=2.0)
            problem = str(told.get("problem", ""))
        except GridctlError as error:
            problem = error.what
    return messages.CacheReport(
        state="off" if not keeper.is_wanted else "up" if told else "down",
        pid=keeper.pid,
        restarts=keeper.restarts,
        problem=problem,
        entries=int(told.get("entries", 0)),
        entries_by_meaning=int(told.get("entries_by_meaning", 0)),
        used_bytes=int(told.get("used_bytes", 0)),
        capacity_bytes=int(told.get("capacity_bytes", 0)),
        embedders={str(name): str(known) for name, known in told.get("embedders", {}).items()},
        workloads=_workloads(call, told.get("workloads", {})),
        reasons=cache_reasons(read_totals(call.live.board)),
        shared=_shared(told),
        tenants=msgspec.convert(told.get("tenants", ()), tuple[messages.CacheTenant, ...]),
    )


def _shared(told: Mapping[str, Any]) -> messages.CacheShared | None:
    found = told.get("shared")
    return None if found is None else msgspec.convert(found, messages.CacheShared)


def _workloads(call: Call, told: Mapping[str, Any]) -> tuple[messages.CacheWorkload, ...]:
    counted = cache_counts(read_totals(call.live.board))
    declared = {one.name: one.spec.cache for one in call.live.plan.resources if isinstance(one, Workload)}
    found = []
    for name, policy in sorted(declared.items()):
        counts, known = counted.get(name), told.get(name, {})
        if policy.mode == "off" and counts is None:
            continue
        here: dict[str, int] = counts if counts is not None else {}
        judged = known.get("counts", {})
        hits = sum(here.get(f"{level}_hits", 0) for level in ("exact", "semantic", "shared"))
        requests = hits + here.get("misses", 0) + here.get("bypasses", 0)
        again_usd = here.get("asked_again_nano_usd", 0) * NANO
        found.append(
            messages.CacheWorkload(
                workload=name,
                mode=policy.mode,
                error_rate=policy.error_rate,
                requests=requests,
                exact_hits=here.get("exact_hits", 0),
                semantic_hits=here.get("semantic_hits", 0),
                shared_hits=here.get("shared_hits", 0),
                stale_hits=here.get("stale_hits", 0),
                misses=here.get("misses", 0),
                bypasses=here.get("bypasses", 0),
                hit_share=hits / requests if requests else None,
                bound=known.get("bound"),
                audits=here.get("audits", 0),
                explored=here.get("explored", 0),
                asked_again=here.get("asked_again", 0),
                asked_again_usd=again_usd,
                saved_usd=here.get("saved_nano_usd", 0) * NANO - again_usd,
                is_stopped=bool(known.get("is_stopped", False)),
                stopped_because=str(known.get("stopped_because") or ""),
                labels=int(judged.get("judged-same", 0)) + int(judged.get("judged-different", 0)),
                wrong_labels=int(judged.get("judged-different", 0)),
            )
        )
    return tuple(found)


async def _purge(call: Call) -> object:
    body: messages.CachePurge = call.body
    by, value = body.by, body.value
    if by == "model" and "/" not in value:  # every variant of it, which its requests carry as a tag
        by, value = "tag", f"model:{value}"
    if by == "workload":
        _check_workload(call, value)
    told = await call.live.keeper.order("purge", {"by": by, "value": value, "dry_run": body.dry_run})
    if not body.dry_run:
        await _note(call, f"{body.by}:{body.value}", body.cause or "cache purge")
    return messages.CachePurged(
        by=body.by,
        value=body.value,
        entries=told.get("entries"),
        number=told.get("number"),
        dry_run=body.dry_run,
        shared=told.get("shared", "none"),
    )


async def _stop(call: Call) -> object:
    return await _switch(call, "stop")


async def _resume(call: Call) -> object:
    return await _switch(call, "resume")


async def _switch(call: Call, order: str) -> object:
    body: messages.CacheSwitch = call.body
    if body.workload is not None:
        _check_workload(call, body.workload)
    told = await call.live.keeper.order(order, {"workload": body.workload or ""})
    await _note(call, body.workload or "all", body.cause or f"cache {order}")
    return messages.CacheSwitched(workloads=tuple(told["workloads"]), shared=told.get("shared", "none"))


async def _feedback(call: Call) -> object:
    body: messages.CacheFeedback = call.body
    told = await call.live.keeper.order(
        "feedback", {"request": body.request_id, "wrong": body.wrong, "user": body.user}
    )
    if told.get("is_counted"):
        await _note(call, body.request_id, "cache feedback: the answer was wrong")
    return messages.CacheFeedbackTaken(
        request_id=body.request_id,
        is_counted=bool(told["is_counted"]),
        entries=int(told["entries"]),
        shared=told.get("shared", "none"),
    )


async def _trace(call: Call) -> object:
    request_id = call.path["id"]
    if not request_id.isprintable() or len(request_id) > LONGEST_REQUEST_ID:
        raise UsageError("this is no request id", where="path", fix="it is in the response header x-request-id")
    told = await call.live.keeper.order("trace", {"request": request_id})
    try:
        return msgspec.convert(told, messages.CacheTrace)
    except msgspec.ValidationError as error:
        raise UnreachableError(f"the keeper of the cache is of another version: {error}", fix="gridctl down; up") from (
            error
        )


def _check_workload(call: Call, name: str) -> None:
    declared = [one.name for one in call.live.plan.resources if isinstance(one, Workload)]
    if name not in declared:
        close = did_you_mean(name, declared)
        raise InputError(
            f"there is no workload {name[:64]!r}",
            where="workload",
            fix=f"did you mean {close}?" if close else "gridctl workload list",
        )


async def _note(call: Call, name: str, cause: str) -> None:
    """The order as an event, with who gave it."""

    def write() -> None:
        with call.live.services.open_registry(call.principal.name) as registry:
            registry.note(CACHE, name, cause=cause)

    await asyncio.to_thread(write)


def _type(kind: Any) -> Callable[[], Any]:
    return lambda: kind


CACHE_ROUTES = (
    Route("GET", "/v1/cache", "viewer", "The cache: hits, bounds, room.", _report, _type(messages.CacheReport)),
    Route(
        "GET",
        "/v1/cache/requests/{id}",
        "viewer",
        "What the cache had to do with a request: the answers it got or brought, and who else got them.",
        _trace,
        _type(messages.CacheTrace),
    ),
    Route(
        "POST",
        "/v1/cache/purge",
        "operator",
        "Forget answers: by tag, tenant, workload, model, key or request.",
        _purge,
        _type(messages.CachePurged),
        body=_type(messages.CachePurge),
    ),
    Route(
        "POST",
        "/v1/cache/stop",
        "operator",
        "Serve exact repeats only, for a workload or all.",
        _stop,
        _type(messages.CacheSwitched),
        body=_type(messages.CacheSwitch),
    ),
    Route(
        "POST",
        "/v1/cache/resume",
        "operator",
        "Serve repeats in meaning again.",
        _resume,
        _type(messages.CacheSwitched),
        body=_type(messages.CacheSwitch),
    ),
    Route(
        "POST",
        "/v1/cache/feedback",
        "operator",
        "An answer from the cache was wrong: it is forgotten with its group, and counted.",
        _feedback,
        _type(messages.CacheFeedbackTaken),
        body=_type(messages.CacheFeedback),
    ),
)
