"""Terms: what a workload's declaration, and the models behind it, say of requests at the cache. Data only.

Apart from `questions`, which reads requests by them: they are made once a plan, and what is made of one request here,
`Understood`, is part of no circle of references, so the garbage collector is spared it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gridctl.answers.question import Question
from gridctl.cache.cacheable import CacheRules
from gridctl.cache.partition import canonical
from gridctl.resources import Model

if TYPE_CHECKING:
    from gridctl.broker.plan import Plan
    from gridctl.resources import Workload

Read = tuple[str, str, bytes, str, tuple[str, ...], int | None]
"""What a body and its caller mean: the partition's key, the text, the exact key, the user, the tags of the models, the
longest answer that the client takes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a workload's declaration says of its requests. `rule` is what an answer must keep to besides: where it was
    made, of what quality, for whom; a change of it is another partition."""

    name: str
    mode: str
    sharing: str
    rules: CacheRules
    rule: str
    quality_tier: str
    is_by_country: bool
    embedder: str
    ttl_s: float
    stale_s: float
    error_rate: float
    is_natural: bool
    models: tuple[str, ...]


class Understood(msgspec.Struct, gc=False):
    """A request that may be answered from the cache; `most_tokens` the longest answer that its client takes; `who` and
    `read` are for `Questions.comes_again`."""

    question: Question
    most_tokens: int | None
    terms: Terms
    is_fresh_only: bool
    who: tuple[object, ...]
    read: Read


def versions_of(plan: Plan) -> dict[str, str]:
    """What each model of a plan is, in a word that changes when it is declared or served as another one."""
    served: dict[str, set[str]] = {}
    for backend in plan.backends:
        served.setdefault(backend.model, set()).add(f"{backend.variant}={backend.served_model}")
    return {
        one.name: hashlib.sha256(
            msgspec.json.encode([one.spec, sorted(served.get(one.name, ()))], order="sorted")
        ).hexdigest()[:16]
        for one in plan.resources
        if isinstance(one, Model)
    }


def terms_of(workload: Workload) -> Terms | None:
    """The terms of a workload, None where nothing is cached."""
    spec = workload.spec
    policy = spec.cache
    if policy.mode == "off":
        return None
    rule = canonical([spec.jurisdiction.rule, spec.jurisdiction.allow, policy.sharing])
    return Terms(
        name=workload.name,
        mode=policy.mode,
        sharing=policy.sharing,
        rules=CacheRules(
            mode=policy.mode,
            highest_temperature=policy.max_temperature,
            allows_personal_data=policy.personal_data == "allow",
            live_ttl_s=policy.live_ttl_s,
        ),
        rule=rule,
        quality_tier=repr(spec.quality_floor),
        is_by_country=spec.jurisdiction.rule in ("same-country", "listed"),
        embedder=policy.embedder,
        ttl_s=policy.ttl_s,
        stale_s=policy.stale_s,
        error_rate=policy.error_rate,
        is_natural=policy.hit_pace == "natural",
        models=spec.models,
    )
