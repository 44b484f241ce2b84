"""Questions: what of a request makes it the same as another one, or why it may not be answered from the cache at all.

Decides which fields of a body change the answer: all but a short list of those that certainly do not, so a parameter
that nobody thought of parts requests and never joins them. Who asks comes from the checked key, never from the body. A
model is known by what it is, so a changed one never finds what the former said. The longest answer wanted is no part of
it: a complete answer that fits is an answer, and the caller checks that it fits. Text is compared as `cache.exact` says
for chats, letter by letter for completions and embeddings, where case and blanks are the client's own. Keys are HMACs
under the cache's secret. Knows no answer and no engine.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from gridctl.answers.question import Question
from gridctl.cache.cacheable import CacheRules, Wanted, bypass_of
from gridctl.cache.exact import normalised
from gridctl.cache.partition import SHARED_TENANT, Partition, canonical
from gridctl.errors import InputError
from gridctl.resources import Model

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.broker.plan import Plan
    from gridctl.resources import Workload

OWN_REASONS = ("endpoint", "no-user", "tags", "logprobs", "body")
"""Why a request bypasses the cache, beside the reasons of `cache.cacheable`."""
NEVER_CHANGE_AN_ANSWER = frozenset(
    ("model", "messages", "prompt", "input", "stream", "stream_options", "user", "safety_identifier", "metadata",
     "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "max_tokens", "max_completion_tokens",
     "response_format", "n", "priority", "request_id")
)  # fmt: skip
"""Fields of a body that are read apart, or tell who asks and how, not what."""
TOOLS = ("tools", "functions", "tool_choice", "function_call")
MOST_TAGS = 16
MOST_KNOWN = 4096
"""Partitions whose keys a worker remembers; the oldest go together."""
LONGEST_WHOLE = 512
"""Bytes of a part that is remembered as it is; longer ones by their SHA-256."""
LONGEST_USER = 256
MOST_REMEMBERED, LONGEST_REMEMBERED = 4096, 2048
"""Bodies that a worker has read of late, and the bytes of those it remembers: what comes again is read once."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:input_)?(?:image|audio|video|file)')

Found = tuple[str, str, bytes, str, tuple[str, ...]]
"""The partition's key, the text, the exact key, the user, the tags of the models."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_turns = msgspec.json.Decoder(list[msgspec.Raw])
_number = msgspec.json.Decoder(float | int | None)
_text = msgspec.json.Decoder(str)


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    """A piece of a message that is text and nothing else."""

    type: str
    text: str


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    """A last message whose every field is read."""

    role: str
    content: str | list[_Part]
    name: str | None = None


class _Role(msgspec.Struct):
    """What an earlier message tells of tools."""

    role: str
    tool_calls: Any = None
    function_call: Any = None


_turn = msgspec.json.Decoder(_Turn)
_role = msgspec.json.Decoder(_Role)


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


@dataclass(slots=True)
class Understood:
    """A request that may be answered from the cache; `most_tokens` the longest answer that its client takes; `key` and
    `read` are for `comes_again`."""

    question: Question
    most_tokens: int | None
    terms: Terms
    is_fresh_only: bool
    key: tuple[object, ...]
    read: tuple[Found, int | None]


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


class Questions:
    """Reads requests of one worker. `secret` is the cache's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._known: dict[tuple[object, ...], tuple[str, str | None]] = {}
        self._read: dict[tuple[object, ...], tuple[Found, int | None]] = {}
        self._tags: dict[tuple[str, str], tuple[str, ...]] = {}
        self._versions: dict[str, str] = {}

    def adopt(self, versions: Mapping[str, str]) -> None:
        """Know models by these versions: what another version said is no answer any more, whatever was purged."""
        self._versions = dict(versions)
        self._known.clear()
        self._read.clear()
        self._tags.clear()

    def read(self, ask: Ask, headers: Mapping[bytes, bytes], body: bytes, terms: Terms) -> Understood | str:
        """The question of a request, or the word for why it bypasses the cache."""
        control = headers.get(b"cache-control", b"")
        if control:
            control = control.lower()
            if b"no-store" in control:
                return "no-store"
        if headers.get(b"x-gridctl-cache", b"").strip().lower() == b"off":
            return "no-store"
        tagged = headers.get(b"x-gridctl-cache-tags")
        group = ask.group
        meant = (group.meant.model, group.meant.variant) if group is not None else (ask.model, None)
        key = (
            terms.name, ask.tenant, ask.origin, ask.jurisdiction, meant, ask.endpoint, ask.principal.name,
            tagged is None, body,
        )  # fmt: skip
        read = self._read.get(key) or self._understood(ask, body, terms, is_tagged=tagged is not None)
        if isinstance(read, str):
            return read
        (partition, text, exact, user, tags), most_tokens = read
        if terms.sharing == "public":
            user = ask.principal.name  # who asks, by what a request cannot choose; it keeps nobody out
        if tagged is not None:
            own = _tags_of(tagged)
            if own is None:
                return "tags"
            tags = own + tags
        may_serve = not control or (b"no-cache" not in control and b"max-age=0" not in control)
        question = Question(
            terms.name, ask.tenant, partition, exact, text, user, tags, ask.jurisdiction, ask.endpoint, terms.ttl_s,
            terms.stale_s, terms.error_rate, terms.mode if ask.endpoint == "chat" else "exact", ask.request_id,
            may_serve, ask.prompt_tokens,
        )  # fmt: skip
        return Understood(question, most_tokens, terms, not may_serve, key, read)

    def comes_again(self, understood: Understood, body: bytes) -> None:
        """A request was answered from the cache, so its like will come again: remember what its body means."""
        if len(body) <= LONGEST_REMEMBERED and understood.key not in self._read:
            if len(self._read) >= MOST_REMEMBERED:
                self._read.clear()
            self._read[understood.key] = understood.read

    def _understood(self, ask: Ask, body: bytes, terms: Terms, *, is_tagged: bool) -> tuple[Found, int | None] | str:
        """What of a request lies in its body and its caller, and its longest answer; or why it has no question."""
        reader = _READERS.get(ask.endpoint)
        if reader is None:
            return "endpoint"
        try:
            fields = _fields.decode(body)
            read = reader(self, ask, fields, terms, is_tagged)
            if isinstance(read, str):
                return read
            partition, text, exact, user = read
            return (partition, text, exact, user, self._model_tags(ask, terms)), _longest(fields)
        except (msgspec.DecodeError, InputError, RecursionError, ValueError):
            return "body"

    # ── by endpoint ──

    def _chat(
        self, ask: Ask, fields: dict[str, msgspec.Raw], terms: Terms, is_tagged: bool
    ) -> tuple[str, str, bytes, str] | str:
        turns = _turns.decode(fields["messages"]) if "messages" in fields else []
        if not turns:
            return "not-text"
        messages = bytes(fields["messages"])
        has_media = b'"type"' in messages and bool(_MEDIA.search(messages))
        text = None if has_media else _last_text(turns[-1])
        earlier = b",".join(turns[:-1]) if len(turns) > 1 else b""
        return self._found(ask, fields, terms, is_tagged, text, earlier, has_media)

    def _completions(
        self, ask: Ask, fields: dict[str, msgspec.Raw], terms: Terms, is_tagged: bool
    ) -> tuple[str, str, bytes, str] | str:
        prompt = bytes(fields["prompt"]) if "prompt" in fields else b""
        text = _text.decode(prompt) if prompt[:1] == b'"' else None
        return self._found(ask, fields, terms, is_tagged, text, b"", False)

    def _embeddings(
        self, ask: Ask, fields: dict[str, msgspec.Raw], terms: Terms, is_tagged: bool
    ) -> tuple[str, str, bytes, str] | str:
        if "input" not in fields:
            return "not-text"
        user = self._user(ask, fields, terms)
        if user is None:
            return "no-user"
        key, reason = self._partition(ask, fields, terms, b"", user)
        if reason is not None:
            return reason
        # Nothing is sampled and nothing can be wrong: the same input has the same vectors, whatever it says.
        text = canonical(msgspec.json.decode(fields["input"]))
        return key, text, self.exact_key(key, text, is_literal=True), user

    # ── parts ──

    def _found(
        self,
        ask: Ask,
        fields: dict[str, msgspec.Raw],
        terms: Terms,
        is_tagged: bool,
        text: str | None,
        earlier: bytes,
        has_media: bool,
    ) -> tuple[str, str, bytes, str] | str:
        user = self._user(ask, fields, terms)
        if user is None:
            return "no-user"
        if ("logprobs" in fields and _is_set(fields["logprobs"])) or _is_set(fields.get("top_logprobs")):
            return "logprobs"
        key, reason = self._partition(ask, fields, terms, earlier, user)
        wanted = Wanted(
            text=text,
            temperature=_said(fields.get("temperature")),
            answers=int(_said(fields.get("n")) or 1),
            has_tools=reason == "tools",
            has_media=has_media or reason == "media",
            has_untagged_documents="documents" in fields and not is_tagged,
        )
        refused = bypass_of(wanted, terms.rules) or reason
        if refused is not None:
            return refused
        assert text is not None
        return key, text, self.exact_key(key, text, is_literal=ask.endpoint != "chat"), user

    def _partition(
        self, ask: Ask, fields: dict[str, msgspec.Raw], terms: Terms, earlier: bytes, user: str
    ) -> tuple[str, str | None]:
        """The key of the request's partition, and a reason for which it has none."""
        rest = tuple([(name, _short(value)) for name, value in fields.items() if name not in NEVER_CHANGE_AN_ANSWER])
        group = ask.group
        country = group.where.origin.country if terms.is_by_country and group is not None else ""
        meant = group.meant if group is not None else None
        model = (meant.model, meant.variant) if meant is not None else (ask.model, None)
        known = (
            terms.name, ask.tenant, ask.jurisdiction, country, model, ask.endpoint, user, _short(earlier),
            _short(fields.get("response_format", b"")), rest,
        )  # fmt: skip
        found = self._known.get(known)
        if found is None:
            found = self._compose(ask, fields, terms, earlier, (country, *model, user))
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[known] = found
        return found

    def _compose(
        self,
        ask: Ask,
        fields: dict[str, msgspec.Raw],
        terms: Terms,
        earlier: bytes,
        who: tuple[str, str | None, str | None, str],
    ) -> tuple[str, str | None]:
        country, model, variant, user = who
        turns: list[Any] = msgspec.json.decode(b"[" + earlier + b"]")
        reason: str | None = None
        if any(_is_set(fields.get(name)) for name in TOOLS) or _uses_tools(b"[" + earlier + b"]"):
            reason = "tools"
        elif _MEDIA.search(earlier):
            reason = "media"
        leading = 0
        while leading < len(turns) and turns[leading].get("role") in ("system", "developer"):
            leading += 1
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
            system_prompt=canonical(turns[:leading]),
            earlier_turns=canonical(turns[leading:]),
            tools="",
            response_format=canonical(msgspec.json.decode(fields["response_format"]))
            if "response_format" in fields
            else "",
            parameters=canonical([ask.endpoint, rest]),
            user=user,
        )
        return made.key(self._secret), reason

    def exact_key(self, partition: str, text: str, *, is_literal: bool) -> bytes:
        """The first 16 bytes of the exact key of a text in a partition: `cache.exact.exact_key`'s, save that literal
        texts are taken as they are, under a word of their own."""
        parts = ("literal", partition, text) if is_literal else ("exact", partition, normalised(text))
        pieces = []
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            pieces.append(len(data).to_bytes(8, "big"))
            pieces.append(data)
        return hmac.digest(self._secret, b"".join(pieces), "sha256")[:16]

    def _user(self, ask: Ask, fields: dict[str, msgspec.Raw], terms: Terms) -> str | None:
        """Whose answers a request may get besides its own: "" for its tenant's. None: it does not say who asks."""
        if terms.sharing != "user":
            return ""
        said = fields.get("safety_identifier") or fields.get("user")
        name = _text.decode(said) if said is not None and bytes(said)[:1] == b'"' else ""
        if not name or len(name) > LONGEST_USER:
            return None
        return f"{ask.principal.name}\n{name}"

    def _model_tags(self, ask: Ask, terms: Terms) -> tuple[str, ...]:
        """The models that may answer, as tags: their change makes an answer void."""
        group = ask.group
        model = (group.meant.model if group is not None else ask.model) or ""
        found = self._tags.get((terms.name, model))
        if found is None:
            models = (model,) if model else terms.models
            found = self._tags[terms.name, model] = tuple(f"model:{name}" for name in models)
        return found


_READERS = {
    "chat": Questions._chat,
    "completions": Questions._completions,
    "embeddings": Questions._embeddings,
}


def _last_text(raw: msgspec.Raw) -> str | None:
    """The text of the last turn, None when it is not a user's, or not text alone."""
    try:
        turn = _turn.decode(raw)
    except msgspec.ValidationError:
        return None
    if turn.role != "user" or turn.name is not None:
        return None
    if isinstance(turn.content, str):
        return turn.content
    return "\n".join(part.text for part in turn.content) if all(p.type == "text" for p in turn.content) else None


def _uses_tools(turns: bytes) -> bool:
    """Whether a tool was called in the conversation so far."""
    for raw in _turns.decode(turns):
        role = _role.decode(raw)
        if role.role in ("tool", "function") or role.tool_calls or role.function_call:
            return True
    return False


def _tags_of(header: bytes | None) -> tuple[str, ...] | None:
    """The tags that a client gives, None when they are none."""
    if header is None:
        return ()
    names = [name.strip() for name in header.decode("latin-1").split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    if len(names) > MOST_TAGS or not all(_TAG.fullmatch(name) for name in names):
        return None
    return tuple(names)


def _short(value: msgspec.Raw | bytes) -> bytes:
    data = bytes(value)
    return data if len(data) <= LONGEST_WHOLE else hashlib.sha256(data).digest()


def _is_set(value: msgspec.Raw | None) -> bool:
    """Whether a field says something: not null, false, nothing or none."""
    return value is not None and bytes(value) not in (b"null", b"false", b"[]", b'"none"', b"0")


def _said(value: msgspec.Raw | None) -> float | None:
    """A number of the body. Raises ValidationError for anything else."""
    return None if value is None else _number.decode(value)


def _longest(fields: dict[str, msgspec.Raw]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if name in fields and (said := _said(fields[name])) is not None:
            return int(said)
    return None
