"""Many round trips at once equal one at a time; links win."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.geography.place import Place
from gridctl.geography.regions import countries
from gridctl.network.estimate import RttField, rtt_matrix_us
from gridctl.network.model import rtt_ms
from gridctl.network.overrides import Overrides
from gridctl.resources import Link, LinkSpec, Metadata

REPOSITORY = Path(__file__).resolve().parents[2]
TIERS = ("edge", "metro", "regional", "core", None)


def places(n: int, seed: int) -> list[Place]:
    draw = random.Random(seed)
    return [
        Place(f"s{i}", draw.uniform(-90, 90), draw.uniform(-180, 180), draw.choice(countries()), draw.choice(TIERS))
        for i in range(n)
    ]


def link(name: str, source: str, target: str, rtt: float) -> Link:
    return Link(metadata=Metadata(name=name), spec=LinkSpec(source=source, target=target, rtt_ms=rtt))


def test_the_matrix_equals_the_model_to_the_microsecond():
    origins, sites = places(40, 1), places(60, 2)
    matrix = rtt_matrix_us(origins, sites)
    assert matrix.shape == (40, 60)
    assert matrix.dtype == "int64"
    assert matrix.tolist() == [[round(rtt_ms(a, b) * 1000) for b in sites] for a in origins]


def test_no_sites_and_no_origins_give_empty_matrices():
    assert rtt_matrix_us([], places(3, 1)).shape == (0, 3)
    assert rtt_matrix_us(places(3, 1), []).shape == (3, 0)


def test_a_link_wins_in_both_directions_and_only_between_sites():
    a = Place("a", 10, 10, "FR", "edge")
    b = Place("b", 50, 10, "DE", "core")
    overrides = Overrides([link("ab", "a", "b", 3.25)])
    assert overrides.rtt_ms(a, b) == overrides.rtt_ms(b, a) == 3.25
    links = {"ab": link("ab", "a", "b", 3.25)}
    assert rtt_matrix_us([a], [a, b], links)[0, 1] == 3250
    assert rtt_matrix_us([b], [a, b], links)[0, 0] == 3250
    city = Place("a", 10, 10, "FR")  # a city that happens to be called like the site
    assert rtt_matrix_us([city], [b], links)[0, 0] == round(rtt_ms(city, b) * 1000)


def test_a_field_row_with_links_equals_the_overrides_of_each_pair():
    sites = [place for place in places(30, 3) if place.tier]
    overrides = Overrides([link(f"l{i}", sites[0].name, sites[i].name, 10.0 + i) for i in range(1, 6)])
    row = RttField(sites, overrides).from_place(sites[0])
    assert row.tolist() == [round(overrides.rtt_ms(sites[0], other) * 1000) for other in sites]
    assert len(overrides) == 5


def test_links_that_contradict_each_other_are_refused_together():
    with pytest.raises(InputError) as caught:
        Overrides([link("one", "a", "b", 1), link("two", "b", "a", 2), link("self", "c", "c", 1)])
    assert "link one already measures" in caught.value.what
    assert caught.value.where == "link two"
    assert ["itself" in error.what for error in caught.value.related] == [True]


def test_estimates_of_one_pair_import_no_numpy():
    script = (
        "import sys; from gridctl.network.model import rtt_ms; from gridctl.geography.place import resolve_place as p;"
        "import gridctl.geography.world, gridctl.cli.network; rtt_ms(p('paris'), p('0,0'));"
        "print({'numpy', 'numba', 'httpx', 'rich', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "set()\n"
