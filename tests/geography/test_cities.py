"""Names of cities as people type them."""

import pytest

from gridctl.errors import NotFoundError
from gridctl.geography.cities import all_cities, country_code, find_city, slug, unaccented


@pytest.mark.parametrize(
    ("text", "name", "country"),
    [
        ("paris", "Paris", "FR"),
        ("Paris, France", "Paris", "FR"),
        ("paris,us", "Paris", "US"),
        ("münchen", "Munich", "DE"),
        ("New York", "New York City", "US"),
        ("東京", "Tokyo", "JP"),
        ("sao paulo", "São Paulo", "BR"),
        ("São Paulo, Brazil", "São Paulo", "BR"),
        ("birmingham", "Birmingham", "GB"),
        ("birmingham, usa", "Birmingham", "US"),
    ],
)
def test_the_most_populous_city_of_a_name_wins_unless_a_country_is_given(text, name, country):
    city = find_city(text)
    assert (city.name, city.country) == (name, country)


@pytest.mark.parametrize(
    ("text", "hint"),
    [("pariss", "Paris, FR"), ("paris, frnce", "France"), ("lyon, us", "Lyon, FR"), ("", "LAT,LON"), (",", "LAT,LON")],
)
def test_an_unknown_city_says_what_it_may_have_been(text, hint):
    with pytest.raises(NotFoundError) as caught:
        find_city(text)
    assert hint in (caught.value.fix or "")


def test_cities_come_largest_first_with_a_fixed_order():
    cities = all_cities()
    assert len(cities) > 30_000
    assert list(cities) == sorted(cities, key=lambda city: (-city.population, city.id))


def test_slugs_are_plain():
    assert slug("Æbeltoft / Ærø") == "aebeltoft-aero"
    assert slug("Wrocław") == "wroclaw"
    assert slug("東京") == ""
    assert unaccented("ca-montréal-01") == "ca-montreal-01"


def test_countries_go_by_code_name_and_common_alias():
    assert [country_code(t) for t in ("fr", "The Netherlands", "Netherlands", "UK", "Narnia", "")] == [
        "FR",
        "NL",
        "NL",
        "GB",
        None,
        None,
    ]
