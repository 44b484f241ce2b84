"""Game day file: a game day read from YAML or JSON, and where each of its fields stands.

Decides the file's form; which engines its places mean is found where the grid is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path as FilePath

import msgspec

from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.manifest.document import MAX_PROBLEMS, Item, Path
from gridctl.manifest.reader import dotted, parse_items
from gridctl.manifest.source import sources
from gridctl.resources.gameday import GAME_DAY_KIND, GameDay

SEE = "see: gridctl help gamedays"


@dataclass(frozen=True, slots=True)
class GameDayFile:
    """A game day, its file's name, and its fields' places (None: it was made, not read)."""

    gameday: GameDay
    name: str
    item: Item | None = None

    def made(self) -> GameDayFile:
        """The same without its fields' places, which do not travel between processes."""
        return GameDayFile(self.gameday, self.name)

    def fault_at(self, number: int, field: str) -> str:
        """`file:line:col` of a field of fault `number`."""
        path: Path = ("spec", "faults", number, *([field] if field else []))
        return self.item.where(self.name, path) if self.item is not None else self.name


def read_game_day(path: str) -> GameDayFile:
    """The game day a file declares. Raises InputError carrying every problem."""
    problems: list[InputError] = []
    if FilePath(path).is_dir():
        raise InputError("this is a folder, not a game day", where=path, fix="name the file with kind: GameDay")
    found: list[GameDayFile] = []
    for source in sources([path], None, problems):
        items = parse_items(source.data, source.name, problems)
        if len(items) != 1 and not problems:
            raise InputError(
                f"the file has {len(items)} documents, not one game day", where=path, fix="keep one with kind: GameDay"
            )
        for item in items:
            gameday = _game_day(item, source.name, problems)
            if gameday is not None:
                found.append(GameDayFile(gameday, source.name, item))
    raise_all(problems)
    return found[0]


def _game_day(item: Item, name: str, problems: list[InputError]) -> GameDay | None:
    value = item.value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(value, dict) or kind != GAME_DAY_KIND:
        near = did_you_mean(kind, [GAME_DAY_KIND]) if isinstance(kind, str) else None
        what = f"the file declares kind {kind}, not a game day" if kind else "kind: GameDay is missing"
        where = item.where(name, ("kind",)) if kind else item.where(name)
        problems.append(InputError(what, where=where, fix=f"did you mean {near}?" if near else SEE))
        return None
    fields = {field: entry for field, entry in value.items() if field != "kind"}
    try:
        return msgspec.convert(fields, GameDay, strict=True)
    except msgspec.ValidationError as error:
        from gridctl.manifest.diagnosis import diagnose

        before = len(problems)
        for problem in islice(diagnose(fields, GameDay), MAX_PROBLEMS):
            where = item.where(name, problem.path, key=problem.at_key)
            problems.append(InputError(f"{dotted(problem.path)} {problem.text}", where=where, fix=problem.fix))
        if len(problems) == before:
            problems.append(InputError(str(error), where=item.where(name), fix=SEE))
    return None
