"""Redaction: text with everything that may be a secret taken out, whatever it came from.

Decides by two means, because either alone misses some: what secrets look like (tokens of gridctl's, of clouds and of
model providers, bearer headers, passwords in URLs and assignments, private keys), and what this process knows to be
one (values of variables that hold credentials), in every spelling a text may give them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

MARK = "[redacted]"
SHORTEST = 6
"""A shorter value is a word that also means something else; taking it out would spoil the text and hide nothing."""
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|COOKIE|SESSION|PRIVATE)", re.IGNORECASE)
_HARMLESS = frozenset({"SSH_AUTH_SOCK", "GPG_AGENT_INFO", "XDG_SESSION_ID", "XDG_SESSION_TYPE", "DESKTOP_SESSION"})

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", MARK),
        (r"gridctl_[A-Za-z0-9_-]{16,}", MARK),
        (r"\b(?:sk|pk|rk|hf|ghp|gho|ghs|ghu|glpat|xox[abpors]|nvapi|gsk|key|tok)[-_][A-Za-z0-9_-]{12,}", MARK),
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", MARK),
        (r"\bAIza[A-Za-z0-9_-]{30,}", MARK),
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.?[A-Za-z0-9_-]*", MARK),
        (r"(?i)\b(bearer|basic)(\s+|%20)[A-Za-z0-9._~+/=-]{6,}", rf"\1 {MARK}"),
        (r"(?i)([a-z][a-z0-9+.-]{0,15}://)[^/\s:@\"']*(?::[^/\s@\"']*)?@", rf"\1{MARK}@"),
        (
            r"(?i)([\"']?[a-z0-9_.-]{0,40}(?:api[_-]?key|token|secret|passw(?:or)?d|authorization)[\"']?\s*[=:]\s*)"
            r"(\"[^\"\n]{4,}\"|'[^'\n]{4,}'|[^\s\"',;&}]{6,})",
            rf"\1{MARK}",
        ),
    )
)
_KEEPS = re.compile(r"^[\"']?(?:null|true|false|none|env:\w+|file:[^\"'\n]*|-?\d+(?:\.\d+)?|\[redacted\])[\"']?$", re.I)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets` and without what looks like one.

    >>> redacted("http://ada:secret@10.0.0.1/v1")
    'http://[redacted]@10.0.0.1/v1'
    """
    for spelling in _spellings(secrets):
        text = text.replace(spelling, MARK)
    for pattern, replacement in _PATTERNS[:-1]:
        text = pattern.sub(replacement, text)
    pattern, _ = _PATTERNS[-1]
    return pattern.sub(_assignment, text)


def known_secrets(environment: Mapping[str, str] | None = None, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Values of variables that hold credentials by their name, or that `more` names."""
    found = os.environ if environment is None else environment
    names = {*more, *(name for name in found if _SECRET_NAME.search(name) and name not in _HARMLESS)}
    return tuple(value for name in sorted(names) if len(value := found.get(name, "").strip()) >= SHORTEST)


def _assignment(match: re.Match[str]) -> str:
    """`name = value` without its value, unless the value is none: a count of tokens is no token."""
    return match[0] if _KEEPS.match(match[2]) else f"{match[1]}{MARK}"


def _spellings(secrets: Iterable[str]) -> list[str]:
    """Each secret as it stands in text, in JSON and in URLs; the longest first, so that no part of one is left."""
    spellings: set[str] = set()
    for secret in secrets:
        if len(secret) >= SHORTEST:
            spellings |= {
                secret,
                json.dumps(secret)[1:-1],
                quote(secret, safe=""),
                quote_plus(secret),
                repr(secret)[1:-1],
            }
    return sorted(spellings, key=len, reverse=True)
