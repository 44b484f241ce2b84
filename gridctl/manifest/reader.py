"""Reader: manifests in, resources out; or every problem of every file at once.

Decides the format of a text and what an item is; the formats' own rules are in their readers, what a kind accepts is in
the kinds. Nothing is half read: either all resources are returned in the order they are declared, or InputError carries
all that is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from gridctl.errors import InputError, did_you_mean, raise_all
from gridctl.manifest.document import MAX_BYTES, MAX_PROBLEMS, Item, at, check_count, spot_at
from gridctl.manifest.document import Path as FieldPath
from gridctl.manifest.short_gate import is_short_gate, short_gate
from gridctl.manifest.source import SUFFIXES, sources, too_large
from gridctl.resources import KINDS, Resource, ResourceKey, key_of, kind_named
from gridctl.resources.gameday import GAME_DAY_KIND
from gridctl.resources.sweep import SWEEP_KIND

_Reader = Callable[[str, str, list[InputError]], Iterator[Item]]
_ROLLOUT = "Rollout"
_GZIP = b"\x1f\x8b"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_JSON_START = re.compile(r'\s*(?:\{\s*["}]|\[\s*["\[{\]])')
_TRACE_HEADER = re.compile(r"\s*(timestamp,|arrived_at,|request_id,)", re.IGNORECASE)
_TRACE_FIELDS = frozenset(("timestamp", "input_length", "output_length", "hash_ids", "input_tokens", "t_ms"))


@dataclass(frozen=True, slots=True)
class Declared:
    """A resource and where it was declared: `file:line` of its first line, or `<stdin>:line`."""

    resource: Resource
    where: str
    name: str
    item: Item = field(compare=False, repr=False)

    def at(self, path: FieldPath) -> str:
        """`file:line:col` of a field, or of what is nearest around it. O(file): for the failure path."""
        return self.item.where(self.name, path)


def read_manifests(paths: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> list[Declared]:
    """The resources of files, folders (recursive, sorted), `-` for standard input, and URLs, in that order.

    Raises InputError carrying every problem of every file, two declarations of one name among them; UnreachableError
    when a URL does not deliver.
    """
    problems: list[InputError] = []
    declared: list[Declared] = []
    for source in sources(paths, stdin, problems):
        found, wrong = _parse(source.data, source.name)
        if source.from_folder and len(wrong) == 1 and isinstance(wrong[0], _OtherFileError):
            continue  # a folder stands for its manifests; other files of the same grid may live beside them
        declared += found
        problems += wrong
    problems += _duplicates(declared)
    raise_all(problems)
    return declared


def parse_manifest(data: bytes, *, name: str) -> list[Declared]:
    """The resources of one manifest; the format follows from the name's suffix, else from the content.

    Raises InputError carrying every problem.
    """
    declared, problems = _parse(data, name)
    problems += _duplicates(declared)
    raise_all(problems)
    return declared


def parse_items(data: bytes, name: str, problems: list[InputError]) -> list[Item]:
    """What a text declares, whatever it is: plain values with their places. Raises InputError for text that is none."""
    text = _decoded(data, name)
    return list(_reader_for(text, name)(text, name, problems))


class _OtherFileError(InputError):
    """The file is a request trace, a sweep or a game day, not a manifest."""


def _parse(data: bytes, name: str) -> tuple[list[Declared], list[InputError]]:
    problems: list[InputError] = []
    declared: list[Declared] = []
    count = 0
    try:
        text = _decoded(data, name)
        reader = _reader_for(text, name)
        for item in reader(text, name, problems):
            count += 1
            _check_is_manifest(item, name)
            resource = _resource(item, name, problems)
            if resource is not None:
                where = item.where(name) if is_short_gate(item) else f"{name}:{item.line}"
                declared.append(Declared(resource, where, name, item))
            check_count(problems, name)
        if count == 0 and not problems:
            raise InputError(
                "the file declares no resource", where=name, fix="add one; gridctl explain lists the kinds"
            )
    except _OtherFileError as error:
        return [], [error]
    except InputError as error:
        problems.append(error)
    return declared, problems


def _decoded(data: bytes, name: str) -> str:
    """The text of a manifest. Raises InputError for everything that is not UTF-8 text."""
    if len(data) > MAX_BYTES:
        raise too_large(name)
    if data.startswith(_GZIP):
        raise InputError("the file is compressed; manifests are plain text", where=name, fix=f"gunzip -k {name}")
    if data.startswith(_WIDE):
        raise InputError("the text is UTF-16; manifests are UTF-8", where=name, fix="save the file as UTF-8")
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise InputError(
            "the file is binary, not text: it holds a NUL character",
            where=f"{name}:{line}",
            fix="name a YAML, JSON, JSONL or CSV file",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        raise InputError(
            f"the byte 0x{data[error.start]:02x} is not UTF-8 text",
            where=at(name, spot_at(before, len(before))),
            fix="save the file as UTF-8",
        ) from None
    if not text.strip():
        raise InputError("the file is empty", where=name, fix="add a resource; gridctl explain lists the kinds")
    return text


def _reader_for(text: str, name: str) -> _Reader:
    path = re.split(r"[?#]", name, maxsplit=1)[0] if "://" in name else name
    suffix = os.path.splitext(path)[1].lower()
    first_line = text.lstrip()[:1000].partition("\n")[0]
    if suffix == ".csv" or (suffix not in SUFFIXES and _looks_like_csv(first_line)):
        if _TRACE_HEADER.match(first_line):
            raise _trace_error(name)
        from gridctl.manifest.csv_reader import read_csv

        return read_csv
    if suffix in (".json", ".jsonl") or (suffix not in SUFFIXES and _JSON_START.match(text)):
        from gridctl.manifest.json_reader import read_json, read_jsonl

        return read_jsonl if suffix == ".jsonl" else read_json
    from gridctl.manifest.yaml_reader import read_yaml

    return read_yaml


def _looks_like_csv(first_line: str) -> bool:
    return "," in first_line and not re.search(r"[:{}\[\]#]", first_line)


def _check_is_manifest(item: Item, name: str) -> None:
    value = item.value
    if not isinstance(value, dict):
        return
    if "kind" not in value and len(_TRACE_FIELDS & value.keys()) >= 2:
        raise _trace_error(name)
    if value.get("kind") == SWEEP_KIND:
        raise _OtherFileError("this is a sweep, not a manifest", where=name, fix=f"gridctl sweep run {name}")
    if value.get("kind") == GAME_DAY_KIND:
        raise _OtherFileError("this is a game day, not a manifest", where=name, fix=f"gridctl gameday run {name} TRACE")
    if value.get("kind") == _ROLLOUT:
        what = "this is a rollout in a replay, not a manifest"
        raise _OtherFileError(what, where=name, fix=f"gridctl replay run TRACE --rollout {name}")


def _trace_error(name: str) -> InputError:
    return _OtherFileError(
        "this is a request trace, not a manifest",
        where=name,
        fix=f"gridctl replay run {name}, or gridctl trace stat {name}",
    )


def _resource(item: Item, name: str, problems: list[InputError]) -> Resource | None:
    """The resource an item declares, or None with its problems added."""
    value = item.value
    if is_short_gate(item):
        try:
            return short_gate(item, name)
        except InputError as error:
            problems.append(error)
            return None
    kind = _kind(item, name, problems)
    if kind is None or not isinstance(value, dict):
        return None
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        from itertools import islice

        from gridctl.manifest.diagnosis import diagnose

        subject = _subject(value, kind)
        found = 0
        for problem in islice(diagnose(value, kind), MAX_PROBLEMS):
            found += 1
            field = item.label(problem.path) if item.label else dotted(problem.path)
            where = item.where(name, problem.path, key=problem.at_key)
            fix = problem.fix or f"see gridctl explain {_explain_path(kind, problem.path)}"
            problems.append(InputError(f"{subject}: {field} {problem.text}", where=where, fix=fix))
        if not found:  # the kinds know a rule the diagnosis does not
            problems.append(InputError(f"{subject}: {error}", where=item.where(name)))
    return None


def _kind(item: Item, name: str, problems: list[InputError]) -> type[Resource] | None:
    from gridctl.manifest.diagnosis import show

    value = item.value
    kinds = ", ".join(KINDS)
    if not isinstance(value, dict):
        what = f"a resource is a mapping with kind, metadata and spec, and this is {show(value)}"
        problems.append(InputError(what, where=item.where(name), fix="see gridctl explain site for an example"))
        return None
    word = value.get("kind")
    kind = KINDS.get(word) if isinstance(word, str) else None
    if kind is None and "kind" not in value:
        problems.append(InputError("kind is missing", where=item.where(name), fix=f"add kind: one of {kinds}"))
    elif kind is None:
        close = _closest_kind(word)
        fix = f"did you mean {close}?" if close else f"the kinds are {kinds}"
        what = f"{show(word)} is not a kind" if word is not None else "kind is empty"
        problems.append(InputError(what, where=item.where(name, ("kind",)), fix=fix))
    return kind


def _closest_kind(word: object) -> str | None:
    if not isinstance(word, str) or len(word) > 64:
        return None
    named = kind_named(word)
    if named is not None:
        return named.__name__
    folded = {kind.lower(): kind for kind in KINDS}
    close = did_you_mean(word.lower(), folded)
    return folded[close] if close else None


def _subject(value: dict[str, object], kind: type[Resource]) -> str:
    metadata = value.get("metadata")
    resource_name = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(resource_name, str) and resource_name.isprintable():
        return f"{kind.noun} {resource_name[:63]}"
    return kind.noun


def dotted(path: FieldPath) -> str:
    """A field path in words: `spec.objectives[0].metric`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step[:63]}" if text else step[:63]
    return text


def _explain_path(kind: type[Resource], path: FieldPath) -> str:
    return ".".join([kind.noun, *(step for step in path if isinstance(step, str) and step != "spec")])


def _duplicates(declared: Iterable[Declared]) -> list[InputError]:
    first: dict[ResourceKey, str] = {}
    problems: list[InputError] = []
    for one in declared:
        key = key_of(one.resource)
        before = first.setdefault(key, one.where)
        if before is not one.where:
            problems.append(
                InputError(
                    f"{key} is declared twice: at {before} and at {one.where}",
                    where=one.where,
                    fix="remove one, or give it another name",
                )
            )
    return problems
