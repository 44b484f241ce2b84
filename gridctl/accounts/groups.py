"""Groups: requests that share the same labels, each as the row numbers it holds. O(n log n), order of arrival kept.

Decides nothing about what is counted; it keeps the invariant that every request is in exactly one group, so sums over
groups are sums over requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import UsageError, did_you_mean

UNNAMED = "-"
Dimension = TypeVar("Dimension", bound=str)


@dataclass(frozen=True, slots=True)
class Labels:
    """One label per request: `codes`, shape `(n,)`, are indices into `names`, in the smallest type that holds them."""

    names: tuple[str, ...]
    codes: NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Group:
    """The requests (`members`, ascending row numbers) that carry the same labels (`key`, one name per label)."""

    key: tuple[str, ...]
    members: NDArray[np.intp]


def labels(names: Sequence[str], codes: NDArray[np.int32]) -> Labels:
    """Labels from a run's name tuple and index column; −1 becomes `-`, and equal names become one label."""
    listed = (*names, UNNAMED)  # index −1 is the last entry
    distinct = tuple(sorted(set(listed)))
    position = {name: index for index, name in enumerate(distinct)}
    lookup = np.array([position[name] for name in listed], dtype=_smallest(len(distinct)))
    return Labels(distinct, lookup[codes])


def grouped(columns: Sequence[Labels], n: int) -> list[Group]:
    """The groups of `n` requests by all `columns`, in order of their names; one group of everything for no columns."""
    if n == 0:
        return []
    combined = np.zeros(n, dtype=_smallest(math.prod(len(column.names) for column in columns)))
    for column in columns:
        combined *= len(column.names)
        combined += column.codes
    order = np.argsort(combined, kind="stable")  # of 16 bits and less this is a radix sort
    _, sizes = np.unique(combined, return_counts=True)
    groups = []
    for members in np.split(order, np.cumsum(sizes)[:-1]):
        key = tuple(column.names[column.codes[members[0]]] for column in columns)
        groups.append(Group(key, members))
    return groups


def _smallest(count: int) -> type[np.signedinteger[Any]]:
    """The smallest type that holds 0 … `count`."""
    kinds: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32, np.int64)
    return next(kind for kind in kinds if count <= np.iinfo(kind).max)


def check_dimensions(by: Sequence[str], known: Sequence[Dimension], needed: Dimension | None = None) -> list[Dimension]:
    """The dimensions of `by`, in the order of `known`.

    Raises: UsageError when one is unknown, named twice, or the `needed` one is left out.
    """
    for word in by:
        if word not in known:
            near = did_you_mean(word, known)
            fix = f"did you mean {near}?" if near else f"choose among {', '.join(known)}"
            raise UsageError(f"rows cannot be told apart by {word!r}", where="--by", fix=fix)
    if not by or len(set(by)) != len(by):
        raise UsageError("name at least one dimension, each once", where="--by", fix=f"--by {','.join(known)}")
    if needed is not None and needed not in by:
        fix = f"--by {','.join([needed, *by])}"
        raise UsageError(f"rows must be told apart by {needed}, whose objectives they show", where="--by", fix=fix)
    return [dimension for dimension in known if dimension in by]
