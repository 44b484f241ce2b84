"""Forms: requests that are alike but for the text that they ask, so that everything else of them is read once.

A body is cut at its last text: what stands before it, one JSON string, what stands after it. Bodies with the same two
ends mean the same but for that string, because a JSON reader is in the same state before and after any string. Whether
the string is the text of the last turn, and nothing else, is found out by reading the ends around a word that nobody
could have written: a form is made only where exactly that word comes back. Decides which bodies are worth a form: short
enough, and seen before.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from gridctl.cache.cacheable import CacheRules
from gridctl.cache.exact import EXACT_BYTES
from gridctl.gateway.plain import plain, plain_literal

MOST_FORMS, MOST_SEEN = 1_024, 8_192
LONGEST_BODY, LONGEST_ENDS = 32 << 10, 8 << 10
"""Bytes of a body that is cut, and of the ends that are kept."""
MARKS = {"chat": b'"content":', "completions": b'"prompt":', "messages": b'"content":', "responses": b'"input":'}
"""What stands before the text, by endpoint."""
MOST_REMEMBERED, LONGEST_REMEMBERED = 4_096, 2_048
"""Texts whose exact keys a worker remembers, and the bytes of those: what comes again is hashed once."""
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LETTERS = "bcdfghjklmnpqrstvwxz"
_BLANK, _QUOTE = 0x20, 0x22

Who = tuple[object, ...]
Ends = tuple[Who, bytes, bytes]


class Form:
    """What all requests of a form share: everything but the text. `is_apart`: nothing, each is to be read for itself;
    `refused` why none of them is cached, "" where they may be; `partition` is the partition's key, `user` and `tags`
    are its part of a question's, `most_tokens` the longest answer that its clients take, `own` what answers repeat of a
    request. `before` and `behind` are the ends without the quotes of the text; without ends it is one request's own."""

    __slots__ = (
        "_again", "_begun", "before", "behind", "is_apart", "is_literal", "most_tokens", "own", "partition", "refused",
        "tags", "user",
    )  # fmt: skip

    def __init__(self, *, refused: str = "", is_apart: bool = False) -> None:
        self.is_apart = is_apart
        self.refused = refused
        self.before = b""
        self.behind = b""
        self.is_literal = False
        self.partition = ""
        self.user = ""
        self.tags: tuple[str, ...] = ()
        self.most_tokens: int | None = None
        self.own = b""
        self._begun = hashlib.blake2b(digest_size=EXACT_BYTES)
        self._again: dict[bytes, bytes] = {}

    def hash_under(self, key: bytes) -> None:
        """Make exact keys under the partition's."""
        self._begun = hashlib.blake2b(key=key, digest_size=EXACT_BYTES)

    def exact(self, normal: bytes) -> bytes:
        """The exact key of a text in the form that equal ones share."""
        code = self._begun.copy()
        code.update(normal)
        return code.digest()

    def exact_of_plain(self, text: bytes, rules: CacheRules) -> bytes | None:
        """The exact key of a text as it stands between its quotes, None where it takes a closer look."""
        exact = self._again.get(text)
        if exact is None:
            normal = plain_literal(text, rules) if self.is_literal else plain(text, rules)
            if normal is not None:
                code = self._begun.copy()
                code.update(normal)
                exact = code.digest()
        return exact


class Forms:
    """The forms of one worker."""

    def __init__(self) -> None:
        self._forms: dict[Ends, Form] = {}
        self._seen: set[int] = set()
        self._remembered = 0

    def clear(self) -> None:
        """Forget all: what they mean may have changed."""
        self._forms.clear()
        self._seen.clear()
        self._remembered = 0

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
            self._remembered = 0
        form.before, form.behind = ends[1] + b'"', b'"' + ends[2]
        self._forms[ends] = form

    def remember(self, form: Form, text: bytes, exact: bytes) -> None:
        """A text of a form was answered from the cache, so it will come again: its exact key."""
        if len(text) > LONGEST_REMEMBERED or text in form._again:
            return
        if len(form._again) >= MOST_REMEMBERED:  # a form that is not among these any more, but with a caller
            form._again.clear()
        if self._remembered >= MOST_REMEMBERED:
            for one in self._forms.values():
                one._again.clear()
            self._remembered = 0
        form._again[text] = exact
        self._remembered += 1


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


def likeness(ends: Ends) -> tuple[bytes, str]:
    """A body with these ends, and its text: a word that nobody could have written."""
    word = "".join([secrets.choice(_LETTERS) for _ in range(24)])
    return b'%b"%b"%b' % (ends[1], word.encode(), ends[2]), word
