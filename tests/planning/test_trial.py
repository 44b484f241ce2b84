"""One arrangement's cost: the smallest fleet that keeps every promise, found like trying them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from smallgrids import workload

from gridctl.accounts.sla import sla
from gridctl.grid.view import GridView
from gridctl.orchestrator.replaying import Order
from gridctl.planning.axes import own_setting
from gridctl.planning.breakeven import Question, Study, prepare
from gridctl.planning.cells import CORE, Wish, demand_by_site, make_cell, skewed
from gridctl.planning.trial import Limits, Trials, at_load, clusters_at_edge, is_kept, placed, rate_rps
from gridctl.resources import Resource, Traffic

LIMITS = Limits(requests=300, engines=32)


def study_of(parts: list[Resource], **wish: object) -> Study:
    question = Question(load_rps=40.0, limits=LIMITS, wish=Wish(**wish), axes=("rtt",), regions=("EU",))
    return prepare(parts, None, question, lambda text: None)


def busy(parts: list[Resource]) -> list[Resource]:
    """The same grid with requests that keep an engine busy for a while."""
    traffic = Traffic(mean_input_tokens=300, mean_output_tokens=40)
    return [*parts[:-1], workload(ttft_ms=400.0, traffic=traffic)]


def trials(study: Study, draw: int = 0) -> Trials:
    return Trials(study.cells[0], study.traces[0], study.policy, study.order, draw, LIMITS)


def test_a_cell_has_the_largest_places_of_the_region_and_a_core_apart(parts: list[Resource]) -> None:
    cell = study_of(parts, places=2).cells[0]
    assert [site.name for site in cell.places] == ["paris", "lyon"]
    assert all(site.spec.tier == "edge" for site in cell.places)
    assert [one.name for one in cell.common if getattr(one.spec, "tier", "") == "core"] == [CORE]
    assert (cell.edge_usd, cell.core_usd) == (3.0, 1.0)
    assert cell.core_site == "frankfurt"


def test_a_workload_bound_to_its_jurisdiction_keeps_to_that_of_the_largest_place(parts: list[Resource]) -> None:
    bound = [*parts[:-1], workload(rule="same-country")]
    cell = study_of(bound, places=3).cells[0]
    assert [site.spec.country for site in cell.places] == ["FR", "FR"]
    assert "no core site may serve it" in cell.notes[0]


def test_demand_comes_from_the_trace_where_there_is_one(view: GridView, parts: list[Resource]) -> None:
    assert demand_by_site(view, None)["chat"] == {"paris": 6.0, "lyon": 3.0, "frankfurt": 1.0}


def test_skewed_shares_add_up() -> None:
    class Four:
        places = (1, 2, 3, 4)

    assert skewed(Four(), 0.55).tolist() == pytest.approx([0.55, 0.15, 0.15, 0.15])  # type: ignore[arg-type]


def test_load_stretches_time_and_changes_no_request(parts: list[Resource]) -> None:
    trace = study_of(parts).traces[0]
    slow, fast = at_load(trace, 10.0, 300), at_load(trace, 20.0, 300)
    assert rate_rps(slow) == pytest.approx(10.0, rel=1e-6)
    assert len(fast) == max(300, 600)
    assert np.array_equal(slow.input_tokens, fast.input_tokens[: len(slow)])


def test_a_session_stays_at_its_place(parts: list[Resource]) -> None:
    study = study_of(parts)
    trace = replace(study.traces[0], session=np.arange(len(study.traces[0])) // 5)
    origin = placed(trace, study.cells[0], [0.5, 0.3, 0.2], 1).origin
    assert all(len(set(origin[start : start + 5].tolist())) == 1 for start in range(0, len(origin) - 5, 5))


def test_the_edge_deals_its_engines_out_evenly(parts: list[Resource]) -> None:
    cell = study_of(parts, places=3).cells[0]
    counts = [one.spec.deployments[0].replicas for one in clusters_at_edge(cell, 5)]  # type: ignore[attr-defined]
    assert counts == [2, 2, 1]


@pytest.mark.parametrize("side", ["edge", "core"])
def test_the_fleet_is_the_smallest_that_keeps_every_promise(parts: list[Resource], side: str) -> None:
    study = study_of(busy(parts), places=2)
    made = trials(study)
    setting = replace(own_setting(study.cells[0]), load_rps=120.0)
    found = made.price(side, setting)
    least = 2 if side == "edge" else 1
    keeping = [n for n in range(least, 12) if kept(made, side, setting, n)]
    assert found.engines == keeping[0]
    assert found.engines > least  # the case is no trivial one
    assert found.usd is not None


def kept(made: Trials, side: str, setting: object, engines: int) -> bool:
    run = made._run(side, setting, engines)  # type: ignore[arg-type]
    return all(is_kept(row) for row in sla(run, ["workload"]).workloads)


def test_a_fleet_that_cannot_be_near_enough_has_no_price(parts: list[Resource]) -> None:
    study = study_of(parts)
    found = trials(study).price("core", replace(own_setting(study.cells[0]), rtt_ms=1000.0))
    assert (found.engines, found.usd, found.attainment) == (None, None, 0.0)


def test_idle_gpus_are_in_the_price_and_out_of_the_busy_price(parts: list[Resource]) -> None:
    light = workload(ttft_ms=400.0, traffic=Traffic(mean_input_tokens=20, mean_output_tokens=2))
    study = study_of([*parts[:-1], light], places=2)
    setting = own_setting(study.cells[0])
    found = trials(study).price("edge", setting)
    assert found.usd is not None
    assert found.busy_usd is not None
    assert found.busy_usd < found.usd
    # Two GPUs at 3 $/h for the window, over the output tokens of good requests.
    run = trials(study)._run("edge", setting, 2)
    hours = run.info.window_ns / 3.6e12
    tokens = int(run.rows.output_tokens.sum())
    assert found.engines == 2
    assert found.attainment == 1.0
    assert found.usd == pytest.approx(2 * 3.0 * hours / tokens * 1e6, rel=1e-3)


def test_neither_skew_moves_the_core_nor_distance_to_the_core_the_edge(parts: list[Resource]) -> None:
    study = study_of(parts)
    made, own = trials(study), own_setting(study.cells[0])
    made.price("core", own)
    replays = made.replays
    made.price("core", replace(own, skew=0.9))
    assert made.replays == replays
    made.price("edge", own)
    replays = made.replays
    made.price("edge", replace(own, rtt_ms=300.0))
    assert made.replays == replays


def test_a_draw_moves_arrivals_and_the_plain_replay_does_not(parts: list[Resource]) -> None:
    study = study_of(parts)
    assert trials(study)._trace is study.traces[0]
    drawn = trials(study, draw=1)._trace
    assert not np.array_equal(drawn.arrival_ns, study.traces[0].arrival_ns)
    assert np.array_equal(drawn.input_tokens, study.traces[0].input_tokens)


def test_no_cell_where_nobody_asks(view: GridView) -> None:
    chat = view.workloads["chat"]
    assert make_cell(view, chat, "AS", {"paris": 1.0}, Wish(), 1.0, 0) is None


def test_the_order_has_no_alternative_to_replay_beside(parts: list[Resource]) -> None:
    assert study_of(parts).order == Order(name="plan", with_centralized=False)
