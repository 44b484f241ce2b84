"""Who may serve a request: hard constraints fail closed, each with its reason, and lists stay short and near."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smallgrids import PLACES, api, cluster, deployment, gpu, make_grid, model, price_book, site, workload

from gridctl.accounts.facts import Origin
from gridctl.accounts.rows import JURISDICTION, NO_MODEL, NO_REASON, OUTAGE, QUALITY, TIER, TOO_FAR
from gridctl.engine.state import API, GPU, SERVERLESS
from gridctl.geography.place import Place, place_of
from gridctl.geography.regions import jurisdiction_of
from gridctl.grid.candidates import CandidateLists, RequestClass, find_candidates, refusals
from gridctl.grid.image import GridImage, build_image
from gridctl.network.model import rtt_ms
from gridctl.resources import Link, LinkSpec, Metadata, Resource, Serverless, Site, Variant, Workload, WorkloadSpec

PARIS, BERLIN, ZURICH, ASHBURN = PLACES[:4]
FUNCTIONS = Serverless(variants=("m/bf16",))


def place(row: tuple, tier: str | None = "edge") -> tuple[Place, Origin]:
    name, country, jurisdiction, lat, lon = row
    here = Place(name, lat, lon, country, tier)  # type: ignore[arg-type]
    law = jurisdiction or jurisdiction_of(country)
    return here, Origin(name=name, country=country, region="EU", jurisdiction=law)


def at(row: tuple, tier: str = "edge", **spec: object) -> Site:
    return site(row[0], row[1], tier, lat=row[3], lon=row[4], jurisdiction=row[2], **spec)


def find(
    image: GridImage, spec: WorkloadSpec, *rows: tuple, limit: int = 32, wanted: str | None = None
) -> tuple[list[list[int]], CandidateLists]:
    """The candidate engines of each origin."""
    places, origins = zip(*(place(row) for row in rows or (PARIS,)), strict=True)
    lists = find_candidates(image, places, origins, [RequestClass(spec, wanted)], limit)
    return [lists.engine[lists.offset[one] : lists.offset[one + 1]].tolist() for one in lists.of[:, 0]], lists


def sites_of(image: GridImage, spec: WorkloadSpec, *rows: tuple, **values: object) -> list[list[str]]:
    chosen, _ = find(image, spec, *rows, **values)  # type: ignore[arg-type]
    return [[image.engines[engine].facts.site for engine in engines] for engines in chosen]


def reason(image: GridImage, spec: WorkloadSpec, row: tuple = PARIS, wanted: str | None = None) -> int:
    chosen, lists = find(image, spec, row, wanted=wanted)
    code = int(lists.reason[lists.of[0, 0]])
    assert (code == NO_REASON) == bool(chosen[0])
    return code


def europe_and_america(*more: Resource, **spec: object) -> GridImage:
    sites = [at(row) for row in (PARIS, BERLIN, ZURICH, ASHBURN)]
    clusters = [cluster(f"{one.name}-gpu", one.name, **spec) for one in sites]
    return build_image([gpu(), model(), *sites, *clusters, *more])


@pytest.mark.parametrize(
    ("rule", "allow", "served"),
    [
        ("any", (), ["paris", "zurich", "berlin", "ashburn"]),
        ("same-country", (), ["paris"]),
        ("same-jurisdiction", (), ["paris", "berlin"]),
        ("listed", ("CH", "US"), ["zurich", "ashburn"]),
        ("listed", ("EU",), ["paris", "berlin"]),
        ("listed", ("DE",), ["berlin"]),
        ("listed", (), []),
    ],
)
def test_each_jurisdiction_rule_lets_through_whom_it_names(rule: str, allow: tuple, served: list[str]) -> None:
    assert sorted(sites_of(europe_and_america(), workload(rule=rule, allow=allow).spec)[0]) == sorted(served)


@pytest.mark.parametrize(
    ("rule", "expected"), [("same-country", JURISDICTION), ("same-jurisdiction", JURISDICTION), ("any", NO_REASON)]
)
def test_an_origin_of_unknown_law_is_refused_by_rules_that_need_to_know(rule: str, expected: int) -> None:
    unknown = Origin(name="buoy", country="", region="", jurisdiction="")
    grid = build_image([gpu(), model(), at(PARIS), cluster("c", "paris"), price_book(api())])
    lists = find_candidates(grid, [place(PARIS)[0]], [unknown], [RequestClass(workload(rule=rule).spec)], 32)
    assert lists.reason[lists.of[0, 0]] == expected


@pytest.mark.parametrize(
    ("jurisdictions", "rule", "allow", "may"),
    [
        ((), "any", (), True),
        ((), "same-jurisdiction", (), False),
        ((), "same-country", (), False),
        ((), "listed", ("EU",), False),
        (("US", "EU"), "same-jurisdiction", (), True),
        (("US",), "same-jurisdiction", (), False),
        (("US", "EU"), "listed", ("US",), True),
        (("US",), "listed", ("EU",), False),
    ],
)
def test_the_api_is_bound_by_the_jurisdictions_it_declares(
    jurisdictions: tuple, rule: str, allow: tuple, may: bool
) -> None:
    book = price_book(api(jurisdictions=jurisdictions))
    grid = build_image([gpu(), model(), at(ASHBURN), cluster("c", "ashburn"), book])
    spec = workload(rule=rule, allow=allow, when_infeasible="fallback").spec
    assert ("" in sites_of(grid, spec)[0]) == may


@pytest.mark.parametrize("when", ["serve-late", "reject"])
def test_nothing_leaves_the_grid_for_an_api_unless_the_workload_asks_for_it(when: str) -> None:
    grid = europe_and_america(price_book(api()))
    assert "" not in sites_of(grid, workload(when_infeasible=when).spec)[0]
    assert "" in sites_of(grid, workload(when_infeasible="fallback").spec)[0]


def test_each_constraint_that_empties_the_list_is_the_reason_in_its_order() -> None:
    weak = model("m", Variant(name="bf16", quality=0.4, weight_gib=0.1))
    everything_wrong = build_image([gpu(), weak, at(ASHBURN, state="down"), cluster("c", "ashburn")])
    assert reason(everything_wrong, workload(models=("x",), rule="same-country", quality_floor=0.5).spec) == NO_MODEL
    assert reason(everything_wrong, workload(rule="same-country", quality_floor=0.5).spec) == JURISDICTION
    assert reason(everything_wrong, workload(quality_floor=0.5).spec) == QUALITY
    assert reason(everything_wrong, workload().spec) == OUTAGE


@pytest.mark.parametrize("state", ["cordoned", "draining", "down"])
def test_sites_and_clusters_that_take_no_traffic_are_an_outage(state: str) -> None:
    parts, spec = [gpu(), model()], workload().spec
    assert reason(build_image([*parts, at(PARIS, state=state), cluster("c", "paris")]), spec) == OUTAGE
    assert reason(build_image([*parts, at(PARIS), cluster("c", "paris", state=state)]), spec) == OUTAGE


def test_an_unmeasured_variant_fails_every_floor_but_none() -> None:
    unmeasured = model("m", Variant(name="bf16", weight_gib=0.1))
    grid = build_image([gpu(), unmeasured, at(PARIS), cluster("c", "paris")])
    assert reason(grid, workload(quality_floor=0.0).spec) == NO_REASON
    assert reason(grid, workload(quality_floor=0.001).spec) == QUALITY
    assert reason(europe_and_america(), workload(quality_floor=0.8).spec) == NO_REASON


def test_the_model_a_request_names_must_be_one_the_workload_accepts_and_somebody_serves() -> None:
    grid = build_image(
        [gpu(), model("m"), model("n"), at(PARIS), cluster("c", "paris", deployment("m/bf16"), deployment("n/bf16"))]
    )
    assert reason(grid, workload(models=("m",)).spec, wanted="n") == NO_MODEL
    assert reason(grid, workload(models=("m", "o")).spec, wanted="o") == NO_MODEL
    chosen, _ = find(grid, workload(models=("m", "n")).spec, wanted="n")
    assert [grid.engines[engine].model for engine in chosen[0]] == ["n"]


def test_lists_are_sorted_by_round_trip_as_the_network_estimates_it() -> None:
    grid = europe_and_america(price_book(api()))
    rows = (PARIS, BERLIN, ZURICH, ASHBURN)
    chosen, lists = find(grid, workload(when_infeasible="fallback").spec, *rows)
    for origin, engines in enumerate(chosen):
        which = lists.of[origin, 0]
        times = lists.rtt_us[lists.offset[which] : lists.offset[which + 1]].tolist()
        assert times == sorted(times)
        here = place(rows[origin])[0]
        for engine, time in zip(engines, times, strict=True):
            stands = grid.engines[engine].place
            assert time == (0 if stands is None else round(rtt_ms(here, stands) * 1000))


def test_a_measured_link_wins_over_the_estimate() -> None:
    link = Link(metadata=Metadata(name="l"), spec=LinkSpec(source="ashburn", target="paris", rtt_ms=0.25))
    grid = europe_and_america(link)
    assert sites_of(grid, workload().spec)[0][0] == "ashburn"


def chain(count: int, cores: int, replicas: int = 1) -> tuple[GridImage, tuple]:
    """Sites ever farther north of Paris, the last `cores` of them core."""
    sites = [
        site(f"s{number:02}", "FR", "core" if number >= count - cores else "edge", lat=48.9 + number, lon=2.4)
        for number in range(count)
    ]
    clusters = [cluster(f"{one.name}-gpu", one.name, deployment(replicas=replicas)) for one in sites]
    return build_image([gpu(), model(), *sites, *clusters]), PARIS


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, [0]),
        (4, [0, 1, 7, 8]),
        (6, [0, 1, 2, 7, 8, 9]),
        (8, [0, 1, 2, 3, 4, 7, 8, 9]),
        (10, list(range(10))),
        (64, list(range(10))),
    ],
)
def test_half_of_the_limit_is_kept_for_the_nearest_core_engines(limit: int, expected: list[int]) -> None:
    grid, _ = chain(10, 3)
    assert sites_of(grid, workload().spec, limit=limit)[0] == [f"s{number:02}" for number in expected]


def test_without_core_engines_the_whole_limit_is_for_the_nearest() -> None:
    grid, _ = chain(10, 0)
    assert sites_of(grid, workload().spec, limit=4)[0] == ["s00", "s01", "s02", "s03"]


def test_core_engines_that_are_nearest_anyway_do_not_shrink_the_list() -> None:
    grid, _ = chain(6, 6)
    assert sites_of(grid, workload().spec, limit=4)[0] == ["s00", "s01", "s02", "s03"]


def test_origins_that_see_only_some_replicas_of_a_deployment_see_different_ones() -> None:
    sites = [at(row) for row in (PARIS, BERLIN, ZURICH)]
    grid = build_image([gpu(), model(), *sites, cluster("c", "paris", deployment(replicas=12))])
    chosen, _ = find(grid, workload().spec, PARIS, BERLIN, ZURICH, limit=4)
    assert [len(set(engines)) for engines in chosen] == [4, 4, 4]
    assert set().union(*map(set, chosen)) == set(range(12))


def test_only_the_nearest_functions_are_offered_beside_the_engines() -> None:
    sites = [site(f"s{number}", "FR", lat=48.9 + number, serverless=FUNCTIONS) for number in range(5)]
    grid = build_image([gpu(), model(), *sites, cluster("c", "s4", deployment(replicas=3))])
    chosen, _ = find(grid, workload().spec, limit=2)
    kinds = [grid.engines[engine].spec.kind for engine in chosen[0]]
    assert kinds == [SERVERLESS, SERVERLESS, GPU, GPU]
    assert sites_of(grid, workload().spec, limit=2)[0] == ["s0", "s1", "s4", "s4"]


def test_classes_and_origins_each_get_their_own_list() -> None:
    grid = europe_and_america()
    places, origins = zip(*(place(row) for row in (PARIS, ZURICH)), strict=True)
    classes = [RequestClass(workload(rule=rule).spec) for rule in ("any", "same-country")]
    lists = find_candidates(grid, places, origins, classes, 32)
    sizes = np.diff(lists.offset)[lists.of]
    assert sizes.tolist() == [[4, 1], [4, 1]]
    assert lists.engine[lists.offset[lists.of[0, 1]]] != lists.engine[lists.offset[lists.of[1, 1]]]


def allowed(one: Workload, wanted: str | None, origin: Origin, image: GridImage, engine: int) -> bool:
    """The hard constraints as PRODUCT words them, one engine at a time."""
    spec, row = one.spec, image.engines[engine]
    home = image.view.sites.get(row.facts.site)
    country = home.spec.country if home else ""
    laws = (
        (home.spec.jurisdiction or jurisdiction_of(country),) if home else image.prices.fallback.jurisdictions  # type: ignore[union-attr]
    )
    rule, allow = spec.jurisdiction.rule, spec.jurisdiction.allow
    lawful = {
        "any": True,
        "same-country": country == origin.country and country != "",
        "same-jurisdiction": origin.jurisdiction in laws and origin.jurisdiction != "",
        "listed": bool({country, *laws} & set(allow)),
    }[rule]
    model_name, variant_name = row.facts.model, row.facts.variant
    if home is None:
        quality = image.prices.fallback.quality  # type: ignore[union-attr]
        is_up = spec.when_infeasible == "fallback"
    else:
        quality = image.view.models[model_name].spec.variant(variant_name).quality  # type: ignore[union-attr]
        owner = image.view.clusters.get(row.facts.cluster)
        is_up = home.spec.state == "active" and (owner is None or owner.spec.state == "active")
    is_good = spec.quality_floor == 0 or (quality is not None and quality >= spec.quality_floor)
    return lawful and is_good and is_up and model_name in spec.models and wanted in (None, model_name)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), limit=st.integers(1, 12))
def test_random_grids_offer_exactly_who_may_serve(seed: int, limit: int) -> None:
    pick = random.Random(seed).randint
    resources = make_grid(pick)
    image = build_image(resources)
    asked = [one for one in resources if isinstance(one, Workload)]
    homes = [one for one in resources if isinstance(one, Site)]
    places = [place_of(one) for one in homes]
    origins = [
        Origin(
            name=one.name,
            country=one.spec.country,
            region="",
            jurisdiction=one.spec.jurisdiction or jurisdiction_of(one.spec.country),
        )
        for one in homes
    ]
    classes = [RequestClass(one.spec, wanted) for one in asked for wanted in (None, "n")]
    named = [(one, wanted) for one in asked for wanted in (None, "n")]
    lists = find_candidates(image, places, origins, classes, limit)
    real = [index for index, engine in enumerate(image.engines) if engine.facts.kind != "unused"]
    for number, origin in enumerate(origins):
        for column, (one, wanted) in enumerate(named):
            which = lists.of[number, column]
            offered = lists.engine[lists.offset[which] : lists.offset[which + 1]].tolist()
            may = [index for index in real if allowed(one, wanted, origin, image, index)]
            assert set(offered) <= set(may)
            assert len(offered) == len(set(offered))
            for kind, most in ((GPU, limit), (SERVERLESS, 2), (API, 1)):
                able = sum(image.engines[index].spec.kind == kind for index in may)
                assert sum(image.engines[index].spec.kind == kind for index in offered) == min(able, most)
            assert (lists.reason[which] == NO_REASON) == bool(may)


@pytest.mark.parametrize("at_once", [1, 3])
def test_how_many_origins_are_worked_out_together_changes_no_list(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    parts = [gpu(), model(), workload(), workload("home", rule="same-country")]
    for row in PLACES[:4]:
        parts += [at(row), cluster(f"{row[0]}-gpu", row[0], deployment(replicas=3), gpus=3)]
    image = build_image(parts)
    places, origins = zip(*(place(row) for row in (*PLACES, *PLACES)), strict=True)
    classes = [RequestClass(image.view.workloads[name].spec) for name in ("chat", "home")]
    expected = find_candidates(image, places, origins, classes, 4)
    monkeypatch.setattr("gridctl.grid.candidates.ORIGINS_AT_ONCE", at_once)
    found = find_candidates(image, places, origins, classes, 4)
    for column in ("of", "offset", "engine", "rtt_us", "reason"):
        assert np.array_equal(getattr(found, column), getattr(expected, column)), column


def bounded(image: GridImage, row: tuple, **bounds: object) -> tuple[list[str], int]:
    """The sites on the list of requests from a place that a policy bounds, and the reason when there is none."""
    here, origin = place(row)
    lists = find_candidates(image, [here], [origin], [RequestClass(workload().spec, None, **bounds)], 32)
    which = int(lists.of[0, 0])
    engines = lists.engine[lists.offset[which] : lists.offset[which + 1]]
    return [image.engines[engine].facts.site for engine in engines], int(lists.reason[which])


def test_a_policy_keeps_requests_within_a_round_trip() -> None:
    """From Paris, by the model's own round trips: Paris, Zurich, Berlin, Ashburn; a bound on the microsecond holds."""
    image = europe_and_america(workload())
    here = place(PARIS)[0]
    away = {row[0]: rtt_ms(here, place(row)[0]) for row in (PARIS, BERLIN, ZURICH, ASHBURN)}
    near = sorted(away, key=lambda name: away[name])
    assert bounded(image, PARIS) == (near, NO_REASON)
    for count in (1, 2, 3):
        exactly = int(away[near[count - 1]] * 1000 + 0.5)
        assert bounded(image, PARIS, max_rtt_us=exactly) == (near[:count], NO_REASON)
        assert bounded(image, PARIS, max_rtt_us=exactly - 1)[0] == near[: count - 1]
    assert bounded(image, PARIS, max_rtt_us=1) == ([], TOO_FAR)


def test_a_policy_keeps_requests_at_its_tiers_and_says_so_where_there_is_none() -> None:
    sites = [at(PARIS), at(BERLIN, "core"), at(ZURICH, "metro")]
    parts = [*sites, *(cluster(f"{one.name}-gpu", one.name) for one in sites), workload()]
    image = build_image([gpu(), model(), *parts])
    assert bounded(image, PARIS, tiers=("core", "metro"))[0] == ["zurich", "berlin"]
    assert bounded(image, PARIS, tiers=("edge",))[0] == ["paris"]
    assert bounded(image, PARIS, tiers=("regional",)) == ([], TIER)


def test_the_fallback_api_is_at_no_tier_but_its_own() -> None:
    spec = workload(when_infeasible="fallback").spec
    image = europe_and_america(workload(), price_book(fallback=api(jurisdictions=("EU",))))
    here, origin = place(PARIS)

    def kinds(*tiers: str) -> set[str]:
        lists = find_candidates(image, [here], [origin], [RequestClass(spec, None, tiers)], 32)
        return {image.engines[engine].facts.kind for engine in lists.engine}

    assert kinds() == {"gpu", "api"}
    assert kinds("edge") == {"gpu"}
    assert kinds("edge", "api") == {"gpu", "api"}


def test_each_workload_has_as_many_candidates_as_its_own_policy_says() -> None:
    image = europe_and_america(workload())
    here, origin = place(PARIS)
    spec = workload().spec
    classes = [RequestClass(spec, None, candidates=count) for count in (1, 3, None)]
    lists = find_candidates(image, [here], [origin], classes, 2)
    sizes = np.diff(lists.offset)[lists.of[0]]
    assert sizes.tolist() == [1, 3, 2]


@pytest.mark.parametrize("case", range(20))
def test_a_bound_takes_away_what_is_beyond_it_and_nothing_else(case: int) -> None:
    """Where no number cuts: the list without a bound, less what is too far or of another tier."""
    pick = random.Random(case).randint
    image = build_image(make_grid(pick))
    row = PLACES[pick(0, len(PLACES) - 1)]
    here, origin = place(row)
    for declared in image.view.workloads.values():
        free = find_candidates(image, [here], [origin], [RequestClass(declared.spec)], 256)
        reach = pick(500, 60_000)
        tiers = tuple({"edge", "core", "metro", "api"} - {("edge", "core", "metro")[pick(0, 2)]})
        held = RequestClass(declared.spec, None, tiers, reach)
        found = find_candidates(image, [here], [origin], [held], 256)
        batching = [
            (engine, rtt)
            for engine, rtt in zip(free.engine.tolist(), free.rtt_us.tolist(), strict=True)
            if image.engines[engine].spec.kind == GPU and rtt <= reach and image.engines[engine].facts.tier in tiers
        ]
        kept = zip(found.engine.tolist(), found.rtt_us.tolist(), strict=True)
        assert [one for one in kept if image.engines[one[0]].spec.kind == GPU] == batching
        assert all(rtt <= reach for rtt in found.rtt_us)
        refused = refusals(image, origin, held, here)
        assert set(found.engine.tolist()) <= set(np.flatnonzero(refused == NO_REASON).tolist())
