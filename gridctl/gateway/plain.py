"""Plain: texts of letters, digits and common marks, read as bytes, which takes a quarter of the time.

Says of such a text what `cache.exact.normalised` makes of it, and that `cache.cacheable.bypass_of_text` has nothing
against it; of all others nothing: they are for those two to read. Decides no rule of its own.
"""

from __future__ import annotations

import re
import string

from gridctl.cache.cacheable import LONGEST_PROMPT, MAYBE_NUMBER, CacheRules
from gridctl.cache.english import LIVE_WORDS

COMMON = (string.ascii_letters + " .,:?!'()-/+*&%$_~|").encode()
"""What a text may be of besides digits. No mark of code is made of these but the two below, nothing of them is a
control character, and none needs an escape in JSON."""
_MARKS_OF_CODE = (b"def ", b"::")
_BLANK = 0x20
LEAST_DIGITS = 8
"""Of what looks like an account or telephone number, but for an IBAN, which begins with two letters and two digits."""
_KINDS = bytes([0x61 if chr(c).isalpha() and c < 128 else 0x30 if 0x30 <= c <= 0x39 else 0x20 for c in range(256)])
_BEGIN_OF_IBAN = b"aa00"
_TO_WORDS = bytes([code if chr(code).isalpha() and code < 128 else 0x20 for code in range(256)])
_LIVE = frozenset([word.encode() for word in LIVE_WORDS])
_MAYBE_NUMBER = re.compile(MAYBE_NUMBER.pattern.encode())


def plain(text: bytes, rules: CacheRules) -> bytes | None:
    """The text in the form that equal ones share, None where that, or whether it may be cached, takes a closer look.

    >>> plain(b"  Where is  PARIS?", CacheRules(mode="exact"))
    b'where is paris?'
    """
    odd = text.translate(None, COMMON)
    if odd and not (odd.isdigit() and (rules.allows_personal_data or not _may_be_number(text, len(odd)))):
        return None
    if _MARKS_OF_CODE[0] in text or _MARKS_OF_CODE[1] in text or not 0 < len(text) <= LONGEST_PROMPT:
        return None
    lower = text.lower()
    if rules.live_ttl_s <= 0.0 and not _LIVE.isdisjoint(lower.translate(_TO_WORDS).split()):
        return None
    if b"  " in lower or lower[0] == _BLANK or lower[-1] == _BLANK:
        return b" ".join(lower.split()) or None
    return lower


def _may_be_number(text: bytes, digits: int) -> bool:
    """Whether there may be an account or telephone number in a text with so many digits."""
    if digits >= LEAST_DIGITS:
        return _MAYBE_NUMBER.search(text) is not None
    return _BEGIN_OF_IBAN in text.translate(_KINDS)


def plain_literal(text: bytes, rules: CacheRules) -> bytes | None:
    """The same for texts that are compared letter by letter."""
    return None if plain(text, rules) is None else text
