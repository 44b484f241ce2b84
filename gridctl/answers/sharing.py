"""Sharing: who asked for an answer of a public workload, and when it may go to somebody who did not.

Decides by counting. An answer that everybody may get tells, by being there, that somebody asked; so it goes to others
only once several different callers have asked for it, or for something its group's answers were judged the same for
(k-anonymity, Sweeney 2002). Callers are told apart by what they cannot choose, their tenant and key, and are kept as
digests. What an entry's `user` holds for a public workload is made and read here alone.
"""

from __future__ import annotations

import hashlib

from gridctl.answers.question import Question
from gridctl.answers.settings import Rules
from gridctl.answers.shelf import Shelf

FEW_ASKERS = "few-askers"
ON_PROBATION = "probation"
_MARK = "askers:"


def asker_of(question: Question) -> str:
    """Who asks, as 16 hexadecimal digits."""
    name = f"{len(question.tenant)}:{question.tenant}{question.user}"
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def askers_of(user: str) -> tuple[str, ...]:
    """Who asked, by an entry's `user`; nobody for an entry of a workload that is not public."""
    return tuple(user[len(_MARK) :].split()) if user.startswith(_MARK) else ()


def with_asker(before: tuple[str, ...], asker: str, most: int) -> str:
    """An entry's `user` when one more asked: the last `most` different ones, the newest at the end."""
    others = [one for one in before if one != asker]
    return _MARK + " ".join([*others[max(0, len(others) - most + 1) :], asker])


def withheld(shelf: Shelf, number: int, question: Question, rules: Rules, *, is_repeat: bool) -> str:
    """Why an entry may not go to who asks, "" where it may: too few asked for its group or, unless the question is an
    exact repeat, its group has not passed its probation."""
    held = shelf.held.get(number)
    if not rules.is_public or (held is not None and asker_of(question) in held.askers):
        return ""
    if held is None or not is_open(shelf, number, rules):
        return FEW_ASKERS
    if is_repeat or not rules.probation:
        return ""
    groups = held.section.groups
    group = groups.group_of(held.place) if groups is not None and held.place >= 0 else None
    passed = 0 if groups is None or group is None else groups.group(group).right
    return "" if passed >= rules.probation else ON_PROBATION


def is_open(shelf: Shelf, number: int, rules: Rules, *, without: bool = False) -> bool:
    """Whether enough callers asked for an entry's group, or did `without` this entry."""
    return not rules.is_public or shelf.is_asked_by(number, rules.public_after, without=without)
