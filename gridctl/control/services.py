"""What the control process is lent by the room above it, which composes it: how the grid is read and changed.

The services behind the command line live above this room; the admin API must run the very same ones, so whoever starts
the control process hands them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from gridctl.registry import AccessKey, Planned, Registry
from gridctl.resources import Resource, ResourceKey


class Declared(NamedTuple):
    """The grid as it is declared at one version: what a plan is made from. `resources` holds the policy that was asked
    for under the name `policy`."""

    version: int
    resources: tuple[Resource, ...]
    policy: str
    price_book: str
    keys: tuple[AccessKey, ...]


class GridServices(Protocol):
    """Each call opens the registry anew, so that it may be made from any thread."""

    def declared(self) -> Declared:
        """The grid now. Raises InputError when it cannot be served."""

    def open_registry(self, actor: str | None) -> Registry:
        """The registry; its events will name `actor`."""

    def apply(
        self,
        registry: Registry,
        resources: Sequence[Resource],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None,
        dry_run: bool,
    ) -> list[Planned]:
        """Create and update, all or nothing, as `gridctl apply` does. With `expected` versions, exactly as given."""

    def delete(
        self,
        registry: Registry,
        keys: Sequence[ResourceKey],
        *,
        cause: str,
        expected: Mapping[ResourceKey, int] | None,
        dry_run: bool,
    ) -> list[Resource]:
        """Delete, all or nothing; refused while something refers to one of them."""
