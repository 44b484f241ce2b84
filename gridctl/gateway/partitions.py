"""Partitions: the key of everything of a request but its last text: who asks, which model, what came before, how.

Decides which fields of a body change the answer: all but a short list of those that certainly do not, so a parameter
that nobody thought of parts requests and never joins them. Who asks comes from the checked key, never from the body. A
model is known by what it is, so a changed one never finds what the former said. Keys are HMACs under the cache's
secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from gridctl.cache.partition import SHARED_TENANT, Partition, canonical
from gridctl.gateway.terms import Terms
from gridctl.gateway.turns import earlier_of

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask

Fields = dict[str, msgspec.Raw]
NEVER_CHANGE_AN_ANSWER = frozenset(
    ("model", "messages", "prompt", "input", "stream", "stream_options", "user", "safety_identifier", "metadata",
     "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "max_tokens", "max_completion_tokens",
     "response_format", "n", "priority", "request_id")
)  # fmt: skip
"""Fields of a body that are read apart, or tell who asks and how, not what."""
TOOLS = frozenset(("tools", "functions", "tool_choice", "function_call"))
MOST_KNOWN = 4096
"""Partitions whose keys a worker remembers; the oldest go together."""
LONGEST_WHOLE = 512
"""Bytes of a part that is remembered as it is; longer ones by their SHA-256."""
_NOTHING = (b"null", b"false", b"[]", b'"none"', b"0")


class Partitions:
    """The keys of one worker. `secret` is the cache's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[tuple[object, ...], tuple[str, str | None]] = {}
        self._tags: dict[tuple[str, str], tuple[str, ...]] = {}
        self._versions: dict[str, str] = {}

    def adopt(self, versions: Mapping[str, str]) -> None:
        """Know models by these versions."""
        self._versions = dict(versions)
        self._known.clear()
        self._tags.clear()

    def key(self, ask: Ask, fields: Fields, terms: Terms, earlier: bytes, user: str) -> tuple[str, str | None]:
        """The key of the request's partition, and a reason for which it has none."""
        rest = tuple([(name, _short(value)) for name, value in fields.items() if name not in NEVER_CHANGE_AN_ANSWER])
        group = ask.group
        country = group.where.origin.country if terms.is_by_country and group is not None else ""
        meant = group.meant if group is not None else None
        model, variant = (meant.model, meant.variant) if meant is not None else (ask.model, None)
        shape = _short(fields["response_format"]) if "response_format" in fields else b""
        known = (
            terms.name, ask.tenant, ask.jurisdiction, country, model, variant, ask.endpoint, user, _short(earlier),
            shape, rest,
        )  # fmt: skip
        found = self._known.get(known)
        if found is None:
            found = self._compose(ask, fields, terms, earlier, (country, model, variant, user))
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[known] = found
        return found

    def tags(self, ask: Ask, terms: Terms) -> tuple[str, ...]:
        """The models that may answer, as tags: their change makes an answer void."""
        group = ask.group
        model = (group.meant.model if group is not None else ask.model) or ""
        found = self._tags.get((terms.name, model))
        if found is None:
            models = (model,) if model else terms.models
            found = self._tags[terms.name, model] = tuple([f"model:{name}" for name in models])
        return found

    def _compose(
        self, ask: Ask, fields: Fields, terms: Terms, earlier: bytes, who: tuple[str, str | None, str | None, str]
    ) -> tuple[str, str | None]:
        country, model, variant, user = who
        system_prompt, turns, reason = earlier_of(earlier)
        if not TOOLS.isdisjoint(fields) and any(is_set(fields.get(name)) for name in TOOLS):
            reason = "tools"
        rest = {
            name: msgspec.json.decode(value) for name, value in fields.items() if name not in NEVER_CHANGE_AN_ANSWER
        }
        models = (model,) if model else terms.models
        made = Partition(
            tenant=SHARED_TENANT if terms.sharing == "public" else ask.tenant,
            jurisdiction=f"{ask.jurisdiction}/{country}",
            workload=terms.name,
            policy=terms.rule,
            model=canonical([model, [self._versions.get(name, "") for name in models]]),
            variant=variant or "",
            quality_tier=terms.quality_tier,
            embedder=terms.embedder,
            embedder_version="",
            system_prompt=system_prompt,
            earlier_turns=turns,
            tools="",
            response_format=canonical(msgspec.json.decode(fields["response_format"]))
            if "response_format" in fields
            else "",
            parameters=canonical([ask.endpoint, rest]),
            user=user,
        )
        return made.key(self._secret), reason


def is_set(value: msgspec.Raw | None) -> bool:
    """Whether a field says something: not null, false, nothing or none."""
    return value is not None and bytes(value) not in _NOTHING


def _short(value: msgspec.Raw | bytes) -> bytes:
    data = bytes(value)
    return data if len(data) <= LONGEST_WHOLE else hashlib.sha256(data).digest()
