"""Locating: from `cluster paris, spec.site`, as a check of the whole grid says it, to the file, line and column.

Checks of a whole grid see resources, not files: they name a resource and a field. What was declared in the files at
hand gets its place there; what is wrong with a resource that only the registry holds keeps its name. Must not judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from gridctl.errors import ConflictError, GridctlError, InputError, StoreError
from gridctl.manifest.document import Path
from gridctl.manifest.reader import Declared
from gridctl.resources import key_of

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


@contextmanager
def located(declared: Sequence[Declared]) -> Iterator[None]:
    """Give every InputError raised inside, and its related ones, the place where its resource was declared."""
    try:
        yield
    except (ConflictError, StoreError):
        raise  # about the registry, not about what a file says
    except InputError as error:
        by_name = {str(key_of(one.resource)): one for one in declared}
        for one in (error, *error.related):
            _locate(one, by_name)
        raise


def field_path(text: str) -> Path:
    """A field as errors write it, as the steps of a manifest.

    >>> field_path("spec.deployments[0].variant")
    ('spec', 'deployments', 0, 'variant')
    """
    return tuple(int(step[1:-1]) if step.startswith("[") else step for step in _STEP.findall(text))


def _locate(error: GridctlError, by_name: Mapping[str, Declared]) -> None:
    """Put the error at its place; leave it alone when it has one already, or its resource is not among the declared."""
    subject, _, field = (error.where or "").partition(", ")
    one = by_name.get(subject)
    if one is not None:
        error.what = f"{error.where}: {error.what}"
        error.where = one.at(field_path(field))
