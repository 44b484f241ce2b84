"""Estimate: round-trip times from many places to many sites at once, measured links included.

Decides nothing the model has not decided: every entry equals `Overrides.rtt_ms` of its pair, to the microsecond. NumPy
is imported by the first call, so that commands without arrays stay fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from gridctl.geography.place import Place
from gridctl.geography.sphere import arcs_km, unit_vector
from gridctl.network.areas import AREAS, area_of, pair_key
from gridctl.network.coefficients import COUNTRY_MS
from gridctl.network.curve import KNOTS_KM, evaluate_each
from gridctl.network.model import TIER_FLOOR_MS, curve_between
from gridctl.network.overrides import Overrides
from gridctl.resources import Link

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AREA_INDEX = {area: index for index, area in enumerate(AREAS)}


class RttField:
    """Round-trip times from any place to `n` fixed sites, whose arrays are made once."""

    def __init__(self, sites: Sequence[Place], overrides: Overrides | None = None) -> None:
        import numpy as np

        self._vectors = np.array([unit_vector(site.lat, site.lon) for site in sites]).reshape(len(sites), 3).T.copy()
        self._areas = np.array([_area_index(site) for site in sites], dtype=np.int64)
        self._shares = np.array([COUNTRY_MS.get(site.country, 0.0) for site in sites])
        self._floors = np.array([TIER_FLOOR_MS[site.tier] for site in sites])
        self._overrides = overrides or Overrides()
        self._columns = {site.name: [column] for column, site in enumerate(sites) if site.tier}

    def from_place(self, origin: Place) -> NDArray[np.int64]:
        """Microseconds to every site, shape (n,). O(n)."""
        import numpy as np

        knots, slopes = _curves_from(_area_index(origin))
        km = arcs_km(unit_vector(origin.lat, origin.lon), self._vectors)
        share = COUNTRY_MS.get(origin.country, 0.0) + self._shares
        along = evaluate_each(knots[self._areas], slopes[self._areas], km, share)
        floor = np.maximum(TIER_FLOOR_MS[origin.tier], self._floors)
        row: NDArray[np.int64] = np.floor(np.maximum(along, floor) * 1000 + 0.5).astype(np.int64)
        if origin.tier:
            self._overrides.patch_us(origin.name, row, self._columns)
        return row


class RttMatrix:
    """Round-trip times from many places to `n` fixed sites, whose arrays are made once; compiled.

    Raises: InputError when links contradict each other.
    """

    def __init__(self, sites: Sequence[Place], links: Mapping[str, Link] | None = None) -> None:
        import numpy as np

        self._sites = _columns(sites)
        self._overrides = Overrides((links or {}).values())
        self._named: dict[str, list[int]] = {}
        for column, site in enumerate(sites):
            if site.tier:
                self._named.setdefault(site.name, []).append(column)
        curves = [_curves_from(area) for area in range(len(AREAS))]
        self._knots = np.array([knots for knots, _ in curves])
        self._slopes = np.array([slopes for _, slopes in curves])

    def from_places(self, origins: Sequence[Place]) -> NDArray[np.int64]:
        """Microseconds between every origin and every site, shape (origins, sites)."""
        import numpy as np

        from gridctl.network.matrix import COEFFICIENTS, KNOTS, fill_matrix

        out = np.empty((len(origins), len(self._sites[0])), dtype=np.int64)
        scratch = np.empty((4, out.shape[1]))
        vectors, areas, shares, floors = self._sites
        sites = np.ascontiguousarray(vectors.T), areas, shares, floors
        curves = self._knots, self._slopes, KNOTS
        fill_matrix(*_columns(origins), *sites, *curves, COEFFICIENTS, scratch, out)
        if len(self._overrides):
            for row, origin in enumerate(origins):
                if origin.tier:
                    self._overrides.patch_us(origin.name, out[row], self._named)
        return out


def rtt_matrix_us(
    origins: Sequence[Place], sites: Sequence[Place], links: Mapping[str, Link] | None = None
) -> NDArray[np.int64]:
    """Microseconds between every origin and every site, shape (origins, sites).

    Callers that cannot hold all of it keep an `RttMatrix` and take some origins at a time.

    Raises: InputError when links contradict each other.
    """
    return RttMatrix(sites, links).from_places(origins)


def _columns(
    places: Sequence[Place],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors, shape (n, 3), areas, what the countries add, and floors."""
    import numpy as np

    vectors = np.array([unit_vector(place.lat, place.lon) for place in places], np.float64).reshape(len(places), 3)
    return (
        vectors,
        np.array([_area_index(place) for place in places], dtype=np.int64),
        np.array([COUNTRY_MS.get(place.country, 0.0) for place in places], np.float64),
        np.array([TIER_FLOOR_MS[place.tier] for place in places], np.float64),
    )


def _area_index(place: Place) -> int:
    return _AREA_INDEX[area_of(place.country, place.lon)]


@cache
def _curves_from(area: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots, shape (areas, knots), and slopes, shape (areas,), of the curves from one area to each."""
    import numpy as np

    curves = [curve_between(pair_key(AREAS[area], other)) for other in AREAS]
    knots = np.array([curve.knots_ms for curve in curves]).reshape(len(AREAS), len(KNOTS_KM))
    return knots, np.array([curve.slope_ms_per_km for curve in curves])
