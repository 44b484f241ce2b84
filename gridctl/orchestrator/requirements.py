"""Requirements: whether the packages gridctl needs are installed, in versions it can use. As it states them."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from typing import NamedTuple


class Requirements(NamedTuple):
    """How many packages were looked at, and a sentence for each that will not do."""

    looked_at: int
    problems: tuple[str, ...]


def installed() -> Requirements | None:
    """What is installed beside gridctl; None when gridctl itself is not, but runs from its source folder."""
    try:
        wanted = metadata.requires("gridctl") or []
    except metadata.PackageNotFoundError:
        return None
    problems = []
    needed = [one for one in wanted if "extra ==" not in one and applies_here(one)]
    for requirement in needed:
        name, bounds = parsed(requirement.partition(";")[0])
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        if not all(holds(version, bound) for bound in bounds):
            problems.append(f"{name} is {version}, needed is {','.join(bounds)}")
    return Requirements(len(needed), tuple(problems))


def applies_here(requirement: str) -> bool:
    """Whether a requirement is for this system.

    >>> applies_here('uvloop>=0.21; sys_platform != "none"')
    True
    """
    marker = requirement.partition(";")[2]
    return not ("sys_platform" in marker and "!=" in marker and f'"{sys.platform}"' in marker.replace("'", '"'))


def parsed(requirement: str) -> tuple[str, list[str]]:
    """Name and bounds.

    >>> parsed("typer<0.29,>=0.28")
    ('typer', ['<0.29', '>=0.28'])
    """
    found = re.match(r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^)]*)\)?\s*$", requirement)
    if found is None:
        return requirement.strip(), []
    return found[1], [bound.strip() for bound in found[2].split(",") if bound.strip()]


def holds(version: str, bound: str) -> bool:
    """Whether a version keeps a bound, by the numbers before the first letter.

    >>> holds("0.28.1", ">=0.28"), holds("0.29", "<0.29"), holds("1.0rc1", ">=1.0")
    (True, False, True)
    """
    found = re.match(r"(>=|<=|==|!=|<|>|~=)\s*([0-9.]+)", bound)
    if found is None:
        return True
    have, want = _numbers(version), _numbers(found[2])
    length = max(len(have), len(want))
    a, b = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b, "~=": a >= b}[found[1]]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found is not None else ()
