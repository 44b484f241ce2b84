"""Templates: a head without its Content-Length, so that heads which differ in nothing else are parsed once.

On a busy connection one head is like the last but for the length. The length is cut out only where it is a line of its
own, and only of a head that was parsed as a whole before; so a head that meets a known template means what that one
meant, with another length. Everything else is parsed anew. What most heads are like is the one before: that comparison
comes first, for it copies nothing and finds the head's end by itself.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Parsed = TypeVar("Parsed")
Template = tuple[int, bytes]
"""Where the length stands, and what is around it."""

MOST_TEMPLATES: Final = 512
MAX_TEMPLATE_BYTES: Final = 2048
MAX_DIGITS: Final = 15
_NAMES: Final = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")
_SIZE: Final = len(_NAMES[0])


def cut(raw: bytes) -> tuple[Template, int] | None:
    """The template of a head and its length; None for a head without one, or with one in another spelling.

    >>> cut(b"HTTP/1.1 200 OK\\r\\nContent-Length: 12\\r\\n\\r\\n")
    ((33, b'HTTP/1.1 200 OK\\r\\nContent-Length: \\r\\n\\r\\n'), 12)
    """
    start = raw.find(_NAMES[0])
    if start < 0:
        start = raw.find(_NAMES[1])
        if start < 0:
            return None
    start += _SIZE
    end = raw.find(b"\r", start, start + MAX_DIGITS + 1)
    digits = raw[start:end]
    if end < 0 or not digits.isdigit():
        return None
    return (start, raw[:start] + raw[end:]), int(digits)


class Templates(Generic[Parsed]):
    """What was parsed, by template; bounded, and forgotten as a whole when full.

    `last` is what the head before meant, `length` the length of the one that `begins` found to be like it."""

    __slots__ = ("_before", "_behind", "_known", "last", "length")

    def __init__(self) -> None:
        self._known: dict[Template, Parsed] = {}
        self.last: Parsed | None = None
        self.length = 0
        self._before = self._behind = b""

    def begins(self, data: bytes, most: int) -> int:
        """Where the head ends that `data` begins with, if it differs from the one before in nothing but its length and
        has `most` bytes or fewer; else 0."""
        before = self._before
        if not before or not data.startswith(before):
            return 0
        start = len(before)
        end = data.find(b"\r", start, start + MAX_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._behind, end):
            return 0
        size = end + len(self._behind)
        if size > most:
            return 0
        self.length = int(digits)
        return size

    def get(self, template: Template) -> Parsed | None:
        """What a head of that template meant; it is then the one before."""
        found = self._known.get(template)
        if found is not None:
            start, around = template
            self.last, self._before, self._behind = found, around[:start], around[start:]
        return found

    def learn(self, template: Template, parsed: Parsed) -> None:
        """A head of that template has been parsed, and its length was the one that was cut out."""
        if len(template[1]) <= MAX_TEMPLATE_BYTES:
            if len(self._known) >= MOST_TEMPLATES:
                self._known.clear()
                self.last, self._before = None, b""
            self._known[template] = parsed
