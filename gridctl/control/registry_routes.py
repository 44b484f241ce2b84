"""Routes of the grid's declarations: resources, events, keys. What `gridctl --context NAME` works on from afar.

Each call opens the registry in a thread of its own, and every change names the caller in its event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gridctl.control import registry_messages as messages
from gridctl.control.admin import LONGEST_BODY, Call, Parameter, Route
from gridctl.errors import InputError, UsageError
from gridctl.registry import Registry, WantedKey
from gridctl.registry.keys import KIND as KEY
from gridctl.registry.ledger import CACHE
from gridctl.resources import KINDS, Resource, ResourceKey, kind_named
from gridctl.units import NS_PER_S

MOST_EVENTS = 10_000
_Made = TypeVar("_Made")


async def _in_registry(call: Call, work: Callable[[Registry], _Made]) -> _Made:
    """Run `work` over the registry, off the event loop."""

    def run() -> _Made:
        with call.live.services.open_registry(call.principal.name) as registry:
            return work(registry)

    return await asyncio.to_thread(run)


async def _version(call: Call) -> object:
    return messages.VersionMessage(await _in_registry(call, lambda registry: registry.version()))


async def _resources(call: Call) -> object:
    word = call.query.get("kind")
    kind = None if word is None else _kind(word)

    def read(registry: Registry) -> object:
        found = registry.all() if kind is None else registry.list(kind)
        return messages.stored_list_type()(tuple(messages.wire_stored(stored) for stored in found))

    return await _in_registry(call, read)


async def _resource(call: Call) -> object:
    kind = _kind(call.path["kind"])
    return await _in_registry(call, lambda registry: messages.wire_stored(registry.get(kind, call.path["name"])))


async def _apply(call: Call) -> object:
    return await _changed(call, dry_run=call.body.dry_run)


async def _plan(call: Call) -> object:
    return await _changed(call, dry_run=True)


async def _changed(call: Call, *, dry_run: bool) -> object:
    body = call.body

    def change(registry: Registry) -> object:
        planned = call.live.services.apply(
            registry,
            body.resources,
            cause=body.cause or "apply through the admin API",
            expected=_expected(body.expected),
            dry_run=dry_run,
        )
        return messages.wire_planned(planned)

    return await _in_registry(call, change)


async def _delete(call: Call) -> object:
    body: messages.DeleteMessage = call.body
    keys = [ResourceKey(_kind(key.kind).__name__, key.name) for key in body.keys]

    def change(registry: Registry) -> object:
        there = {key: registry.find(key.kind, key.name) for key in keys}
        call.live.services.delete(
            registry,
            keys,
            cause=body.cause or "delete through the admin API",
            expected=_expected(body.expected),
            dry_run=body.dry_run,
        )
        gone = [stored for stored in there.values() if stored is not None]
        return messages.deleted_list_type()(tuple(messages.wire_stored(stored) for stored in gone))

    return await _in_registry(call, change)


async def _events(call: Call) -> object:
    query = call.query
    word, limit = query.get("kind"), int(query.get("limit", "100"))
    if "name" in query and word is None:
        raise UsageError("a name without its kind", where="query", fix="give kind, too")
    if not 1 <= limit <= MOST_EVENTS:
        raise UsageError(f"limit is {limit}", where="query", fix=f"1 to {MOST_EVENTS}")
    kind = word if word is None or word in (KEY, CACHE) else _kind(word)

    def read(registry: Registry) -> object:
        since = int(query.get("since_version", "0"))
        found = registry.events(kind=kind, name=query.get("name"), since_version=since, limit=limit)
        return messages.EventList(items=tuple(found))

    return await _in_registry(call, read)


async def _keys(call: Call) -> object:
    keys = await _in_registry(call, lambda registry: registry.access_keys())
    now_ns = time.time_ns()
    return messages.KeyList(items=tuple(messages.wire_key(key, now_ns) for key in keys))


async def _make_key(call: Call) -> object:
    body: messages.WantedKeyMessage = call.body
    wanted = WantedKey(
        name=body.name,
        role=body.role,
        tenant=body.tenant,
        workload=body.workload,
        expires_ns=body.expires_unix_ns,
        requests_per_s=body.requests_per_s,
        tokens_per_minute=body.tokens_per_minute,
        site=body.site,
    )
    if wanted.expires_ns is not None and wanted.expires_ns < NS_PER_S:
        raise InputError("expires_unix_ns is before 1970-01-01T00:00:01", where="body", fix="give nanoseconds")
    key, token = await _in_registry(
        call, lambda registry: registry.create_key(wanted, cause=body.cause or "key made through the admin API")
    )
    return messages.wire_made(key, token, time.time_ns())


async def _revoke_key(call: Call) -> object:
    key = await _in_registry(
        call,
        lambda registry: registry.revoke_key(
            call.path["name"], cause=call.query.get("cause") or "key revoked through the admin API"
        ),
    )
    # The next call must not find it, however long the workers take to hear of it.
    call.live.keys.pop(key.digest, None)
    return messages.wire_key(key, time.time_ns())


def _kind(word: str) -> type[Resource]:
    kind = kind_named(word)
    if kind is None:
        raise UsageError(f"there is no kind {word[:64]!r}", fix="one of: " + ", ".join(KINDS))
    return kind


def _expected(versions: Sequence[messages.ExpectedVersion] | None) -> Mapping[ResourceKey, int] | None:
    if versions is None:
        return None
    return {ResourceKey(_kind(one.kind).__name__, one.name): one.version for one in versions}


def _type(kind: Any) -> Callable[[], Any]:
    return lambda: kind


_KIND = Parameter("kind", "only this kind: Site, Cluster, Model, …")

REGISTRY_ROUTES = (
    Route(
        "GET", "/v1/version", "viewer", "How many changes the grid has seen.", _version, _type(messages.VersionMessage)
    ),
    Route(
        "GET",
        "/v1/resources",
        "viewer",
        "Resources as declared.",
        _resources,
        messages.stored_list_type,
        query=(_KIND,),
    ),
    Route("GET", "/v1/resources/{kind}/{name}", "viewer", "One resource.", _resource, messages.stored_type),
    Route(
        "POST",
        "/v1/resources/plan",
        "viewer",
        "What apply would do; writes nothing.",
        _plan,
        messages.planned_list_type,
        body=messages.apply_type,
        longest_body=LONGEST_BODY,
    ),
    Route(
        "POST",
        "/v1/resources/apply",
        "operator",
        "Create and update resources, all or none.",
        _apply,
        messages.planned_list_type,
        body=messages.apply_type,
        longest_body=LONGEST_BODY,
    ),
    Route(
        "POST",
        "/v1/resources/delete",
        "operator",
        "Delete resources, all or none.",
        _delete,
        messages.deleted_list_type,
        body=_type(messages.DeleteMessage),
        longest_body=LONGEST_BODY,
    ),
    Route(
        "GET",
        "/v1/events",
        "viewer",
        "What changed, when, by whom and why; oldest first.",
        _events,
        _type(messages.EventList),
        query=(
            Parameter("kind", "only this kind; Key for access keys"),
            Parameter("name", "only this resource"),
            Parameter("since_version", "only after this version", is_integer=True),
            Parameter("limit", "at most this many, the newest", is_integer=True),
        ),
    ),
    Route("GET", "/v1/keys", "operator", "Access keys, without their tokens.", _keys, _type(messages.KeyList)),
    Route(
        "POST",
        "/v1/keys",
        "admin",
        "Make an access key; its token is in the answer and nowhere else.",
        _make_key,
        _type(messages.MadeKey),
        body=_type(messages.WantedKeyMessage),
        status=201,
    ),
    Route(
        "DELETE",
        "/v1/keys/{name}",
        "admin",
        "Revoke an access key.",
        _revoke_key,
        _type(messages.KeyMessage),
        query=(Parameter("cause", "why; kept with the event"),),
    ),
)
