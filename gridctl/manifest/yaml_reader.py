"""YAML text to items, in one pass over parser events: checked and constructed together.

The subset is the one a manifest needs, and what surprises people in YAML is off: no anchors, aliases, tags, directives
or merge keys; a key given twice is an error; only `true` and `false` are booleans (`country: NO` is Norway); only
decimal numbers are numbers (`0644`, `1_000`, `12:30` and dates stay text). Keys are always text.

Building values from events instead of PyYAML's nodes is both safer (an alias bomb is refused at its first anchor, in
bounded memory) and faster: 4,400 sites take about two thirds of `yaml.load_all`'s time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from gridctl.errors import InputError
from gridctl.manifest.document import (
    MAX_DEPTH,
    Item,
    Path,
    Places,
    at,
    check_count,
    depth_error,
    entries_of,
    nul_error,
    spot_at,
)
from gridctl.manifest.scalars import plain_value

MAX_EVENTS = 2_500_000
"""Parser events of one file; a site takes about 50."""
_ITEM_DEPTH = 2
"""An item is a document, an entry of its list, or an entry of an envelope's `items`."""
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)


def read_yaml(text: str, name: str, problems: list[InputError]) -> Iterator[Item]:
    """The items of every document: a mapping, or each entry of a list or of an envelope's `items`.

    Duplicate keys are added to `problems` and reading goes on; text that is not YAML raises InputError.
    """
    if directive := _DIRECTIVE.search(text):
        raise InputError(
            "YAML directives are not used in manifests",
            where=at(name, spot_at(text, directive.start())),
            fix="remove the line that starts with '%'",
        )
    reader = _Events(text, name)
    try:
        yield from _documents(reader, problems)
    finally:
        reader.dispose()


class _Events:
    """Parser events of a text, with every refusal that one event can decide."""

    def __init__(self, text: str, name: str) -> None:
        import yaml

        self.text = text
        self.name = name
        self._error = yaml.YAMLError
        self.scalar = yaml.ScalarEvent
        self.mapping = yaml.MappingStartEvent
        self.sequence = yaml.SequenceStartEvent
        self.alias = yaml.AliasEvent
        self.ends = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
        self.document = yaml.DocumentStartEvent
        self.document_end = yaml.DocumentEndEvent
        try:
            self._parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
        except yaml.YAMLError as error:  # the pure-Python reader checks its first characters at once
            raise syntax_error(error, text, name) from None

    def __iter__(self) -> Iterator[Any]:
        read = self._parser.get_event
        try:
            for _ in range(MAX_EVENTS):
                event = read()
                if event is None:
                    return
                yield event
        except self._error as error:
            raise syntax_error(error, self.text, self.name) from None
        raise InputError(
            f"the file has more than {MAX_EVENTS:,} YAML events", where=self.name, fix="split it, or use JSONL or CSV"
        )

    def dispose(self) -> None:
        """Let go of the parser's buffers."""
        self._parser.dispose()

    def where(self, event: Any) -> str:
        """`name:line:col` of an event."""
        return f"{self.name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"

    def refuse(self, event: Any) -> InputError:
        """The error for an alias, anchor or tag."""
        if isinstance(event, self.alias) or event.anchor is not None:
            return InputError(
                "YAML anchors and aliases are not used in manifests",
                where=self.where(event),
                fix="write the value out where it is needed",
            )
        return InputError(
            f"YAML tags such as {event.tag[:40]!r} are not used in manifests",
            where=self.where(event),
            fix="remove the tag; put text in quotes",
        )


def _documents(events: _Events, problems: list[InputError]) -> Iterator[Item]:
    """Build each document from its events and yield its items.

    `key` is the key that waits for its value; `starts` keeps the line of the containers near the top, where items
    begin, by their identity.
    """
    scalar, mapping, sequence, ends = events.scalar, events.mapping, events.sequence, events.ends
    stack: list[Any] = []
    starts: dict[int, int] = {}
    root: list[object] = []
    current: Any = root
    key: str | None = None
    start: Any = None
    for event in events:
        kind = type(event)
        value: object
        if kind is scalar:
            if event.tag is not None or event.anchor is not None:
                raise events.refuse(event)
            text = event.value
            if "\0" in text:
                raise nul_error(events.where(event))
            if key is None and type(current) is dict:
                key = _new_key(events, event, current, problems)
                continue
            value = plain_value(text) if event.implicit[0] else text
        elif kind is mapping or kind is sequence:
            _check_opening(events, event, len(stack), is_key=key is None and type(current) is dict)
            value = {} if kind is mapping else []
            if len(stack) <= _ITEM_DEPTH:
                starts[id(value)] = event.start_mark.line + 1
        elif kind in ends:
            current = stack.pop()
            continue
        elif kind is events.document:
            start, root, starts = event.start_mark, [], {}
            current = root
            continue
        elif kind is events.document_end:
            yield from _items(events, root[0], start, event.end_mark, starts)
            continue
        elif kind is events.alias:
            raise events.refuse(event)
        else:
            continue
        if type(current) is dict:
            current[key] = value
            key = None
        else:
            current.append(value)
        if kind is not scalar:
            stack.append(current)
            current = value


def _new_key(events: _Events, event: Any, mapping: dict[str, object], problems: list[InputError]) -> str:
    key: str = event.value
    if key in mapping:
        check_count(problems, events.name)
        fix = "put a line '---' between two resources" if key in ("apiVersion", "kind") else "remove one of the two"
        problems.append(InputError(f"the key {key[:60]!r} is given twice", where=events.where(event), fix=fix))
    elif key == "<<" and event.implicit[0]:
        raise InputError(
            "YAML merge keys ('<<') are not used in manifests",
            where=events.where(event),
            fix="write the fields out where they are needed",
        )
    return key


def _check_opening(events: _Events, event: Any, depth: int, *, is_key: bool) -> None:
    if event.tag is not None or event.anchor is not None:
        raise events.refuse(event)
    where = events.where(event)
    if is_key:
        raise InputError("a key must be text", where=where, fix="use a plain word as the key")
    if depth >= MAX_DEPTH:
        raise depth_error(where)


def _items(events: _Events, value: object, start: Any, end: Any, starts: dict[int, int]) -> Iterator[Item]:
    if value is None:
        return

    @lru_cache(maxsize=1)
    def places() -> Places:
        first = events.text.rfind("\n", 0, start.index) + 1
        return locate(events.text[first : end.index], start.line)

    line = start.line + 1
    entries, prefix = entries_of(value)
    if entries is None:
        yield Item(value, starts.get(id(value), line), places)
        return
    for position, entry in enumerate(entries):
        yield Item(entry, starts.get(id(entry), line), places, (*prefix, position))


def locate(text: str, first_line: int) -> Places:
    """Positions of every key and value of one document that has been read before; lines count from `first_line`."""
    places = Places()
    events = _Events(text, "")
    stack: list[tuple[Path, str | int | None]] = []
    path: Path = ()
    step: str | int | None = None  # None: a key comes next; an int: the index in a list
    inside = False
    for event in events:
        kind = type(event)
        if kind in events.ends:
            path, step = stack.pop()
            inside = bool(stack)
        elif kind in (events.scalar, events.mapping, events.sequence):
            spot = (event.start_mark.line + 1 + first_line, event.start_mark.column + 1)
            if inside and step is None:
                step = event.value
                places.keys[(*path, step)] = spot
                continue
            here: Path = (*path, step) if inside and step is not None else ()
            places.values[here] = spot
            if isinstance(step, int):
                step += 1
            elif inside:
                step = None
            if kind is not events.scalar:
                stack.append((path, step))
                path, step, inside = here, 0 if kind is events.sequence else None, True
    events.dispose()
    return places


def syntax_error(error: Any, text: str, name: str) -> InputError:
    """What a YAML parser's complaint means to the person who wrote the file."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        found = _UNREADABLE.search(text)
        index = found.start() if found else 0
        character = f"U+{ord(text[index]):04X}" if text else ""
        return InputError(
            f"the character {character} is not allowed in YAML",
            where=at(name, spot_at(text, index)),
            fix="remove it, or write it as an escape in double quotes",
        )
    where = f"{name}:{mark.line + 1}:{mark.column + 1}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        column = indentation.index("\t") + 1
        return InputError(
            "a tab indents the line, which YAML does not allow",
            where=f"{name}:{mark.line + 1}:{column}",
            fix="indent with spaces",
        )
    problem = str(getattr(error, "problem", "") or error)
    context = getattr(error, "context", None)
    what = f"not valid YAML: {problem}" + (f" ({context})" if context else "")
    return InputError(what[:300], where=where, fix=_repair(problem, line))


def _repair(problem: str, line: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put text that holds ': ' in quotes, or check the indentation of this line and the one above"
    if "found unexpected end of stream" in problem or "<stream end>" in problem:
        return "the file seems cut short: close the quote or bracket that is still open"
    if "could not find expected ':'" in problem:
        return "a key needs a ':' and a space before its value"
    if "cannot start any token" in problem and line.strip()[:1] in "@`%":
        return "put text that begins with this character in quotes"
    return "check the indentation, quotes and brackets here and on the line above"
