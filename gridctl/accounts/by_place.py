"""Places: how the requests from each origin fared, and those sent to each site.

Two views of the same requests: an origin answers for what its users got, wherever it was served; a site for what was
sent to it, wherever it came from. Good and causes are `goodness`'s. O(n), whatever the number of places.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.facts import EngineFacts
from gridctl.accounts.goodness import CAUSES, Goodness, judge
from gridctl.accounts.rows import Run


class PlaceShare(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one place."""

    name: str
    tier: str  # of a site; "" for an origin
    region: str
    requests: int
    good: int
    attainment: float  # good ÷ requests
    main_cause: str  # of its bad requests; "" when there are none


def by_origin(run: Run) -> tuple[PlaceShare, ...]:
    """Every place that requests came from, by name."""
    origins = run.info.origins
    return _shares(
        judge(run),
        [origin.name for origin in origins],
        {origin.name: ("", origin.region) for origin in origins},
        run.rows.origin,
    )


def by_site(run: Run) -> tuple[PlaceShare, ...]:
    """Every site that requests were sent to, by name; what was sent nowhere is not among them."""
    engines = run.info.engines
    return _shares(
        judge(run),
        [site_name(engine) for engine in engines],
        {site_name(engine): (engine.tier, engine.region) for engine in engines},
        run.rows.engine,
    )


def site_name(engine: EngineFacts) -> str:
    """The engine's site; the fallback API stands at none."""
    return engine.site or f"({engine.tier})"


def _shares(
    goodness: Goodness, names: Sequence[str], facts: dict[str, tuple[str, str]], codes: NDArray[np.int32]
) -> tuple[PlaceShare, ...]:
    """A row per name that any code points to; −1 points nowhere."""
    distinct = sorted(set(names))
    position = {name: index for index, name in enumerate(distinct)}
    lookup = np.array([position[name] for name in names], dtype=np.int64)
    placed = codes >= 0
    cells = lookup[codes[placed]] * len(CAUSES) + goodness.cause[placed] if len(names) else np.zeros(0, dtype=np.int64)
    counts = np.bincount(cells, minlength=len(distinct) * len(CAUSES)).reshape(-1, len(CAUSES))
    rows = []
    for name, causes in zip(distinct, counts.tolist(), strict=True):
        requests = sum(causes)
        if not requests:
            continue
        tier, region = facts[name]
        worst = max(range(1, len(CAUSES)), key=causes.__getitem__)
        rows.append(
            PlaceShare(
                name=name,
                tier=tier,
                region=region,
                requests=requests,
                good=causes[0],
                attainment=causes[0] / requests,
                main_cause=CAUSES[worst] if causes[worst] else "",
            )
        )
    return tuple(rows)
