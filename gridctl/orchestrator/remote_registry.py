"""The registry of an orchestrator elsewhere: what commands know as `Registry`, over its admin API.

Every method of `Registry` means the same here, so a command need not know where the grid is. Checks of the whole grid
are made by the orchestrator, inside the transaction that writes; the caller's own are not sent.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gridctl.control.registry_messages import KeyMessage, WantedKeyMessage
from gridctl.errors import ConflictError, InputError, NotFoundError
from gridctl.orchestrator.live_client import LiveClient, Remote
from gridctl.registry import AccessKey, Event, Planned, Registry, Stored, WantedKey
from gridctl.registry.keys import KIND as KEY
from gridctl.registry.registry import Check
from gridctl.resources import Resource, ResourceKey, key_of, kind_named

ATTEMPTS = 5
"""Times a read-change-write is tried anew when somebody else wrote in between."""


class RemoteRegistry(Registry):
    """The resources of one grid, far away."""

    def __init__(self, remote: Remote, client: LiveClient | None = None) -> None:
        self._client = client or LiveClient(remote)

    @classmethod
    def open(cls, path: Path, *, create: bool = False, busy_timeout_s: float = 5.0, actor: str | None = None) -> Self:
        """Not from a file: a remote registry is made from its address."""
        raise InputError("a grid elsewhere is no file", where=str(path), fix="gridctl context add NAME --url URL")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def version(self) -> int:
        return self._client.version()

    def change_mark(self) -> int:
        return self._client.version()

    def list(self, kind: type[Resource] | str) -> builtins.list[Stored]:
        return self._client.resources(_word(kind))

    def names(self, kind: type[Resource] | str) -> builtins.list[str]:
        return [stored.resource.name for stored in self.list(kind)]

    def all(self) -> builtins.list[Stored]:
        return self._client.resources()

    def find(self, kind: type[Resource] | str, name: str) -> Stored | None:
        try:
            return self.get(kind, name)
        except NotFoundError:
            return None

    def get(self, kind: type[Resource] | str, name: str) -> Stored:
        return self._client.resource(_word(kind), name)

    def plan(self, resources: Sequence[Resource], *, check: Check | None = None) -> builtins.list[Planned]:
        return self._client.apply(resources, cause="", expected={}, dry_run=True)

    def apply(
        self,
        resources: Sequence[Resource],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None = None,
        check: Check | None = None,
    ) -> builtins.list[Planned]:
        return self._client.apply(resources, cause=cause, expected=expected or {}, dry_run=False)

    def update(
        self, key: ResourceKey, change: Callable[[Resource], Resource], *, cause: str, check: Check | None = None
    ) -> Planned:
        for attempt in range(ATTEMPTS):
            before = self.get(key.kind, key.name)
            after = change(before.resource)
            assert key_of(after) == key, "an update keeps the resource's kind and name"
            try:
                return self.apply([after], cause=cause, expected={key: before.version})[0]
            except ConflictError:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def delete(
        self,
        keys: Sequence[ResourceKey],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None = None,
        check: Check | None = None,
    ) -> builtins.list[Stored]:
        return self._client.delete(keys, cause=cause, expected=expected, dry_run=False)

    def events(
        self,
        *,
        kind: type[Resource] | str | None = None,
        name: str | None = None,
        since_version: int = 0,
        limit: int | None = None,
    ) -> builtins.list[Event]:
        word = None if kind is None else KEY if kind == KEY else _word(kind)
        return self._client.events(kind=word, name=name, since_version=since_version, limit=limit)

    def access_keys(self) -> builtins.list[AccessKey]:
        return [_access_key(key) for key in self._client.access_keys()]

    def create_key(self, wanted: WantedKey, *, cause: str) -> tuple[AccessKey, str]:
        made = self._client.create_key(
            WantedKeyMessage(
                name=wanted.name,
                role=wanted.role,
                tenant=wanted.tenant,
                workload=wanted.workload,
                expires_unix_ns=wanted.expires_ns,
                requests_per_s=wanted.requests_per_s,
                tokens_per_minute=wanted.tokens_per_minute,
                site=wanted.site,
                cause=cause,
            )
        )
        return _access_key(made), made.token

    def revoke_key(self, name: str, *, cause: str) -> AccessKey:
        return _access_key(self._client.revoke_key(name, cause))

    def check_integrity(self) -> builtins.list[str]:
        raise InputError("a database is checked where it is", fix="run gridctl doctor on the orchestrator's machine")

    def backup(self, target: Path) -> None:
        raise InputError("a database is copied where it is", where=str(target), fix="or: gridctl export > grid.yaml")


def _access_key(key: KeyMessage) -> AccessKey:
    """A key as it is told of: its digest stays where it is kept."""
    return AccessKey(
        name=key.name,
        digest="",
        role=key.role,
        tenant=key.tenant,
        workload=key.workload,
        created_ns=key.created_unix_ns,
        created_by=key.created_by,
        expires_ns=key.expires_unix_ns,
        revoked_ns=key.revoked_unix_ns,
        requests_per_s=key.requests_per_s,
        tokens_per_minute=key.tokens_per_minute,
        site=key.site,
    )


def _word(kind: type[Resource] | str) -> str:
    """The kind as the API spells it; a word that names none is left to the API to refuse."""
    if not isinstance(kind, str):
        return kind.__name__
    found = kind_named(kind)
    return found.__name__ if found is not None else kind
