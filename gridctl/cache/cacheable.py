"""Which requests and answers may be cached at all; everything else bypasses the cache with a reason that is counted.

Decides by rules an operator can read, before any key is made. A request passes `bypass_of`, its answer `refusal_of`
before it is stored. Personal data is found by shape (addresses, numbers with a valid check digit, phone numbers): what
has no shape, such as a name, is not found, so workloads with such prompts belong to one user each or to no cache.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

import msgspec

from gridctl.cache.english import LIVE_WORDS

Reason = Literal[
    "off", "no-store", "empty", "too-long", "not-text", "non-printing", "tools", "media", "temperature",
    "several-answers", "personal-data", "changes-by-itself", "untagged-documents", "incomplete", "refused", "failed",
    "empty-answer",
]  # fmt: skip
LONGEST_PROMPT = 8_192
"""Characters of a last user turn; longer ones are documents, whose repeats are exact or worthless."""
LONGEST_ANSWER_BYTES = 1 << 20
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@.]{1,63}\.[^\s@]{2,}")
_LONG_NUMBER = re.compile(r"(?<![\w.])\+?\d(?:[ \-./()]{0,2}\d){7,24}(?!\w)")
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}\b")
MAYBE_NUMBER = re.compile(r"\d(?:(?<=[A-Za-z]{2}\d)\d|[\d \-./()]{7})")
"""What every account and telephone number has in it: a search for digits, which most texts have none or few of."""
_WORDS = re.compile(r"[^\W\d_]+")
_TO_WORDS = {code: " " for code in range(128) if not chr(code).isalpha()}


class CacheRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload allows. `live_ttl_s` above 0 lets answers that change by themselves be kept for that long."""

    mode: Literal["off", "exact", "semantic"] = "off"
    highest_temperature: float = 0.3
    allows_personal_data: bool = False
    live_ttl_s: float = 0.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request decides. `text` is the last user turn, None when it is not plain text; `temperature` None when
    the client did not say, which engines take as 1."""

    text: str | None
    temperature: float | None = None
    answers: int = 1
    has_tools: bool = False
    has_media: bool = False
    has_untagged_documents: bool = False
    says_no_store: bool = False


def bypass_of(wanted: Wanted, rules: CacheRules) -> Reason | None:
    """Why a request bypasses the cache, None when it may be answered from it. Quick for any length of text."""
    text = wanted.text
    if rules.mode == "off":
        return "off"
    if wanted.says_no_store:
        return "no-store"
    if wanted.has_tools:
        return "tools"
    if wanted.has_media:
        return "media"
    if wanted.has_untagged_documents:
        return "untagged-documents"
    if wanted.answers != 1:
        return "several-answers"
    # Written so that what is not a number is above every limit.
    if not (1.0 if wanted.temperature is None else wanted.temperature) <= rules.highest_temperature:
        return "temperature"
    return "not-text" if text is None else bypass_of_text(text, rules)


def refusal_of(finish_reason: str | None, status: int, answer: bytes, has_tool_call: bool = False) -> Reason | None:
    """Why an answer is not stored, None when it may be: complete, of our own engine, of a bearable size."""
    if status != 200:
        return "failed"
    if has_tool_call:
        return "tools"
    if finish_reason == "content_filter":
        return "refused"
    if finish_reason != "stop":
        return "incomplete"
    if not answer.strip():
        return "empty-answer"
    return "too-long" if len(answer) > LONGEST_ANSWER_BYTES else None


def bypass_of_text(text: str, rules: CacheRules) -> Reason | None:
    """Why a text bypasses the cache, whatever else its request says."""
    if len(text) > LONGEST_PROMPT:
        return "too-long"
    if not text.strip():
        return "empty"
    # Nearly every prompt is printable throughout, which is one call; the others are looked at letter by letter.
    if not text.isprintable() and any(
        unicodedata.category(one) in ("Cc", "Cf", "Co", "Cs", "Cn") and one not in "\t\n\r" for one in text
    ):
        return "non-printing"
    if not rules.allows_personal_data and has_personal_data(text):
        return "personal-data"
    if rules.live_ttl_s <= 0.0 and changes_by_itself(text):
        return "changes-by-itself"
    return None


def has_personal_data(text: str) -> bool:
    """Whether the text holds an e-mail address, an account or card number, or a telephone number."""
    if "@" in text and _EMAIL.search(text):
        return True
    if not MAYBE_NUMBER.search(text):
        return False
    if _IBAN.search(text):
        return True
    for found in _LONG_NUMBER.finditer(text):
        digits = [int(one) for one in found.group() if one.isdecimal()]
        if found.group()[0] == "+" or 9 <= len(digits) <= 11 or (12 <= len(digits) <= 19 and _luhn(digits)):
            return True
    return False


def changes_by_itself(text: str) -> bool:
    """Whether the right answer depends on when or where it is asked, by English words."""
    lower = text.lower()
    # For ASCII the same words, by two passes over bytes instead of a search.
    words = lower.translate(_TO_WORDS).split() if lower.isascii() else _WORDS.findall(lower)
    return not LIVE_WORDS.isdisjoint(words)


def _luhn(digits: list[int]) -> bool:
    """The check of ISO/IEC 7812 card numbers."""
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
