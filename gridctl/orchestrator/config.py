"""Settings and where each one comes from: flags > `GRIDCTL_*` > project `gridctl.yaml` > user config > default.

Decides the files' place and syntax. Both files are read by every command, so they are a small, strict subset of YAML
that needs no YAML library: `key: value` lines, one level of indented `name: value` lines under a bare `key:`, comments,
plain or quoted scalars. Anything else is an error with file:line, never a guess.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gridctl.errors import InputError, NotFoundError, StoreError, did_you_mean

PROJECT_FILE = "gridctl.yaml"
Value = str | dict[str, str]

_LINE = re.compile(r"^(?P<indent> *)(?P<key>\"(?:[^\"\\]|\\.)*\"|[A-Za-z0-9_.-]+):(?:\s+(?P<value>.*?))?\s*$")
_PLAIN_KEY = re.compile(r"^[A-Za-z0-9_.-]+$")
_PLAIN = re.compile(r"^[A-Za-z0-9/~._][A-Za-z0-9/~._ +@-]*$")


class Key(NamedTuple):
    """A setting: its default, the values it takes (empty: any) and what it does."""

    name: str
    default: str
    choices: tuple[str, ...]
    description: str

    @property
    def variable(self) -> str:
        return f"GRIDCTL_{self.name.upper()}"


KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key("color", "auto", ("auto", "always", "never"), "colour on a terminal"),
        Key(
            "output",
            "table",
            ("table", "wide", "json", "jsonl", "yaml", "csv", "markdown", "name"),
            "output format of commands that print rows",
        ),
        Key("cache_shared", "", (), "the Redis or Valkey on which `up` keeps exact answers with other gateways"),
        Key("cache_shared_key_file", "", (), "the file with the key that those gateways share"),
    )
}


class Setting(NamedTuple):
    """A setting's value and the place that decided it."""

    key: str
    value: str
    origin: str


def user_file() -> Path:
    """The user's configuration file (XDG Base Directory Specification); it need not exist."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return folder / "gridctl" / "config.yaml"


def project_file(start: Path | None = None) -> Path | None:
    """The nearest `gridctl.yaml` in `start` (the working directory) or above it."""
    try:
        folder = (start or Path.cwd()).resolve()
    except FileNotFoundError:
        return None
    for place in (folder, *folder.parents):
        candidate = place / PROJECT_FILE
        if candidate.is_file():
            return candidate
    return None


def setting(name: str, *, flag: str | None = None) -> Setting:
    """The effective value of one setting. Raises: NotFoundError for an unknown one, InputError for a bad value."""
    key = _known(name)
    if flag is not None:
        return _checked(key, flag, f"flag --{name}")
    if value := os.environ.get(key.variable):
        return _checked(key, value, f"environment {key.variable}")
    for path in (project_file(), user_file()):
        found = read_config(path).get(name) if path is not None else None
        if isinstance(found, str) and found:
            return _checked(key, found, str(path))
    return Setting(name, key.default, "default")


def settings() -> list[Setting]:
    """Every setting with its origin."""
    return [setting(name) for name in KEYS]


def set_user_setting(name: str, value: str) -> Path:
    """Write one setting to the user's file."""
    key = _known(name)
    _checked(key, value, "the command line")
    path = user_file()
    content = read_config(path)
    content[name] = value
    write_config(path, content)
    return path


def read_config(path: Path) -> dict[str, Value]:
    """The file's keys; none when it does not exist. Raises: InputError with file:line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise InputError("the configuration is not UTF-8 text", where=str(path), fix="rewrite or remove it") from None
    except OSError as error:
        raise InputError(f"cannot read the configuration: {error.strerror}", where=str(path)) from None
    return _parse(text, path)


def write_config(path: Path, content: Mapping[str, Value]) -> None:
    """Write the file whole and atomically."""
    lines = ["# Written by `gridctl config set` and `gridctl context use`."]
    for key, value in content.items():
        if isinstance(value, str):
            lines.append(f"{_written_key(key)}: {_scalar(value)}")
        else:
            lines.append(f"{_written_key(key)}:")
            lines.extend(f"  {_written_key(name)}: {_scalar(item)}" for name, item in value.items())
    path = path.resolve()  # a link to where someone keeps their settings stays a link
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StoreError(
            f"cannot write the configuration: {error.strerror}",
            where=str(path),
            fix="make it writable, or set XDG_CONFIG_HOME to a folder that is",
        ) from None


def _known(name: str) -> Key:
    if name in KEYS:
        return KEYS[name]
    near = did_you_mean(name, KEYS)
    hint = f"did you mean {near}?" if near else f"one of: {', '.join(KEYS)}"
    raise NotFoundError(f"there is no setting {name!r}", fix=hint)


def _checked(key: Key, value: str, origin: str) -> Setting:
    if key.choices and value not in key.choices:
        near = did_you_mean(value, key.choices)
        hint = f"did you mean {near}?" if near else f"one of: {', '.join(key.choices)}"
        raise InputError(f"{key.name} cannot be {value!r}", where=origin, fix=hint)
    return Setting(key.name, value, origin)


def _parse(text: str, path: Path) -> dict[str, Value]:
    content: dict[str, Value] = {}
    block: dict[str, str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{path}:{number}"
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        match = _LINE.match(line)
        if match is None:
            raise InputError("not a `key: value` line", where=where, fix="write one `key: value` a line, no tabs")
        key, value = _unquoted(match["key"], where), match["value"] or ""
        if match["indent"]:
            if block is None:
                raise InputError("an indented line without a `key:` above it", where=where, fix="unindent it")
            target: dict[str, str] | dict[str, Value] = block
        else:
            target, block = content, None
        if key in target:
            raise InputError(f"{key} is set twice", where=where, fix="keep one of the lines")
        plain = _unquoted(value, where)
        if not match["indent"] and not plain and not value:
            block = {}
            content[key] = block
        else:
            target[key] = plain  # type: ignore[assignment, unused-ignore]
    return content


def _unquoted(text: str, where: str) -> str:
    if text.startswith('"'):
        try:
            decoded, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            raise InputError("a quoted value that does not end", where=where, fix='close it with "') from None
        _only_comment(text[end:], where)
        return str(decoded)
    if text.startswith("'"):
        quoted, closed, rest = text[1:].partition("'")
        if not closed:
            raise InputError("a quoted value that does not end", where=where, fix="close it with '")
        _only_comment(rest, where)
        return quoted
    if text[:1] in ("[", "{", "&", "*", "|", ">", "!"):
        raise InputError(f"{text[:1]!r} starts no plain value", where=where, fix="quote the value")
    return text.split(" #")[0].rstrip()


def _only_comment(rest: str, where: str) -> None:
    if rest.strip() and not rest.strip().startswith("#"):
        raise InputError("text after a quoted value", where=where, fix="remove it")


def _written_key(text: str) -> str:
    return text if _PLAIN_KEY.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text.strip() == text else json.dumps(text, ensure_ascii=False)
