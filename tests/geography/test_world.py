"""The generated grid: consistent at every size, the same everywhere, and realistic where it says so."""

import collections
import csv
import gzip
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.geography.catalog import GPU_HOUR_USD
from gridctl.geography.regions import jurisdiction_of, region_of
from gridctl.geography.world import generate_world, read_site_rows, world_from_sites
from gridctl.grid.check import check_grid
from gridctl.resources import Cluster, Model, Policy, PriceBook, Site, Workload

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("GRIDCTL_DATA_DIR") or REPOSITORY.parent / "shared" / "data")
SIZES = (1, 2, 44, 440, 4400)


def of_kind(resources, kind):
    return [resource for resource in resources if isinstance(resource, kind)]


@pytest.fixture(scope="module")
def worlds():
    return {size: generate_world(size) for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
def test_a_world_of_any_size_is_one_consistent_grid(worlds, size):
    resources = worlds[size]
    check_grid(resources)
    assert len(of_kind(resources, Site)) == size
    names = collections.Counter((resource.kind, resource.name) for resource in resources)
    assert max(names.values()) == 1
    assert all(re.fullmatch(r"[a-z]{2}-[a-z0-9-]+-\d\d", site.name) for site in of_kind(resources, Site))
    core = {site.name for site in of_kind(resources, Site) if site.spec.tier == "core"}
    assert any(cluster.spec.site in core for cluster in of_kind(resources, Cluster))
    assert len(of_kind(resources, Workload)) == 9
    assert [resource.name for resource in of_kind(resources, PriceBook)] == ["default"]
    assert [resource.name for resource in of_kind(resources, Policy)] == ["default"]


def test_the_world_of_4400_has_the_stated_shape(worlds):
    sites, clusters = of_kind(worlds[4400], Site), of_kind(worlds[4400], Cluster)
    tiers = collections.Counter(site.spec.tier for site in sites)
    assert tiers["core"] == 30
    assert tiers["metro"] == 20
    assert 0.78 < tiers["edge"] / 4400 < 0.82
    assert 0.17 < tiers["regional"] / 4400 < 0.20
    functions = [site for site in sites if site.spec.serverless]
    assert 0.08 < len(functions) / 4400 < 0.12
    assert {site.spec.tier for site in functions} == {"edge", "regional"}
    where = {site.name: site.spec for site in sites}
    core = [c for c in clusters if where[c.spec.site].tier == "core"]
    metro = [c for c in clusters if where[c.spec.site].tier == "metro"]
    assert (len(core), len(metro)) == (6, 20)
    assert {region_of(where[c.spec.site].country) for c in core} == {"NA", "EU", "AS", "ME", "LATAM"}
    assert len({region_of(where[c.spec.site].country) for c in metro}) == 7
    assert all(c.spec.gpus in (16, 32, 64) and c.spec.gpu in ("h100-sxm", "h200-sxm") for c in core)
    assert all(c.spec.gpus in (4, 8) and c.spec.gpu in ("rtx-pro-6000", "l40s") for c in metro)


def test_every_jurisdiction_has_somewhere_to_compute(worlds):
    sites = {site.name: site.spec for site in of_kind(worlds[4400], Site)}
    able = {jurisdiction_of(spec.country) for spec in sites.values() if spec.serverless}
    able |= {jurisdiction_of(sites[c.spec.site].country) for c in of_kind(worlds[4400], Cluster)}
    assert able >= {jurisdiction_of(spec.country) for spec in sites.values() if spec.tier in ("edge", "regional")}


def test_parameter_counts_are_the_published_ones(worlds):
    billions = {model.name: model.spec.architecture.parameters / 1e9 for model in of_kind(worlds[1], Model)}
    assert billions["llama-3.2-1b"] == pytest.approx(1.24, abs=0.01)
    assert billions["llama-3.1-8b"] == pytest.approx(8.03, abs=0.01)
    assert billions["llama-3.1-70b"] == pytest.approx(70.6, abs=0.1)
    assert billions["qwen3-30b-a3b"] == pytest.approx(30.5, abs=0.1)


def test_gpu_prices_are_medians_of_the_listed_ones():
    path = DATA / "prices" / "gpu_hour_prices.csv"
    if not path.exists():
        pytest.skip("no price data here")
    listed: dict[str, list[float]] = collections.defaultdict(list)
    spellings = {
        "H100-SXM": "h100-sxm", "H100-SXM5": "h100-sxm", "H200": "h200-sxm", "L40S": "l40s",
        "RTX-PRO-6000": "rtx-pro-6000", "RTX-PRO-6000-SE": "rtx-pro-6000", "RTX-PRO-6000-WE": "rtx-pro-6000",
        "B200": "b200-sxm", "B300": "b300-sxm",
    }  # fmt: skip
    with path.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["gpu"] in spellings and "serverless" not in row["provider"]:
                listed[spellings[row["gpu"]]].append(float(row["usd_per_gpu_hour"]))
    assert len(listed) == 6
    for gpu, prices in listed.items():
        assert GPU_HOUR_USD[gpu] == pytest.approx(statistics.median(prices), abs=0.06), gpu


def test_two_processes_with_other_hash_seeds_make_equal_bytes():
    script = (
        "import msgspec, hashlib; from gridctl.geography.world import generate_world;"
        "print(hashlib.sha256(msgspec.json.encode(generate_world(440, 7))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "4242")
    }
    assert len(digests) == 1


def test_another_seed_moves_sites_and_nothing_else(worlds):
    other = generate_world(440, 2)
    for a, b in zip(worlds[440], other, strict=True):
        assert a.name == b.name
    moved = [a for a, b in zip(of_kind(worlds[440], Site), of_kind(other, Site), strict=True) if a != b]
    assert moved
    assert of_kind(worlds[440], Cluster) == of_kind(other, Cluster)


@pytest.mark.parametrize("size", [0, -1, 50_001])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match="cannot generate"):
        generate_world(size)


def test_a_grid_grows_around_given_sites():
    path = DATA / "geo" / "sites_4400.csv.gz"
    if not path.exists():
        pytest.skip("no site table here")
    rows = read_site_rows(path)
    assert len(rows) == 4400
    resources = world_from_sites(rows)
    check_grid(resources)
    tiers = collections.Counter(site.spec.tier for site in of_kind(resources, Site))
    assert tiers["core"] == 30
    assert tiers["metro"] == 20
    assert tiers["edge"] + tiers["metro"] + tiers["regional"] == 4370
    given = {row.site: row for row in rows}
    assert all(
        site.spec.population == given[site.name].served_population and site.spec.lat == given[site.name].lat
        for site in of_kind(resources, Site)
    )
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        assert sum(1 for _ in stream) == 4401
