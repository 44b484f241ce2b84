"""Questions: what of a request makes it the same as another one, or why it may not be answered from the cache at all.

    head ─▶ caller ─▶ a body of the caller's last form? ─▶ of a known form? ─▶ fields, turns, partition ─▶ exact key

The longest answer wanted is no part of a question: a complete answer that fits is an answer, and the caller checks that
it fits. Text is compared as `cache.exact` says for chats, letter by letter for completions and embeddings, where case
and blanks are the client's own. However a request is read, by its form or in full, it is the same question. Knows no
answer and no engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from gridctl.cache.cacheable import Wanted, bypass_of, bypass_of_text
from gridctl.cache.exact import normalised
from gridctl.cache.partition import canonical, digest
from gridctl.errors import InputError
from gridctl.gateway.conversations import SPOKEN, RefusedError, spoken
from gridctl.gateway.forms import Ends, Form, Forms, cut, likeness
from gridctl.gateway.messages_questions import asked as asked_of_messages
from gridctl.gateway.partitions import Partitions, is_set
from gridctl.gateway.responses_questions import asked as asked_of_responses
from gridctl.gateway.terms import Caller, Terms, Understood
from gridctl.gateway.turns import has_media, last_text, turns_of

if TYPE_CHECKING:
    from gridctl.broker.ask import Ask
    from gridctl.gateway.partitions import Fields

READ_ENDPOINTS = ("chat", "completions", "embeddings", "messages", "responses")
LITERAL_ENDPOINTS = ("completions", "embeddings")
CONVERSATIONS = {"messages": asked_of_messages, "responses": asked_of_responses}
"""What reads the bodies of other APIs than chat's."""
KNOWING_ROLES = ("operator", "admin")
"""Who may learn of a public workload's cache what it did."""
ABSENT = "absent"
MOST_TAGS = 16
LONGEST_USER = 256
MOST_CALLERS = 1024
MOST_REMEMBERED, LONGEST_REMEMBERED = 1024, 8192
"""Bodies without a form that a worker has read of late, and the bytes of those it remembers."""
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_number = msgspec.json.Decoder(float | int | None)
_text = msgspec.json.Decoder(str)
Read = tuple[Form, str, bytes]
"""What a body in full means: everything but its text, the text, the exact key."""


class Questions:
    """Reads requests of one worker. `secret` is the cache's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._partitions = Partitions(secret)
        self._forms = Forms()
        self._read: dict[tuple[object, bytes], Read] = {}
        self._by_head: dict[int, tuple[Mapping[bytes, bytes], Caller]] = {}
        self._callers: dict[tuple[object, ...], Caller] = {}
        self._last_headers: Mapping[bytes, bytes] | None = None
        self._last_caller: Caller | None = None

    def adopt(self, versions: Mapping[str, str]) -> None:
        """Know models by these versions: what another version said is no answer any more, whatever was purged."""
        self._partitions.adopt(versions)
        self._forms.clear()
        self._read.clear()
        self._by_head.clear()
        self._callers.clear()
        self._last_headers = self._last_caller = None

    def read(self, ask: Ask, headers: Mapping[bytes, bytes], body: bytes, terms: Terms) -> Understood | str:
        """The question of a request, or the word for why it bypasses the cache. Heads that are alike share their
        headers, which nobody changes, so a caller is found by which dictionary that is: holding it keeps its address
        from being another one's."""
        caller = self._last_caller if self._last_headers is headers else self._of_head(headers)
        if caller is not None and (
            caller.terms is not terms
            or caller.group is not ask.group
            or ask.group is None
            or caller.endpoint != ask.endpoint
            or (caller.principal is not ask.principal and caller.principal != ask.principal)
        ):
            caller = None
        if caller is None:
            caller = self._caller(ask, headers, terms)
        if caller.refused:
            return caller.refused
        form = caller.form
        if form is not None and body.startswith(form.before) and body.endswith(form.behind):
            text = body[len(form.before) : len(body) - len(form.behind)]
            exact = form.exact_of_plain(text, terms.rules)
            if exact is not None:
                return Understood(caller, form, exact, text, ask)
        return self._read_body(ask, body, caller)

    def _of_head(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        known = self._by_head.get(id(headers))
        return known[1] if known is not None and known[0] is headers else None

    def comes_again(self, understood: Understood, body: bytes) -> None:
        """A request was answered from the cache, so its like will come again: remember what its body means."""
        text, form = understood.text, understood.form
        if isinstance(text, bytes):
            self._forms.remember(form, text, understood.exact)
        elif len(body) <= LONGEST_REMEMBERED:
            if len(self._read) >= MOST_REMEMBERED:
                self._read.clear()
            self._read[understood.caller.who, body] = form, text, understood.exact

    # ── who asks ──

    def _caller(self, ask: Ask, headers: Mapping[bytes, bytes], terms: Terms) -> Caller:
        """What the head and the caller of a request tell."""
        group, caller = ask.group, ask.principal
        model, variant = (group.meant.model, group.meant.variant) if group is not None else (ask.model, None)
        control, own = headers.get(b"cache-control"), headers.get(b"x-gridctl-cache")
        tagged = headers.get(b"x-gridctl-cache-tags")
        who = (
            terms.name, ask.tenant, ask.origin, ask.jurisdiction, model, variant, ask.endpoint, caller.name,
            b"" if ask.endpoint == "chat" else spoken(ask.endpoint, headers), tagged is None,
        )  # fmt: skip
        key = (who, caller, control, own, tagged)
        found = self._callers.get(key)
        if found is None or found.group is not group or found.terms is not terms:
            found = self._new_caller(ask, terms, who, (control, own, tagged))
            if len(self._callers) >= MOST_CALLERS:
                self._callers.clear()
            self._callers[key] = found
        if len(self._by_head) >= MOST_CALLERS:
            self._by_head.clear()
        self._by_head[id(headers)] = headers, found
        self._last_headers, self._last_caller = headers, found
        return found

    def _new_caller(
        self, ask: Ask, terms: Terms, who: tuple[object, ...], said: tuple[bytes | None, bytes | None, bytes | None]
    ) -> Caller:
        made = Caller(ask, terms, who)
        control, own, tagged = said
        control = control.lower() if control is not None else b""
        if b"no-store" in control or (own is not None and own.strip().lower() == b"off"):
            made.refused = "no-store"
        made.is_fresh_only = b"no-cache" in control or b"max-age=0" in control
        if tagged is not None:
            given = _tags_of(tagged)
            made.refused = made.refused or ("tags" if given is None else "")
            made.given_tags = given or ()
        if terms.is_public:  # of an answer on its way others get nothing before enough callers asked for it
            made.apart = f"{ask.tenant}\n{ask.principal.name}"
        made.is_ignorant = terms.is_public and ask.principal.role not in KNOWING_ROLES
        made.hides_hits = made.is_ignorant and terms.hides_hits
        made.absent = b"" if made.is_ignorant else b"miss; reason=absent"
        return made

    # ── by form ──

    def _read_body(self, ask: Ask, body: bytes, caller: Caller) -> Understood | str:
        """What of a request lies in its body and its caller; or why it has no question."""
        place = cut(ask.endpoint, body)
        if place is None:
            return self._in_full(ask, body, caller)
        ends = (caller.who, body[: place[0]], body[place[1] :])
        form = self._forms.find(ends)
        if form is None and self._forms.is_worth_one(ends):
            form = self._form(ask, ends, caller)
            self._forms.add(ends, form)
        if form is None or form.is_apart:
            return self._in_full(ask, body, caller)
        raw, rules = body[place[0] + 1 : place[1] - 1], caller.terms.rules
        if not form.refused:
            caller.form = form
            exact = form.exact_of_plain(raw, rules)
            if exact is not None:
                return Understood(caller, form, exact, raw, ask)
        try:
            text = _text.decode(body[place[0] : place[1]])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "body"
        refused = form.refused or bypass_of_text(text, rules)
        if refused:
            return refused
        return Understood(caller, form, form.exact(_normal(text, is_literal=form.is_literal)), raw, ask)

    def _form(self, ask: Ask, ends: Ends, caller: Caller) -> Form:
        """What the bodies with these ends share."""
        body, word = likeness(ends)
        read = self._understood(ask, body, caller)
        if isinstance(read, str):
            return Form(refused=read)
        form, text, _ = read
        # Where it is another one, what was cut out is not the text, or not all of it.
        return form if text == word else Form(is_apart=True)

    # ── in full, by endpoint ──

    def _in_full(self, ask: Ask, body: bytes, caller: Caller) -> Understood | str:
        read = self._read.get((caller.who, body)) or self._understood(ask, body, caller)
        return read if isinstance(read, str) else Understood(caller, read[0], read[2], read[1], ask)

    def _understood(self, ask: Ask, body: bytes, caller: Caller) -> Read | str:
        endpoint, terms = ask.endpoint, caller.terms
        if endpoint not in READ_ENDPOINTS:
            return "endpoint"
        is_tagged = not caller.who[-1]
        try:
            fields = _fields.decode(body)
            if endpoint in CONVERSATIONS:
                return self._conversation(ask, fields, caller, is_tagged=is_tagged)
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

    def _conversation(self, ask: Ask, fields: Fields, caller: Caller, *, is_tagged: bool) -> Read | str:
        """A request of another API than chat's that is answered with what a model says."""
        terms, said = caller.terms, caller.who[-2]
        try:
            asked = CONVERSATIONS[ask.endpoint](fields)
        except RefusedError as refused:
            return refused.reason
        assert isinstance(said, bytes)
        rest = {**asked.fields, SPOKEN: msgspec.Raw(said or b"null")}
        user = _user(ask, rest, terms)
        read = self._found(ask, rest, terms, user, asked.text, asked.earlier, is_media=False, is_tagged=is_tagged)
        if not isinstance(read, str):
            read[0].own = asked.own
        return read

    def _embeddings(self, ask: Ask, fields: Fields, terms: Terms, user: str | None) -> Read | str:
        if "input" not in fields:
            return "not-text"
        if user is None:
            return "no-user"
        key, reason = self._partitions.key(ask, fields, terms, b"", user)
        if reason is not None:
            return reason
        # Nothing is sampled and nothing can be wrong: the same input has the same vectors, whatever it says.
        return self._complete(ask, fields, terms, key, user, canonical(msgspec.json.decode(fields["input"])))

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
        return self._complete(ask, fields, terms, key, user, text)

    def _complete(self, ask: Ask, fields: Fields, terms: Terms, key: str, user: str, text: str) -> Read:
        form = Form()
        form.is_literal = ask.endpoint in LITERAL_ENDPOINTS
        form.partition, form.user, form.tags = key, user, self._partitions.tags(ask, terms)
        form.most_tokens = _longest(fields)
        form.hash_under(bytes.fromhex(digest(self._secret, ("literal" if form.is_literal else "exact", key))))
        return form, text, form.exact(_normal(text, is_literal=form.is_literal))


def _normal(text: str, *, is_literal: bool) -> bytes:
    """The text in the form that equal ones share, as `cache.exact.exact_key` hashes it; literal ones as they are."""
    return (text if is_literal else normalised(text)).encode("utf-8", "surrogatepass")


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
