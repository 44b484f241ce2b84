"""Terms: what a workload's declaration, the models behind it, and a caller's head say of requests at the cache. Data.

Apart from `questions`, which reads requests by them: terms are made once a plan, a caller once for all requests whose
heads are alike, and what is made of one request, `Understood`, is part of no circle of references, so the garbage
collector is spared it. Most requests are never told to anybody else: their `Question` is made when one is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gridctl.answers.question import Question
from gridctl.answers.settings import is_shared
from gridctl.cache.cacheable import CacheRules
from gridctl.cache.partition import canonical
from gridctl.resources import Model

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.plan import Plan
    from gridctl.gateway.forms import Form
    from gridctl.gateway.head import Head
    from gridctl.resources import Workload

CONVERSATIONS = ("chat", "messages", "responses")
"""Endpoints whose last text may be put in other words."""


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
    is_shared: bool
    models: tuple[str, ...]
    is_public: bool
    is_second: bool
    hides_hits: bool


class Caller:
    """What a request's head and its caller tell. `who` is everything of it that parts requests; `refused` why none of
    its requests has a question, "" where they may; `given_tags` and `is_fresh_only` are for their questions. `absent`
    is what an answer's head says of a plain miss; who `is_ignorant` may not learn what the cache did, because it tells
    what strangers asked; from it a hit is hidden by its time, too, where it `hides_hits`. `kind` is the class of its
    requests that engines take as long for. `apart` says who asks, where an answer on its way is nobody else's yet.
    `is_by_meaning`: other wordings may get the same answer. `form` is that of the request before."""

    __slots__ = (
        "absent", "apart", "endpoint", "form", "given_tags", "group", "hides_hits", "is_by_meaning", "is_fresh_only",
        "is_ignorant", "jurisdiction", "kind", "principal", "refused", "tenant", "terms", "who",
    )  # fmt: skip

    def __init__(self, ask: Ask, terms: Terms, who: tuple[object, ...]) -> None:
        self.group = ask.group
        self.principal = ask.principal
        self.tenant = ask.tenant
        self.jurisdiction = ask.jurisdiction
        self.endpoint = ask.endpoint
        self.terms = terms
        self.who = who
        self.refused = ""
        self.given_tags: tuple[str, ...] = ()
        self.is_fresh_only = False
        self.is_ignorant = False
        self.is_by_meaning = terms.mode == "semantic" and ask.endpoint in CONVERSATIONS
        self.apart = ""
        self.hides_hits = False
        self.kind = (terms.name, ask.endpoint, ask.jurisdiction, ask.model)
        self.absent = b""
        self.form: Form | None = None


class Understood(msgspec.Struct, gc=False):
    """A request that may be answered from the cache. `text` is the last one's: as it stands in the body, or read;
    `made` is its question once somebody asked for it."""

    caller: Caller
    form: Form
    exact: bytes
    text: bytes | str
    ask: Ask
    made: Question | None = None

    @property
    def words(self) -> str:
        """The text, read."""
        text = self.text
        return text if isinstance(text, str) else msgspec.json.decode(b'"%b"' % text, type=str)

    @property
    def question(self) -> Question:
        """The question, in the words of the answers' room; its text only where answers are looked for by meaning."""
        if self.made is None:
            words, ask = self.words if self.caller.is_by_meaning else "", self.ask
            self.made = question_of(self.caller, self.form, self.exact, words, ask.request_id, ask.prompt_tokens)
        return self.made


class Again(NamedTuple):
    """A request to be asked again without a client; `ticket` names the label that its answer is."""

    head: Head
    endpoint: str
    body: bytes
    understood: Understood
    ticket: int | None


def question_of(
    caller: Caller, form: Form, exact: bytes = b"", text: str = "", request_id: str = "", prompt_tokens: int = 0
) -> Question:
    """A question; without what is a request's own, the kind of it."""
    terms = caller.terms
    return Question(
        terms.name, caller.tenant, form.partition, exact, text,
        # Where everybody may get the answer, who asks is told by what a request cannot choose; it keeps nobody out.
        caller.principal.name if terms.is_public else form.user,
        caller.given_tags + form.tags, caller.jurisdiction, caller.endpoint, terms.ttl_s, terms.stale_s,
        terms.error_rate, "semantic" if caller.is_by_meaning else "exact", request_id, not caller.is_fresh_only,
        prompt_tokens,
    )  # fmt: skip


def versions_of(plan: Plan) -> dict[str, str]:
    """What each model of a plan is, in a word that changes when it is declared or served as another one, or when a site
    says that it serves the same variant with other weights."""
    served: dict[str, set[str]] = {}
    for backend in plan.backends:
        served.setdefault(backend.model, set()).add(f"{backend.variant}={backend.served_model}={backend.digest}")
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
        is_shared=is_shared(workload),
        models=spec.models,
        is_public=policy.sharing == "public",
        hides_hits=policy.sharing == "public" and policy.hit_timing == "as-miss",
        is_second=policy.admission == "second" and policy.mode == "exact",
    )
