"""Keys: tokens are shown once, kept as digests, named once, and every change of one is an event."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path

import pytest

from gridctl.errors import InputError, NotFoundError
from gridctl.registry import Registry, WantedKey
from gridctl.registry.keys import check_key


def test_a_token_is_kept_as_its_sha256_alone(tmp_path: Path) -> None:
    path = tmp_path / "grid.db"
    with Registry.open(path, create=True) as registry:
        key, token = registry.create_key(WantedKey(name="shop", tenant="acme"), cause="test")
        assert key.digest == hashlib.sha256(token.encode()).hexdigest()
        assert registry.access_keys() == [key]
    for file in tmp_path.iterdir():
        assert token.encode() not in file.read_bytes()


def test_no_two_tokens_are_alike_and_each_has_256_bits(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        tokens = {registry.create_key(WantedKey(name=f"k{n}"), cause="")[1] for n in range(20)}
    assert len(tokens) == 20
    # 32 bytes are 43 characters of base64 without padding.
    assert {(token[:8], len(token)) for token in tokens} == {("gridctl_", 8 + 43)}


def test_making_and_revoking_are_events_with_an_actor_and_without_the_digest(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "grid.db", create=True, actor="grace") as registry:
        key, _ = registry.create_key(WantedKey(name="ci", role="viewer"), cause="token create")
        registry.revoke_key("ci", cause="token revoke: left the company")
        made, ended = registry.events()
        assert (made.action, made.kind, made.name, made.actor, made.version) == ("created", "Key", "ci", "grace", 1)
        assert (ended.action, ended.cause, ended.version) == ("deleted", "token revoke: left the company", 2)
        assert key.digest not in repr((made, ended))
        assert registry.version() == 2
        assert registry.check_integrity() == []


def test_a_key_is_active_until_it_expires_or_is_revoked(tmp_path: Path) -> None:
    later = time.time_ns() + 60_000_000_000
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        key, _ = registry.create_key(WantedKey(name="a", expires_ns=later), cause="")
        assert key.state(later - 1) == "active"
        assert key.state(later) == "expired"
        revoked = registry.revoke_key("a", cause="")
        assert revoked.state(0) == "revoked"
        assert registry.revoke_key("a", cause="again") == revoked
        assert len(registry.events()) == 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (WantedKey(name="Bad Name"), "not a name for a key"),
        (WantedKey(name="a" * 64), "not a name for a key"),
        (WantedKey(name="a", role="root"), "no role 'root'"),  # type: ignore[arg-type]
        (WantedKey(name="a", role="admin", tenant="acme"), "is for the admin API"),
        (WantedKey(name="a", role="viewer", workload="chat"), "is for the admin API"),
        (WantedKey(name="a", tenant="a\nb"), "is no tenant"),
        (WantedKey(name="a", workload=""), "is no workload"),
        (WantedKey(name="a", expires_ns=1), "expired already"),
        (WantedKey(name="a", expires_ns=1 << 70), "expired already"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_and_nothing_is_written(
    tmp_path: Path, wanted: WantedKey, words: str
) -> None:
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        with pytest.raises(InputError, match=words):
            registry.create_key(wanted, cause="")
        assert registry.access_keys() == []
        assert registry.version() == 0


def test_a_name_stands_for_one_key_for_good(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        registry.create_key(WantedKey(name="shop"), cause="")
        with pytest.raises(InputError, match=r"there is a key shop already$"):
            registry.create_key(WantedKey(name="shop"), cause="")
        registry.revoke_key("shop", cause="")
        with pytest.raises(InputError, match="already, revoked"):
            registry.create_key(WantedKey(name="shop"), cause="")


def test_a_key_that_is_not_there_gets_the_nearest_name(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        registry.create_key(WantedKey(name="shop-prod"), cause="")
        with pytest.raises(NotFoundError) as caught:
            registry.revoke_key("shop-prd", cause="")
        assert caught.value.fix == "did you mean shop-prod?"


def test_the_database_itself_refuses_what_is_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "grid.db"
    Registry.open(path, create=True).close()
    raw = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("INSERT INTO access_key VALUES ('a', 'token', 'client', 't', NULL, 0, '', NULL, NULL, 1, 1, NULL)")
    raw.close()


def test_a_key_can_be_checked_without_being_made(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "grid.db", create=True) as registry:
        taken, _ = registry.create_key(WantedKey(name="shop"), cause="")
        check_key(WantedKey(name="ci"), None)
        with pytest.raises(InputError, match="there is a key shop already"):
            check_key(WantedKey(name="shop"), taken)
        with pytest.raises(InputError, match="requests a second"):
            check_key(WantedKey(name="ci", requests_per_s=0.0), None)
        assert len(registry.events()) == 1
