"""Which answers hold under which orders, without a server."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_parts import answer_to, asked

from gridctl.answers.shared_numbers import MOST_REMEMBERED, Numbers
from gridctl.answers.shared_record import Notice, record_of
from gridctl.errors import StoreError

ONE, TWO = "1" * 32, "2" * 32


def followed(folder: Path, epoch: str = ONE, *notices: Notice) -> Numbers:
    numbers = Numbers(folder)
    numbers.begin(epoch)
    numbers.hear([Notice("begin", sender="other"), *notices])
    numbers.mark(10)
    return numbers


def test_an_answer_has_the_number_that_was_known_before_its_engine_was_asked(tmp_path: Path) -> None:
    numbers = followed(tmp_path)
    numbers.hear([Notice("purge", "tag:a")])
    numbers.mark(14)
    assert [numbers.number_for(stamp) for stamp in (0, 9, 10, 13, 14, 99)] == [None, None, 1, 1, 2, 2]


@given(st.lists(st.sampled_from(["tag:a", "tag:b", "tenant:acme", "key"]), max_size=6), st.integers(0, 7))
def test_an_answer_holds_exactly_until_one_of_its_tags_or_its_key_is_named(values: list[str], asked_after: int) -> None:
    folder = Path("/nonexistent")
    question = asked(tags=("a",))
    orders = [Notice("key", question.exact.hex()) if value == "key" else Notice("purge", value) for value in values]
    numbers = followed(folder, ONE, *orders)
    number = min(asked_after, len(orders)) + 1
    record = record_of(answer_to(question, "x", 0), number)
    touching = [index for index, value in enumerate(values) if value in ("tag:a", "tenant:acme", "key")]
    assert numbers.holds(record, question.exact) == all(index + 2 <= number for index in touching)


def test_what_is_owed_voids_at_once_and_a_number_of_nowhere_is_never_good(tmp_path: Path) -> None:
    numbers, question = followed(tmp_path), asked()
    record = record_of(answer_to(question, "x", 0), 1)
    assert numbers.holds(record, question.exact)
    assert not numbers.holds(msgspec.structs.replace(record, number=0), question.exact)
    assert not numbers.holds(msgspec.structs.replace(record, number=2), question.exact)
    numbers.owe([Notice("purge", "workload:chat")])
    assert not numbers.holds(record, question.exact)
    numbers.said(numbers.state.owed)
    numbers.hear([Notice("purge", "workload:chat", numbers.state.sender)])
    assert not numbers.holds(record, question.exact)
    assert numbers.holds(msgspec.structs.replace(record, number=2), question.exact)


def test_what_was_carried_out_is_not_done_again_after_a_restart_and_what_was_not_is(tmp_path: Path) -> None:
    orders = [Notice("purge", f"tag:{number}", "other") for number in range(3)]
    numbers = Numbers(tmp_path)
    numbers.begin(ONE)
    assert numbers.hear([Notice("begin"), *orders[:2]]) == orders[:2]
    numbers.settle(ONE, 2)  # the second was not durable when it was killed
    numbers.write(numbers.packed())
    again = Numbers(tmp_path)
    again.begin(ONE)
    assert again.hear([Notice("begin"), *orders]) == orders[1:]
    other = Numbers(tmp_path)
    other.begin(TWO)
    assert other.hear([Notice("begin"), *orders]) == orders, "in another epoch, everything"


def test_orders_of_here_are_owed_over_restarts_and_said_again_in_every_new_epoch(tmp_path: Path) -> None:
    numbers = followed(tmp_path)
    numbers.owe([Notice("purge", "tag:a"), Notice("stop", "chat", unix_ns=1), Notice("resume", "chat", unix_ns=2)])
    numbers.write(numbers.packed())
    again = Numbers(tmp_path)
    assert [one.kind for one in again.state.owed] == ["purge", "stop", "resume"]
    again.begin(ONE)
    again.said(again.state.owed)
    assert again.state.owed == []
    again.begin(TWO)
    assert [(one.kind, one.value) for one in again.state.owed] == [("purge", "tag:a"), ("resume", "chat")]


def test_own_orders_are_not_carried_out_again_and_older_switches_are_not_followed(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path)
    numbers.begin(ONE)
    own = Notice("purge", "tag:a", numbers.state.sender)
    late = Notice("stop", "chat", "other", unix_ns=50)
    numbers.owe([Notice("resume", "chat", unix_ns=100)])
    assert numbers.hear([Notice("begin"), own, late]) == []
    newer = Notice("stop", "chat", "other", unix_ns=101)
    assert numbers.hear([newer]) == [newer]


def test_what_is_remembered_is_bounded_and_says_each_thing_once(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path)
    numbers.owe(Notice("purge", f"tag:{number % 7}") for number in range(100))
    assert len(numbers.state.ordered) == 7
    numbers.said(numbers.state.owed)
    numbers.state.ordered = [Notice("purge", f"tag:{number}") for number in range(2 * MOST_REMEMBERED)]
    numbers.begin(TWO)
    assert len(numbers.state.owed) == MOST_REMEMBERED


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 9, msgspec.msgpack.encode({"version": 2}), msgspec.msgpack.encode({"epoch": "../.."})]
)
def test_a_file_that_cannot_be_read_is_a_gateway_that_is_new(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "shared.state").write_bytes(data)
    numbers = Numbers(tmp_path)
    assert (numbers.state.epoch, numbers.state.number, numbers.state.owed) == ("", 0, [])
    assert len(numbers.state.sender) == 16


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    numbers = Numbers(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="owed to the shared cache"):
        numbers.write(numbers.packed())
