"""The replay service: what it refuses before any work, what it saves, and what it leaves behind when it fails."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "grid"))

from smallgrids import as_policy, cluster, gpu, model, price_book, site, trace, workload

from gridctl.errors import GridctlError, InputError, Interrupted, NotFoundError, StoreError
from gridctl.orchestrator import playing, replaying
from gridctl.orchestrator.context import GridHome, home_of
from gridctl.orchestrator.policies import choose_policy
from gridctl.orchestrator.replaying import Listener, Order, check_order, replay_trace
from gridctl.orchestrator.runs import load_info, load_run
from gridctl.registry import Registry, RunStore
from gridctl.registry.runs import RunDraft
from gridctl.resources import PolicySpec, Resource
from gridctl.traces.trace import UNSAID, Trace

Found = Callable[..., GridHome]
REQUESTS = [{"at_ms": 10 * number} for number in range(20)]


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """A grid on disk: an edge site with a GPU, a core with another, one workload, and whatever is given."""

    def build(*more: Resource) -> GridHome:
        home = home_of(tmp_path / "grid", "test")
        home.runs.mkdir(parents=True)
        parts = {
            (type(one), one.name): one
            for one in (
                gpu(),
                model(),
                site("paris", population=3),
                site("frankfurt", "DE", "core", lat=50.1, lon=8.7, population=1),
                cluster("edge", "paris", usd_per_gpu_hour=3.0),
                cluster("core", "frankfurt"),
                workload(tenants=("acme", "umbrella")),
                *more,
            )
        }
        with Registry.open(home.database, create=True) as registry:
            registry.apply(list(parts.values()), cause="test")
        return home

    return build


def names(home: GridHome) -> list[str]:
    return home.open_runs().list()


def files(home: GridHome) -> list[str]:
    """Everything in the folder of runs but its lock."""
    return sorted(path.name for path in home.runs.iterdir() if path.name != ".lock")


def bare() -> Trace:
    """A trace that says neither where requests come from nor what they are for."""
    told = trace(REQUESTS)
    unsaid = np.full(len(told), UNSAID, np.int32)
    return replace(told, origin=unsaid, workload=unsaid, tenant=unsaid, origins=(), workloads=(), tenants=())


def test_a_replay_is_saved_with_its_centralised_alternative_on_as_many_gpus(found: Found) -> None:
    home = found()
    info = replay_trace(home, trace(REQUESTS), Order(name="base", policy="nearest"), Listener())
    assert names(home) == ["base", "base.centralized"]
    main, beside = load_info("base", home), load_info("base.centralized", home)
    assert info == main
    assert (main.requests, main.completed, main.rejected, main.failed) == (20, 20, 0, 0)
    assert (main.input_tokens, main.output_tokens) == (2000, 200)
    assert (main.policy, main.algorithm, main.seed) == ("nearest", "nearest", 1)
    assert (beside.policy, beside.algorithm, beside.digest != main.digest) == ("centralized", "centralized", True)
    assert main.centralized == beside.name
    assert sum(one.gpus for one in main.engines) == sum(one.gpus for one in beside.engines) == 2
    assert {one.site for one in main.engines} == {"paris", "frankfurt"}
    assert {one.site for one in beside.engines} == {"frankfurt"}


def test_without_the_alternative_one_run_is_saved(found: Found) -> None:
    home = found()
    info = replay_trace(home, trace(REQUESTS), Order(with_centralized=False), Listener())
    assert (info.name, info.centralized) == ("run-1", "")
    assert names(home) == ["run-1"]
    assert replay_trace(home, trace(REQUESTS), Order(with_centralized=False), Listener()).name == "run-2"


def test_what_is_loaded_is_what_was_replayed(found: Found) -> None:
    home = found()
    replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    run = load_run("base", home)
    assert run.rows.arrival_ns.tolist() == [10_000_000 * number for number in range(20)]
    assert run.rows.input_tokens.tolist() == [100] * 20
    assert run.info.workload_names == ("chat",)


def test_the_listener_hears_of_every_request_of_both_replays(found: Found) -> None:
    heard: list[int] = []
    replay_trace(found(), trace(REQUESTS), Order(), Listener(advanced=heard.append))
    assert sum(heard) == 40


def test_a_bare_trace_takes_origins_workloads_and_tenants_from_the_grid_and_says_so(found: Found) -> None:
    home, said = found(), []
    replay_trace(home, bare(), Order(name="base", seed=7), Listener(say=said.append))
    assert "hand does not say origin, workload, tenant: drawn from the grid's own mix (seed 7)" in said
    assert len(said) == len(set(said)), said
    run = load_run("base", home)
    assert {run.info.origins[one].name for one in run.rows.origin} == {"paris", "frankfurt"}
    assert {run.info.tenant_names[one] for one in run.rows.tenant} == {"acme", "umbrella"}
    assert any("seed 7" in note for note in run.info.notes)


def test_the_same_seed_gives_the_same_digest_and_another_seed_another(found: Found) -> None:
    home = found()
    digests = [
        replay_trace(home, bare(), Order(seed=seed, with_centralized=False), Listener()).digest for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replays from here on has worked before looking."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("a replay was started")

    monkeypatch.setattr(playing, "replay_into", work)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("base", "run base exists"),
        ("Base", "'Base' is not a name for a run"),
        ("a/b", "'a/b' is not a name for a run"),
        ("x" * 52, "is not a name for a run"),  # and 12 for the alternative's suffix are more than 63
    ],
)
def test_a_name_that_is_taken_or_none_is_refused_before_any_work(
    found: Found, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    home = found()
    replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    untouched(monkeypatch)
    for attempt in (
        lambda order: replay_trace(home, trace(REQUESTS), order, Listener()),
        lambda order: check_order(home, trace(REQUESTS), order, lambda text: None),
    ):
        with pytest.raises(InputError) as raised:
            attempt(Order(name=name))
        assert what in raised.value.what
    assert names(home) == ["base", "base.centralized"]


def test_a_long_name_is_fine_without_the_alternative(found: Found) -> None:
    order = Order(name="x" * 63, with_centralized=False)
    assert replay_trace(found(), trace(REQUESTS), order, Listener()).name == "x" * 63


def test_a_run_somebody_called_like_the_alternative_is_not_overwritten(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = found()
    order = Order(name="base.centralized", with_centralized=False)
    mine = replay_trace(home, trace(REQUESTS[:5]), order, Listener())
    with monkeypatch.context() as patched:
        untouched(patched)
        with pytest.raises(InputError, match=r"run base\.centralized exists"):
            replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    assert load_info("base.centralized", home) == mine
    replay_trace(home, trace(REQUESTS), Order(name="base", replace=True), Listener())
    assert load_info("base.centralized", home).requests == 20


def test_an_alternative_whose_run_is_gone_may_be_written_again(found: Found) -> None:
    home = found()
    replay_trace(home, trace(REQUESTS[:5]), Order(name="base"), Listener())
    home.open_runs().delete("base")
    replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    assert [load_info(name, home).requests for name in names(home)] == [20, 20]


def test_replace_writes_over_both(found: Found) -> None:
    home = found()
    for count in (5, 20):
        replay_trace(home, trace(REQUESTS[:count]), Order(name="base", replace=True), Listener())
    assert [load_info(name, home).requests for name in names(home)] == [20, 20]


@pytest.mark.parametrize(
    ("changed", "kind", "what"),
    [
        ({"workloads": ("chatt",)}, InputError, "the trace names workload chatt, which the grid does not have"),
        ({"models": ("gpt",)}, InputError, "the trace names model gpt, which the grid does not have"),
        ({"origins": ("qqqqq",)}, InputError, "qqqqq"),
    ],
)
def test_a_trace_that_names_what_the_grid_does_not_have_is_refused_and_a_dry_run_says_so(
    found: Found, changed: dict, kind: type[GridctlError], what: str
) -> None:
    home, wrong = found(), replace(trace(REQUESTS), **changed)
    for attempt in (
        lambda: replay_trace(home, wrong, Order(), Listener()),
        lambda: check_order(home, wrong, Order(), lambda text: None),
    ):
        with pytest.raises(kind) as raised:
            attempt()
        assert what in raised.value.what
        assert raised.value.where == "trace hand"
    assert files(home) == []


def test_a_trace_of_more_than_thirty_days_is_refused(found: Found) -> None:
    home, month_ms = found(), 30 * 86_400_000
    assert (
        replay_trace(home, trace([{}, {"at_ms": month_ms}]), Order(with_centralized=False), Listener()).completed == 2
    )
    with pytest.raises(InputError, match="more than 30 days"):
        check_order(home, trace([{}, {"at_ms": month_ms + 1}]), Order(), lambda text: None)


def test_an_empty_trace_is_refused(found: Found) -> None:
    with pytest.raises(InputError, match="the trace has no requests"):
        replay_trace(found(), trace([]), Order(), Listener())


def test_a_dry_run_counts_engines_and_writes_nothing(found: Found) -> None:
    home = found(cluster("edge", "paris", gpus=3))
    assert check_order(home, trace(REQUESTS), Order(name="base"), lambda text: None) == 3
    assert files(home) == []


def test_an_interrupt_saves_nothing_and_says_how_far_it_came(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    home = found()
    monkeypatch.setattr("gridctl.replay.stage.CHUNK_REQUESTS", 8)
    for reached in (8, 20 + 16):
        done = 0

        def advanced(requests: int, reached: int = reached) -> None:
            nonlocal done
            done += requests
            if done == reached:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted) as raised:
            replay_trace(home, trace(REQUESTS), Order(name="base"), Listener(advanced=advanced))
        assert raised.value.exit_code == 130
        assert f"stopped after {8 if reached == 8 else 16} of 20 requests; no run was saved" in raised.value.what
        assert files(home) == []


def test_a_disk_that_fills_up_before_the_second_run_leaves_neither(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, put_in_place = found(), RunStore.put_in_place

    def full(self: RunStore, partial: Path, name: str, *, replace: bool) -> None:
        if name == "base":
            raise OSError(errno.ENOSPC, "no space left")
        put_in_place(self, partial, name, replace=replace)

    monkeypatch.setattr(RunStore, "put_in_place", full)
    with pytest.raises(StoreError, match="the disk is full"):
        replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    assert files(home) == []


def test_a_disk_without_room_for_the_run_is_noticed_before_any_work(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = found()
    untouched(monkeypatch)
    monkeypatch.setattr("gridctl.registry.runs.free_bytes", lambda path: 1000)
    with pytest.raises(StoreError, match="the disk is full"):
        replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    assert files(home) == []


def test_a_policy_is_one_of_the_grid_before_an_algorithm_before_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nearest").write_text("apiVersion: gridctl/v1\nkind: Policy\nmetadata: {name: filed}\nspec: {}\n")
    Path("mine.yaml").write_text(
        "apiVersion: gridctl/v1\nkind: Policy\nmetadata: {name: filed}\nspec: {candidates: 9}\n"
    )
    own = as_policy(PolicySpec(candidates=5), "nearest")
    assert choose_policy([own], "nearest") is own
    assert choose_policy([], "nearest").spec == PolicySpec(algorithm="nearest")
    assert choose_policy([], "mine.yaml").spec.candidates == 9
    assert choose_policy([as_policy(PolicySpec(), "default")], None).name == "default"
    assert choose_policy([own], None).spec == PolicySpec()


def test_an_unknown_policy_is_not_found_with_the_nearest_of_both_kinds() -> None:
    own = as_policy(PolicySpec(), "night-shift")
    for word, near in (("night-shiftt", "night-shift"), ("least-load", "least-loaded")):
        with pytest.raises(NotFoundError) as raised:
            choose_policy([own], word)
        assert raised.value.fix == f"did you mean {near}?"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("kind: Policy\nmetadata: {name: p}\nspec: {candidate: 3}\n", "candidate"),
        (
            "kind: Site\nmetadata: {name: p}\nspec: {lat: 1, lon: 1, country: FR, tier: edge}\n",
            "0 policies and 1 other",
        ),
        (
            "kind: Policy\nmetadata: {name: p}\n---\n"
            "apiVersion: gridctl/v1\nkind: Policy\nmetadata: {name: q}\nspec: {}\n",
            "",
        ),
        (
            "kind: Policy\nmetadata: {name: p}\nspec: {telemetry: {period_ms: 10, delay_ms: 20}}\n",
            "delay_ms 20 is above",
        ),
        ("kind: Policy\nmetadata: {name: p}\nspec: {gpu_weight: .nan}\n", ""),
    ],
)
def test_a_policy_file_that_is_wrong_is_bad_input(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"apiVersion: gridctl/v1\n{content}")
    with pytest.raises(InputError) as raised:
        choose_policy([], str(path))
    assert what in raised.value.what
    assert "policy.yaml" in (raised.value.where or "")


def test_prices_come_from_the_book_that_is_named(found: Found) -> None:
    home = found(
        price_book(name="winter", gpu_hour_usd={"toy": 8.0}), cluster("core", "frankfurt", usd_per_gpu_hour=None)
    )
    with pytest.raises(InputError, match="no price for an hour of toy"):
        replay_trace(home, trace(REQUESTS), Order(name="base"), Listener())
    assert files(home) == []
    info = replay_trace(home, trace(REQUESTS), Order(name="base", prices="winter"), Listener())
    assert {one.cluster: one.usd_per_gpu_hour for one in info.engines} == {"core": 8.0, "edge": 3.0}
    with pytest.raises(NotFoundError, match="wintre"):
        check_order(home, trace(REQUESTS), Order(prices="wintre"), lambda text: None)


@pytest.mark.parametrize("moment", ["before the alternative is written", "before the run itself is"])
def test_of_two_commands_that_make_one_run_the_later_leaves_the_earlier_s_whole(
    found: Found, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Both begin while the name is free; the one that ends later is refused, and takes nothing away."""
    home = found()
    is_early = moment == "before the alternative is written"
    owner, step = (replaying, "_played") if is_early else (RunDraft, "finish")
    own, calls = getattr(owner, step), []

    def stepping(*given: Any) -> Any:
        """The step; the second one (of the run, of its alternative) meets the other command."""
        calls.append(step)
        if len(calls) == 2:
            replay_trace(home, trace(REQUESTS), Order(name="same"), Listener())
        return own(*given)

    monkeypatch.setattr(owner, step, stepping)
    with pytest.raises(InputError, match="same"):
        replay_trace(home, trace(REQUESTS), Order(name="same", seed=2), Listener())
    assert names(home) == ["same", "same.centralized"]
    if is_early:
        assert load_info("same.centralized", home).seed == 1
