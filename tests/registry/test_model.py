"""The registry and a plain dict, driven in lock-step by random operations, agree after every one."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gridctl.errors import ConflictError, InputError, NotFoundError
from gridctl.registry import Registry
from gridctl.resources import Gate, GateSpec, Metadata, Resource, ResourceKey, Site, SiteSpec, key_of

names = st.sampled_from(["a", "b", "c"])
sites = st.builds(
    lambda name, tier, label: Site(
        metadata=Metadata(name=name, labels={"l": label} if label else {}),
        spec=SiteSpec(lat=1.0, lon=2.0, country="FR", tier=tier),
    ),
    names,
    st.sampled_from(["edge", "core"]),
    st.sampled_from(["", "x", "y"]),
)
gates = st.builds(
    lambda name, value: Gate(
        metadata=Metadata(name=name), spec=GateSpec(metric="attainment", op=">=", value=float(value))
    ),
    names,
    st.integers(0, 1),
)
resources = st.lists(sites | gates, max_size=4, unique_by=key_of)
keys = st.builds(ResourceKey, st.sampled_from(["Site", "Gate"]), names)


class Row:
    """What the model remembers of a resource."""

    def __init__(self, resource: Resource, version: int, generation: int) -> None:
        self.resource, self.version, self.generation = resource, version, generation


class RegistryAgainstDict(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.registry = Registry.open(self.folder / "grid.db", create=True)
        self.rows: dict[ResourceKey, Row] = {}
        self.log: list[tuple[int, str, ResourceKey]] = []

    @rule()
    def reopen(self) -> None:
        self.registry.close()
        self.registry = Registry.open(self.folder / "grid.db")

    @rule(wanted=resources, refused=st.booleans())
    def apply(self, wanted: list[Resource], refused: bool) -> None:
        def check(after: object) -> None:
            assert after == [
                resource
                for _, resource in sorted(
                    ({key: row.resource for key, row in self.rows.items()} | {key_of(r): r for r in wanted}).items()
                )
            ]
            if refused:
                raise InputError("refused")

        if refused:
            with pytest.raises(InputError, match="refused"):
                self.registry.apply(wanted, cause="", check=check)
            return
        actions = [step.action for step in self.registry.apply(wanted, cause="", check=check)]
        assert actions == [self.put(resource) for resource in wanted]

    @rule(wanted=sites, seen=st.integers(0, 12))
    def compare_and_set(self, wanted: Site, seen: int) -> None:
        key = key_of(wanted)
        row = self.rows.get(key)
        if seen != (row.version if row else 0):
            with pytest.raises(ConflictError):
                self.registry.apply([wanted], cause="", expected={key: seen})
        else:
            (step,) = self.registry.apply([wanted], cause="", expected={key: seen})
            assert step.action == self.put(wanted)

    @rule(key=keys, label=st.sampled_from(["x", "z"]))
    def relabel(self, key: ResourceKey, label: str) -> None:
        def change(old: Resource) -> Resource:
            return msgspec.structs.replace(old, metadata=Metadata(name=old.name, labels={"l": label}))

        if key not in self.rows:
            with pytest.raises(NotFoundError):
                self.registry.update(key, change, cause="")
        else:
            assert self.registry.update(key, change, cause="").action == self.put(change(self.rows[key].resource))

    @rule(wanted=st.lists(keys, max_size=3, unique=True))
    def delete(self, wanted: list[ResourceKey]) -> None:
        if any(key not in self.rows for key in wanted):
            with pytest.raises(NotFoundError):
                self.registry.delete(wanted, cause="")
            return
        assert [stored.key for stored in self.registry.delete(wanted, cause="")] == wanted
        for key in wanted:
            del self.rows[key]
            self.log.append((len(self.log) + 1, "deleted", key))

    def put(self, resource: Resource) -> str:
        """The model's own apply of one resource."""
        key, version = key_of(resource), len(self.log) + 1
        row = self.rows.get(key)
        if row is None:
            self.rows[key] = Row(resource, version, 1)
            self.log.append((version, "created", key))
            return "create"
        if row.resource == resource:
            return "unchanged"
        self.rows[key] = Row(resource, version, row.generation + (row.resource.spec != resource.spec))
        self.log.append((version, "updated", key))
        return "update"

    @invariant()
    def they_agree(self) -> None:
        found = [(s.key, s.resource, s.version, s.generation) for s in self.registry.all()]
        assert found == [(key, row.resource, row.version, row.generation) for key, row in sorted(self.rows.items())]
        events = self.registry.events()
        assert [(e.version, e.action, ResourceKey(e.kind, e.name)) for e in events] == self.log
        assert self.registry.version() == len(self.log)
        assert self.registry.check_integrity() == []

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.folder)


TestRegistryAgainstDict = RegistryAgainstDict.TestCase
TestRegistryAgainstDict.settings = settings(
    max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
