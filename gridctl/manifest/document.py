"""Document: what every format reader hands on: plain values, where each starts, and positions on demand.

A reader turns text into `Item`s without remembering where each field stood, because 4,400 sites without a mistake
never need it. Only when an item is wrong are its `places` worked out, from the same text, in a second pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gridctl.errors import InputError

MAX_BYTES = 32 * 1024 * 1024
"""Largest manifest read, in bytes: 4,400 sites are 1.5 MB of YAML."""
MAX_LINE = 10_000_000
"""Longest line of a JSONL or CSV file, in characters."""
MAX_DEPTH = 64
"""Deepest nesting; the deepest kind needs 5 levels."""
MAX_PROBLEMS = 1000
"""Problems reported for one file; reading stops there."""

Path = tuple[str | int, ...]
Spot = tuple[int, int]
"""Line and column, both counted from 1."""


@dataclass(slots=True)
class Places:
    """Where the keys and values of one item stand."""

    values: dict[Path, Spot] = field(default_factory=dict)
    keys: dict[Path, Spot] = field(default_factory=dict)

    def of(self, path: Path, *, key: bool = False) -> Spot:
        """The spot of the value (or of the key) at `path`, else of the nearest thing around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))


@dataclass(frozen=True, slots=True)
class Item:
    """One declared value: where it starts, and, when asked, where its fields are.

    `label` renames a field path for the reader (a CSV speaks of columns); `column` is False where a file has no
    useful column number.
    """

    value: object
    line: int
    places: Callable[[], Places]
    path: Path = ()
    label: Callable[[Path], str] | None = None
    column: bool = True

    def where(self, name: str, path: Path = (), *, key: bool = False) -> str:
        """`name:line:col` of a field."""
        line, col = self.places().of(self.path + path, key=key)
        return f"{name}:{line}:{col}" if self.column else f"{name}:{line}"


def spot_at(text: str, index: int) -> Spot:
    """Line and column of a character offset.

    >>> spot_at("ab\\ncd", 4)
    (2, 2)
    """
    start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, start) + 1, index - start + 1


def at(name: str, spot: Spot) -> str:
    """`name:line:col`."""
    return f"{name}:{spot[0]}:{spot[1]}"


def nul_error(where: str) -> InputError:
    """The refusal of NUL characters, which no store and no terminal keeps apart from an ending."""
    return InputError("the text holds a NUL character", where=where, fix="remove the NUL character")


def depth_error(where: str) -> InputError:
    """The refusal of nesting that no kind needs."""
    return InputError(
        f"nested deeper than {MAX_DEPTH} levels", where=where, fix="no kind nests that deep; see gridctl explain KIND"
    )


def check_count(problems: list[InputError], name: str) -> None:
    """Stop reading a file that is wrong all over. Raises InputError as its last problem."""
    if len(problems) >= MAX_PROBLEMS:
        raise InputError(
            f"more than {MAX_PROBLEMS:,} problems; the rest of the file was not read",
            where=name,
            fix="repair those above and run the command again",
        )


def entries_of(value: object) -> tuple[list[object] | None, Path]:
    """The entries of a document that is a list, or an envelope as `get -o json` prints it; None for one resource."""
    if isinstance(value, list):
        return value, ()
    if isinstance(value, dict) and isinstance(value.get("items"), list) and "spec" not in value:
        return value["items"], ("items",)
    return None, ()
