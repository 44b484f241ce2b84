"""Game day: faults as a file. What goes wrong, where, when and for how long, while a trace is replayed.

A game day is a question, not a part of the grid, so it is no kind that can be applied: it stays a file. Which engines
its places mean is decided where the grid is known (`replay.faults`).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gridctl.resources.quantity import CountryCode, Milliseconds, Name, Text
from gridctl.resources.resource import Metadata
from gridctl.units import NS_PER_S

GAME_DAY_KIND = "GameDay"
DEFAULT_NOTICED_AFTER = "31s"
"""What probes of Kubernetes' defaults take to give a server up: three of them every 10 s, each waiting 1 s."""

DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)$(?!\n)"
Duration = Annotated[
    str,
    Meta(
        pattern=DURATION_PATTERN,
        description="a number and ms, s, m, h or d, for example 90s or 5m",
    ),
]
Region = Annotated[str, Meta(min_length=1, max_length=63)]
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
PLACES = ("site", "cluster", "region", "country", "tier")
SOURCES = ("origin", "country", "region")
Price = Literal["gpu-hour", "serverless", "egress", "api", "energy"]
PRICES: tuple[Price, ...] = ("gpu-hour", "serverless", "egress", "api", "energy")


class Where(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The engines of one site, one cluster, one region, one country or one tier: exactly one of them is given. With a
    `model` those alone that serve it."""

    site: Name | None = None
    cluster: Name | None = None
    region: Region | None = None
    country: CountryCode | None = None
    tier: Text | None = None
    model: Name | None = None


class Slow(Where, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Engines whose every step takes `factor` times as long."""

    factor: Annotated[float, Meta(gt=0, le=1000)]


class Brownout(Where, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Engines that keep this share of their batch seats, rounded down, one at least."""

    keep: Annotated[float, Meta(gt=0, le=1)]


class Whence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Clients of one origin as the trace names it, of one country or of one region: exactly one of them is given."""

    origin: Text | None = None
    country: CountryCode | None = None
    region: Region | None = None


class Path(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"whence": "from"}
):
    """The network from some clients to some engines, or the declared Link `between` two sites: every round trip takes
    `add_ms` longer, or there is no way (`lost`)."""

    whence: Whence | None = None
    to: Where | None = None
    between: Name | None = None
    add_ms: Milliseconds = 0.0
    lost: bool = False


class Blindness(Where, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Engines whose telemetry stops: what the router last saw of them stays (`stale`), or is gone (`missing`). Every
    engine, when no place is given."""

    state: Literal["stale", "missing"] = "stale"


class Crowd(Whence, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Clients that send `times` as many requests."""

    times: Annotated[float, Meta(gt=1, le=1000)]


class PriceChange(Where, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A price that is `factor` times what it was. Everywhere, when no place is given; the API stands at none."""

    of: Price
    factor: Annotated[float, Meta(ge=0, le=1000)]


class FaultSpec(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename={"lasts": "for"}
):
    """One thing that goes wrong, from `at` on, `for` so long: exactly one of the others but `noticed_after`. A price
    may change for good, and then lasts no time."""

    at: Duration
    lasts: Duration | None = None
    lose: Where | None = None
    slow: Slow | None = None
    brownout: Brownout | None = None
    link: Path | None = None
    telemetry: Blindness | None = None
    crowd: Crowd | None = None
    price: PriceChange | None = None
    noticed_after: Duration | None = None


class GameDaySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The faults. Times count from the trace's first request; `noticed_after` is how long the router goes on sending to
    what is lost, and by paths that changed."""

    faults: Annotated[tuple[FaultSpec, ...], Meta(min_length=1, max_length=1000)]
    noticed_after: Duration = DEFAULT_NOTICED_AFTER


class GameDay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file: `kind: GameDay`, a name, and the faults."""

    metadata: Metadata
    spec: GameDaySpec
    apiVersion: Literal["gridctl/v1"] = "gridctl/v1"  # noqa: N815 (the wire name)


def nanoseconds_of(duration: str) -> int:
    """A `Duration` in nanoseconds.

    >>> nanoseconds_of("1.5m")
    90000000000
    """
    found = re.fullmatch(r"([0-9.]+)(ms|s|m|h|d)", duration)
    assert found is not None, "durations are checked when a file is read"
    return round(float(found[1]) * _UNITS_S[found[2]] * NS_PER_S)
