"""Sweeps on disk: whole lines or none, held by one command at a time, deleted at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.registry import SweepStore


@pytest.fixture
def store(tmp_path: Path) -> SweepStore:
    return SweepStore(tmp_path / "sweeps")


def begun(store: SweepStore, name: str = "a") -> None:
    with store.making(name):
        store.begin(name, b"{}")


def test_lines_come_back_in_the_order_they_were_added(store: SweepStore) -> None:
    begun(store)
    for line in (b"1", b"2"):
        with store.adding("a") as journal:
            journal.add(line)
    assert store.lines("a") == [b"1", b"2"]
    assert store.list() == ["a"]
    assert store.latest() == "a"


def test_a_line_that_a_kill_cut_off_is_read_by_nobody_and_cut_away_by_the_next_writer(store: SweepStore) -> None:
    begun(store)
    path = store.folder / "a" / "results.jsonl"
    path.write_bytes(b'{"whole": 1}\n{"ha')
    assert store.lines("a") == [b'{"whole": 1}']
    with store.adding("a") as journal:
        journal.add(b"next")
    assert path.read_bytes() == b'{"whole": 1}\nnext\n'


def test_a_second_command_is_refused_at_once(store: SweepStore) -> None:
    with store.making("a"), pytest.raises(StoreError, match="is making sweep a"), store.making("a"):
        pass


def test_beginning_again_forgets_what_there_was(store: SweepStore) -> None:
    begun(store)
    with store.adding("a") as journal:
        journal.add(b"old")
    begun(store)
    assert store.lines("a") == []


def test_a_deleted_sweep_is_gone_and_one_that_is_not_there_has_a_nearest_name(store: SweepStore) -> None:
    begun(store, "fleets")
    with pytest.raises(NotFoundError) as raised:
        store.plan("fleet")
    assert raised.value.fix == "did you mean fleets?"
    store.delete("fleets")
    assert (store.list(), store.latest()) == ([], None)
    with pytest.raises(NotFoundError):
        store.delete("fleets")


@pytest.mark.parametrize("name", ["", "A", "../a", "a/b", "-a", "a" * 64])
def test_what_is_no_name_is_refused_and_never_a_path(store: SweepStore, name: str) -> None:
    with pytest.raises(InputError):
        store.check_name(name)
    with pytest.raises(NotFoundError):
        store.plan(name)


def test_a_disk_that_refuses_leaves_the_journal_as_it_was(store: SweepStore, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store)
    with store.adding("a") as journal:
        journal.add(b"1")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("gridctl.registry.sweeps.os.fsync", full)
        with pytest.raises(StoreError, match="disk is full"):
            journal.add(b"2")
    assert store.lines("a") == [b"1"]
