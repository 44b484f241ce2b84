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
_BLANK, _COLON, _ODD, _DIGIT = b" :#0"
LEAST_DIGITS = 8
"""Of what looks like an account or telephone number, but for an IBAN, which begins with two letters and two digits."""


def _kind(code: int) -> bytes:
    one = bytes([code])
    if one.isalpha():
        return one.lower()
    return b"0" if one.isdigit() else b" " if one in COMMON else b"#"


_KINDS = b"".join([_kind(code) for code in range(256)])
"""Of each byte: a letter its small one, a digit 0, a common mark a blank, everything else odd."""
_SHAPES = bytes([0x61 if 0x61 <= kind <= 0x7A else kind for kind in range(256)])
_BEGIN_OF_IBAN = b"aa00"
_LIVE = frozenset([word.encode() for word in LIVE_WORDS])
_TELLING = _LIVE | {b"def"}
"""Words after which a text changes by itself, or may be code."""
_MAYBE_NUMBER = re.compile(MAYBE_NUMBER.pattern.encode())


def plain(text: bytes, rules: CacheRules) -> bytes | None:
    """The text in the form that equal ones share, None where that, or whether it may be cached, takes a closer look.

    >>> plain(b"  Where is  PARIS?", CacheRules(mode="exact"))
    b'where is paris?'
    """
    kinds = text.translate(_KINDS)
    if _ODD in kinds or not 0 < len(text) <= LONGEST_PROMPT:
        return None
    if _DIGIT in kinds:
        if not rules.allows_personal_data and _may_be_number(text, kinds):
            return None
        kinds = kinds.replace(b"0", b" ")
    if _COLON in text and b"::" in text:
        return None
    if not _TELLING.isdisjoint(kinds.split()) and (
        b"def " in text or (rules.live_ttl_s <= 0.0 and not _LIVE.isdisjoint(kinds.split()))
    ):
        return None
    lower = text.lower()
    if b"  " in lower:
        return b" ".join(lower.split()) or None
    return (lower.strip() or None) if lower[0] == _BLANK or lower[-1] == _BLANK else lower


def _may_be_number(text: bytes, kinds: bytes) -> bool:
    """Whether there may be an account or telephone number in a text of these kinds."""
    if kinds.count(b"0") >= LEAST_DIGITS:
        return _MAYBE_NUMBER.search(text) is not None
    return _BEGIN_OF_IBAN in kinds.translate(_SHAPES)


def plain_literal(text: bytes, rules: CacheRules) -> bytes | None:
    """The same for texts that are compared letter by letter."""
    return None if plain(text, rules) is None else text
