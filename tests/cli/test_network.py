"""`gridctl network` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable

LINK = """\
apiVersion: gridctl/v1
kind: Link
metadata: {name: paris-oslo}
spec: {source: fr-paris-01, target: no-oslo-01, rtt_ms: 21.5}
"""


def test_rtt_between_cities_needs_no_grid(shell: Callable) -> None:
    ran = shell("network", "rtt", "paris", "new york", "-o", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["kind"] == "RttEstimate"
    assert (found["from"], found["to"]) == ("Paris, FR", "New York City, US")
    assert 5_830 < found["distance_km"] < 5_845
    assert found["low_ms"] < found["rtt_ms"] < found["high_ms"]
    assert (found["class"], found["link"]) == ("inter-region", None)
    assert "90%" in ran.err


def test_southern_coordinates_are_no_options(shell: Callable) -> None:
    ran = shell("network", "rtt", "-33.87,151.21", "-37.81,144.96", "-o", "json")
    assert ran.code == 0, ran.err
    assert 700 < json.loads(ran.out)["distance_km"] < 725


def test_a_table_names_every_fact(shell: Callable) -> None:
    ran = shell("network", "rtt", "paris", "london")
    assert [line.split("  ")[0] for line in ran.out.splitlines()] == [
        "From",
        "To",
        "RTT ms",
        "Low ms",
        "High ms",
        "Distance km",
        "Class",
        "Link",
    ]


def test_sites_and_links_of_the_grid_are_known(grid: Callable, tmp_path) -> None:
    before = json.loads(grid("network", "rtt", "fr-paris-01", "no-oslo-01", "-o", "json").out)
    assert before["link"] is None
    (tmp_path / "link.yaml").write_text(LINK)
    assert grid("apply", "-f", str(tmp_path / "link.yaml")).code == 0
    for pair in (("fr-paris-01", "no-oslo-01"), ("no-oslo-01", "fr-paris-01")):
        after = json.loads(grid("network", "rtt", *pair, "-o", "json").out)
        assert (after["rtt_ms"], after["low_ms"], after["high_ms"]) == (21.5, 21.5, 21.5)
        assert after["link"] == "paris-oslo"


def test_places_that_do_not_exist(shell: Callable) -> None:
    unknown = shell("network", "rtt", "pariss", "london")
    assert (unknown.code, unknown.out) == (4, "")
    assert "did you mean Paris" in unknown.err
    off = shell("network", "rtt", "95,0", "london")
    assert (off.code, off.out) == (3, "")
    assert "latitude" in off.err
    assert shell("network", "rtt", "paris").code == 2
    assert shell("network", "rtt", "paris", "london", "--coverage", "2").code == 2


def test_validate_prints_the_error_by_class(shell: Callable, tmp_path) -> None:
    (tmp_path / "cities.csv").write_text(
        "city,lat,lon,country,coord_suspect\nA,48.85,2.35,FR,0\nB,45.76,4.84,FR,0\nC,0,0,FR,1\n"
    )
    (tmp_path / "pairs.csv").write_text("src,dst,rtt_avg_ms\nA,B,9.5\nA,C,10\nA,D,10\n")
    both = ("--measured", "pairs.csv", "--cities", "cities.csv")
    ran = shell("network", "validate", *both, "-o", "json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["kind"] == "RttErrorList"
    assert [(row["class"], row["pairs"]) for row in found["items"]] == [("all", 1), ("same-country", 1)]
    assert set(found["items"][0]) == {"class", "pairs", "mae_ms", "median_ms", "p90_ms", "bias_ms", "mean_rtt_ms"}
    assert "skipped 1 pairs of cities with suspect coordinates" in ran.err
    assert "skipped 1 pairs of cities without coordinates" in ran.err
    everything = shell("network", "validate", *both, "--include-suspect", "-o", "json")
    assert json.loads(everything.out)["items"][0]["pairs"] == 2


def test_validate_refuses_a_file_of_another_kind(shell: Callable, tmp_path) -> None:
    (tmp_path / "cities.csv").write_text("name,lat\nA,1\n")
    (tmp_path / "pairs.csv").write_text("src,dst,rtt_avg_ms\nA,B,9.5\n")
    ran = shell("network", "validate", "--measured", "pairs.csv", "--cities", "cities.csv")
    assert (ran.code, ran.out) == (3, "")
    assert "cities.csv:1" in ran.err
    missing = shell("network", "validate", "--measured", "none.csv", "--cities", "cities.csv")
    assert (missing.code, missing.out) == (3, "")
