"""The salt of prompts' hashes: made once, kept for its owner alone, renewed on demand, never guessed when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridctl.control.salt import kept_salt
from gridctl.errors import StoreError


def test_a_salt_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    salt = kept_salt(path)
    assert len(bytes.fromhex(salt)) == 16
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # as a restored backup may be
    assert kept_salt(path) == salt
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_salt_is_made_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    salt = kept_salt(path)
    other = kept_salt(path, renews=True)
    assert other != salt
    assert kept_salt(path) == other


@pytest.mark.parametrize("content", [b"", b"5a", b"g" * 32, b"0" * 64, b"\xff\xfe" * 16])
def test_a_damaged_salt_is_told_and_not_replaced_by_itself(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "salt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught:
        kept_salt(path)
    assert "--new-salt" in (caught.value.fix or "")
    assert path.read_bytes() == content
    assert kept_salt(path, renews=True) == kept_salt(path)
