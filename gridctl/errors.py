"""The one error tree: what went wrong, where, and the command or edit that fixes it.

    GridctlError                 1  our own bug, when nothing better is known
    ├── UsageError               2  the command line is wrong
    ├── InputError               3  a file, manifest or trace is wrong; nothing was applied
    │   ├── ConflictError        3  the resource changed since it was read
    │   └── StoreError           3  the database cannot be used (newer version, full disk, not a database)
    ├── NotFoundError            4  a named thing does not exist
    ├── UnreachableError         5  a peer did not answer in time
    ├── GateFailed              99  a gate's threshold was missed
    └── Interrupted            130  the user stopped it

Rooms raise these; only `cli/` turns one into text and an exit code. `assert` is for our own bugs.
"""

from __future__ import annotations

from collections.abc import Iterable


class GridctlError(Exception):
    """Anything gridctl says in place of a traceback.

    `what` is one sentence; `where` is `file:line:col`, a resource or a flag; `fix` is a command or an edit.
    `related` are further errors of the same pass, so that one run of a command reports every problem it saw.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str | None = None, fix: str | None = None, related: Iterable[GridctlError] = ()
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.related = tuple(related)


class UsageError(GridctlError):
    """The command line is wrong."""

    exit_code = 2


class InputError(GridctlError):
    """A file, manifest or trace is wrong; nothing was applied."""

    exit_code = 3


class ConflictError(InputError):
    """The resource changed since it was read: the write was refused, so nothing is lost."""


class StoreError(InputError):
    """The database cannot be used: newer version, full disk, not a database."""


class NotFoundError(GridctlError):
    """A named thing does not exist."""

    exit_code = 4


class UnreachableError(GridctlError):
    """A peer did not answer in time."""

    exit_code = 5


class GateFailed(GridctlError):
    """A gate's threshold was missed."""

    exit_code = 99


class Interrupted(GridctlError):
    """The user stopped the command; `what` says what was kept."""

    exit_code = 130


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The closest known word, or None when nothing is close enough.

    >>> did_you_mean("fr-pariss-01", ["fr-paris-01", "us-nyc-01"])
    'fr-paris-01'
    """
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def raise_all(errors: list[InputError]) -> None:
    """Raise the first of `errors` carrying the others as `related`; do nothing when there are none."""
    if not errors:
        return
    first, *rest = errors
    first.related = (*first.related, *rest)
    raise first
