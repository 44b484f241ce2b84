"""Draws on disk: whole or not there, held by one command at a time, damaged ones noticed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gridctl.errors import StoreError
from gridctl.registry import DrawStore


@pytest.fixture
def store(tmp_path: Path) -> DrawStore:
    return DrawStore(tmp_path / "draws")


def test_what_is_added_is_read_and_listed_by_number(store: DrawStore) -> None:
    with store.making("base"):
        for number in (12, 3, 10_000):
            store.add("base", number, b"%d" % number)
        store.write_plan("base", b"{}")
    assert store.numbers("base") == [3, 12, 10_000]
    assert store.read("base", 12) == b"12"
    assert store.plan("base") == b"{}"
    assert gzip.decompress((store.folder / "base" / "draw-0012.json.gz").read_bytes()) == b"12"


def test_a_run_without_draws_has_none(store: DrawStore) -> None:
    assert (store.plan("base"), store.numbers("base")) == (None, [])
    store.delete("base")
    with pytest.raises(StoreError, match="draw 1 of run base is damaged"):
        store.read("base", 1)


def test_the_same_summary_is_the_same_file(store: DrawStore) -> None:
    with store.making("a"), store.making("b"):
        store.add("a", 1, b"same")
        store.add("b", 1, b"same")
    assert (store.folder / "a" / "draw-0001.json.gz").read_bytes() == (
        store.folder / "b" / "draw-0001.json.gz"
    ).read_bytes()


@pytest.mark.parametrize("damage", [b"", b"no gzip", None])
def test_a_damaged_draw_is_said_with_the_way_out(store: DrawStore, damage: bytes | None) -> None:
    with store.making("base"):
        store.add("base", 1, b"x" * 100)
    path = store.folder / "base" / "draw-0001.json.gz"
    path.write_bytes(path.read_bytes()[:-8] if damage is None else damage)
    with pytest.raises(StoreError) as raised:
        store.read("base", 1)
    assert raised.value.where == str(path)
    assert "--resume" in (raised.value.fix or "")


def test_half_written_files_are_no_draws(store: DrawStore) -> None:
    with store.making("base"):
        store.add("base", 1, b"x")
        (store.folder / "base" / ".draw-0002.json.gz.77").write_bytes(b"half")
    assert store.numbers("base") == [1]


def test_two_commands_cannot_make_the_same_draws(store: DrawStore) -> None:
    with store.making("base"):
        with pytest.raises(StoreError, match="is making draws of run base"), store.making("base"):
            pass
        with pytest.raises(StoreError, match="is making draws of run base"):
            store.delete("base")
        with store.making("other"):
            pass
    store.delete("base")
    assert not (store.folder / "base").exists()


def test_a_disk_that_is_full_leaves_no_half_draw(store: DrawStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with store.making("base"):
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            store.add("base", 1, b"x")
    assert sorted(path.name for path in (store.folder / "base").iterdir()) == [".lock"]
