"""From the grid to what workers follow: rows stay, names are enrolled, keys are those that open something."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gridctl.control.listening import Address
from gridctl.control.order import Order
from gridctl.control.plans import board_workloads, enrol, is_same_service, plan_of, unplaced
from gridctl.control.services import Declared
from gridctl.errors import InputError
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live import LocalServices
from gridctl.registry import Registry, WantedKey
from gridctl.resources import Cluster, Site, Workload
from gridctl.signals.board import Board


@pytest.fixture
def order(home: GridHome) -> Order:
    return Order(database=home.database, grid="grid", listen=Address("127.0.0.1", 8080))


@pytest.fixture
def declared(home: GridHome) -> Declared:
    return LocalServices(home, None, None).declared()


def changed(declared: Declared, kind: type, change: Callable[[Any], Any]) -> Declared:
    """The same grid with `change` made to every resource of a kind; None leaves it out."""
    after = [change(one) if isinstance(one, kind) else one for one in declared.resources]
    return declared._replace(resources=tuple(one for one in after if one is not None))


def test_the_next_plan_keeps_rows_and_salt_and_counts_on(declared: Declared, order: Order) -> None:
    first = plan_of(declared, order, None)
    assert first.generation == 1
    assert [backend.row for backend in first.backends] == [0, 1, 2]

    def without_oslo(cluster: Cluster) -> Cluster | None:
        return None if cluster.name == "oslo-gpu" else cluster

    second = plan_of(changed(declared, Cluster, without_oslo), order, first)
    assert (second.generation, second.salt) == (2, first.salt)
    assert {one.url: one.row for one in second.backends} == {
        one.url: one.row for one in first.backends if one.cluster != "oslo-gpu"
    }
    assert not is_same_service(first, second)
    assert is_same_service(first, plan_of(declared, order, first))


def test_a_grid_nobody_can_be_served_from_is_refused_with_what_to_do(declared: Declared, order: Order) -> None:
    with pytest.raises(InputError, match="has no workload"):
        plan_of(changed(declared, Workload, lambda one: None), order, None)

    def silent(cluster: Cluster) -> Cluster:
        deployments = tuple(msgspec.structs.replace(one, endpoints=()) for one in cluster.spec.deployments)
        return msgspec.structs.replace(
            cluster, spec=msgspec.structs.replace(cluster.spec, endpoints=(), deployments=deployments)
        )

    with pytest.raises(InputError, match="none of the grid's 2 clusters says where") as caught:
        plan_of(changed(declared, Cluster, silent), order, None)
    assert "gridctl engine mock" in (caught.value.fix or "")


def test_keys_with_a_quota_have_rows_that_stay_and_revoked_ones_give_theirs_up(
    declared: Declared, order: Order, home: GridHome
) -> None:
    with Registry.open(home.database) as registry:
        for name in ("a", "b", "c"):
            registry.create_key(WantedKey(name=name, requests_per_s=1.5 if name != "b" else None), cause="")
        registry.create_key(WantedKey(name="d", tokens_per_minute=100), cause="")
        first = plan_of(LocalServices(home, None, None).declared(), order, None)
        assert {key.name: key.row for key in first.keys} == {"a": 0, "b": -1, "c": 1, "d": 2}
        assert [(key.requests_per_s, key.tokens_per_minute) for key in first.keys][3] == (None, 100)
        registry.revoke_key("a", cause="")
        registry.create_key(WantedKey(name="aa", requests_per_s=9), cause="")
    second = plan_of(LocalServices(home, None, None).declared(), order, first)
    assert {key.name: key.row for key in second.keys} == {"aa": 0, "b": -1, "c": 1, "d": 2}


def test_callers_of_unknown_place_are_warned_of_where_that_makes_a_difference(declared: Declared, order: Order) -> None:
    def told(**given: Any) -> str | None:
        settings = msgspec.structs.replace(order.settings, **given)
        return unplaced(plan_of(declared, dataclasses.replace(order, settings=settings), None))

    assert "their way to each of 2 sites counts as 0 ms" in (told() or "")
    assert told(default_origin="fr-paris-01") is None
    assert told(gateway_place="fr-paris-01") is None
    alone = changed(declared, Cluster, lambda one: None if one.name == "oslo-gpu" else one)
    assert unplaced(plan_of(alone, order, None)) is None


def test_more_engines_than_rows_are_refused(declared: Declared, order: Order) -> None:
    few = Order(database=order.database, grid="grid", listen=order.listen, backends=2)
    with pytest.raises(InputError, match="3 engines have an endpoint"):
        plan_of(declared, few, None)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://169.254.169.254/latest", "link-local or metadata"),
        ("http://[fe80::1]:80", "link-local or metadata"),
        ("http://[fd00:ec2::254]:80", "link-local or metadata"),
        ("http://[::ffff:169.254.169.254]", "link-local or metadata"),
        ("http://0.0.0.0:99", "no address of one machine"),
        ("http://2852039166/", "no plain host name"),
        ("http://0xa9fea9fe/", "no plain host name"),
    ],
)
def test_no_engine_can_be_where_no_engine_is(declared: Declared, order: Order, url: str, why: str) -> None:
    def there(cluster: Any) -> Cluster:
        if cluster.name != "oslo-gpu":
            return cluster  # type: ignore[no-any-return]
        return msgspec.structs.replace(cluster, spec=msgspec.structs.replace(cluster.spec, endpoints=(url,)))

    elsewhere = changed(declared, Cluster, there)
    with pytest.raises(InputError, match=why) as caught:
        plan_of(elsewhere, order, None)
    assert caught.value.where == "cluster oslo-gpu"
    if "link-local" in why:
        settings = msgspec.structs.replace(order.settings, allow_link_local=True)
        assert plan_of(elsewhere, dataclasses.replace(order, settings=settings), None).backends


@pytest.mark.parametrize("port", [7101, 7102, 7103])
def test_no_engine_can_be_at_our_own_port(declared: Declared, order: Order, port: int) -> None:
    with pytest.raises(InputError, match="this orchestrator itself"):
        plan_of(declared, order, None, own_ports=[port])
    plan_of(declared, order, None, own_ports=[7104])


def test_a_plan_holds_digests_of_keys_that_are_not_revoked(home: GridHome, order: Order) -> None:
    with Registry.open(home.database) as registry:
        kept, token = registry.create_key(WantedKey(name="kept", tenant="acme", workload="chat"), cause="")
        registry.create_key(WantedKey(name="gone"), cause="")
        registry.revoke_key("gone", cause="")
    plan = plan_of(LocalServices(home, None, None).declared(), order, None)
    assert [(key.name, key.digest, key.tenant, key.workload) for key in plan.keys] == [
        ("kept", kept.digest, "acme", "chat")
    ]
    assert token not in msgspec.json.encode(plan).decode()


def test_names_are_enrolled_before_workers_hear_of_them_and_keep_their_rows(
    declared: Declared, order: Order, tmp_path: Path
) -> None:
    with Board.create(str(tmp_path / "board"), 1, 8, board_workloads(declared)) as board:
        plan = plan_of(declared, order, None)
        enrol(board, plan)
        before = board.directory()
        assert before.workload_rows() == {"chat": 1}
        # 500 ms of TTFT; what the gateway does not see is the last mile, 10 ms unless declared.
        assert [(one.metric, one.most_ns) for one in before.workloads[1].objectives] == [("ttft_ms", 500_000_000)]
        assert before.workloads[1].unseen_ns == 10_000_000
        assert [one.tier for one in before.backends] == ["core", "edge", "edge"]

        def stricter(workload: Workload) -> Workload:
            (objective,) = workload.spec.objectives
            harder = (msgspec.structs.replace(objective, threshold_ms=100.0),)
            return msgspec.structs.replace(workload, spec=msgspec.structs.replace(workload.spec, objectives=harder))

        enrol(board, plan_of(changed(declared, Workload, stricter), order, plan))
        assert board.directory().workload_rows() == {"chat": 2}
        assert board.directory().workloads[:2] == before.workloads


def test_operators_words_reach_the_engines_health(declared: Declared, order: Order, tmp_path: Path) -> None:
    from gridctl.control.observing import Observer
    from gridctl.signals.rows import CORDONED

    def cordoned(site: Site) -> Site:
        if site.name != "no-oslo-01":
            return site
        return msgspec.structs.replace(site, spec=msgspec.structs.replace(site.spec, state="cordoned"))

    with Board.create(str(tmp_path / "board"), 1, 8) as board:
        observer = Observer(board)
        observer.follow(plan_of(changed(declared, Site, cordoned), order, None))
        assert board.engines[0]["health"] == CORDONED
        assert board.engines[0]["admit_ppm"] == 0
        assert board.engines[1]["admit_ppm"] == 1_000_000


def test_failures_counted_by_workers_eject_an_engine_and_probes_bring_it_back(
    declared: Declared, order: Order, tmp_path: Path
) -> None:
    from gridctl.control.observing import Observer
    from gridctl.health.outcome import Outcome
    from gridctl.signals.rows import EJECTED, HEALTHY, PROBATION

    now = [10**12]
    with Board.create(str(tmp_path / "board"), 2, 8) as board:
        observer = Observer(board, lambda: now[0])
        observer.follow(plan_of(declared, order, None))
        observer._take(Outcome(key="1", cause="ok", detail="it answers", at_ns=now[0], latency_ms=1.0))
        assert board.engines[1]["health"] == HEALTHY
        # Four connections refused, and given up as failed: one failure each, which is not five in a row.
        board.slots[0][1]["connect_failures"] += 4
        board.slots[0][1]["failures"] += 4
        now[0] += 10**9
        observer.look()
        assert board.engines[1]["health"] == HEALTHY
        board.slots[0][1]["completed"] += 1
        now[0] += 10**9
        observer.look()
        # Three connections refused in one worker, two in another: five in a row and no success.
        for worker, count in enumerate((3, 2)):
            board.slots[worker][1]["connect_failures"] += count
            board.slots[worker][1]["failures"] += count
        now[0] += 10**9
        observer.look()
        assert board.engines[1]["health"] == EJECTED
        assert board.engines[1]["admit_ppm"] == 0
        # 30 s later its ejection ends: 5 % of its traffic, until it has answered well.
        now[0] += 31 * 10**9
        observer.look()
        assert board.engines[1]["health"] == PROBATION
        assert board.engines[1]["admit_ppm"] == 50_000
