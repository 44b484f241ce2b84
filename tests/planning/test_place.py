"""Placement end to end on toy grids: it keeps promises in the replay, says what cannot be met, and repeats itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from smallgrids import trace, workload

from gridctl.errors import InputError, NotFoundError, UsageError
from gridctl.manifest import read_manifests
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Order
from gridctl.orchestrator.scenario import Job, Scenario, Stage, run_job
from gridctl.planning.finding import chosen_among, finding
from gridctl.planning.place import Found, Request, find_placement, prepare, write_grid
from gridctl.planning.program import Limits
from gridctl.planning.trial import is_kept
from gridctl.resources import Cluster, Resource
from gridctl.traces.trace import Trace

pytestmark = pytest.mark.usefixtures("in_process")
REQUEST = Request(gpus=("toy",), limits=Limits(seconds=60.0))


@pytest.fixture
def asked() -> Trace:
    """Forty seconds of steady requests from both French cities."""
    rows = [{"at_ms": 50 * number, "input": 60, "output": 6, "origin": number % 2} for number in range(800)]
    return trace(rows, origins=("paris", "lyon"))


def found_in(parts: list[Resource], asked: Trace, request: Request = REQUEST, store: Path | None = None) -> Found:
    prepared = prepare(parts, asked, request, lambda text: None)
    return find_placement(prepared, store, jobs=1, executor="local", say=lambda text: None)


def lenient(parts: list[Resource], **spec: object) -> list[Resource]:
    return [*parts[:-1], workload(**({"ttft_ms": 400.0} | spec))]  # type: ignore[arg-type]


def test_a_lenient_workload_goes_where_gpus_are_cheap(parts: list[Resource], asked: Trace) -> None:
    """A GPU-hour costs 1 in the core and 3 outside, and both cities reach the core in time."""
    found = found_in(lenient(parts), asked)
    by_name = {one.name: one for one in found.placement.arrangements}
    assert set(by_name) == {"plan", "all-core", "all-edge", "today"}
    assert {one.tier for one in by_name["plan"].placed} == {"core"}
    assert by_name["plan"].usd_per_hour == by_name["all-core"].usd_per_hour
    assert by_name["all-edge"].usd_per_hour == pytest.approx(3 * by_name["plan"].usd_per_hour)
    assert found.placement.finding.endswith("The edge does not pay for this demand.")


def test_a_workload_bound_to_its_country_stays_there_however_dear(parts: list[Resource], asked: Trace) -> None:
    found = found_in(lenient(parts, rule="same-country"), asked)
    by_name = {one.name: one for one in found.placement.arrangements}
    assert {one.country for one in by_name["plan"].placed} == {"FR"}
    assert not by_name["all-core"].is_feasible
    assert "may only be served in FR" in " ".join(by_name["all-core"].notes)
    assert found.placement.finding.endswith("The edge pays for this demand.")


def test_the_written_grid_keeps_every_promise_when_it_is_replayed(
    parts: list[Resource], asked: Trace, tmp_path: Path
) -> None:
    found = found_in(lenient(parts), asked)
    write_grid(tmp_path / "placed", found.resources)
    read = tuple(one.resource for one in read_manifests([str(tmp_path / "placed")]))
    assert {one.name for one in read if isinstance(one, Cluster)} == {"frankfurt-toy"}
    order = Order(name="again", with_centralized=False)
    outcome = run_job(Stage(asked, (Scenario(read, choose_policy(read, None), order),)), Job(0, 0), lambda n: None)
    assert all(is_kept(row) for row in outcome.main.sla["workload"])
    chosen = next(one for one in found.placement.arrangements if one.name == found.chosen)
    assert outcome.main.total.usd / outcome.main.window_s * 3600 == pytest.approx(chosen.replayed_usd_per_hour)


def test_the_same_inputs_give_the_same_bytes(parts: list[Resource], asked: Trace) -> None:
    prepared = prepare(lenient(parts), asked, REQUEST, lambda text: None)
    one, two = (
        find_placement(prepared, None, jobs=1, executor="local", say=lambda text: None).placement for _ in range(2)
    )
    assert msgspec.json.encode(one) == msgspec.json.encode(two)


def test_plan_and_replay_agree_on_dollars_within_egress(parts: list[Resource], asked: Trace) -> None:
    placement = found_in(lenient(parts), asked).placement
    for one in placement.arrangements:
        assert one.cost_gap == pytest.approx(0.0, abs=1e-4)


def test_a_jurisdiction_without_a_site_is_named(parts: list[Resource], asked: Trace) -> None:
    with pytest.raises(InputError, match="may only be served in US, where there is no site"):
        found_in(lenient(parts, rule="listed", allow=("US",)), asked)


def test_a_promise_nobody_is_near_enough_for_names_place_and_distance(parts: list[Resource], asked: Trace) -> None:
    far = lenient(parts, ttft_ms=60.0)
    tokyo = replace(asked, origins=("35.7,139.7", "34.7,135.5"))
    with pytest.raises(InputError, match=r"the nearest site that may serve it is \d+ ms away"):
        found_in(far, tokyo)


def test_best_effort_goes_on_where_some_demand_cannot_be_met(parts: list[Resource], asked: Trace) -> None:
    far = lenient(parts, ttft_ms=60.0)
    mixed = replace(asked, origins=("paris", "35.7,139.7"))
    found = found_in(far, mixed, replace(REQUEST, best_effort=True))
    plan = next(one for one in found.placement.arrangements if one.name == "plan")
    assert not plan.is_feasible
    assert "misses chat" in found.placement.finding
    assert any("35.7,139.7" in text for text in plan.notes)


def test_a_budget_below_the_cheapest_is_refused_with_its_price(parts: list[Resource], asked: Trace) -> None:
    with pytest.raises(InputError, match=r"costs \d+\.\d\d \$ an hour, the budget is 0\.10"):
        found_in(lenient(parts), asked, replace(REQUEST, budget_usd_per_hour=0.1))


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"gpus": ()}, UsageError, "which GPUs"),
        ({"gpus": ("tyo",)}, NotFoundError, "GPU tyo"),
        ({"models": ("n",)}, NotFoundError, "model n"),
        ({"prices": "nope"}, NotFoundError, "price book nope"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    parts: list[Resource], asked: Trace, fields: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        prepare(parts, asked, replace(REQUEST, **fields), lambda text: None)  # type: ignore[arg-type]


def test_a_quality_no_variant_reaches_names_the_workload(parts: list[Resource], asked: Trace) -> None:
    with pytest.raises(InputError, match=r"reaches the quality 0\.9 that chat asks for"):
        prepare(lenient(parts, quality_floor=0.9), asked, REQUEST, lambda text: None)


def test_a_folder_that_holds_something_is_not_written_to(parts: list[Resource], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not empty"):
        write_grid(tmp_path, parts)


def test_a_dearer_plan_gives_way_to_all_core_but_never_to_one_that_misses_more(
    parts: list[Resource], asked: Trace
) -> None:
    plan, core, edge, today = found_in(lenient(parts), asked).placement.arrangements
    broken = msgspec.structs.replace(core.promises[0], is_met=False)
    dear = msgspec.structs.replace(plan, usd_per_hour=9.0)
    both = {"plan": dear, "all-core": core, "all-edge": edge, "today": today}
    assert chosen_among(both) == "all-core"
    missing = msgspec.structs.replace(core, promises=(broken,))
    cheap = msgspec.structs.replace(edge, usd_per_hour=10.0)
    assert chosen_among({**both, "all-core": missing, "all-edge": cheap}) == "plan"
    assert "all-core (1.00) misses chat" in finding([dear, missing], "plan")


def test_workers_of_their_own_place_the_same(
    parts: list[Resource], asked: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = found_in(lenient(parts), asked).placement
    monkeypatch.undo()
    prepared = prepare(lenient(parts), asked, REQUEST, lambda text: None)
    there = find_placement(prepared, None, jobs=2, executor="local", say=lambda text: None).placement
    assert msgspec.json.encode(here) == msgspec.json.encode(there)
