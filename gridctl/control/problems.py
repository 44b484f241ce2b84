"""Errors as answers of the admin API, and answers as errors again: one table, read both ways.

Must not tell more than the error itself says; an exception that nobody foresaw is an internal error and no more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gridctl.control.messages import Problem
from gridctl.errors import (
    ConflictError,
    GridctlError,
    InputError,
    Interrupted,
    NotFoundError,
    StoreError,
    UnreachableError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"


class _Meaning(NamedTuple):
    kind: str
    error: type[GridctlError]
    status: int


_MEANINGS = (
    _Meaning("usage", UsageError, 400),
    _Meaning("conflict", ConflictError, 409),
    _Meaning("store", StoreError, 503),
    _Meaning("input", InputError, 422),
    _Meaning("not-found", NotFoundError, 404),
    _Meaning("unreachable", UnreachableError, 504),
    _Meaning("interrupted", Interrupted, 503),
    _Meaning("internal", GridctlError, 500),
)


class DeniedError(GridctlError):
    """The API refuses the caller, or the form of its request, before anything is looked at."""

    exit_code = 3

    def __init__(self, status: int, kind: str, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what, where=where, fix=fix)
        self.status = status
        self.kind = kind


def problem_of(error: GridctlError) -> Problem:
    """An error as an answer."""
    if isinstance(error, DeniedError):
        kind, status = error.kind, error.status
    else:
        kind, _, status = next(meaning for meaning in _MEANINGS if isinstance(error, meaning.error))
    return Problem(
        status=status,
        kind=kind,
        what=error.what,
        where=error.where,
        fix=error.fix,
        exit_code=error.exit_code,
        related=tuple(problem_of(one) for one in error.related),
    )


def error_of(problem: Problem) -> GridctlError:
    """An answer as the error it was made from; what the API itself refused is bad input to whoever asked."""
    related = [error_of(one) for one in problem.related]
    for kind, error, _ in _MEANINGS:
        if kind == problem.kind:
            return error(problem.what, where=problem.where, fix=problem.fix, related=related)
    return InputError(problem.what, where=problem.where, fix=problem.fix, related=related)


def read_problem(content: bytes) -> Problem | None:
    """The problem in an answer's body, or None when it holds none: something else answered."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Problem)
    try:
        return decoder.decode(content)  # type: ignore[no-any-return]
    except msgspec.MsgspecError:
        return None
