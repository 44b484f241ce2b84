"""Registry: desired state with optimistic versions, and an event for every change.

Decides what a write changes, numbers it, and records it in the transaction that makes it. Must not judge whether a
set of resources makes sense: the caller's `check` does, inside the transaction. Invariants: a write happens whole or
not at all; a write that changes nothing writes nothing; versions rise by one per changed resource, without gaps.
"""

from __future__ import annotations

import builtins
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gridctl.errors import ConflictError, InputError, NotFoundError, did_you_mean, raise_all
from gridctl.registry import keys, ledger
from gridctl.registry.changes import changes_between
from gridctl.registry.database import Database
from gridctl.registry.documents import Draft, drafts_of, resource_from
from gridctl.registry.integrity import problems_of
from gridctl.registry.keys import AccessKey, WantedKey
from gridctl.registry.stored import Event, Planned, Stored
from gridctl.resources import KINDS, Resource, ResourceKey, kind_named

BUSY_TIMEOUT_S = 5.0
SCAN_FROM = 64  # resources in one write from which reading the whole table beats looking each one up

Check = Callable[[Sequence[Resource]], None]
"""Judges a complete set of resources; raises to refuse it."""

_SELECT_ALL = """SELECT kind, name, document, uid, version, generation, created_ns, updated_ns
    FROM resource ORDER BY kind, name"""
_SELECT_KIND = """SELECT kind, name, document, uid, version, generation, created_ns, updated_ns
    FROM resource WHERE kind = ? ORDER BY name"""
_SELECT_ONE = """SELECT kind, name, document, uid, version, generation, created_ns, updated_ns
    FROM resource WHERE kind = ? AND name = ?"""
_Row = tuple[str, str, str, str, int, int, int, int]


class Registry:
    """The resources of one grid. A context manager; one per thread and process."""

    def __init__(self, database: Database, actor: str | None = None) -> None:
        self._database = database
        self._actor = actor

    @classmethod
    def open(
        cls, path: Path, *, create: bool = False, busy_timeout_s: float = BUSY_TIMEOUT_S, actor: str | None = None
    ) -> Self:
        """Open the registry at `path`; make it when `create` and there is none. Events name `actor`, or the account of
        this process.

        Raises NotFoundError when there is none, StoreError when it cannot be used.
        """
        return cls(Database.open(path, create=create, timeout_s=busy_timeout_s), actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def version(self) -> int:
        """Number of changes ever made; the version of the newest event."""
        with self._database.reading() as connection:
            return ledger.version_of(connection)

    def change_mark(self) -> int:
        """A number that differs from the last one asked for when another connection has written since. Microseconds."""
        with self._database.reading() as connection:
            (mark,) = connection.execute("PRAGMA data_version").fetchone()
        return int(mark)

    def list(self, kind: type[Resource] | str) -> builtins.list[Stored]:
        """All resources of a kind, by name in code-point order. O(n)."""
        with self._database.reading() as connection:
            rows = connection.execute(_SELECT_KIND, (_kind_name(kind),)).fetchall()
        return [_stored(row) for row in rows]

    def names(self, kind: type[Resource] | str) -> builtins.list[str]:
        """Names of a kind in code-point order, without reading what they name."""
        with self._database.reading() as connection:
            return _names(connection, _kind_name(kind))

    def all(self) -> builtins.list[Stored]:
        """Every resource, by kind and name, from one consistent snapshot."""
        with self._database.reading() as connection:
            return _all(connection)

    def find(self, kind: type[Resource] | str, name: str) -> Stored | None:
        """The resource, or None."""
        with self._database.reading() as connection:
            return _find(connection, ResourceKey(_kind_name(kind), name))

    def get(self, kind: type[Resource] | str, name: str) -> Stored:
        """The resource. Raises NotFoundError, with the closest name there is."""
        with self._database.reading() as connection:
            return _get(connection, ResourceKey(_kind_name(kind), name))

    def plan(self, resources: Sequence[Resource], *, check: Check | None = None) -> builtins.list[Planned]:
        """What `apply` would do, in order; writes nothing."""
        drafts = drafts_of(resources)
        with self._database.reading() as connection:
            planned = _plan(connection, drafts)
            if check is not None:
                check(_resulting(connection, planned))
        return planned

    def apply(
        self,
        resources: Sequence[Resource],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None = None,
        check: Check | None = None,
    ) -> builtins.list[Planned]:
        """Create or update `resources` in one transaction, all or nothing; say what was done, in order.

        `expected` holds versions the caller has seen, 0 for "does not exist". `check` is given every resource there
        will be. Raises ConflictError when a version moved on, InputError for a value outside its range or a resource
        given twice, and whatever `check` raises; nothing is written then.
        """
        drafts = drafts_of(resources)
        with self._database.writing() as connection:
            _refuse_moved(connection, expected or {})
            planned = _plan(connection, drafts)
            if check is not None:
                check(_resulting(connection, planned))
            _write(connection, planned, drafts, cause, self._actor)
        return planned

    def update(
        self, key: ResourceKey, change: Callable[[Resource], Resource], *, cause: str, check: Check | None = None
    ) -> Planned:
        """Read, change and write one resource with no other write in between.

        Raises NotFoundError, and whatever `change` and `check` raise; nothing is written then.
        """
        with self._database.writing() as connection:
            drafts = drafts_of([change(_get(connection, key).resource)])
            assert drafts[0].key == key, "an update keeps the resource's kind and name"
            planned = _plan(connection, drafts)
            if check is not None:
                check(_resulting(connection, planned))
            _write(connection, planned, drafts, cause, self._actor)
        return planned[0]

    def delete(
        self,
        keys: Sequence[ResourceKey],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None = None,
        check: Check | None = None,
    ) -> builtins.list[Stored]:
        """Delete in one transaction, all or nothing; return what was there. Events keep the last declaration.

        Raises NotFoundError naming every missing key, ConflictError, and whatever `check`, given the remaining
        resources, raises; nothing is deleted then.
        """
        with self._database.writing() as connection:
            _refuse_moved(connection, expected or {})
            deleted = _get_every(connection, dict.fromkeys(keys))
            if check is not None:
                gone = {stored.key for stored in deleted}
                check([stored.resource for stored in _all(connection) if stored.key not in gone])
            ledger.delete(connection, deleted, cause, self._actor)
        return deleted

    def events(
        self,
        *,
        kind: type[Resource] | str | None = None,
        name: str | None = None,
        since_version: int = 0,
        limit: int | None = None,
    ) -> builtins.list[Event]:
        """Events after `since_version`, oldest first; with a `limit` the newest that many. Those of access keys are of
        the kind `Key`."""
        with self._database.reading() as connection:
            return ledger.events(
                connection,
                kind=kind if kind is None or kind in (keys.KIND, ledger.CACHE) else _kind_name(kind),
                name=name,
                since_version=since_version,
                limit=limit,
            )

    def access_keys(self) -> builtins.list[AccessKey]:
        """Every key, revoked and expired ones too, by name."""
        with self._database.reading() as connection:
            return keys.keys_of(connection)

    def create_key(self, wanted: WantedKey, *, cause: str) -> tuple[AccessKey, str]:
        """Make a key; its token is in what this returns and nowhere else. Raises InputError when its name is taken."""
        with self._database.writing() as connection:
            return keys.create(connection, wanted, cause, self._actor or ledger.own_account())

    def revoke_key(self, name: str, *, cause: str) -> AccessKey:
        """End a key for good; nothing is changed when it was revoked before. Raises NotFoundError."""
        with self._database.writing() as connection:
            return keys.revoke(connection, name, cause, self._actor or ledger.own_account())

    def note(self, kind: str, name: str, *, cause: str) -> None:
        """An event of something that is no resource, such as an order to the cache."""
        with self._database.writing() as connection:
            ledger.note(connection, "updated", kind, name, (), cause, self._actor or ledger.own_account())

    def check_integrity(self) -> builtins.list[str]:
        """What is wrong with the registry, a sentence each; empty when all is well."""
        with self._database.reading() as connection:
            return problems_of(connection)

    def backup(self, target: Path) -> None:
        """Write a consistent copy to a new file `target`, while others read and write."""
        self._database.backup(target)


def _kind_name(kind: type[Resource] | str) -> str:
    if not isinstance(kind, str):
        return kind.__name__
    found = kind_named(kind)
    if found is None:
        nouns = sorted(known.noun for known in KINDS.values())
        close = did_you_mean(kind.lower(), nouns)
        raise NotFoundError(
            f"there is no kind {kind!r}", fix=f"did you mean {close}?" if close else f"kinds are: {', '.join(nouns)}"
        )
    return found.__name__


def _stored(row: _Row) -> Stored:
    kind, name, document, uid, version, generation, created_ns, updated_ns = row
    return Stored(resource_from(kind, name, document), uid, version, generation, created_ns, updated_ns)


def _all(connection: sqlite3.Connection) -> list[Stored]:
    return [_stored(row) for row in connection.execute(_SELECT_ALL)]


def _row(connection: sqlite3.Connection, key: ResourceKey) -> _Row | None:
    row: _Row | None = connection.execute(_SELECT_ONE, key).fetchone()
    return row


def _find(connection: sqlite3.Connection, key: ResourceKey) -> Stored | None:
    row = _row(connection, key)
    return None if row is None else _stored(row)


def _get(connection: sqlite3.Connection, key: ResourceKey) -> Stored:
    stored = _find(connection, key)
    if stored is None:
        raise _missing(connection, key)
    return stored


def _get_every(connection: sqlite3.Connection, keys: Iterable[ResourceKey]) -> list[Stored]:
    found = {key: _find(connection, key) for key in keys}
    missing = [_missing(connection, key) for key, stored in found.items() if stored is None]
    if missing:
        first, *rest = missing
        first.related = tuple(rest)
        raise first
    return [stored for stored in found.values() if stored is not None]


def _names(connection: sqlite3.Connection, kind: str) -> list[str]:
    rows = connection.execute("SELECT name FROM resource WHERE kind = ? ORDER BY name", (kind,)).fetchall()
    return [name for (name,) in rows]


def _missing(connection: sqlite3.Connection, key: ResourceKey) -> NotFoundError:
    close = did_you_mean(key.name, _names(connection, key.kind))
    shown = f"gridctl {KINDS[key.kind].noun} list"
    return NotFoundError(
        f"there is no {key}",
        fix=f"did you mean {close}? `{shown}` shows all" if close else f"see what there is: {shown}",
    )


def _refuse_moved(connection: sqlite3.Connection, expected: Mapping[ResourceKey, int]) -> None:
    """Raise ConflictError for every resource that is not at the version its writer saw."""
    errors: list[InputError] = []
    for key, seen in expected.items():
        row = _row(connection, key)
        now = 0 if row is None else row[4]
        if now == seen:
            continue
        if now == 0:
            what, fix = f"{key} was deleted since version {seen} was read", "leave it out, or apply it as new"
        elif seen == 0:
            what, fix = f"{key} exists already, at version {now}; version 0 (none) was expected", "choose another name"
        else:
            what = f"{key} changed since it was read: version {seen} was expected, the registry holds version {now}"
            fix = f"read it again (gridctl {KINDS[key.kind].noun} get {key.name} -o yaml), redo the change, apply it"
        errors.append(ConflictError(what, where=str(key), fix=fix))
    raise_all(errors)


def _plan(connection: sqlite3.Connection, drafts: Sequence[Draft]) -> list[Planned]:
    if len(drafts) < SCAN_FROM:
        return [_planned(draft, _row(connection, draft.key)) for draft in drafts]
    rows: dict[tuple[str, str], _Row] = {row[:2]: row for row in connection.execute(_SELECT_ALL)}
    return [_planned(draft, rows.get(draft.key)) for draft in drafts]


def _planned(draft: Draft, row: _Row | None) -> Planned:
    if row is None:
        return Planned("create", draft.resource, None, changes_between(None, draft.resource))
    if row[2] == draft.text:
        return Planned("unchanged", draft.resource, Stored(draft.resource, *row[3:]), ())
    before = _stored(row)
    diff = changes_between(before.resource, draft.resource)
    # Texts of equal resources may differ when another version of gridctl, with other defaults, wrote the stored one.
    return Planned("update" if diff else "unchanged", draft.resource, before, diff)


def _resulting(connection: sqlite3.Connection, planned: Iterable[Planned]) -> list[Resource]:
    """Every resource there will be, by kind and name."""
    resources = {stored.key: stored.resource for stored in _all(connection)}
    resources.update((step.key, step.resource) for step in planned)
    return [resource for _, resource in sorted(resources.items())]


def _write(
    connection: sqlite3.Connection,
    planned: Iterable[Planned],
    drafts: Iterable[Draft],
    cause: str,
    actor: str | None,
) -> None:
    ledger.write(connection, _writes(planned, drafts), cause, actor)


def _writes(planned: Iterable[Planned], drafts: Iterable[Draft]) -> Iterator[tuple[Planned, str]]:
    for step, draft in zip(planned, drafts, strict=True):
        if step.action != "unchanged":
            yield step, draft.text
