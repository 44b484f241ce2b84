"""Two schemas of JUnit reports as tables, and a validator of such tables: what xml.etree parsed, held against them.

Written from the documentation of both, element by element: Ant's JUnit schema as many checkers ship it, and that of the
Jenkins xUnit plugin (junit-10). Imports nothing of the package, so that a report cannot agree with itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

TYPES = {
    "any": r"(?s).*",
    "token": r"\S(?:.*\S)?",
    "integer": r"[+-]?\d+",
    "decimal": r"[+-]?(\d+(\.\d*)?|\.\d+)",
    "moment": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
}


@dataclass(frozen=True)
class Rule:
    """An element: its attributes' types (`!` after those that must be there), its children in order with how many there
    may be at least and at most, or in any order (`choice`), and whether it may hold text."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[tuple[str, int, int], ...] = ()
    is_choice: bool = False
    has_text: bool = False


MANY = 1 << 30
TOLD = Rule({"message": "any", "type": "any!"}, has_text=True)
LINES = Rule(has_text=True)
PROPERTY = Rule({"name": "token!", "value": "any!"})

ANT = {
    "testsuites": Rule(children=(("testsuite", 0, MANY),)),
    "testsuite": Rule(
        {
            "name": "token!", "timestamp": "moment!", "hostname": "token!", "tests": "integer!",
            "failures": "integer!", "errors": "integer!", "time": "decimal!", "package": "token!", "id": "integer!",
        },
        (("properties", 1, 1), ("testcase", 0, MANY), ("system-out", 1, 1), ("system-err", 1, 1)),
    ),
    "properties": Rule(children=(("property", 0, MANY),)),
    "property": PROPERTY,
    "testcase": Rule(
        {"name": "token!", "classname": "token!", "time": "decimal!"},
        (("error", 0, 1), ("failure", 0, 1)),
        is_choice=True,
    ),
    "error": TOLD, "failure": TOLD, "system-out": LINES, "system-err": LINES,
}  # fmt: skip
JENKINS = {
    "testsuites": Rule(
        {"name": "any", "time": "decimal", "tests": "integer", "failures": "integer", "errors": "integer"},
        (("testsuite", 0, MANY),),
    ),
    "testsuite": Rule(
        {
            "name": "any!", "tests": "integer!", "failures": "integer", "errors": "integer", "time": "decimal",
            "disabled": "integer", "skipped": "integer", "timestamp": "any", "hostname": "any", "id": "any",
            "package": "any", "file": "any", "log": "any", "url": "any", "version": "any", "group": "any",
        },
        (
            ("testsuite", 0, MANY), ("properties", 0, 1), ("testcase", 0, MANY), ("system-out", 0, 1),
            ("system-err", 0, 1),
        ),
        is_choice=True,
    ),
    "properties": Rule(children=(("property", 0, MANY),)),
    "property": Rule({"name": "any!", "value": "any!"}),
    "testcase": Rule(
        {
            "name": "any!", "classname": "any", "time": "decimal", "assertions": "integer", "status": "any",
            "class": "any", "file": "any", "line": "any", "group": "any", "url": "any",
        },
        (
            ("skipped", 0, MANY), ("error", 0, MANY), ("failure", 0, MANY), ("system-out", 0, MANY),
            ("system-err", 0, MANY),
        ),
        is_choice=True,
    ),
    "error": Rule({"message": "any", "type": "any"}, has_text=True),
    "failure": Rule({"message": "any", "type": "any"}, has_text=True),
    "system-out": LINES, "system-err": LINES,
}  # fmt: skip


def complaints(element: Element, schema: Mapping[str, Rule], at: str = "") -> list[str]:
    """Everything about an element that its schema does not allow."""
    at = f"{at}/{element.tag}"
    rule = schema.get(element.tag)
    if rule is None:
        return [f"{at} is no element"]
    found = []
    for name, kind in rule.attributes.items():
        value = element.attrib.get(name)
        if value is None and kind.endswith("!"):
            found.append(f"{at} lacks {name}")
        if value is not None and not re.fullmatch(TYPES[kind.rstrip("!")], value):
            found.append(f"{at}@{name} is {value!r}, not {kind.rstrip('!')}")
    found += [f"{at} may not have {name}" for name in element.attrib if name not in rule.attributes]
    text = [element.text, *(child.tail for child in element)]
    if not rule.has_text and any((part or "").strip() for part in text):
        found.append(f"{at} may not hold text")
    tags = [child.tag for child in element]
    order = [tag for tag, _, _ in rule.children]
    found += [f"{at} may not hold {tag}" for tag in tags if tag not in order]
    for tag, least, most in rule.children:
        if not least <= tags.count(tag) <= most:
            found.append(f"{at} holds {tags.count(tag)} of {tag}")
    places = [order.index(tag) for tag in tags if tag in order]
    if not rule.is_choice and places != sorted(places):
        found.append(f"{at} holds its children in another order: {', '.join(tags)}")
    for child in element:
        found += complaints(child, schema, at)
    return found
