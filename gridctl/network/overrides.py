"""Overrides: measured links between sites, which win over the model in both directions.

Two links for one pair of sites contradict each other and are refused, rather than one of them silently winning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gridctl.errors import InputError, raise_all
from gridctl.geography.place import Place
from gridctl.network.model import rtt_ms
from gridctl.resources import Link

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Overrides:
    """The links of a grid, by pair of sites.

    Raises: InputError for a second link of a pair, and for a link from a site to itself.
    """

    def __init__(self, links: Iterable[Link] = ()) -> None:
        self._by_site: dict[str, dict[str, Link]] = {}
        errors: list[InputError] = []
        for link in links:
            source, target = link.spec.source, link.spec.target
            first = self._by_site.get(source, {}).get(target)
            where = f"link {link.name}"
            if source == target:
                errors.append(InputError(f"it leads from {source} to itself", where=where, fix="name two sites"))
            elif first is not None:
                what = f"link {first.name} already measures {source} and {target}"
                errors.append(InputError(what, where=where, fix=f"gridctl link delete {first.name}"))
            else:
                self._by_site.setdefault(source, {})[target] = link
                self._by_site.setdefault(target, {})[source] = link
        raise_all(errors)

    def __len__(self) -> int:
        return sum(len(targets) for targets in self._by_site.values()) // 2

    def between(self, a: str, b: str) -> Link | None:
        """The link of two sites, whichever way it was declared."""
        return self._by_site.get(a, {}).get(b)

    def rtt_ms(self, a: Place, b: Place) -> float:
        """Measured where there is a link, else the model's estimate. A place is a site's when it has a tier."""
        link = self.between(a.name, b.name) if a.tier and b.tier else None
        return link.spec.rtt_ms if link else rtt_ms(a, b)

    def patch_us(self, origin: str, row: NDArray[np.int64], columns: Mapping[str, list[int]]) -> None:
        """Write the links of site `origin` into its row of microseconds; `columns` finds a site's entries."""
        for target, link in self._by_site.get(origin, {}).items():
            for column in columns.get(target, ()):
                row[column] = max(1, int(link.spec.rtt_ms * 1000 + 0.5))
