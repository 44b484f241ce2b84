"""Link: a measured round-trip time between two sites, which overrides the fitted network model."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from gridctl.resources.quantity import Name, PositiveMilliseconds
from gridctl.resources.resource import Resource


class LinkSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Both directions of a pair of sites."""

    source: Name
    target: Name
    rtt_ms: PositiveMilliseconds


class Link(Resource, frozen=True, kw_only=True):
    """A measured round-trip time between two sites."""

    plural: ClassVar[str] = "links"
    noun: ClassVar[str] = "link"
    summary: ClassVar[str] = "a measured round-trip time between two sites, instead of the model's estimate"

    spec: LinkSpec
