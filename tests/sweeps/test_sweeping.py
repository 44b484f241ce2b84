"""A sweep made: its numbers are a run's, results are kept by what they are of, and resuming makes what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from smallgrids import as_policy, cluster, deployment, gpu, model, price_book, site, trace, workload

from gridctl.accounts.tokenomics import total_row
from gridctl.errors import InputError, Interrupted, NotFoundError
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.replaying import Listener, Order, replay_trace, resources_of
from gridctl.orchestrator.runs import load_run
from gridctl.registry import Registry
from gridctl.resources import PolicySpec
from gridctl.sweeps import sweeping
from gridctl.sweeps.axes import scenarios
from gridctl.sweeps.reading import read_question
from gridctl.sweeps.results import drawn_rows, rows_of, spread
from gridctl.sweeps.sweeping import Sweep, Wanted, load_sweep, make_sweep
from gridctl.traces.slicing import scale_time, thin

REQUESTS = trace(
    [{"at_ms": 3 * number, "workload": number % 2, "session": number // 3} for number in range(120)],
    workloads=("chat", "batch"),
)
PARTS = [
    gpu(),
    model(),
    site("paris", population=3),
    site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
    cluster("edge", "paris", deployment(max_num_seqs=2), gpus=2),
    cluster("core", "frankfurt", deployment(max_num_seqs=2), usd_per_gpu_hour=0.5),
    workload(ttft_ms=60.0),
    workload("batch"),
    as_policy(PolicySpec(reject_ratio=2.0), "mine"),
    price_book(),
    price_book(name="dear", egress_usd_per_gb=100.0),
]


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    found = home_of(tmp_path / "grid", "test")
    found.runs.mkdir(parents=True)
    with Registry.open(found.database, create=True) as registry:
        registry.apply(PARTS, cause="test")
    return found


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Jobs are done in this process, one after the other; which were."""
    made: list[tuple[str, int]] = []

    class Serial:
        def __init__(self, function: Any, shared: Any, jobs: Sequence[Any]) -> None:
            self.function, self.shared, self.jobs = function, shared, jobs

        def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Any]]:
            for number, job in enumerate(self.jobs):
                made.append((job.scenario.key, job.draw))
                yield number, self.function(self.shared, job, lambda requests: None)

    @contextmanager
    def running(executor: str, function: Any, shared: Any, jobs: Sequence[Any], **options: object) -> Iterator[Any]:
        yield Serial(function, shared, jobs)

    monkeypatch.setattr(sweeping, "running", running)
    return made


def make(home: GridHome, spec: str, **wanted: Any) -> Sweep:
    """A sweep over the trace above; `spec` is indented YAML."""
    path = home.folder / "sweep.yaml"
    path.write_text(f"kind: Sweep\nmetadata: {{name: s}}\nspec:\n{spec}", encoding="utf-8")
    resources = resources_of(home)
    question = read_question(str(path), resources)
    requests = None if question.generate else REQUESTS
    asked = Wanted(**{"name": "s", "drawn": ("jitter", "arrivals"), **wanted})
    listed = list(scenarios(question.cases))
    return make_sweep(home, question, listed, resources, requests, asked, lambda replays: None)


def test_a_scenario_is_the_run_it_stands_for(home: GridHome) -> None:
    made = make(home, "  policies: [grid, mine, nearest]\n")
    for row, policy in zip(rows_of(made), (None, "mine", "nearest"), strict=True):
        order = Order(name=f"run-{policy}".lower(), policy=policy, with_centralized=False)
        info = replay_trace(home, REQUESTS, order, Listener())
        total = total_row(load_run(info.name, home))
        assert row.digest == info.digest
        assert row.numbers is not None
        assert row.numbers.usd_per_mtok_goodput == total.usd_per_mtok_goodput
        assert (row.numbers.good, row.numbers.rejected) == (total.good, total.rejected)


def test_speeds_samples_and_prices_do_what_they_say(home: GridHome) -> None:
    made = make(home, "  speeds: [1, 4]\n  samples: [0.5, 1]\n  prices: [default, dear]\n")
    rows = {tuple(row.values.values()): row for row in rows_of(made)}
    assert len(rows) == 8
    half = len(thin(REQUESTS, 0.5, 1))
    assert rows["default", 1.0, 0.5].numbers.requests == half
    order = Order(name="fast", with_centralized=False)
    info = replay_trace(home, scale_time(REQUESTS, 4.0), order, Listener())
    assert rows["default", 4.0, 1.0].digest == info.digest
    assert rows["dear", 1.0, 1.0].numbers.usd > rows["default", 1.0, 1.0].numbers.usd


def test_fleets_and_fields_change_the_grid_of_their_scenario_alone(home: GridHome) -> None:
    made = make(home, "  fleets: {edge: {clusters: name=edge, scale: [0, 1, 2]}}\n")
    assert [row.numbers.gpus for row in rows_of(made) if row.numbers] == [1, 3, 5]
    slow = make(home, "  set: {workload/chat spec.overhead_ms: [0, 1000]}\n", replace=True)
    attained = [row.numbers.attainment for row in rows_of(slow, "chat") if row.numbers]
    assert attained[0] > attained[1] == 0.0
    others = [row.numbers for row in rows_of(slow, "batch")]
    assert others[0].requests == others[1].requests == 60


def test_generated_traffic_is_made_from_the_scenario_s_own_sites(home: GridHome) -> None:
    spec = "  generate: {duration_s: 5, seed: 3}\n  rates: [20]\n  set: {site/paris spec.population: [0, 1000]}\n"
    rows = rows_of(make(home, spec))
    assert rows[0].digest != rows[1].digest
    assert rows[0].numbers.requests == rows[1].numbers.requests


def test_a_scenario_that_is_no_whole_grid_says_why_and_the_others_go_on(home: GridHome) -> None:
    rows = rows_of(make(home, "  set:\n    cluster/edge spec.deployments[0].replicas: [1, 3]\n"))
    assert [row.state for row in rows] == ["done", "invalid"]
    assert rows[1].reason == "cluster edge, spec.deployments: its deployments need 3 GPUs, it has 2"
    assert rows[1].numbers is None
    assert [row.on_front for row in rows] == [True, False]


def test_draws_are_the_same_in_every_scenario_and_give_ranges(home: GridHome) -> None:
    rows = rows_of(make(home, "  policies: [grid, mine]\n  speeds: [8]\n", seeds=4))
    assert [row.replays for row in rows] == [4, 4]
    assert all(row.attainment_low <= row.attainment_high for row in rows)
    assert all(0 <= row.front_share <= 1 for row in rows)
    assert max(row.front_share for row in rows) > 0


def test_draws_are_given_one_by_one_and_their_spread_is_from_the_lowest_to_the_highest(home: GridHome) -> None:
    made = make(home, "  policies: [grid, mine]\n  speeds: [8]\n", seeds=4)
    drawn = drawn_rows(made)
    assert len(drawn) == 3
    for index, row in enumerate(rows_of(made)):
        attained = [one[index].numbers.attainment for one in drawn]
        assert (row.attainment_low, row.attainment_high) == (min(attained), max(attained))
    assert spread([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert spread([3.0, None]) == (None, None)
    assert spread([]) == (None, None)


def test_the_estimate_counts_a_fixed_cost_and_one_for_each_request(
    home: GridHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second each and a tenth for each unit of rate: (1 + 1) + (1 + 2) + (1 + 4) seconds, twice, on two workers."""
    path = home.folder / "sweep.yaml"
    path.write_text("kind: Sweep\nmetadata: {name: s}\nspec: {generate: {duration_s: 1}, rates: [10, 20, 40]}\n")
    question = read_question(str(path), resources_of(home))
    listed, wanted = list(scenarios(question.cases)), Wanted("s", seeds=2, jobs=2)
    monkeypatch.setattr(sweeping, "_timed", lambda stage, scenario: 1.0 + scenario.rate / 10)
    stage = sweeping.stage_of(question, resources_of(home), None, wanted)
    assert sweeping.seconds_needed(stage, listed, wanted) == pytest.approx(10.0)


def test_the_same_what_if_twice_is_replayed_once(home: GridHome, here: list) -> None:
    made = make(home, "  choices: {a: {x: {}, y: {site/paris spec.population: 3}, z: {}}}\n")
    assert len(rows_of(made)) == 3
    assert len(here) == 2
    assert made.done == made.plan.replays == 2


def test_resuming_makes_what_is_missing_and_a_file_that_asks_for_more_keeps_what_there_is(
    home: GridHome, here: list
) -> None:
    make(home, "  speeds: [1, 2]\n")
    assert len(here) == 2
    more = make(home, "  speeds: [1, 2, 4]\n", resume=True)
    assert len(here) == 3
    assert [row.state for row in rows_of(more)] == ["done"] * 3
    again = make(home, "  speeds: [1, 2, 4]\n", resume=True, seeds=2)
    assert len(here) == 6
    assert again.done == 6
    assert load_sweep(home, "s").results == again.results


def test_interrupting_keeps_what_was_made_and_says_how_to_go_on(
    home: GridHome, here: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sweeping.work.run

    def stopping(stage: Any, job: Any, advanced: Any) -> Any:
        if len(here) == 3:
            raise KeyboardInterrupt
        return run(stage, job, advanced)

    monkeypatch.setattr(sweeping.work, "run", stopping)
    with pytest.raises(Interrupted) as raised:
        make(home, "  speeds: [1, 2, 4, 8]\n")
    assert raised.value.what == "stopped after 2 of 4 replays; they are kept as sweep s"
    assert [row.state for row in rows_of(load_sweep(home, "s"))] == ["done", "done", "missing", "missing"]
    with pytest.raises(InputError, match="it was interrupted"):
        make(home, "  speeds: [1, 2, 4, 8]\n")
    monkeypatch.setattr(sweeping.work, "run", run)
    assert make(home, "  speeds: [1, 2, 4, 8]\n", resume=True).done == 4


def test_results_of_something_else_are_not_resumed(home: GridHome) -> None:
    make(home, "  speeds: [1]\n")
    with pytest.raises(InputError, match="the seed changed"):
        make(home, "  speeds: [1]\n", resume=True, seed=2)
    with Registry.open(home.database) as registry:
        registry.apply([workload(ttft_ms=61.0)], cause="test")
    with pytest.raises(InputError, match="the grid changed"):
        make(home, "  speeds: [1]\n", resume=True)
    with pytest.raises(NotFoundError):
        make(home, "  speeds: [1]\n", resume=True, name="other")
    with pytest.raises(InputError, match="sweep s exists"):
        make(home, "  speeds: [1]\n")
    assert make(home, "  speeds: [1]\n", replace=True).done == 1


def test_a_workload_nobody_asked_for_is_told_what_is_near(home: GridHome) -> None:
    made = make(home, "  speeds: [1]\n")
    with pytest.raises(NotFoundError) as raised:
        rows_of(made, "chatt")
    assert raised.value.fix == "did you mean chat?"


def test_a_smaller_sample_is_a_part_of_a_larger_one_and_sessions_stay_whole() -> None:
    small, large = (thin(REQUESTS, share, 1) for share in (0.3, 0.7))
    assert 0 < len(small) < len(large) < len(REQUESTS)
    assert set(small.session.tolist()) <= set(large.session.tolist())
    assert len(large) == 3 * len(set(large.session.tolist()))
    with pytest.raises(InputError, match="leaves none"):
        thin(trace([{}]), 1e-9, 1)
