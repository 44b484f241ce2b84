"""Routes of rollouts: begin one, see them, and what operators do with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from gridctl.control import rollout_messages as messages
from gridctl.control.admin import LONGEST_BODY, Call, Parameter, Route
from gridctl.errors import ConflictError, InputError, NotFoundError, UsageError, did_you_mean
from gridctl.geography.regions import jurisdiction_of
from gridctl.resources import Site
from gridctl.rollout.analysis import LEAST_TTFT_RATIO, MOST_TTFT_RATIO
from gridctl.rollout.draft import reference_of
from gridctl.rollout.protocol import Version
from gridctl.rollout.sites import check_variant, serving_sites
from gridctl.rollout.state import VERBS, Operated, Rollout, Settings, SiteProgress
from gridctl.rollout.store import RolloutStore
from gridctl.rollout.undoing import undo_of
from gridctl.rollout.windows import is_open, parse_window, text_of

MOST_ENTRIES = 10_000
MOST_LISTED = 100
"""Rollouts, each of which may have thousands of sites."""


async def _list(call: Call) -> object:
    def work(store: RolloutStore) -> object:
        return messages.RolloutList(
            items=tuple(messages.summary_of(store.get(name)) for name in store.names()[:MOST_LISTED])
        )

    return await call.live.rollouts.do(work)


async def _get(call: Call) -> object:
    return await call.live.rollouts.do(lambda store: _told(store, store.get(call.path["name"])))


async def _start(call: Call) -> object:
    rollout = _planned(call)
    if call.body.dry_run:
        return messages.report_of(rollout, {}, time.time())

    def work(store: RolloutStore) -> object:
        return _told(store, store.create(rollout, time.time()))

    return await call.live.rollouts.do(work)


def _patient(settings: Settings, lease_s: float) -> Settings:
    """A site counts as away only once its lease is over, whatever was asked: until then it may be trying."""
    return msgspec.structs.replace(settings, unreachable_after_s=max(settings.unreachable_after_s, lease_s))


async def _operate(call: Call) -> object:
    name, word = call.path["name"], call.path["verb"]
    if word not in VERBS:
        near = did_you_mean(word, VERBS)
        fix = f"did you mean {near}?" if near else f"one of: {', '.join(VERBS)}"
        raise NotFoundError(f"nothing is called {word[:64]!r} of a rollout", where="path", fix=fix)
    event = Operated(word, call.principal.name, call.body.reason)

    def work(store: RolloutStore) -> object:
        rollout, now_s = store.get(name), time.time()
        if word == "undo" and rollout.is_over:
            return _told(store, _undone(store, rollout, event, call.body.name or _free_name(store, f"{name}-undo")))
        return _told(store, store.happen(name, event, now_s))

    return await call.live.rollouts.do(work)


async def _history(call: Call) -> object:
    limit = int(call.query.get("limit", "1000"))
    if not 1 <= limit <= MOST_ENTRIES:
        raise UsageError(f"limit is {limit}", where="query", fix=f"1 to {MOST_ENTRIES}")
    name = call.path["name"]

    def work(store: RolloutStore) -> object:
        store.get(name)
        return messages.RolloutHistory(items=tuple(store.history(name, limit)))

    return await call.live.rollouts.do(work)


async def _release_key(call: Call) -> object:
    return messages.ReleasePublicKey(pem=await call.live.rollouts.public_key())


def _told(store: RolloutStore, rollout: Rollout) -> messages.RolloutReport:
    known = {site: store.known_site(site) for site in rollout.sites}
    return messages.report_of(rollout, {site: one for site, one in known.items() if one is not None}, time.time())


def _undone(store: RolloutStore, rollout: Rollout, event: Operated, name: str) -> Rollout:
    undo = undo_of(rollout, name, event.who)
    later = sorted({store.latest(site, rollout.model) or "" for site in undo.sites} - {rollout.name, ""})
    if later and _took_back(store.get(later[0]), rollout):
        raise ConflictError(
            f"rollout {later[0]} came to these sites after {rollout.name}, and took it back: nothing is left to undo",
            where=f"rollout {rollout.name}",
            fix=f"see: gridctl rollout status {later[0]}",
        )
    if later:
        raise ConflictError(
            f"rollout {later[0]} came to these sites after {rollout.name}",
            where=f"rollout {rollout.name}",
            fix=f"undo that one: gridctl rollout undo {later[0]}",
        )
    return store.create(undo, time.time(), first=event)


def _took_back(later: Rollout, rollout: Rollout) -> bool:
    is_back = later.phase in ("rolling_back", "rolled_back", "stuck")
    return is_back and later.version.digest == rollout.version.digest


def _free_name(store: RolloutStore, name: str) -> str:
    taken = set(store.names())
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, 1000))) if one not in taken)


def _planned(call: Call) -> Rollout:
    """The rollout that a message asks for. Raises InputError for what this grid has not."""
    body: messages.StartRollout = call.body
    resources = call.live.plan.resources
    check_variant(body.model, body.variant, resources)
    sites = {one.name: one for one in resources if isinstance(one, Site)}
    places = serving_sites(resources, body.model)
    progress: dict[str, SiteProgress] = {}
    for wave, names in enumerate(body.waves):
        for name in names:
            if name in progress:
                raise InputError(f"site {name} is in two waves", where="waves", fix="name each site once")
            if name not in sites:
                near = did_you_mean(name, sites)
                fix = f"did you mean {near}?" if near else "see them: gridctl site list"
                raise InputError(f"the grid has no site {name}", where="waves", fix=fix)
            if name not in places:
                raise InputError(
                    f"no cluster of site {name} serves {body.model}",
                    where="waves",
                    fix=f"leave it out, or declare a deployment of {body.model} there",
                )
            spec = sites[name].spec
            group = spec.jurisdiction or jurisdiction_of(spec.country)
            progress[name] = SiteProgress(site=name, wave=wave, group=group)
    if not progress or not all(body.waves):
        raise InputError("a wave has no sites", where="waves", fix="name sites, or leave the wave out")
    _check_settings(body)
    return Rollout(
        name=body.name,
        model=body.model,
        reference=reference_of(body.reference, body.digest),
        version=Version(body.digest, body.variant, 0),
        disk_bytes=body.disk_bytes,
        requires_signature=body.requires_signature,
        settings=_patient(body.settings, call.live.rollouts.timing.lease_s),
        waves=len(body.waves),
        created_by=call.principal.name,
        is_window_open=is_open(body.settings.windows, time.time()),
        sites=progress,
    )


def _check_settings(body: messages.StartRollout) -> None:
    settings = body.settings
    for window in settings.windows:
        parse_window(text_of(window))
    shares = (settings.max_unavailable, settings.max_unreachable, settings.max_failed)
    if not all(0 <= share <= 1 for share in shares):
        raise InputError("a share is not between 0 and 1", where="settings", fix="write 0.1 for 10%")
    times = (settings.soak_s, settings.unreachable_after_s, settings.stuck_after_s)
    if not all(0 <= seconds <= 31 * 86_400 for seconds in times):
        raise InputError("a time is longer than a month, or negative", where="settings", fix="give seconds")
    if settings.limits.min_samples < 1:
        raise InputError(
            "a wave that needs no requests would pass by being idle", where="--min-samples", fix="1 or more"
        )
    if not LEAST_TTFT_RATIO <= settings.limits.max_ttft_ratio <= MOST_TTFT_RATIO:
        raise InputError(
            f"TTFT {settings.limits.max_ttft_ratio:g} times as long cannot be told",
            where="--max-ttft-ratio",
            fix=f"{LEAST_TTFT_RATIO:g} to {MOST_TTFT_RATIO:g}",
        )
    if settings.bandwidth_bytes_per_s is not None and settings.bandwidth_bytes_per_s < 1:
        raise InputError("nothing moves at 0 bytes per second", where="--bandwidth", fix="write 10MB")
    if settings.region_bytes_per_s is not None and settings.region_bytes_per_s < 1:
        raise InputError("nothing moves at 0 bytes per second", where="--region-bandwidth", fix="write 100MB")


def _type(kind: Any) -> Callable[[], Any]:
    return lambda: kind


ROLLOUT_ROUTES = (
    Route(
        "GET",
        "/v1/rollouts",
        "viewer",
        "The newest hundred rollouts, the newest first.",
        _list,
        _type(messages.RolloutList),
    ),
    Route(
        "POST",
        "/v1/rollouts",
        "operator",
        "Begin a rollout of a model's version to sites.",
        _start,
        _type(messages.RolloutReport),
        body=_type(messages.StartRollout),
        longest_body=LONGEST_BODY,
    ),
    Route(
        "GET",
        "/v1/rollouts/{name}",
        "viewer",
        "One rollout: its phase and why, and each of its sites.",
        _get,
        _type(messages.RolloutReport),
    ),
    Route(
        "GET",
        "/v1/rollouts/{name}/history",
        "viewer",
        "What happened to a rollout and its sites, oldest first.",
        _history,
        _type(messages.RolloutHistory),
        query=(Parameter("limit", "at most this many, the newest", is_integer=True),),
    ),
    # After the one whose last word is given: paths are looked at in this order.
    Route(
        "POST",
        "/v1/rollouts/{name}/{verb}",
        "operator",
        "Pause, resume, promote, abort or undo a rollout.",
        _operate,
        _type(messages.RolloutReport),
        body=_type(messages.Operate),
    ),
    Route(
        "GET",
        "/v1/release-key",
        "viewer",
        "The public key that agents pin.",
        _release_key,
        _type(messages.ReleasePublicKey),
    ),
)
