"""Grammar: the bytes that HTTP/1.1 allows in a message head, as one expression for each direction.

A head that does not match as a whole is refused, so that nothing is read in two ways: no folded lines, no bare CR or
LF, no NUL, no space before a colon, no control characters in a value. Expressions are possessive: no input makes them
go back. Source: RFC 9110 section 5, RFC 9112 sections 2 to 5.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
FIELDS: Final = rb"((?:" + TOKEN + rb"++:" + VALUE + rb"*+\r\n)*+)"

REQUEST_HEAD: Final = re.compile(rb"(" + TOKEN + rb"{1,32}+) ([!-~]++) HTTP/([0-9])\.([0-9])\r\n" + FIELDS + rb"\r\n")
RESPONSE_HEAD: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: " + VALUE + rb"*+)?+\r\n" + FIELDS + rb"\r\n")
TRAILERS: Final = re.compile(FIELDS)
FIELD: Final = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
CHUNKED: Final = re.compile(rb"(?i)(?:^|\r\n)transfer-encoding:[ \t]*+chunked\r\n")
"""The only transfer coding, spelt so that no reader can find another one in it."""
LENGTH: Final = re.compile(rb"[0-9]{1,15}+")
CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15}+)(?:[ \t]*+;" + VALUE + rb"*+)?+")

END_OF_HEAD: Final = b"\r\n\r\n"


def fields_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """Names in lower case and trimmed values of a block that matched `FIELDS`, in order."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in FIELD.findall(block)]


def tokens_of(value: bytes) -> list[bytes]:
    """The comma-separated words of a header's value, in lower case.

    >>> tokens_of(b"Keep-Alive, close")
    [b'keep-alive', b'close']
    """
    return [word.strip(b" \t").lower() for word in value.split(b",")]
