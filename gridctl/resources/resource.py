"""What every kind has in common: `apiVersion`, `kind`, `metadata`, `spec`; and the table of kinds.

A kind registers itself by subclassing `Resource`; the table drives manifests, schemas, the registry, `explain` and
the command grammar, so that adding a kind is adding one module here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import msgspec

from gridctl.resources.quantity import Name, Text

API_VERSION = "gridctl/v1"

State = Literal["active", "cordoned", "draining", "down"]

KINDS: dict[str, type[Resource]] = {}


class Metadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Name, unique within its kind, and free labels for selection."""

    name: Name
    labels: dict[Text, Text] = {}


class Resource(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag=lambda name: name,
):
    """One declared thing. Subclasses add `spec` and the class facts below."""

    plural: ClassVar[str] = ""
    noun: ClassVar[str] = ""
    summary: ClassVar[str] = ""

    metadata: Metadata
    apiVersion: Literal["gridctl/v1"] = "gridctl/v1"  # noqa: N815 (the wire name)
    spec: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def kind(self) -> str:
        return type(self).__name__


class ResourceKey(NamedTuple):
    """Identity of a resource: kind and name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{KINDS[self.kind].noun} {self.name}"


def key_of(resource: Resource) -> ResourceKey:
    """The resource's identity."""
    return ResourceKey(resource.kind, resource.name)


def kind_named(word: str) -> type[Resource] | None:
    """The kind for `Site`, `site` or `sites`; None when there is none."""
    low = word.lower()
    for name, kind in KINDS.items():
        if low in (name.lower(), kind.noun, kind.plural):
            return kind
    return None
