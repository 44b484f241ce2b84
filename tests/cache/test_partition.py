"""Nothing crosses a partition: any one field changed is another key, and what is equal however written is the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.cache.exact import exact_key, normalised
from gridctl.cache.partition import Partition, canonical, digest, sharing_tenant
from gridctl.errors import InputError

FIELDS = Partition.__struct_fields__
SECRET = b"s" * 32
TEXTS = st.text(max_size=12)
PARTITIONS = st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXTS)).map(lambda fields: Partition(**fields))


@pytest.mark.parametrize("field", FIELDS)
def test_another_value_of_one_field_is_another_partition(partition: Partition, secret: bytes, field: str) -> None:
    other = msgspec.structs.replace(partition, **{field: getattr(partition, field) + "x"})
    assert other.key(secret) != partition.key(secret)
    assert exact_key(secret, other, "hello") != exact_key(secret, partition, "hello")


@given(PARTITIONS, PARTITIONS)
def test_random_partitions_share_a_key_only_when_all_fields_are_equal(one: Partition, other: Partition) -> None:
    assert (one.key(SECRET) == other.key(SECRET)) == (one == other)


@given(PARTITIONS, st.sampled_from(FIELDS), st.sampled_from(FIELDS), TEXTS)
def test_moving_text_between_fields_makes_another_key(one: Partition, a: str, b: str, text: str) -> None:
    joined = getattr(one, a) + getattr(one, b)
    moved = msgspec.structs.replace(one, **{a: joined, b: ""}) if a != b else one
    assert (moved.key(SECRET) == one.key(SECRET)) == (moved == one)


def test_another_secret_is_another_key(partition: Partition, secret: bytes) -> None:
    assert partition.key(secret) != partition.key(secret[::-1])


def test_a_short_secret_is_refused(partition: Partition) -> None:
    with pytest.raises(InputError, match="secret"):
        partition.key(b"short")


def test_the_digest_is_hmac_sha256_over_length_prefixed_texts() -> None:
    import hashlib
    import hmac

    data = (2).to_bytes(8, "big") + "é".encode() + (0).to_bytes(8, "big")
    assert digest(SECRET, ["é", ""]) == hmac.new(SECRET, data, hashlib.sha256).hexdigest()


def test_a_conversation_that_went_another_way_shares_nothing(partition: Partition, secret: bytes) -> None:
    earlier = canonical([{"role": "user", "content": "in paris"}])
    other = msgspec.structs.replace(partition, earlier_turns=earlier)
    assert exact_key(secret, partition, "and tomorrow?") != exact_key(secret, other, "and tomorrow?")


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        ("What's  the TIME", "what's the time ", True),
        ("Ｐaris", "paris", True),
        ("cafe\u0301", "café", True),
        ("STRASSE", "straße", True),
        ("set it to 5", "set it to -5", False),
        ("turn on", "turn on!", False),
        ("```\nX = 1\n```", "```\nx = 1\n```", False),
        ("if x:\n  y", "if x:\n    y", False),
    ],
)
def test_what_counts_as_the_same_text(one: str, other: str, are_equal: bool) -> None:
    assert (normalised(one) == normalised(other)) == are_equal


@given(st.text(max_size=80))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_a_tenant_is_shared_only_when_both_sides_say_so() -> None:
    assert sharing_tenant("acme", True, True) == "*"
    assert [sharing_tenant("acme", a, b) for a, b in ((True, False), (False, True), (False, False))] == ["acme"] * 3
    with pytest.raises(InputError):
        sharing_tenant("*", True, False)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(InputError, match="not JSON"):
        canonical({"a": object()})
