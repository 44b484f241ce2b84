"""What the registry promises a single caller: order, versions, plans, all or nothing, events."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from gridctl.errors import ConflictError, InputError, NotFoundError
from gridctl.registry import Change, Registry
from gridctl.resources import BUILTIN_GPUS, Metadata, Resource, ResourceKey, Site

PARIS = ResourceKey("Site", "fr-paris-01")


def refuse(resources: Sequence[Resource]) -> None:
    raise InputError("refused by the check")


def test_a_new_registry_is_empty_at_version_0(registry: Registry) -> None:
    assert registry.version() == 0
    assert registry.all() == []
    assert registry.list(Site) == []
    assert registry.events() == []


def test_what_was_applied_is_read_back_equal(registry: Registry, site, serverless) -> None:
    declared = site(labels={"owner": "équipe-réseau"}, city="Paris", serverless=serverless, cache_gib=64.5)
    registry.apply([declared], cause="gridctl apply")
    stored = registry.get(Site, "fr-paris-01")
    assert stored.resource == declared
    assert (stored.version, stored.generation) == (1, 1)
    assert stored.created_ns == stored.updated_ns > 1_700_000_000 * 10**9
    assert uuid.UUID(stored.uid).version == 4
    assert registry.find("sites", "fr-paris-01") == stored == registry.find("Site", "fr-paris-01")


def test_names_are_listed_in_code_point_order(registry: Registry, site) -> None:
    registry.apply([site(name) for name in ("b", "a-1", "a.1", "a1", "10", "9", "a")], cause="")
    # '-' is U+002D, '.' U+002E, digits U+0030 on, letters U+0061 on.
    in_order = ["10", "9", "a", "a-1", "a.1", "a1", "b"]
    assert [stored.resource.name for stored in registry.list(Site)] == in_order
    assert registry.names("site") == in_order


def test_all_holds_every_kind_by_kind_and_name(registry: Registry, site) -> None:
    gpu = BUILTIN_GPUS["l4"]
    registry.apply([site("b"), gpu, site("a")], cause="")
    assert [stored.key for stored in registry.all()] == [("Gpu", "l4"), ("Site", "a"), ("Site", "b")]


def test_applying_the_same_again_writes_nothing(registry: Registry, site) -> None:
    registry.apply([site()], cause="first")
    before = registry.all()
    (step,) = registry.apply([site()], cause="second")
    assert (step.action, step.diff, step.before) == ("unchanged", (), before[0])
    assert registry.all() == before
    assert registry.version() == 1
    assert len(registry.events()) == 1


def test_an_integer_where_a_float_is_declared_is_the_same_value(registry: Registry, site) -> None:
    registry.apply([site(lat=49.0)], cause="")
    assert registry.apply([site(lat=49)], cause="")[0].action == "unchanged"


def test_label_order_is_no_change(registry: Registry, site) -> None:
    registry.apply([site(labels={"a": "1", "b": "2"})], cause="")
    assert registry.apply([site(labels={"b": "2", "a": "1"})], cause="")[0].action == "unchanged"


def test_generation_rises_with_the_spec_alone_and_version_with_any_change(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    registry.apply([site(labels={"owner": "net"})], cause="")
    relabelled = registry.get(Site, "fr-paris-01")
    assert (relabelled.version, relabelled.generation) == (2, 1)
    registry.apply([site(labels={"owner": "net"}, tier="metro")], cause="")
    moved = registry.get(Site, "fr-paris-01")
    assert (moved.version, moved.generation) == (3, 2)
    assert moved.uid == relabelled.uid
    assert moved.created_ns == relabelled.created_ns <= moved.updated_ns


def test_each_changed_resource_takes_the_next_version(registry: Registry, site) -> None:
    registry.apply([site("a"), site("b"), site("c")], cause="")
    registry.apply([site("a", tier="core"), site("b"), site("c", tier="core")], cause="")
    assert {stored.resource.name: stored.version for stored in registry.list(Site)} == {"a": 4, "b": 2, "c": 5}
    assert registry.version() == 5


def test_a_plan_says_what_apply_does_and_writes_nothing(registry: Registry, site) -> None:
    registry.apply([site("a"), site("b")], cause="")
    wanted = [site("c"), site("b", tier="core"), site("a")]
    plan = registry.plan(wanted)
    assert [(step.action, step.key.name) for step in plan] == [("create", "c"), ("update", "b"), ("unchanged", "a")]
    assert plan[1].diff == (Change("spec.tier", "edge", "core"),)
    assert registry.version() == 2
    assert registry.apply(wanted, cause="") == plan
    with pytest.raises(InputError, match="refused"):
        registry.plan(wanted, check=refuse)


def test_large_and_small_plans_agree(registry: Registry, site) -> None:
    registry.apply([site(f"s{n}") for n in range(100)], cause="")
    wanted = [site(f"s{n}", tier="core" if n % 2 else "edge") for n in range(50, 150)]
    whole = registry.plan(wanted)
    assert whole == [registry.plan([one])[0] for one in wanted]
    actions = [step.action for step in whole]
    assert (actions.count("create"), actions.count("update"), actions.count("unchanged")) == (50, 25, 25)


def test_the_check_sees_everything_there_will_be(registry: Registry, site) -> None:
    seen: list[list[tuple[str, str]]] = []

    def note(resources: Sequence[Resource]) -> None:
        seen.append([(resource.name, resource.spec.tier) for resource in resources])

    registry.apply([site("a"), site("c")], cause="", check=note)
    registry.apply([site("c", tier="core"), site("b")], cause="", check=note)
    registry.delete([ResourceKey("Site", "a")], cause="", check=note)
    registry.update(ResourceKey("Site", "b"), lambda _: site("b", tier="metro"), cause="", check=note)
    assert seen == [
        [("a", "edge"), ("c", "edge")],
        [("a", "edge"), ("b", "edge"), ("c", "core")],
        [("b", "edge"), ("c", "core")],
        [("b", "metro"), ("c", "core")],
    ]


def test_a_check_that_refuses_leaves_nothing(registry: Registry, site) -> None:
    registry.apply([site("a")], cause="")
    before = registry.all()
    with pytest.raises(InputError, match="refused"):
        registry.apply([site("b"), site("a", tier="core")], cause="", check=refuse)
    with pytest.raises(InputError, match="refused"):
        registry.delete([ResourceKey("Site", "a")], cause="", check=refuse)
    with pytest.raises(InputError, match="refused"):
        registry.update(ResourceKey("Site", "a"), lambda _: site("a", tier="core"), cause="", check=refuse)
    with pytest.raises(KeyboardInterrupt):
        registry.apply([site("b")], cause="", check=lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert registry.all() == before
    assert registry.version() == 1
    assert registry.apply([site("b")], cause="")[0].action == "create"


def test_a_check_may_read_the_registry_it_judges(registry: Registry, site) -> None:
    registry.apply([site("a")], cause="")
    counts: list[int] = []
    registry.apply([site("b")], cause="", check=lambda _: counts.append(len(registry.list(Site))))
    assert counts == [1]


def test_a_moved_version_is_refused_and_both_versions_are_named(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    registry.apply([site(tier="metro")], cause="")
    with pytest.raises(ConflictError) as caught:
        registry.apply([site("other"), site(tier="core")], cause="", expected={PARIS: 1})
    assert "version 1 was expected, the registry holds version 2" in caught.value.what
    assert caught.value.where == "site fr-paris-01"
    assert "gridctl site get fr-paris-01" in (caught.value.fix or "")
    with pytest.raises(ConflictError, match="version 1 was expected, the registry holds version 2"):
        registry.delete([PARIS], cause="", expected={PARIS: 1})
    assert [stored.resource.spec.tier for stored in registry.list(Site)] == ["metro"]
    assert registry.apply([site(tier="core")], cause="", expected={PARIS: 2})[0].action == "update"


def test_a_resource_that_came_or_went_is_a_conflict_too(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    with pytest.raises(ConflictError, match="exists already, at version 1"):
        registry.apply([site(tier="core")], cause="", expected={PARIS: 0})
    registry.delete([PARIS], cause="")
    with pytest.raises(ConflictError, match="was deleted since version 1 was read"):
        registry.apply([site(tier="core")], cause="", expected={PARIS: 1})
    assert registry.apply([site()], cause="", expected={PARIS: 0})[0].action == "create"


def test_every_conflict_of_a_write_is_reported_at_once(registry: Registry, site) -> None:
    registry.apply([site("a"), site("b"), site("c")], cause="")
    stale = {ResourceKey("Site", "a"): 9, ResourceKey("Site", "b"): 2, ResourceKey("Site", "c"): 9}
    with pytest.raises(ConflictError) as caught:
        registry.apply([site("a", tier="core")], cause="", expected=stale)
    assert [caught.value.where, *[error.where for error in caught.value.related]] == ["site a", "site c"]


def test_update_changes_what_it_read(registry: Registry, site) -> None:
    registry.apply([site()], cause="")

    def cordon(resource: Resource) -> Resource:
        return msgspec.structs.replace(resource, spec=msgspec.structs.replace(resource.spec, state="cordoned"))

    step = registry.update(PARIS, cordon, cause="gridctl site cordon fr-paris-01")
    assert step.action == "update"
    assert step.diff == (Change("spec.state", "active", "cordoned"),)
    assert registry.update(PARIS, cordon, cause="again").action == "unchanged"
    assert registry.version() == 2


def test_a_missing_name_suggests_the_closest(registry: Registry, site) -> None:
    registry.apply([site("fr-paris-01"), site("us-nyc-01")], cause="")
    with pytest.raises(NotFoundError, match="there is no site fr-pariss-01") as caught:
        registry.get(Site, "fr-pariss-01")
    assert "fr-paris-01" in (caught.value.fix or "")
    with pytest.raises(NotFoundError) as caught:
        registry.update(ResourceKey("Site", "zzz"), lambda resource: resource, cause="")
    assert caught.value.fix == "see what there is: gridctl site list"
    assert registry.find(Site, "fr-pariss-01") is None


def test_a_missing_kind_suggests_the_closest(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="no kind 'sties'") as caught:
        registry.list("sties")
    assert caught.value.fix == "did you mean site?"


def test_deleting_a_missing_name_deletes_nothing(registry: Registry, site) -> None:
    registry.apply([site("a"), site("b")], cause="")
    keys = [ResourceKey("Site", name) for name in ("a", "x", "b", "y")]
    with pytest.raises(NotFoundError) as caught:
        registry.delete(keys, cause="")
    assert [caught.value.what, *[error.what for error in caught.value.related]] == [
        "there is no site x",
        "there is no site y",
    ]
    assert len(registry.list(Site)) == 2
    assert registry.version() == 2


def test_deleting_a_name_given_twice_deletes_it_once(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    assert [stored.key for stored in registry.delete([PARIS, PARIS], cause="")] == [PARIS]
    assert registry.version() == 2


def test_a_name_reused_is_another_resource(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    (first,) = registry.delete([PARIS], cause="")
    registry.apply([site()], cause="")
    second = registry.get(*PARIS)
    assert second.uid != first.uid
    assert (second.version, second.generation) == (3, 1)


def test_events_tell_who_did_what_why_and_what_differed(
    registry: Registry, site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")
    registry.apply([site("a"), site("b")], cause="gridctl apply -f sites.yaml")
    monkeypatch.delenv("USER")
    monkeypatch.setenv("LOGNAME", "grace")
    registry.apply([site("a", state="cordoned", cache_gib=2.0)], cause="gridctl site cordon a")
    registry.delete([ResourceKey("Site", "b")], cause="gridctl site delete b")
    events = registry.events()
    declared = {"lat": 48.85, "lon": 2.35, "country": "FR", "tier": "edge"}
    assert [(e.version, e.actor, e.action, e.kind, e.name, e.cause, e.diff) for e in events] == [
        (1, "ada", "created", "Site", "a", "gridctl apply -f sites.yaml", (Change("spec", None, declared),)),
        (2, "ada", "created", "Site", "b", "gridctl apply -f sites.yaml", (Change("spec", None, declared),)),
        (
            3,
            "grace",
            "updated",
            "Site",
            "a",
            "gridctl site cordon a",
            (Change("spec.state", "active", "cordoned"), Change("spec.cache_gib", 0.0, 2.0)),
        ),
        (4, "grace", "deleted", "Site", "b", "gridctl site delete b", (Change("spec", declared, None),)),
    ]
    assert [e.time_ns for e in events[:2]] == [registry.get(Site, "a").created_ns] * 2


def test_without_a_name_in_the_environment_the_account_made_the_change(
    registry: Registry, site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.delenv("LOGNAME", raising=False)
    registry.apply([site("a")], cause="")
    account = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setattr("os.getuid", lambda: 4_000_123)
    registry.apply([site("b")], cause="")
    assert [event.actor for event in registry.events()] == [account, "uid 4000123"]


def test_events_can_be_narrowed(registry: Registry, site) -> None:
    registry.apply([site("a"), BUILTIN_GPUS["l4"], site("b")], cause="")
    registry.apply([site("a", tier="core")], cause="")

    def versions(**narrow: object) -> list[int]:
        return [event.version for event in registry.events(**narrow)]

    assert versions(kind=Site) == [1, 3, 4]
    assert versions(kind="site", name="a") == [1, 4]
    assert versions(since_version=2) == [3, 4]
    assert versions(limit=2) == [3, 4]
    assert versions(kind="gpu", limit=5) == [2]
    assert versions(since_version=4) == versions(limit=0) == []


def test_a_cause_with_undecodable_bytes_or_nul_is_kept_readable(registry: Registry, site) -> None:
    registry.apply([site()], cause="gridctl apply -f \udcff\0.yaml")
    assert registry.events()[0].cause == "gridctl apply -f ?\ufffd.yaml"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"lat": 95.0}, "spec.lat"),
        ({"lat": float("nan")}, "spec.lat"),
        ({"city": "Par\0is"}, "NUL"),
        ({"city": "Par\udcffis"}, "cannot be stored"),
        ({"tier": "cloud"}, "spec.tier"),
    ],
)
def test_a_value_no_reader_would_accept_is_not_written(registry: Registry, site, facts, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        registry.apply([site("good"), site("bad", **facts)], cause="")
    assert caught.value.where == "site bad"
    assert registry.version() == 0


def test_a_backslash_before_u0000_is_text_not_nul(registry: Registry, site) -> None:
    registry.apply([site(city=r"a\u0000b")], cause="")
    assert registry.get(*PARIS).resource.spec.city == r"a\u0000b"


def test_a_resource_given_twice_is_refused(registry: Registry, site) -> None:
    with pytest.raises(InputError, match="site fr-paris-01 is declared 2 times"):
        registry.apply([site(), site(tier="core")], cause="")
    assert registry.version() == 0


def test_every_bad_resource_of_a_write_is_reported_at_once(registry: Registry, site) -> None:
    with pytest.raises(InputError) as caught:
        registry.apply([site("a", lat=91.0), site("b"), site("c", lon=181.0), site("b")], cause="")
    assert [caught.value.where, *[error.where for error in caught.value.related]] == ["site a", "site c", "site b"]


def test_an_update_that_makes_a_bad_value_writes_nothing(registry: Registry, site) -> None:
    registry.apply([site()], cause="")
    with pytest.raises(InputError, match=r"spec\.lat"):
        registry.update(PARIS, lambda _: site(lat=-91.0), cause="")
    assert registry.version() == 1


def test_what_is_stored_survives_closing(path: Path, site) -> None:
    with Registry.open(path, create=True) as first:
        first.apply([site("a"), site("b")], cause="")
        written = (first.all(), first.events())
    with Registry.open(path) as second:
        assert (second.all(), second.events()) == written
        assert second.check_integrity() == []


def test_names_are_case_sensitive_and_never_sql(registry: Registry, site) -> None:
    registry.apply([site("a")], cause="")
    assert registry.find(Site, "A") is None
    assert registry.find(Site, "a' OR '1'='1") is None
    assert registry.events(name="a' OR '1'='1") == []
    hostile = Site(metadata=Metadata(name="x'; DROP TABLE resource; --"), spec=site().spec)
    with pytest.raises(InputError, match=r"metadata\.name"):
        registry.apply([hostile], cause="")
    assert registry.names(Site) == ["a"]


def test_using_the_registry_imports_nothing_heavy(path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from gridctl.registry import Registry
        with Registry.open(Path(sys.argv[1]), create=True) as registry:
            registry.list("site")
        print(*sorted({"asyncio", "httpx", "numba", "numpy", "rich", "yaml"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""
