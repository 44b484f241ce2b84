"""The services behind `gridctl cache`: asked of the orchestrator that serves the grid, here or far away.

Decides nothing; the cache is the orchestrator's, so without one there is nothing to ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from gridctl.orchestrator.context import GridHome

if TYPE_CHECKING:
    from gridctl.control import cache_messages as messages


def cache_status(home: GridHome) -> messages.CacheReport:
    """The cache as it is now. Raises UnreachableError when no orchestrator runs."""
    from gridctl.control import cache_messages as messages
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return client.get("/v1/cache", messages.CacheReport)


def cache_purge(home: GridHome, by: str, value: str, *, cause: str, dry_run: bool) -> messages.CachePurged:
    """Forget answers; with `dry_run` only count them."""
    import msgspec

    from gridctl.control import cache_messages as messages
    from gridctl.errors import UsageError
    from gridctl.orchestrator.live_client import client_of

    wanted = {"by": by, "value": value, "cause": cause, "dry_run": dry_run}
    try:
        body = msgspec.convert(wanted, messages.CachePurge)
    except msgspec.ValidationError as error:
        raise UsageError(f"{value[:80]!r} cannot be purged: {error}", where=f"--{by}") from None
    with client_of(home) as client:
        return client.post("/v1/cache/purge", body, messages.CachePurged)


def cache_switch(home: GridHome, order: str, workload: str | None, *, cause: str) -> messages.CacheSwitched:
    """Stop or resume answers by meaning, of one workload or all."""
    from gridctl.control import cache_messages as messages
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        body = messages.CacheSwitch(workload=workload, cause=cause)
        return client.post(f"/v1/cache/{order}", body, messages.CacheSwitched)


def cache_feedback(home: GridHome, request_id: str, *, wrong: bool, user: str) -> messages.CacheFeedbackTaken:
    """Say that an answer was wrong, or right."""
    from gridctl.control import cache_messages as messages
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        body = messages.CacheFeedback(request_id=request_id, wrong=wrong, user=user)
        return client.post("/v1/cache/feedback", body, messages.CacheFeedbackTaken)


def cache_trace(home: GridHome, request_id: str) -> messages.CacheTrace:
    """What the cache had to do with a request."""
    from gridctl.control import cache_messages as messages
    from gridctl.orchestrator.live_client import client_of

    with client_of(home) as client:
        return client.get(f"/v1/cache/requests/{quote(request_id, safe='')}", messages.CacheTrace)
