"""Outcome: what a reply means, in the words runs use: completed, rejected or failed, and why.

A refusal before any token is a rejection, whoever refused; an answer that broke off or never came is a failure. Knows
the statuses and codes of gridctl's own gateway; those of other endpoints are told apart as far as their status goes.
"""

from __future__ import annotations

import msgspec

from gridctl.accounts.rows import (
    BROKEN,
    COMPLETED,
    FAILED,
    INFEASIBLE,
    JURISDICTION,
    NO_MODEL,
    NO_REASON,
    OUTAGE,
    QUALITY,
    REFUSED,
    REJECTED,
    TIMEOUT,
    TOO_LONG,
)
from gridctl.liveload.answers import message_of
from gridctl.liveload.connection import Reply

_BY_CODE = {"jurisdiction": JURISDICTION, "quality": QUALITY, "model_not_found": NO_MODEL}
SHOWN = 160


def outcome_of(reply: Reply) -> tuple[int, int]:
    """The outcome and its reason."""
    if reply.failure:
        return FAILED, TIMEOUT if "in time" in reply.failure else BROKEN
    if reply.status == 200:
        return (COMPLETED, NO_REASON) if reply.answer.is_complete else (FAILED, BROKEN)
    code, message = _error(reply.error_body)
    if code in _BY_CODE:
        return REJECTED, _BY_CODE[code]
    if reply.status == 404:
        return REJECTED, NO_MODEL
    if reply.status == 413 or (reply.status == 400 and "context" in message):
        return FAILED, TOO_LONG
    if reply.status == 429:
        return REJECTED, INFEASIBLE
    if reply.status == 503:
        return REJECTED, OUTAGE
    if reply.status == 504:
        return FAILED, TIMEOUT
    return (FAILED, BROKEN) if reply.status >= 500 else (REJECTED, REFUSED)


def said(reply: Reply) -> str:
    """Why a reply is no answer, in a few printable words; "" for one that is."""
    if reply.failure:
        text = reply.failure
    elif reply.status == 200:
        text = "" if reply.answer.is_complete else reply.answer.error or "the answer ended in the middle"
    else:
        text = f"{reply.status} {_error(reply.error_body)[1]}"
    clean = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * SHOWN]).strip()
    return clean if len(clean) <= SHOWN else clean[: SHOWN - 1] + "…"


def _error(body: bytes) -> tuple[str, str]:
    """Code and message of an error body; empty for what is none."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", body[:SHOWN].decode("utf-8", "replace")
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return (code if isinstance(code, str) else ""), message_of(answer)
