"""What `gridctl up` makes of a shared cache before anything starts, and the keys that its gateways then make alike."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import pytest

from gridctl.control.keeper import Keeper
from gridctl.control.listening import Address
from gridctl.control.order import Order, Shared, check_order
from gridctl.errors import InputError, UsageError

ORDER = Order(database=Path("grid.db"), grid="grid", listen=Address(host="127.0.0.1", port=8080))


def key_at(path: Path, text: str = "0123456789abcdef" * 4) -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def secret_of(folder: Path, shared: Shared | None) -> bytes:
    """The secret under which the keys of a gateway's questions are made."""
    folder.mkdir(exist_ok=True)
    keeper = Keeper(folder, f"shared-test-{os.getpid()}-{folder.name}", print, shared)
    keeper.prepare()
    assert keeper._listener is not None
    keeper._listener.close()
    secret = folder / "cache" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    return secret.read_bytes()


def test_gateways_with_one_key_file_make_one_secret_and_others_another(tmp_path: Path) -> None:
    key, strange = key_at(tmp_path / "key"), key_at(tmp_path / "strange", "fedcba9876543210" * 4)
    alone = secret_of(tmp_path / "a", None)
    one = secret_of(tmp_path / "a", Shared("redis://127.0.0.1", key))
    other = secret_of(tmp_path / "b", Shared("unix:///elsewhere.sock", key))
    assert one == other != alone
    assert secret_of(tmp_path / "b", Shared("redis://127.0.0.1", strange)) != one
    assert secret_of(tmp_path / "a", None) == one, "answers that are kept stay findable"
    assert len(one) == 32
    assert one not in key.read_bytes()


def test_an_order_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRIDCTL_CACHE_SHARED_PASSWORD", raising=False)
    key = key_at(tmp_path / "key")
    check_order(dataclasses.replace(ORDER, shared=Shared("redis://127.0.0.1", key)), 1)
    with pytest.raises(UsageError, match="no address"):
        check_order(dataclasses.replace(ORDER, shared=Shared("http://127.0.0.1", key)), 1)
    with pytest.raises(InputError, match="cannot be read"):
        check_order(dataclasses.replace(ORDER, shared=Shared("redis://127.0.0.1", tmp_path / "none")), 1)
    key.chmod(0o644)
    with pytest.raises(InputError, match="others can read it"):
        check_order(dataclasses.replace(ORDER, shared=Shared("redis://127.0.0.1", key)), 1)


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> object | None:
        return None if name == "redis" else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(InputError, match="package redis") as caught:
        check_order(dataclasses.replace(ORDER, shared=Shared("redis://127.0.0.1", key_at(tmp_path / "key"))), 1)
    assert caught.value.fix == "pip install 'gridctl[shared-cache]'"
