"""Body: the few facts of a request's JSON that a decision needs, read in one pass; all else passes untouched.

Decides how a prompt's length is estimated before any tokenizer has seen it: bytes of text, an allowance for each
message's markup and each picture or sound, exactly for prompts of token numbers. Refuses what no engine could read, and
prompt embeddings, which engines unpickle. Never re-serialises, never keeps the text.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gridctl.broker.fields import ABSENT, Fields, Message
from gridctl.broker.refusal import Refusal, bad_request

MARKUP_BYTES: Final = 16
"""The template's markup of a message, about four tokens, in bytes of text."""
ROLE_BYTES: Final = 14
"""What a message's JSON frame, 30 bytes, has over that."""
MEDIA_TOKENS: Final = 1024
"""Allowed for a picture, a sound or a file: between the few hundred and several thousand tokens that models make of
one; what the engine reports corrects nothing here, because it counts the text as well."""
LONGEST_MODEL: Final = 256
MOST_OUTPUT_TOKENS: Final = 1 << 31
_MEDIA: Final = re.compile(rb'"(?:input_)?(?:image|audio|video|file)')

PROMPT_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "chat": ("tools", "messages"),
    "messages": ("system", "tools", "messages"),
    "completions": ("prompt",),
    "embeddings": ("input",),
    "responses": ("instructions", "tools", "input"),
    "rerank": ("query", "documents"),
    "tokenize": ("prompt", "messages"),
}
"""The fields that make the prompt of each endpoint, in the order in which a template lays them out."""
REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "chat": ("messages",),
    "messages": ("messages",),
    "completions": ("prompt",),
    "embeddings": ("input",),
    "rerank": ("query", "documents"),
}
ANSWERS_IN_ONE: Final = frozenset({"embeddings", "rerank", "tokenize"})
"""Endpoints whose answer is not generated token by token."""

_DECODER: Final = msgspec.json.Decoder(Fields)
_MESSAGES: Final = msgspec.json.Decoder(list[Message])
_NULL: Final = msgspec.Raw(b"null")
_WORDS: Final = {
    "str": "a string",
    "int": "an integer",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
}


class Prompt:
    """A prompt's length: bytes of text, an allowance of tokens for what is not text, and its tokens if it is given as
    token numbers; `text` is its JSON, for hashing."""

    __slots__ = (
        "exact_tokens",
        "media_tokens",
        "text",
        "text_bytes",
    )

    def __init__(
        self,
        text: bytes,
        text_bytes: int,
        media_tokens: int,
        exact_tokens: int | None,
    ) -> None:
        self.text = text
        self.text_bytes = text_bytes
        self.media_tokens = media_tokens
        self.exact_tokens = exact_tokens


class Body:
    """What a request asks for, as far as the broker cares. `affinity` names a conversation, if the client did."""

    __slots__ = (
        "affinity",
        "max_tokens",
        "model",
        "prompt",
        "stream",
        "wants_usage",
    )

    def __init__(
        self,
        model: str,
        stream: bool,
        wants_usage: bool,
        max_tokens: int | None,
        prompt: Prompt,
        affinity: bytes,
    ) -> None:
        self.model = model
        self.stream = stream
        self.wants_usage = wants_usage
        self.max_tokens = max_tokens
        self.prompt = prompt
        self.affinity = affinity


def read_body(endpoint: str, body: bytes) -> Body:
    """Understand a request's JSON. Raises Refusal (400) in the words of the API, with the parameter at fault."""
    try:
        read = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise bad_request(
            "We could not parse the JSON body of your request. Is it valid JSON, in UTF-8, and not nested too deeply?"
        ) from None
    model = read.model
    if model is msgspec.UNSET or not model:
        raise bad_request("you must provide a model parameter", param="model")
    if len(model) > LONGEST_MODEL or not model.isprintable():
        raise bad_request("Invalid 'model': not the name of a model.", param="model")
    if read.prompt_embeds is not ABSENT and not _is_absent(read.prompt_embeds):
        raise bad_request("Prompt embeddings are not accepted.", param="prompt_embeds", code="unsupported_parameter")
    for name in REQUIRED.get(endpoint, ()):
        if _is_absent(getattr(read, name)):
            raise bad_request(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    options = read.stream_options
    return Body(
        model,
        bool(read.stream),
        options is not None and bool(options.include_usage),
        _most_tokens(read),
        _prompt(endpoint, read),
        _affinity(read),
    )


def _is_absent(value: msgspec.Raw) -> bool:
    """Whether a field was not given, or given as null."""
    return value is ABSENT or value == _NULL


def _most_tokens(read: Fields) -> int | None:
    """The longest answer the client wants: the newest of the API's names for it wins."""
    value, name = read.max_completion_tokens, "max_completion_tokens"
    if value is None:
        value, name = read.max_output_tokens, "max_output_tokens"
    if value is None:
        value, name = read.max_tokens, "max_tokens"
    if value is None:
        return None
    if not 0 <= value <= MOST_OUTPUT_TOKENS:
        wanted = ">= 1" if value < 0 else f"<= {MOST_OUTPUT_TOKENS}"
        raise bad_request(
            f"Invalid '{name}': integer out of range. Expected a value {wanted}.",
            param=name,
            code="integer_below_min_value" if value < 0 else "integer_above_max_value",
        )
    return int(value)


def _affinity(read: Fields) -> bytes:
    if read.prompt_cache_key is ABSENT and read.previous_response_id is ABSENT:
        return b""
    for value in (read.prompt_cache_key, read.previous_response_id):
        if not _is_absent(value):
            return bytes(value)
    return b""


def _prompt(endpoint: str, read: Fields) -> Prompt:
    if endpoint == "chat" and read.tools is ABSENT:  # what most requests are
        parts = [read.messages]
    else:
        parts = [value for name in PROMPT_FIELDS.get(endpoint, ()) if (value := getattr(read, name)) is not ABSENT]
    raw = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
    if endpoint == "chat" or endpoint == "messages" or b'"role"' in raw:
        roles = raw.count(b'"role"')
        if b'"type"' in raw and _MEDIA.search(raw) is not None:
            found = _without_media(parts)
            if found is not None:
                text, media = found
                return Prompt(raw, text + MARKUP_BYTES * roles, media * MEDIA_TOKENS, None)
        return Prompt(raw, max(1, len(raw) - ROLE_BYTES * roles), 0, None)
    exact = None if b'"' in raw else raw.count(b",") + 1
    return Prompt(raw, max(1, len(raw) - 2), 0, exact)


def _without_media(parts: list[msgspec.Raw]) -> tuple[int, int] | None:
    """(bytes of text, pictures and the like) of messages whose content comes in parts; None if it is otherwise."""
    text, media = 0, 0
    for raw in parts[:-1]:
        text += len(memoryview(raw))
    try:
        messages = _MESSAGES.decode(parts[-1])
    except (msgspec.DecodeError, RecursionError):
        return None
    for message in messages:
        content = message.content
        if isinstance(content, str):
            text += len(content)
        for part in content if isinstance(content, list) else ():
            if part.text is not None:
                text += len(part.text)
            else:
                media += 1
    return max(1, text), media


def _invalid(message: str) -> Refusal:
    """msgspec's finding in the API's words: "Expected `int`, got `str` - at `$.max_tokens`"."""
    found = re.fullmatch(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$\.?([^`]*)`)?", message)
    if found is None:
        return bad_request("The body of your request is not valid.")
    wanted, got, path = found.groups()
    words = " or ".join(_WORDS.get(kind.strip(), kind.strip()) for kind in wanted.split("|") if kind.strip() != "null")
    if not path:
        return bad_request(f"The body of your request must be a JSON object, but it is {_WORDS.get(got, got)}.")
    return bad_request(
        f"Invalid type for '{path}': expected {words}, but got {_WORDS.get(got, got)} instead.",
        param=path,
        code="invalid_type",
    )
