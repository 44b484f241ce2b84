"""Configuration files: the small syntax, precedence, and errors with a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.orchestrator.config import (
    Value,
    project_file,
    read_config,
    set_user_setting,
    setting,
    user_file,
    write_config,
)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("GRIDCTL_COLOR", "GRIDCTL_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def _read(tmp_path: Path, text: str) -> dict[str, Value]:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_plain_quoted_nested_and_commented_lines_are_read(tmp_path: Path) -> None:
    text = "# c\n---\na: b c # why\nq: \"x: y # z\"\ns: 'it'\nm:\n  one: /p/q\n  \"two words\": '#'\nend: 1\n"
    assert _read(tmp_path, text) == {
        "a": "b c",
        "q": "x: y # z",
        "s": "it",
        "m": {"one": "/p/q", "two words": "#"},
        "end": "1",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb\n", 2),
        ("a: 1\na: 2\n", 2),
        ("\ta: 1\n", 1),
        ("  a: 1\n", 1),
        ('a: "x\n', 1),
        ("a: 'x\n", 1),
        ('a: "x" y\n', 1),
        ("a: [1]\n", 1),
        ("a: *x\n", 1),
        ("m:\n  x: 1\n  x: 2\n", 3),
    ],
)
def test_anything_else_is_an_error_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InputError) as caught:
        _read(tmp_path, text)
    assert caught.value.where == f"{tmp_path / 'c.yaml'}:{line}"


def test_binary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_config(tmp_path / "c.yaml")


KEYS = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60)
@given(st.dictionaries(KEYS, st.one_of(TEXTS, st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3))))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Value]) -> None:
    path = tmp_path_factory.mktemp("config") / "c.yaml"
    write_config(path, content)
    assert read_config(path) == content


def test_a_file_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none") == {}


def test_precedence_is_flag_variable_project_user_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("color").origin == "default"
    set_user_setting("color", "always")
    assert setting("color") == ("color", "always", str(user_file()))
    (tmp_path / "gridctl.yaml").write_text("color: never\n")
    assert setting("color") == ("color", "never", str(tmp_path / "gridctl.yaml"))
    monkeypatch.setenv("GRIDCTL_COLOR", "auto")
    assert setting("color").origin == "environment GRIDCTL_COLOR"
    assert setting("color", flag="always").origin == "flag --color"


def test_unknown_settings_and_values_are_refused() -> None:
    with pytest.raises(NotFoundError) as unknown:
        setting("colour")
    assert unknown.value.fix == "did you mean color?"
    with pytest.raises(InputError):
        set_user_setting("output", "xml")
    assert not user_file().exists()


def test_the_nearest_project_file_is_found_from_below(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert project_file(deep) is None
    (tmp_path / "gridctl.yaml").touch()
    assert project_file(deep) == tmp_path / "gridctl.yaml"


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        write_config(tmp_path / "file" / "c.yaml", {"a": "b"})
