"""Sweep file: a sweep read from YAML or JSON, and where each of its fields stands.

Decides the file's form; which fields of the grid its paths name is found where the grid is known.
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
from gridctl.resources.sweep import SWEEP_KIND, Sweep


@dataclass(frozen=True, slots=True)
class SweepFile:
    """A sweep, its file's name, and its fields' places."""

    sweep: Sweep
    name: str
    item: Item

    def at(self, path: Path, *, key: bool = False) -> str:
        """`file:line:col` of a field, or of its key."""
        return self.item.where(self.name, path, key=key)


def read_sweep(path: str) -> SweepFile:
    """The sweep a file declares. Raises InputError carrying every problem."""
    problems: list[InputError] = []
    found: list[SweepFile] = []
    if FilePath(path).is_dir():
        raise InputError("this is a folder, not a sweep", where=path, fix="name the file with kind: Sweep")
    for source in sources([path], None, problems):
        items = parse_items(source.data, source.name, problems)
        if len(items) != 1 and not problems:
            raise InputError(
                f"the file has {len(items)} documents, not one sweep", where=path, fix="keep one with kind: Sweep"
            )
        for item in items:
            sweep = _sweep(item, source.name, problems)
            if sweep is not None:
                found.append(SweepFile(sweep, source.name, item))
    raise_all(problems)
    return found[0]


def _sweep(item: Item, name: str, problems: list[InputError]) -> Sweep | None:
    value = item.value
    if not isinstance(value, dict):
        problems.append(
            InputError(
                "a sweep is a mapping with kind, metadata and spec",
                where=item.where(name),
                fix="see: gridctl help sweeps",
            )
        )
        return None
    if value.get("kind") != SWEEP_KIND:
        word = value.get("kind")
        near = did_you_mean(word, [SWEEP_KIND]) if isinstance(word, str) else None
        where = item.where(name, ("kind",)) if "kind" in value else item.where(name)
        problems.append(
            InputError(
                f"the file declares kind {word}, not a sweep" if word else "kind is missing",
                where=where,
                fix=f"did you mean {near}?" if near else f"kind: {SWEEP_KIND}; see gridctl help sweeps",
            )
        )
        return None
    fields = {field: entry for field, entry in value.items() if field != "kind"}
    try:
        return msgspec.convert(fields, Sweep, strict=True)
    except msgspec.ValidationError as error:
        from gridctl.manifest.diagnosis import diagnose

        before = len(problems)
        for problem in islice(diagnose(fields, Sweep), MAX_PROBLEMS):
            where = item.where(name, problem.path, key=problem.at_key)
            problems.append(InputError(f"{dotted(problem.path)} {problem.text}", where=where, fix=problem.fix))
        if len(problems) == before:
            problems.append(InputError(str(error), where=item.where(name), fix="see: gridctl help sweeps"))
    return None
