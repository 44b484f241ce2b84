"""Forms: requests that are alike but for the text that they ask, so that everything else of them is read once.

A body is cut at its last text: what stands before it, one JSON string, what stands after it. Bodies with the same two
ends mean the same but for that string, because a JSON reader is in the same state before and after any string. Whether
the string is the text of the last turn, and nothing else, is found out by reading the ends around a word that nobody
could have written: a form is made only where exactly that word comes back. Decides which bodies are worth a form: short
enough, and seen before.
"""

from __future__ import annotations

import re
import secrets

from gridctl.gateway.keyed import Keyed

MOST_FORMS, MOST_SEEN = 1_024, 8_192
LONGEST_BODY, LONGEST_ENDS = 32 << 10, 8 << 10
"""Bytes of a body that is cut, and of the ends that are kept."""
MARKS = {"chat": b'"content":', "completions": b'"prompt":'}
"""What stands before the text, by endpoint."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LETTERS = "bcdfghjklmnpqrstvwxz"
_BLANK, _QUOTE = 0x20, 0x22

Who = tuple[object, ...]
Ends = tuple[Who, bytes, bytes]


class Form:
    """What all requests of a form share. `is_apart`: nothing, each is to be read for itself; `refused` why none of them
    is cached, "" where they may be; `key` is the partition's; `begin` has hashed what comes before the text."""

    __slots__ = ("begin", "is_apart", "key", "most_tokens", "refused", "tags", "user")

    def __init__(self, begin: Keyed | None = None, *, refused: str = "", is_apart: bool = False) -> None:
        self.begin = begin
        self.is_apart = is_apart
        self.refused = refused
        self.key = ""
        self.user = ""
        self.tags: tuple[str, ...] = ()
        self.most_tokens: int | None = None


def cut(endpoint: str, body: bytes) -> tuple[int, int] | None:
    """Where the last text of a body begins and ends, with its quotes; None where it is not seen at once."""
    mark = MARKS.get(endpoint)
    if mark is None or len(body) > LONGEST_BODY:
        return None
    at = body.rfind(mark)
    if at < 0:
        return None
    at += len(mark)
    while at < len(body) and body[at] == _BLANK:
        at += 1
    found = _STRING.match(body, at)
    return None if found is None else (at, found.end())


class Forms:
    """The forms of one worker."""

    def __init__(self) -> None:
        self._forms: dict[Ends, Form] = {}
        self._seen: set[int] = set()

    def clear(self) -> None:
        """Forget all: what they mean may have changed."""
        self._forms.clear()
        self._seen.clear()

    def find(self, ends: Ends) -> Form | None:
        """The form of a body with these ends, None where there is none yet."""
        return self._forms.get(ends)

    def is_worth_one(self, ends: Ends) -> bool:
        """Whether a body with these ends came before, and they are short enough."""
        seen = hash(ends)
        if seen in self._seen:
            return len(ends[1]) + len(ends[2]) <= LONGEST_ENDS
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(seen)
        return False

    def add(self, ends: Ends, form: Form) -> None:
        """Read bodies with these ends so from now on."""
        if len(self._forms) >= MOST_FORMS:
            self._forms.clear()
        self._forms[ends] = form


def likeness(ends: Ends) -> tuple[bytes, str]:
    """A body with these ends, and its text: a word that nobody could have written."""
    word = "".join([secrets.choice(_LETTERS) for _ in range(24)])
    return b'%b"%b"%b' % (ends[1], word.encode(), ends[2]), word
