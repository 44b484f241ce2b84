"""The shared table beside a dictionary, through restarts, torn writes and full tables."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gridctl.answers.presence import Presence
from gridctl.errors import InputError, NotFoundError


@pytest.fixture
def name(tmp_path: Path) -> str:
    return str(tmp_path / "presence")


def key_of(number: int, slots: int = 16) -> bytes:
    """A key whose home slot is `number` modulo the slots, so that collisions can be made."""
    return (number).to_bytes(8, "little") + bytes(8)


def test_it_agrees_with_a_dictionary_after_any_puts_and_removals(name: str) -> None:
    draw = random.Random(3)
    table = Presence.create(name, 1, 64)
    table.ready()
    other = Presence.attach(name)
    known: dict[bytes, int] = {}
    # Few distinct home slots: chains are long and wrap around the end.
    keys = [key_of(home + 64 * lap) for home in (0, 1, 2, 61, 62, 63) for lap in range(6)]
    for entry in range(1, 4_000):
        key = draw.choice(keys)
        if draw.random() < 0.5:
            assert table.put(key, entry)
            known[key] = entry
        else:
            assert table.remove(key, known.get(key, 0)) == (known.pop(key, None) is not None)
        probe = draw.choice(keys)
        assert other.find(probe) == known.get(probe, 0)
    assert {key: other.find(key) for key in keys} == {key: known.get(key, 0) for key in keys}
    assert len(other) == len(known)
    other.close()
    table.close()


def test_it_is_full_at_three_quarters_and_says_so(name: str) -> None:
    table = Presence.create(name, 1, 16)
    table.ready()
    assert [table.put(key_of(number), number + 1) for number in range(16)] == [True] * 12 + [False] * 4
    assert table.find(key_of(3)) == 4
    assert table.find(key_of(15)) == 0
    table.close()


def test_nothing_is_found_while_a_writer_that_died_left_it_torn(name: str) -> None:
    table = Presence.create(name, 1, 16)
    table.ready()
    table.put(key_of(5), 9)
    reader = Presence.attach(name)
    table.unready()  # as between the two steps of a write
    assert reader.find(key_of(5)) == 0
    table.close()
    again = Presence.create(name, 1, 16)
    again.ready()
    assert reader.find(key_of(5)) == 0
    again.put(key_of(6), 10)
    assert reader.find(key_of(6)) == 10, "a reader from before sees the table that was begun anew"
    again.close()
    reader.close()


def test_a_table_of_another_size_takes_the_old_ones_place_and_the_old_one_goes_silent(name: str) -> None:
    table = Presence.create(name, 1, 16)
    table.ready()
    table.put(key_of(5), 9)
    reader = Presence.attach(name)
    larger = Presence.create(name, 2, 64)
    assert larger.slots == 64
    assert reader.find(key_of(5)) == 0
    for one in (table, reader, larger):
        one.close()


def test_an_entry_that_was_replaced_is_not_removed_by_its_older_number(name: str) -> None:
    table = Presence.create(name, 1, 16)
    table.ready()
    table.put(key_of(5), 9)
    table.put(key_of(5), 11)
    assert not table.remove(key_of(5), 9)
    assert table.find(key_of(5)) == 11
    table.close()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Presence.attach(str(tmp_path / "absent"))
    (tmp_path / "text").write_bytes(b"gcanswer" + bytes(100))
    with pytest.raises(InputError):
        Presence.attach(str(tmp_path / "text"))
