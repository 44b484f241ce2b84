"""Routes of what is so now: the orchestrator, its health and load, where a request would go, and stopping it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from gridctl.control import messages
from gridctl.control.admin import Call, Route, Text
from gridctl.control.cache_routes import CACHE_ROUTES
from gridctl.control.health_routes import HEALTH_ROUTES
from gridctl.control.recordings import begin_recording
from gridctl.control.registry_routes import REGISTRY_ROUTES
from gridctl.control.rollout_routes import ROLLOUT_ROUTES
from gridctl.control.site_routes import SITE_ROUTES
from gridctl.errors import ConflictError, NotFoundError, UnreachableError, UsageError
from gridctl.routing.decision import Decision
from gridctl.signals.exposition import exposition
from gridctl.signals.textformat import CONTENT_TYPES, best_format

LONGEST_REQUEST_ID = 128


async def _status(call: Call) -> object:
    return call.live.status()


async def _document(call: Call) -> object:
    from gridctl.control.openapi import openapi

    return openapi(ROUTES)


async def _request(call: Call) -> object:
    request_id = call.path["id"]
    if not request_id.isprintable() or len(request_id) > LONGEST_REQUEST_ID:
        raise UsageError("this is no request id", where="path", fix="it is in the response header x-request-id")
    found = await call.live.supervisor.find(request_id)
    if found is None:
        raise NotFoundError(
            f"no worker remembers the request {request_id}",
            fix="workers remember the latest requests only; older ones are in a recording, if one was made (--record)",
        )
    return found


async def _route_test(call: Call) -> object:
    return await call.live.questions.ask(call.body, call.live.plan)


async def _metrics(call: Call) -> object:
    style = best_format(call.accept)
    live = call.live
    text = await asyncio.to_thread(
        exposition,
        live.board,
        time.monotonic_ns(),
        style,
        cache_bounds=live.keeper.bounds(),
        cache_shared=live.keeper.shared(),
    )
    return Text(text, CONTENT_TYPES[style])


async def _record(call: Call) -> object:
    live = call.live
    if live.record is None:
        raise UnreachableError("the orchestrator is still starting", where=live.data_url, fix="try again in a second")
    wanted = call.body.folder
    if wanted is not None and live.recording is not None:
        raise ConflictError(
            f"requests are recorded to {live.recording} already",
            where=str(wanted),
            fix="end that first: gridctl trace record --stop",
        )
    ended = live.recording
    # A relative name is not the caller's: it lies with the orchestrator's own recordings.
    folder = None if wanted is None else await asyncio.to_thread(begin_recording, live.folder.recordings / wanted)
    await live.record(folder)
    return messages.Recording(
        folder=str(folder) if folder is not None else None, ended=str(ended) if ended is not None else None
    )


async def _stop(call: Call) -> object:
    grace_s = call.body.grace_s
    if grace_s is not None and not 0 <= grace_s <= 86_400:
        raise UsageError(f"a grace of {grace_s:g} s", where="body", fix="0 to 86400 seconds")
    call.live.stop(grace_s)
    return messages.Stopping(os.getpid(), call.live.order.grace_s if grace_s is None else grace_s)


def _type(kind: Any) -> Callable[[], Any]:
    return lambda: kind


ROUTES: tuple[Route, ...] = (
    Route("GET", "/openapi.json", "viewer", "This document.", _document, _type(dict[str, Any])),
    Route("GET", "/v1/status", "viewer", "The orchestrator itself.", _status, _type(messages.Status)),
    Route(
        "GET",
        "/v1/requests/{id}",
        "viewer",
        "What a worker remembers of a live request, and why it went where it went.",
        _request,
        _type(dict[str, Any]),
    ),
    Route("GET", "/metrics", "viewer", "Counters and histograms, for Prometheus.", _metrics, None),
    Route(
        "POST",
        "/v1/route/test",
        "viewer",
        "Where a request would go now, with every candidate and why.",
        _route_test,
        _type(Decision),
        body=_type(messages.RouteTestMessage),
    ),
    Route(
        "POST",
        "/v1/recording",
        "admin",
        "Record requests to a folder on the orchestrator's machine, or no more.",
        _record,
        _type(messages.Recording),
        body=_type(messages.RecordMessage),
    ),
    Route(
        "POST",
        "/v1/stop",
        "admin",
        "Stop the orchestrator; requests under way get their grace.",
        _stop,
        _type(messages.Stopping),
        body=_type(messages.StopMessage),
    ),
    *CACHE_ROUTES,
    *HEALTH_ROUTES,
    *REGISTRY_ROUTES,
    *ROLLOUT_ROUTES,
    *SITE_ROUTES,
)
