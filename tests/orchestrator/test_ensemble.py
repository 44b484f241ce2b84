"""A run with draws: what they are equal to, what is kept when, what resuming makes and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import cluster, gpu, model, site, trace, workload

from gridctl.errors import InputError, Interrupted, NotFoundError, StoreError, UnreachableError, UsageError
from gridctl.orchestrator import ensemble
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.ensemble import Spread, parse_sources, replay_seeds
from gridctl.orchestrator.plan import load_ensemble
from gridctl.orchestrator.replaying import Listener, Order, replay_trace
from gridctl.orchestrator.runs import load_info, load_run
from gridctl.orchestrator.scenario import SOURCES
from gridctl.registry import Registry
from gridctl.traces.trace import UNSAID, Trace

REQUESTS = [{"at_ms": 10 * number} for number in range(40)]


@pytest.fixture
def home(tmp_path: Path) -> GridHome:
    """An edge site with a GPU, a core with another, one workload."""
    found = home_of(tmp_path / "grid", "test")
    found.runs.mkdir(parents=True)
    parts = [
        gpu(),
        model(),
        site("paris", population=3),
        site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
        cluster("edge", "paris", usd_per_gpu_hour=3.0),
        cluster("core", "frankfurt"),
        workload(tenants=("acme", "umbrella")),
    ]
    with Registry.open(found.database, create=True) as registry:
        registry.apply(parts, cause="test")
    return found


def bare() -> Trace:
    """A trace that says neither where requests come from nor what they are for."""
    told = trace(REQUESTS)
    unsaid = np.full(len(told), UNSAID, np.int32)
    return replace(told, origin=unsaid, workload=unsaid, tenant=unsaid, origins=(), workloads=(), tenants=())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Jobs are done in this process, one after the other; the draws that were made."""
    made: list[int] = []

    class Serial:
        def __init__(self, function: Any, shared: Any, jobs: Sequence[Any]) -> None:
            self.function, self.shared, self.jobs = function, shared, jobs

        def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Any]]:
            for number, job in enumerate(self.jobs):
                made.append(job.draw)
                advanced(number, 1)
                yield number, self.function(self.shared, job, lambda requests: None)

    @contextmanager
    def running(executor: str, function: Any, shared: Any, jobs: Sequence[Any], **options: object) -> Iterator[Any]:
        yield Serial(function, shared, jobs)

    monkeypatch.setattr(ensemble, "running", running)
    return made


def draws(home: GridHome, name: str) -> list[tuple[int, int, str]]:
    found = load_ensemble(load_info(name, home), home)
    return [(draw.draw, draw.seed, draw.digest) for draw in found.draws] if found else []


def left(home: GridHome) -> list[str]:
    """Every file of the draws but locks."""
    folder = home.runs.parent / "draws"
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"
    )


def test_one_seed_is_the_plain_run_and_keeps_no_draws(home: GridHome) -> None:
    info = replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=1), Listener())
    plain = replay_trace(home, trace(REQUESTS), Order(name="plain"), Listener())
    assert info.digest == plain.digest
    assert draws(home, "base") == left(home) == []


def test_the_plain_run_of_many_is_that_of_one_and_every_draw_differs(home: GridHome, here: list[int]) -> None:
    plain = replay_trace(home, bare(), Order(name="plain"), Listener())
    info = replay_seeds(home, bare(), Order(name="base"), Spread(seeds=4), Listener())
    assert info.digest == plain.digest
    made = draws(home, "base")
    assert [(draw, seed) for draw, seed, _ in made] == [(1, 2), (2, 3), (3, 4)]
    assert len({digest for *_, digest in made} | {plain.digest}) == 4
    assert [one[:2] for one in draws(home, "base.centralized")] == [one[:2] for one in made]


def test_drawing_jitter_and_mix_alone_is_another_seed_of_the_plain_replay(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, bare(), Order(name="base", seed=5), Spread(seeds=3, drawn=("jitter", "mix")), Listener())
    others = [replay_trace(home, bare(), Order(name=f"s{seed}", seed=seed), Listener()) for seed in (6, 7)]
    assert [digest for *_, digest in draws(home, "base")] == [info.digest for info in others]
    central = [load_info(f"s{seed}.centralized", home).digest for seed in (6, 7)]
    assert [digest for *_, digest in draws(home, "base.centralized")] == central


@pytest.mark.parametrize(
    ("source", "same", "moved"),
    [
        ("jitter", ("arrival_ns", "origin"), "rtt_ns"),
        ("mix", ("arrival_ns",), "origin"),
        ("arrivals", ("origin", "input_tokens"), "arrival_ns"),
        ("profile", ("arrival_ns", "origin", "rtt_ns"), "compute_ns"),
    ],
)
def test_each_source_moves_its_own_column(
    home: GridHome, here: list[int], source: str, same: tuple[str, ...], moved: str
) -> None:
    uneven = replace(bare(), arrival_ns=np.cumsum(np.arange(40, dtype=np.int64) % 7 * 10_000_000))
    spread = Spread(seeds=2, drawn=parse_sources(source), keeps_rows=True)
    replay_seeds(home, uneven, Order(name="base", policy="round-robin", with_centralized=False), spread, Listener())
    plain, drawn = load_run("base", home).rows, load_run("base.draw-1", home).rows
    assert not np.array_equal(getattr(plain, moved), getattr(drawn, moved))
    for column in same:
        assert np.array_equal(getattr(plain, column), getattr(drawn, column)), column


@pytest.mark.slow
def test_processes_draw_what_one_process_draws(home: GridHome, monkeypatch: pytest.MonkeyPatch) -> None:
    replay_seeds(home, bare(), Order(name="many"), Spread(seeds=3, jobs=2), Listener())
    heard: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(ensemble, "running", _in_this_process)
        replay_seeds(home, bare(), Order(name="one"), Spread(seeds=3), Listener(advanced=heard.append))
    assert draws(home, "many") == draws(home, "one")
    assert sum(heard) == 3 * 2 * 40


@contextmanager
def _in_this_process(
    executor: str, function: Any, shared: Any, jobs: Sequence[Any], **options: object
) -> Iterator[Any]:
    class Serial:
        def results(self, advanced: Callable[[int, int], None]) -> Iterator[tuple[int, Any]]:
            for number, job in enumerate(jobs):
                yield number, function(shared, job, lambda n: None)

    yield Serial()


def test_an_interrupt_keeps_what_is_done_and_resuming_makes_the_rest(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, bare(), Order(name="whole"), Spread(seeds=5), Listener())

    def impatient(requests: int) -> None:
        if here[-1:] == [3] and len(here) > 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as raised:
        replay_seeds(home, bare(), Order(name="base"), Spread(seeds=5), Listener(advanced=impatient))
    assert raised.value.what == "stopped after 3 of 5 replays; run base and its 2 draws are kept"
    assert "--resume --name base" in (raised.value.fix or "")
    found = load_ensemble(load_info("base", home), home)
    assert found is not None
    assert (found.replays, found.asked) == (3, 5)
    with pytest.raises(InputError, match=r"run base has 3 of 5 replays: it was interrupted"):
        replay_seeds(home, bare(), Order(name="base"), Spread(seeds=5), Listener())
    here.clear()
    before = load_info("base", home)
    assert replay_seeds(home, bare(), Order(name="base"), Spread(seeds=5, resume=True), Listener()) == before
    assert here == [3, 4]
    assert draws(home, "base") == draws(home, "whole")
    assert draws(home, "base.centralized") == draws(home, "whole.centralized")


def test_resuming_may_ask_for_more_and_makes_a_damaged_draw_again(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, bare(), Order(name="whole"), Spread(seeds=5), Listener())
    replay_seeds(home, bare(), Order(name="base"), Spread(seeds=4), Listener())
    damaged = home.runs.parent / "draws" / "base.centralized" / "draw-0002.json.gz"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"draw 2 of run base\.centralized is damaged"):
        draws(home, "base.centralized")
    here.clear()
    replay_seeds(home, bare(), Order(name="base"), Spread(seeds=5, resume=True), Listener())
    assert sorted(here) == [2, 4]
    assert draws(home, "base.centralized") == draws(home, "whole.centralized")


def test_an_interrupt_before_the_run_is_saved_leaves_nothing(home: GridHome, here: list[int]) -> None:
    def impatient(requests: int) -> None:
        if requests:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="no run was saved"):
        replay_seeds(home, bare(), Order(name="base"), Spread(seeds=3), Listener(advanced=impatient))
    assert left(home) == home.open_runs().list() == []
    replay_seeds(home, bare(), Order(name="base"), Spread(seeds=3), Listener())


def test_a_crash_between_the_run_and_its_plan_costs_the_run_only(
    home: GridHome, here: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*arguments: object, **options: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(ensemble, "_bind", crash)
        with pytest.raises(Crash):
            replay_seeds(home, bare(), Order(name="base"), Spread(seeds=3), Listener())
    assert home.open_runs().list() == ["base", "base.centralized"]
    replay_seeds(home, bare(), Order(name="base"), Spread(seeds=3, resume=True), Listener())
    assert len(draws(home, "base")) == 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"order": Order(name="base", seed=2)}, "seed, prices or --no-centralized changed"),
        ({"order": Order(name="base", policy="nearest")}, "the policy changed"),
        ({"order": Order(name="base", with_centralized=False)}, "seed, prices or --no-centralized changed"),
        ({"trace": trace(REQUESTS[:-1])}, "the trace changed"),
        ({"spread": Spread(seeds=3, drawn=("jitter",), resume=True)}, "were drawn from jitter,mix,arrivals,profile"),
    ],
)
def test_resuming_something_else_is_refused(home: GridHome, here: list[int], change: dict[str, Any], what: str) -> None:
    replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=2), Listener())
    given = {"trace": trace(REQUESTS), "order": Order(name="base"), "spread": Spread(seeds=3, resume=True)} | change
    with pytest.raises(InputError) as raised:
        replay_seeds(home, given["trace"], given["order"], given["spread"], Listener())
    assert what in raised.value.what


def test_resuming_on_a_changed_grid_is_refused(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=2), Listener())
    with home.open_registry() as registry:
        registry.apply([cluster("core", "frankfurt", usd_per_gpu_hour=9.0)], cause="test")
    with pytest.raises(InputError, match="the grid changed since"):
        replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3, resume=True), Listener())


def test_resuming_needs_a_name_that_has_draws(home: GridHome) -> None:
    with pytest.raises(UsageError, match="which run"):
        replay_seeds(home, trace(REQUESTS), Order(), Spread(seeds=3, resume=True), Listener())
    with pytest.raises(NotFoundError, match="no draws of a run base"):
        replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3, resume=True), Listener())


def test_a_run_that_is_replaced_loses_its_draws(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3), Listener())
    replay_seeds(home, trace(REQUESTS), Order(name="base", replace=True), Spread(seeds=2), Listener())
    assert [draw for draw, *_ in draws(home, "base")] == [1]
    replay_seeds(home, trace(REQUESTS), Order(name="base", replace=True), Spread(), Listener())
    assert draws(home, "base") == left(home) == []


def test_draws_of_a_run_that_was_replaced_behind_them_are_none_of_it(home: GridHome, here: list[int]) -> None:
    replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3), Listener())
    replay_trace(home, trace(REQUESTS), Order(name="base", replace=True), Listener())
    assert draws(home, "base") == []
    with pytest.raises(InputError, match="was replaced since its draws were made"):
        replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3, resume=True), Listener())


def test_a_second_command_on_the_same_run_is_refused_while_the_first_draws(home: GridHome, here: list[int]) -> None:
    with (
        home.open_draws().making("base"),
        pytest.raises(StoreError, match="is making draws of run base"),
    ):
        replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=3), Listener())


def test_rows_of_draws_are_kept_where_they_are_wanted_and_their_names_checked_before(
    home: GridHome, here: list[int]
) -> None:
    replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=2, keeps_rows=True), Listener())
    assert home.open_runs().list() == ["base", "base.centralized", "base.draw-1", "base.draw-1.centralized"]
    assert draws(home, "base")[0][2] == load_info("base.draw-1", home).digest
    for name, what in (("x" * 51, "is not a name"), ("other", "run other.draw-1 exists")):
        if name == "other":
            replay_trace(home, trace(REQUESTS), Order(name="other.draw-1", with_centralized=False), Listener())
        with pytest.raises(InputError, match=what):
            replay_seeds(home, trace(REQUESTS), Order(name=name), Spread(seeds=2, keeps_rows=True), Listener())
    assert "other" not in home.open_runs().list()


def test_a_lost_executor_leaves_no_plan_of_a_run_that_is_not_there(
    home: GridHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def gone(*arguments: object, **options: object) -> Iterator[None]:
        raise UnreachableError("the cluster is gone")
        yield

    monkeypatch.setattr(ensemble, "running", gone)
    with pytest.raises(UnreachableError):
        replay_seeds(home, trace(REQUESTS), Order(name="base"), Spread(seeds=2), Listener())
    assert left(home) == home.open_runs().list() == []


def test_sources_are_read_in_their_own_order_and_a_wrong_word_is_named() -> None:
    assert parse_sources("arrivals, jitter") == ("jitter", "arrivals")
    assert parse_sources(",".join(SOURCES)) == SOURCES
    with pytest.raises(UsageError) as raised:
        parse_sources("jiter")
    assert raised.value.fix == "did you mean jitter?"
    with pytest.raises(UsageError, match="all replays would be the same"):
        parse_sources(" , ")
