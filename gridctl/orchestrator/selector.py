"""Selectors: `tier=edge,country!=FR,!maintenance` chooses resources by field or label.

A term is `key=value`, `key!=value`, `key` (present) or `!key` (absent); all terms must hold. A key that is a field of
the kind means the field, any other a label. A cluster also answers for its site's tier, country, jurisdiction and city.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gridctl.errors import UsageError, did_you_mean
from gridctl.resources import Cluster, Resource, Site

SITE_KEYS = ("tier", "country", "jurisdiction", "city")
_TERM = re.compile(r"^(?P<absent>!)?(?P<key>[A-Za-z0-9][A-Za-z0-9._/-]*)\s*(?:(?P<op>==?|!=)\s*(?P<value>[^=]*))?$")


@dataclass(frozen=True, slots=True)
class Term:
    """One condition."""

    key: str
    op: Literal["is", "is-not", "present", "absent"]
    value: str = ""

    def holds(self, found: str | None) -> bool:
        """Whether a resource whose key has the value `found` (None: it has none) meets the condition."""
        if self.op == "present":
            return found is not None
        if self.op == "absent":
            return found is None
        return (found == self.value) is (self.op == "is")


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that must all hold."""

    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def needs_sites(self) -> bool:
        """Whether clusters can only be chosen by looking at their sites."""
        return any(term.key in SITE_KEYS for term in self.terms)

    def holds(self, resource: Resource, sites: Mapping[str, Site] | None = None) -> bool:
        """Whether `resource` is chosen; `sites` answers for clusters."""
        return all(term.holds(value_of(resource, term.key, sites or {})) for term in self.terms)


def parse_selector(texts: Sequence[str]) -> Selector:
    """`["tier=edge,country=FR", "state=active"]` as one selector. Raises: UsageError naming the bad term.

    >>> parse_selector(["tier=edge"]).terms
    (Term(key='tier', op='is', value='edge'),)
    """
    return Selector(tuple(_term(part.strip()) for text in texts for part in text.split(",")))


def value_of(resource: Resource, key: str, sites: Mapping[str, Site]) -> str | None:
    """The text of the field or label `key`; None when the resource has none."""
    if key == "name":
        return resource.name
    spec: object = resource.spec
    if isinstance(resource, Cluster) and key in SITE_KEYS:
        site = sites.get(resource.spec.site)
        return value_of(site, key, sites) if site is not None else None
    if isinstance(resource, Site) and key == "jurisdiction" and resource.spec.jurisdiction is None:
        from gridctl.geography.regions import jurisdiction_of

        return jurisdiction_of(resource.spec.country)
    if key in getattr(spec, "__struct_fields__", ()):
        value = getattr(spec, key)
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, (str, int, float)) else None
    return resource.metadata.labels.get(key)


def explain_nothing(selector: Selector, kind: type[Resource], resources: Sequence[Resource]) -> str:
    """Why nothing was chosen, in words: most often a key or a value that no resource has."""
    fields = _spec_fields(resources)
    labels = {label for resource in resources for label in resource.metadata.labels}
    known = {*fields, *labels, "name", *(SITE_KEYS if kind is Cluster else ())}
    for term in selector.terms:
        if term.key not in known:
            near = did_you_mean(term.key, sorted(known))
            return f"no {kind.noun} has {term.key!r}" + (f"; did you mean {near}?" if near else "")
    for term in selector.terms:
        values = {value for one in resources if (value := value_of(one, term.key, {})) is not None}
        if term.op == "is" and term.value not in values and (near := did_you_mean(term.value, sorted(values))):
            return f"no {kind.noun} has {term.key}={term.value}; did you mean {near}?"
    return f"no {kind.noun} matches"


def _spec_fields(resources: Sequence[Resource]) -> tuple[str, ...]:
    return tuple(resources[0].spec.__struct_fields__) if resources else ()


def _term(text: str) -> Term:
    match = _TERM.match(text)
    if match is None or (match["absent"] and match["op"]):
        raise UsageError(
            f"not a selector term: {text!r}",
            where="-l/--selector",
            fix="write key=value, key!=value, key or !key, separated by commas",
        )
    if match["absent"]:
        return Term(match["key"], "absent")
    if not match["op"]:
        return Term(match["key"], "present")
    return Term(match["key"], "is-not" if match["op"] == "!=" else "is", (match["value"] or "").strip())
