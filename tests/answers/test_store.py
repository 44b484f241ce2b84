"""The file: what is durable, what a damaged, foreign or full one does, and purges by number."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gridctl.answers.database import FILE, open_to_read
from gridctl.answers.entries import Entry, Purge, Serving, is_valid
from gridctl.answers.store import Store
from gridctl.errors import StoreError


def entry_of(store: Store, text: str = "hello", **more: object) -> Entry:
    fields: dict[str, object] = {
        "number": store.next_number(), "exact": b"k" * 16, "partition": b"p" * 32, "workload": "chat", "tenant": "acme",
        "jurisdiction": "eu", "stamp": store.last_purge, "born": 5, "ttl_s": 60.0, "stale_s": 0.0, "tags": ("tag:a",),
        "content": b'{"content":"hi"}', "finish_reason": "stop", "model": "m", "variant": "v", "prompt_tokens": 1,
        "output_tokens": 2, "usd": 0.1, "founder": 0, "user": "", "text": text, "embedder": "", "vector": None,
        "digest": "", "request_id": "r", "site": "", "cluster": "", "endpoint": "chat", **more,
    }  # fmt: skip
    return Entry(**fields)  # type: ignore[arg-type]


def test_an_entry_reads_the_same_before_and_after_it_is_durable(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = entry_of(store, text="ünï\x00code", vector=b"\x00\x01", tags=("tag:a", "tenant:b"))
    store.add(entry)
    assert store.read(entry.number) == entry
    store.flush()
    assert store.read(entry.number) == entry
    store.close()
    again = Store(tmp_path)
    assert again.read(entry.number) == entry
    assert again.next_number() > entry.number
    again.remove(entry.number)
    assert again.read(entry.number) is None
    again.close()
    third = Store(tmp_path)
    assert third.read(entry.number) is None
    assert third.entries() == []
    third.close()


def test_a_removal_counts_while_the_batch_with_its_entry_is_being_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = entry_of(store)
    store.add(entry)
    batch = store.take()
    assert batch is not None
    store.remove(entry.number)
    assert store.read(entry.number) is None
    store.commit(batch)
    store.settle(batch, is_written=True)
    assert store.read(entry.number) is None
    store.flush()
    assert store.entries() == []
    store.close()


def test_purges_are_numbered_by_tag_and_ordered_here(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = store.last_purge
    assert store.purge("tag:a").number == 1
    assert store.purge("tag:b").number == 1
    assert store.purge("tag:a", 7).number == 7
    assert store.purge("tag:a", 6).number == 7, "an older number, sent again, does nothing"
    assert store.last_purge == before + 3
    store.close()
    again = Store(tmp_path)
    assert again.last_purge == before + 3
    assert again.purges["tag:a"] == Purge(7, 7, before + 3)
    again.close()


def test_validity_is_by_the_stamp_and_a_missing_purge_fails_closed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    early = store.last_purge
    store.purge("tag:a")
    assert not is_valid(("tag:a",), early, store.purges)
    assert is_valid(("tag:a",), store.last_purge, store.purges)
    assert is_valid(("tag:b",), early, store.purges)
    store.announce("tag:a", 3)
    assert not is_valid(("tag:a",), store.last_purge, store.purges), "two purges have not arrived"
    store.purge("tag:a", 3)
    assert is_valid(("tag:a",), store.last_purge, store.purges)
    store.close()


@pytest.mark.parametrize("damage", ["zeros", "text", "newer", "a page", "no table"])
def test_a_file_that_cannot_be_trusted_is_set_aside_and_never_served(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    numbers = []
    for place in range(200):
        entry = entry_of(store, text="x" * 500, exact=place.to_bytes(16, "little"))
        store.add(entry)
        numbers.append(entry.number)
    store.close()
    path = tmp_path / FILE
    if damage == "zeros":
        path.write_bytes(b"\x01" * 8192)
    elif damage == "text":
        path.write_text("not a database at all\n" * 300)
    elif damage in ("newer", "no table"):
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 9" if damage == "newer" else "DROP TABLE purges")
        connection.close()
    else:
        data = bytearray(path.read_bytes())
        data[8192:16384] = bytes(range(256)) * 32
        path.write_bytes(data)
    again = Store(tmp_path)
    assert again.aside is not None
    assert again.entries() == []
    assert (tmp_path / f"{FILE}.corrupt-1").exists()
    assert again.next_number() > max(numbers)
    assert again.last_purge >= store.last_purge
    again.close()


def test_of_a_batch_that_the_disk_refused_removals_and_purges_are_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = entry_of(store)
    store.add(kept)
    store.flush()
    new = entry_of(store, content=b"x" * 4_000_000, exact=b"n" * 16)
    store.add(new)
    store.remove(kept.number)
    store.purge("tag:gone")
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="disk is full"):
        store.flush()
    assert store.read(kept.number) is None
    assert store.read(new.number) is None
    store._writer.execute("PRAGMA max_page_count = 1000000")
    store.flush()
    store.close()
    again = Store(tmp_path)
    assert again.entries() == []
    assert again.purges["tag:gone"].number == 1
    again.close()


def test_a_reader_sees_the_file_and_cannot_write_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    reader, identity = open_to_read(tmp_path)
    assert identity == store.identity
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("DELETE FROM entries")
    reader.close()
    store.close()
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_servings_are_kept_for_traces_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridctl.answers.store.SERVINGS_KEPT", 10)
    store = Store(tmp_path)
    for place in range(25):
        store.served(Serving(f"r{place}", 1, "exact", "chat", "acme", "", 0.5, place))
    store.flush()
    assert store.servings(request_id="r3") == []
    assert [one.request_id for one in store.servings(entry=1)] == [f"r{place}" for place in range(24, 14, -1)]
    assert store.hits() == {1: 25}
    store.close()
