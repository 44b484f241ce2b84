"""Questions: what of a request makes it the same as another one, or why it may not be answered from the cache at all.

    headers ─▶ this very body again? ─▶ a body of a known form? ─▶ fields, turns, partition ─▶ exact key

The longest answer wanted is no part of a question: a complete answer that fits is an answer, and the caller checks that
it fits. Text is compared as `cache.exact` says for chats, letter by letter for completions and embeddings, where case
and blanks are the client's own. However a request is read, from memory, by its form or in full, it is the same
question. Knows no answer and no engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from gridctl.answers.question import Question
from gridctl.cache.cacheable import Wanted, bypass_of, bypass_of_text
from gridctl.cache.exact import normalised
from gridctl.cache.partition import canonical
from gridctl.errors import InputError
from gridctl.gateway.forms import Ends, Form, Forms, Who, cut, likeness
from gridctl.gateway.keyed import Keyed
from gridctl.gateway.partitions import Partitions, is_set
from gridctl.gateway.terms import Read, Terms, Understood
from gridctl.gateway.turns import has_media, last_text, turns_of

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.gateway.partitions import Fields

OWN_REASONS = ("endpoint", "no-user", "tags", "logprobs", "body")
"""Why a request bypasses the cache, beside the reasons of `cache.cacheable`."""
READ_ENDPOINTS = ("chat", "completions", "embeddings")
MOST_TAGS = 16
LONGEST_USER = 256
MOST_REMEMBERED, LONGEST_REMEMBERED = 4096, 2048
"""Bodies that a worker has read of late, and the bytes of those it remembers: what comes again is read once."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_number = msgspec.json.Decoder(float | int | None)
_text = msgspec.json.Decoder(str)


class Questions:
    """Reads requests of one worker. `secret` is the cache's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._code = Keyed(secret, b"")
        self._partitions = Partitions(secret)
        self._forms = Forms()
        self._read: dict[tuple[Who, bytes], Read] = {}

    def adopt(self, versions: Mapping[str, str]) -> None:
        """Know models by these versions: what another version said is no answer any more, whatever was purged."""
        self._partitions.adopt(versions)
        self._forms.clear()
        self._read.clear()

    def read(self, ask: Ask, headers: Mapping[bytes, bytes], body: bytes, terms: Terms) -> Understood | str:
        """The question of a request, or the word for why it bypasses the cache."""
        control = headers.get(b"cache-control")
        if control is not None:
            control = control.lower()
            if b"no-store" in control:
                return "no-store"
        own = headers.get(b"x-gridctl-cache")
        if own is not None and own.strip().lower() == b"off":
            return "no-store"
        tagged = headers.get(b"x-gridctl-cache-tags")
        group, caller = ask.group, ask.principal.name
        model, variant = (group.meant.model, group.meant.variant) if group is not None else (ask.model, None)
        who = (
            terms.name, ask.tenant, ask.origin, ask.jurisdiction, model, variant, ask.endpoint, caller, tagged is None
        )  # fmt: skip
        read = self._read.get((who, body)) or self._read_body(ask, body, terms, who, is_tagged=tagged is not None)
        if isinstance(read, str):
            return read
        partition, text, exact, user, tags, most_tokens = read
        if terms.sharing == "public":
            user = caller  # who asks, by what a request cannot choose; it keeps nobody out
        if tagged is not None:
            given = _tags_of(tagged)
            if given is None:
                return "tags"
            tags = given + tags
        may_serve = control is None or (b"no-cache" not in control and b"max-age=0" not in control)
        question = Question(
            terms.name, ask.tenant, partition, exact, text, user, tags, ask.jurisdiction, ask.endpoint, terms.ttl_s,
            terms.stale_s, terms.error_rate, terms.mode if ask.endpoint == "chat" else "exact", ask.request_id,
            may_serve, ask.prompt_tokens,
        )  # fmt: skip
        return Understood(question, most_tokens, terms, not may_serve, who, read)

    def comes_again(self, understood: Understood, body: bytes) -> None:
        """A request was answered from the cache, so its like will come again: remember what its body means."""
        key = (understood.who, body)
        if len(body) <= LONGEST_REMEMBERED and key not in self._read:
            if len(self._read) >= MOST_REMEMBERED:
                self._read.clear()
            self._read[key] = understood.read

    # ── by form ──

    def _read_body(self, ask: Ask, body: bytes, terms: Terms, who: Who, *, is_tagged: bool) -> Read | str:
        """What of a request lies in its body and its caller; or why it has no question."""
        place = cut(ask.endpoint, body)
        if place is None:
            return self._understood(ask, body, terms, is_tagged=is_tagged)
        ends = (who, body[: place[0]], body[place[1] :])
        form = self._forms.find(ends)
        if form is None and self._forms.is_worth_one(ends):
            form = self._form(ask, ends, terms, is_tagged=is_tagged)
            self._forms.add(ends, form)
        if form is None or form.is_apart:
            return self._understood(ask, body, terms, is_tagged=is_tagged)
        try:
            text = _text.decode(body[place[0] : place[1]])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "body"
        if form.begin is None:
            return form.refused
        refused = bypass_of_text(text, terms.rules)
        if refused is not None:
            return refused
        data = (normalised(text) if ask.endpoint == "chat" else text).encode("utf-8", "surrogatepass")
        exact = form.begin.digest(len(data).to_bytes(8, "big") + data)[:16]
        return form.key, text, exact, form.user, form.tags, form.most_tokens

    def _form(self, ask: Ask, ends: Ends, terms: Terms, *, is_tagged: bool) -> Form:
        """What the bodies with these ends share."""
        body, word = likeness(ends)
        read = self._understood(ask, body, terms, is_tagged=is_tagged)
        if isinstance(read, str):
            return Form(refused=read)
        key, text, _, user, tags, most_tokens = read
        if text != word:
            return Form(is_apart=True)  # what was cut out is not the text, or not all of it
        form = Form(Keyed(self._secret, _begin_of_exact(key, is_literal=ask.endpoint != "chat")))
        form.key, form.user, form.tags, form.most_tokens = key, user, tags, most_tokens
        return form

    # ── in full, by endpoint ──

    def _understood(self, ask: Ask, body: bytes, terms: Terms, *, is_tagged: bool) -> Read | str:
        endpoint = ask.endpoint
        if endpoint not in READ_ENDPOINTS:
            return "endpoint"
        try:
            fields = _fields.decode(body)
            user = _user(ask, fields, terms)
            if endpoint == "embeddings":
                return self._embeddings(ask, fields, terms, user)
            if endpoint == "completions":
                prompt = bytes(fields["prompt"]) if "prompt" in fields else b""
                text = _text.decode(prompt) if prompt[:1] == b'"' else None
                return self._found(ask, fields, terms, user, text, b"", is_media=False, is_tagged=is_tagged)
            messages = bytes(fields["messages"]) if "messages" in fields else b"[]"
            turns = turns_of(messages)
            if turns is None:
                return "not-text"
            earlier, last = turns
            is_media = has_media(messages)
            text = None if is_media else last_text(last)
            return self._found(ask, fields, terms, user, text, earlier, is_media=is_media, is_tagged=is_tagged)
        except (msgspec.DecodeError, InputError, RecursionError, ValueError):
            return "body"

    def _embeddings(self, ask: Ask, fields: Fields, terms: Terms, user: str | None) -> Read | str:
        if "input" not in fields:
            return "not-text"
        if user is None:
            return "no-user"
        key, reason = self._partitions.key(ask, fields, terms, b"", user)
        if reason is not None:
            return reason
        # Nothing is sampled and nothing can be wrong: the same input has the same vectors, whatever it says.
        text = canonical(msgspec.json.decode(fields["input"]))
        exact = self.exact_key(key, text, is_literal=True)
        return key, text, exact, user, self._partitions.tags(ask, terms), _longest(fields)

    def _found(
        self,
        ask: Ask,
        fields: Fields,
        terms: Terms,
        user: str | None,
        text: str | None,
        earlier: bytes,
        *,
        is_media: bool,
        is_tagged: bool,
    ) -> Read | str:
        if user is None:
            return "no-user"
        if ("logprobs" in fields and is_set(fields["logprobs"])) or is_set(fields.get("top_logprobs")):
            return "logprobs"
        key, reason = self._partitions.key(ask, fields, terms, earlier, user)
        wanted = Wanted(
            text=text,
            temperature=_said(fields.get("temperature")),
            answers=int(_said(fields.get("n")) or 1),
            has_tools=reason == "tools",
            has_media=is_media or reason == "media",
            has_untagged_documents="documents" in fields and not is_tagged,
        )
        refused = bypass_of(wanted, terms.rules) or reason
        if refused is not None:
            return refused
        assert text is not None
        exact = self.exact_key(key, text, is_literal=ask.endpoint != "chat")
        return key, text, exact, user, self._partitions.tags(ask, terms), _longest(fields)

    def exact_key(self, partition: str, text: str, *, is_literal: bool) -> bytes:
        """The first 16 bytes of the exact key of a text in a partition: `cache.exact.exact_key`'s, save that literal
        texts are taken as they are, under a word of their own."""
        data = (text if is_literal else normalised(text)).encode("utf-8", "surrogatepass")
        begin = _begin_of_exact(partition, is_literal=is_literal)
        return self._code.digest(begin + len(data).to_bytes(8, "big") + data)[:16]


def _begin_of_exact(partition: str, *, is_literal: bool) -> bytes:
    """What is hashed before a text: each part after its length in bytes, as `cache.partition.digest` has it."""
    kind, key = b"literal" if is_literal else b"exact", partition.encode("ascii")
    return b"%b%b%b%b" % (len(kind).to_bytes(8, "big"), kind, len(key).to_bytes(8, "big"), key)


def _user(ask: Ask, fields: Fields, terms: Terms) -> str | None:
    """Whose answers a request may get besides its own: "" for its tenant's. None: it does not say who asks."""
    if terms.sharing != "user":
        return ""
    said = fields.get("safety_identifier") or fields.get("user")
    name = _text.decode(said) if said is not None and bytes(said)[:1] == b'"' else ""
    if not name or len(name) > LONGEST_USER:
        return None
    return f"{ask.principal.name}\n{name}"


def _tags_of(header: bytes) -> tuple[str, ...] | None:
    """The tags that a client gives, None when they are none."""
    names = [name.strip() for name in header.decode("latin-1").split(",")]
    names = list(dict.fromkeys([name for name in names if name]))
    if len(names) > MOST_TAGS or not all(_TAG.fullmatch(name) for name in names):
        return None
    return tuple(names)


def _said(value: msgspec.Raw | None) -> float | None:
    """A number of the body. Raises ValidationError for anything else."""
    return None if value is None else _number.decode(value)


def _longest(fields: Fields) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if name in fields and (said := _said(fields[name])) is not None:
            return int(said)
    return None
