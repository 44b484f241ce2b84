"""Orders: what operators ask of the keeper and what they are told: purge, trace, feedback, stop, resume, status.

Decides what an order reaches. A purge by tag, tenant, workload, model or digest is one number, in force at once for all
that was asked before it; what it hit is removed afterwards. A purge by key, entry or request removes there and then; of
a request it takes everything that was served to it or made for it, with the whole answer group. Orders are answered in
plain mappings; a word that is not known is an InputError. What holds for all gateways that share answers is told on as
notices; those of others are carried out here, a key's by itself, since the groups of answers are each gateway's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gridctl.answers.keeper import Keeper
from gridctl.answers.shared_record import Notice
from gridctl.cache.groups import AnswerGroups
from gridctl.errors import InputError, did_you_mean

TAGGED = ("tag", "tenant", "workload", "model", "digest")
PURGED_BY = (*TAGGED, "key", "entry", "request")
HEARD = "shared:heard"
"""No answer's tag: it is purged to have a place among the purges for what was heard of other gateways."""
ORDERS = ("status", "purge", "announce", "trace", "feedback", "stop", "resume")


def obey(keeper: Keeper, order: str, words: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
    """Carry an order out. What it wrote waits for the next commit: acknowledge it only then."""
    if order == "status":
        return status(keeper)
    if order == "purge":
        return _purge(keeper, words)
    if order == "announce":
        purge = keeper.store.announce(f"tag:{_text(words, 'value')}", int(words.get("number", 0)))
        return {"number": purge.number, "announced": purge.announced}
    if order == "trace":
        return trace(keeper, _text(words, "request"))
    if order == "feedback":
        return _feedback(keeper, _text(words, "request"), bool(words.get("wrong")), str(words.get("user", "")))
    if order in ("stop", "resume"):
        return _switch(keeper, order, str(words.get("workload", "")))
    raise InputError(f"the cache knows no order {order!r}", fix=f"one of {', '.join(ORDERS)}")


def status(keeper: Keeper) -> dict[str, Any]:
    """The keeper in numbers."""
    shelf = keeper.shelf
    return {
        "is_loaded": keeper.is_loaded,
        "is_storing": keeper.is_storing,
        "problem": keeper.problem,
        "entries": len(shelf),
        "entries_by_meaning": shelf.indexed,
        "answer_groups": shelf.groups,
        "partitions": shelf.partitions,
        "used_bytes": shelf.room.used_bytes,
        "capacity_bytes": shelf.room.capacity_bytes,
        "presence_used": len(keeper.presence),
        "presence_most": keeper.presence.most,
        "last_purge": keeper.store.last_purge,
        "labels": keeper.deciders.labels,
        "embedders": dict(keeper.embedders),
        "workloads": {name: keeper.deciders.standing(name) for name in sorted(keeper.settings.rules)},
        "tenants": tenants(keeper),
    }


def tenants(keeper: Keeper) -> list[dict[str, Any]]:
    """What went to each tenant of each workload lately, and what was judged of it. The promise is the workload's."""
    served = {(workload, tenant): counts for workload, tenant, *counts in keeper.store.served_to()}
    judged = {(workload, tenant) for workload, tenant, _ in keeper.judged}
    found = []
    for workload, tenant in sorted(served.keys() | judged):
        hits, by_meaning, saved_usd = served.get((workload, tenant), (0, 0, 0.0))
        right, wrong = (keeper.judged[workload, tenant, same] for same in (True, False))
        found.append(
            {
                "workload": workload,
                "tenant": tenant,
                "hits": int(hits),
                "semantic_hits": int(by_meaning),
                "saved_usd": float(saved_usd),
                "labels": right + wrong,
                "wrong_labels": wrong,
            }
        )
    return found


def trace(keeper: Keeper, request_id: str) -> dict[str, Any]:
    """What a request was served, what was kept of it, and who else was served the same."""
    servings = keeper.store.servings(request_id=request_id)
    numbers = [*dict.fromkeys([one.entry for one in servings] + keeper.store.brought_by(request_id))]
    found = []
    for number in numbers:
        entry = keeper.store.read(number)
        others = keeper.store.servings(entry=number)
        known: dict[str, Any] = {"entry": number, "is_kept": entry is not None}
        if entry is not None:
            known |= {
                "made_for": entry.request_id, "workload": entry.workload, "tenant": entry.tenant,
                "jurisdiction": entry.jurisdiction, "model": entry.model, "variant": entry.variant,
                "digest": entry.digest, "site": entry.site, "cluster": entry.cluster, "born_unix_ns": entry.born,
                "tags": list(entry.tags), "group": keeper.shelf.group_of(number),
            }  # fmt: skip
        known["served"] = [
            {"request": one.request_id, "level": one.level, "tenant": one.tenant, "unix_ns": one.unix_ns}
            for one in others
        ]
        found.append(known)
    return {"request": request_id, "entries": found}


def _purge(keeper: Keeper, words: Mapping[str, Any]) -> dict[str, Any]:
    by, value = _text(words, "by"), _text(words, "value")
    if by not in PURGED_BY:
        near = did_you_mean(by, PURGED_BY)
        raise InputError(f"nothing is purged by {by!r}", fix=f"{near or ', '.join(PURGED_BY)}")
    if words.get("dry_run"):
        return {"by": by, "value": value, "entries": len(_reached(keeper, by, value)), "number": None}
    if by in TAGGED:
        number = words.get("number")
        entries = len(_reached(keeper, by, value)) if len(keeper.shelf) <= 100_000 else None
        purge = keeper.store.purge(f"{by}:{value}", None if number is None else int(number))
        return {"by": by, "value": value, "entries": entries, "number": purge.number}
    numbers = _reached(keeper, by, value)
    keys = _keys(keeper, numbers) | ({value[:32].lower()} if by == "key" else set())
    for one in numbers:
        keeper.drop(one)
    return {"by": by, "value": value, "entries": len(numbers), "number": None, "keys": sorted(keys)}


def _reached(keeper: Keeper, by: str, value: str) -> list[int]:
    """The entries a purge would remove."""
    shelf = keeper.shelf
    if by in TAGGED:
        tag = f"{by}:{value}"
        return [number for number, held in shelf.held.items() if tag in held.tags]
    if by == "key":
        try:
            number = shelf.by_exact.get(bytes.fromhex(value)[:16])
        except ValueError as error:
            raise InputError(f"{value[:80]!r} is no key", fix="32 or 64 hexadecimal digits") from error
        return [] if number is None else [number]
    if by == "entry":
        if not value.isdecimal():
            raise InputError(f"{value[:80]!r} is no entry's number")
        return shelf.group_of(int(value))
    entries = [one.entry for one in keeper.store.servings(request_id=value)] + keeper.store.brought_by(value)
    return list(dict.fromkeys(number for entry in entries for number in shelf.group_of(entry)))


def _feedback(keeper: Keeper, request_id: str, is_wrong: bool, user: str) -> dict[str, Any]:
    """What a user says of an answer. That it was right changes nothing: praise must not buy an answer its way."""
    servings = keeper.store.servings(request_id=request_id)
    if not servings:
        raise InputError(
            f"no answer was served from the cache to request {request_id!r}, or too long ago",
            fix="see what the cache knows of it: gridctl cache explain REQUEST",
        )
    if not is_wrong:
        return {"request": request_id, "is_counted": False, "entries": 0}
    serving = servings[0]
    numbers = keeper.shelf.group_of(serving.entry)
    # The group goes from the shelf below, so the decider is given none to drop.
    who = user or serving.user or serving.tenant
    is_counted = keeper.deciders.report(serving.workload, who, AnswerGroups(1), 0)
    keys = sorted(_keys(keeper, numbers)) if is_counted else []
    removed = [keeper.drop(number) for number in numbers] if is_counted else []
    return {"request": request_id, "is_counted": is_counted, "entries": len(removed), "keys": keys}


def _switch(keeper: Keeper, order: str, workload: str) -> dict[str, Any]:
    names = [workload] if workload else sorted(keeper.settings.rules)
    for name in names:
        if name not in keeper.settings.rules:
            near = did_you_mean(name, keeper.settings.rules)
            raise InputError(f"workload {name!r} has no cache", fix=f"{near or 'set its cache.mode'}")
        if order == "stop":
            keeper.deciders.stop(name, "an operator stopped it")
        else:
            keeper.deciders.resume(name)
    return {"order": order, "workloads": names}


def notices_of(order: str, words: Mapping[str, Any], told: Mapping[str, Any], now_ns: int) -> list[Notice]:
    """What of an order that was obeyed holds for every gateway."""
    if words.get("dry_run"):
        return []
    if order == "purge" and words.get("by") in TAGGED:
        return [Notice("purge", f"{words['by']}:{words['value']}", unix_ns=now_ns)]
    if order in ("purge", "feedback"):
        return [Notice("key", key, unix_ns=now_ns) for key in told.get("keys", ())]
    if order == "stop":
        return [Notice("stop", name, unix_ns=now_ns) for name in told["workloads"]]
    return [Notice("resume", name, unix_ns=now_ns) for name in told["workloads"]] if order == "resume" else []


def carry_out(keeper: Keeper, notices: Sequence[Notice]) -> int:
    """Do what other gateways ordered; the place of the purges here, which is a new one. What is ordered in words that
    make no sense here is no order."""
    for notice in notices:
        if notice.kind == "purge":
            keeper.store.purge(notice.value)
        elif notice.kind == "key":
            number = keeper.shelf.by_exact.get(bytes.fromhex(notice.value))
            if number is not None:
                keeper.drop(number)
        elif notice.value in keeper.settings.rules:
            if notice.kind == "stop":
                keeper.deciders.stop(notice.value, "it was stopped at another gateway")
            else:
                keeper.deciders.resume(notice.value)
    return keeper.store.purge(HEARD).place


def _keys(keeper: Keeper, numbers: Sequence[int]) -> set[str]:
    held = (keeper.shelf.held.get(number) for number in numbers)
    return {one.exact.hex() for one in held if one is not None}


def _text(words: Mapping[str, Any], name: str) -> str:
    value = words.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 1_024:
        raise InputError(f"the order needs {name!r}, a text of at most 1,024 characters")
    return value
