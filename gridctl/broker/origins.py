"""Origins: where a request comes from: what its header says, else what the address map says, else the default.

A header names a site, a city that a site stands in, or LAT,LON. An origin nobody knows is a state of its own: workloads
bound to a country, a jurisdiction or a distance are refused then, never served anywhere, and round trips are counted
from the gateway's own place, as 0 where that is not known either. Looks nothing up that takes longer than a decision:
the gazetteer is asked once for the names of the settings.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gridctl.accounts.facts import Origin
from gridctl.broker.head import Head
from gridctl.broker.plan import Settings
from gridctl.broker.refusal import Refusal, bad_request
from gridctl.errors import GridctlError, InputError
from gridctl.geography.place import Place, place_of, resolve_place
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.geography.sphere import unit_vector
from gridctl.grid.view import jurisdiction_at
from gridctl.resources import Site

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN_NAME: Final = ""
MOST_KNOWN: Final = 65_536
"""Addresses and names kept in memory; beyond them all are looked up anew."""
DECIMALS: Final = 1
"""Of degrees: 11 km or less, which light needs 0.1 ms for; finer would make every client an origin of its own."""
LONGEST_NAME: Final = 128
_COORDINATES: Final = re.compile(rb"\s*([+-]?\d{1,3}(?:\.\d{0,12})?)\s*,\s*([+-]?\d{1,3}(?:\.\d{0,12})?)\s*")


@dataclass(frozen=True, slots=True)
class Where:
    """An origin: its place (None: unknown) and what hard constraints need to know of it. `gateway` is where the gateway
    stands, from where round trips are counted for callers of unknown place; it allows them nothing."""

    place: Place | None
    origin: Origin
    gateway: Place | None = None


NOWHERE_KNOWN: Final = Where(None, Origin(name=UNKNOWN_NAME, country="", region="", jurisdiction=""))


class Origins:
    """The origins of a plan. Raises InputError for settings that name places or networks that do not exist."""

    def __init__(self, sites: Mapping[str, Site], settings: Settings) -> None:
        self._sites = sites
        self._header = settings.origin_header.lower().encode() if settings.trust_origin_header else b""
        self._named: dict[bytes, Where] = {}
        self._by_city = _largest_by_city(sites)
        self._default = NOWHERE_KNOWN
        if settings.gateway_place is not None:
            stands = self._declared(settings.gateway_place, "gateway_place")
            self._default = Where(None, NOWHERE_KNOWN.origin, stands.place)
        if settings.default_origin is not None:
            self._default = self._declared(settings.default_origin, "default_origin")
        networks = [(_network(cidr), self._declared(place, "address_map")) for cidr, place in settings.address_map]
        self._networks = sorted(networks, key=lambda pair: -pair[0].prefixlen)
        self._by_address: dict[str, Where] = {}
        self._countries: tuple[NDArray[np.float64], list[str]] | None = None

    def of(self, head: Head) -> Where:
        """Where the request comes from. Raises Refusal for a header that names no place."""
        if self._header:
            named = head.headers.get(self._header)
            if named is not None:
                return self._known(named)
        if not self._networks:
            return self._default
        peer = head.peer
        found = self._by_address.get(peer)
        if found is None:
            if len(self._by_address) >= MOST_KNOWN:
                self._by_address.clear()
            found = self._by_address[peer] = self._by_network(peer)
        return found

    @property
    def default(self) -> Where:
        """Where requests come from of which nothing else is known."""
        return self._default

    def named(self, text: str) -> Where:
        """The origin that a name or LAT,LON means; the gazetteer is asked, too. Raises InputError, NotFoundError."""
        try:
            return self._known(text.encode())
        except Refusal:
            return self._where(resolve_place(text, self._sites))

    def _known(self, name: bytes) -> Where:
        found = self._named.get(name)
        if found is None:
            found = self._find(name)
            if len(self._named) >= MOST_KNOWN:
                self._named.clear()
            self._named[name] = found
        return found

    def _find(self, name: bytes) -> Where:
        if len(name) <= LONGEST_NAME:
            text = name.decode("utf-8", "replace").strip()
            site = self._sites.get(text) or self._by_city.get(text.casefold())
            if site is not None:
                return self._where(place_of(site))
            numbers = _COORDINATES.fullmatch(name)
            if numbers is not None:
                return self._at(float(numbers[1]), float(numbers[2]))
        raise Refusal(
            400,
            f"The {self._header.decode()} header names no site, no site's city, and no place as LAT,LON.",
            reason="unknown-origin",
            param=self._header.decode(),
            should_retry=False,
        )

    def _at(self, lat: float, lon: float) -> Where:
        """A point, rounded; in the country of the nearest site, which knows its own."""
        if abs(lat) > 90 or abs(lon) > 180:
            raise bad_request("Latitudes are from -90 to 90 degrees, longitudes from -180 to 180.")
        lat, lon = round(lat, DECIMALS) + 0.0, round(lon, DECIMALS) + 0.0  # no negative zero
        return self._where(Place(f"{lat:g},{lon:g}", lat, lon, self._country_near(lat, lon)))

    def _country_near(self, lat: float, lon: float) -> str:
        import numpy as np

        if not self._sites:
            return ""
        if self._countries is None:
            sites = list(self._sites.values())
            vectors = np.array([unit_vector(site.spec.lat, site.spec.lon) for site in sites])
            self._countries = vectors, [site.spec.country for site in sites]
        vectors, countries = self._countries
        return countries[int(np.argmax(vectors @ np.array(unit_vector(lat, lon))))]

    def _by_network(self, peer: str) -> Where:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return self._default
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped if mapped is not None else address
        for network, where in self._networks:
            if address.version == network.version and address in network:
                return where
        return self._default

    def _declared(self, text: str, field: str) -> Where:
        try:
            where = self._where(resolve_place(text, self._sites))
        except GridctlError as error:
            raise InputError(error.what, where=f"settings.{field}", fix=error.fix) from error
        self._named[text.encode()] = where
        return where

    def _where(self, place: Place) -> Where:
        site = self._sites.get(place.name) if place.tier else None
        jurisdiction = jurisdiction_at(site) if site is not None else jurisdiction_of(place.country)
        country = place.country
        region = region_of(country) if country else ""
        return Where(
            place, Origin(name=place.name, country=country, region=region, jurisdiction=jurisdiction if country else "")
        )


def _largest_by_city(sites: Mapping[str, Site]) -> dict[str, Site]:
    """Of each city with sites the one with the most people."""
    found: dict[str, Site] = {}
    for site in sites.values():
        name = site.spec.city.casefold()
        if name and (name not in found or site.spec.population > found[name].spec.population):
            found[name] = site
    return found


def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(cidr, strict=False)
    except ValueError as error:
        raise InputError(
            f"{cidr!r} is not a network: {error}", where="settings.address_map", fix="write 10.0.0.0/8 or 2001:db8::/32"
        ) from None
