"""The exact level: the same request again, up to case, width and spacing.

Decides which prompts count as the same text. NFKC makes full-width and composed characters equal, case is folded and
runs of white space become one blank; punctuation and everything else stays, so "5" and "-5" differ. What looks like one
request to this module is one request for the promise too: the assumption that an exact repeat has the same answer.
Code is never folded: indentation and case carry meaning there.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from gridctl.cache.partition import Partition, digest

EXACT_BYTES = 16
_CODE_MARK = re.compile(r"```|\{|\\|};|#include|\bdef |</|=>|->|::|\n  |\n\t")


def normalised(text: str) -> str:
    """The text that two equal prompts share.

    >>> normalised("  What's  the TIME\\n in Ｐaris ")
    "what's the time in paris"
    """
    if is_code(text):
        return unicodedata.normalize("NFC", text)
    if text.isascii():  # NFKC changes none of it
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def is_code(text: str) -> bool:
    """Whether case and spacing may carry meaning: marks of code, or an indented line."""
    return _CODE_MARK.search(text) is not None


def exact_key(secret: bytes, partition: Partition, text: str) -> str:
    """The key of a request's last user turn within its partition, which holds the earlier turns: the keyed BLAKE2b of
    the text, 16 bytes in hexadecimal digits, under a key of the partition's own. Source: RFC 7693, section 2.9."""
    data = normalised(text).encode("utf-8", "surrogatepass")
    key = bytes.fromhex(digest(secret, ("exact", partition.key(secret))))
    return hashlib.blake2b(data, key=key, digest_size=EXACT_BYTES).hexdigest()
