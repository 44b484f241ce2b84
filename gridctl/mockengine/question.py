"""Question: what a request body asks of the engine. Parses and checks; knows no sockets and no time.

Unknown fields are ignored, as vLLM ignores them. What cannot be served raises `RefusedError` with the status, type and
message that vLLM gives for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gridctl.mockengine.words import (
    answer_words,
    chained_blocks,
    cut_at_stop,
    drawn_length,
    tokens_of,
)

MAX_OUTPUT_TOKENS = 1 << 20
SEED_TOKENS = 64
CHAT, TEXT, EMBEDDING, MESSAGES, RESPONSES = "chat", "completions", "embeddings", "messages", "responses"
PATHS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/v1/embeddings": EMBEDDING,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
}


class RefusedError(Exception):
    """The request is answered with an error. `kind` and the status are vLLM's."""

    def __init__(self, status: int, message: str, *, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param


class StreamOptions(msgspec.Struct, frozen=True):
    """`stream_options`."""

    include_usage: bool | None = False


class Message(msgspec.Struct, frozen=True):
    """A chat message; its content is text, parts, or nothing."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class Body(msgspec.Struct, frozen=True):
    """The fields of a request that an engine of this kind looks at."""

    model: str = ""
    messages: list[Message] | None = None
    prompt: str | list[int | str | list[int]] | None = None
    input: str | list[int | str | list[int] | dict[str, Any]] | None = None
    system: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    tools: list[Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = False
    stop: str | list[str] | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = 1
    priority: int | None = 0
    dimensions: int | None = None
    encoding_format: str | None = None


_decoder = msgspec.json.Decoder(Body)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: how long the prompt is and which blocks it has, how long the answer will be and its words."""

    endpoint: str
    prompt_tokens: int
    blocks: Sequence[int]
    seed: int
    output_tokens: int
    finish_reason: str
    stops: tuple[str, ...]
    is_stream: bool
    wants_usage: bool
    priority: int
    inputs: int = 1
    dimensions: int = 16
    is_base64: bool = False

    def words(self) -> list[str]:
        """The answer, one entry per token."""
        words = answer_words(self.seed, self.output_tokens)
        return cut_at_stop(words, self.stops)[0] if self.stops else words

    def stop_met(self) -> str | None:
        """The stop text that ended the answer; None when none did."""
        text = "".join(answer_words(self.seed, self.output_tokens)) if self.stops else ""
        return min(((at, stop) for stop in self.stops if (at := text.find(stop)) >= 0), default=(0, None))[1]


@dataclass(frozen=True, slots=True)
class Limits:
    """What of a request depends on the engine: its model's name, KV blocks, longest context, usual answers."""

    model: str
    block_size: int
    longest_context: int
    mean_output_tokens: int


_PROMPTS = {CHAT: "messages", MESSAGES: "messages", RESPONSES: "input"}
"""The field that holds the prompt, where it is not `prompt`."""


def read_question(endpoint: str, body: bytes, limits: Limits) -> Question:
    """What the body asks. Raises RefusedError."""
    try:
        asked = _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"the body cannot be read: {error}") from None
    if asked.model and asked.model != limits.model:
        raise RefusedError(404, f"The model `{asked.model[:200]}` does not exist.", kind="NotFoundError", param="model")
    if asked.n not in (None, 1):
        raise RefusedError(400, "this engine answers once: n must be 1", param="n")
    tokens, inputs = _prompt(endpoint, asked)
    if not tokens:
        raise RefusedError(400, "the prompt is empty", param=_PROMPTS.get(endpoint, "prompt"))
    blocks = chained_blocks(tokens, limits.block_size) if len(tokens) >= limits.block_size else ()
    if endpoint == EMBEDDING:
        return _embedding(asked, tokens, inputs, limits)
    seed = _seed(tokens)
    length, reason = _length(asked, seed, len(tokens), limits)
    stops = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or asked.stop_sequences or ())
    if stops and not asked.ignore_eos:
        kept, is_stopped = cut_at_stop(answer_words(seed, length), stops)
        length, reason = (len(kept), "stop") if is_stopped else (length, reason)
    return Question(
        endpoint=endpoint,
        prompt_tokens=len(tokens),
        blocks=blocks,
        seed=seed,
        output_tokens=length,
        finish_reason=reason,
        stops=stops if reason == "stop" else (),
        is_stream=bool(asked.stream),
        wants_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        priority=asked.priority or 0,
    )


def _embedding(asked: Body, tokens: Sequence[object], inputs: int, limits: Limits) -> Question:
    """An embedding is a prefill and nothing else."""
    if len(tokens) > limits.longest_context - 1:
        raise _too_long(len(tokens), 1, limits)
    dimensions = asked.dimensions or 16
    if not 1 <= dimensions <= 8192:
        raise RefusedError(400, "dimensions must be 1 to 8192", param="dimensions")
    return Question(
        endpoint=EMBEDDING,
        prompt_tokens=len(tokens),
        blocks=(),
        seed=_seed(tokens),
        output_tokens=1,
        finish_reason="stop",
        stops=(),
        is_stream=False,
        wants_usage=False,
        priority=asked.priority or 0,
        inputs=inputs,
        dimensions=dimensions,
        is_base64=asked.encoding_format == "base64",
    )


def _seed(tokens: Sequence[object]) -> int:
    """A number that follows from the prompt's length and end, the same in every process."""
    return zlib.crc32(" ".join(map(str, tokens[-SEED_TOKENS:])).encode("utf-8", "replace"), len(tokens))


def _prompt(endpoint: str, asked: Body) -> tuple[Sequence[object], int]:
    """The prompt's tokens, and how many inputs there are."""
    if endpoint in (CHAT, MESSAGES):
        if not asked.messages:
            raise RefusedError(400, "messages is missing or empty", param="messages")
        if endpoint == MESSAGES and asked.max_tokens is None:
            raise RefusedError(400, "max_tokens: Field required", param="max_tokens")
        system = _text(Message("system", asked.system)) if endpoint == MESSAGES else ""
        return tokens_of(" ".join([system, _tools(asked), *map(_text, asked.messages)])), 1
    if endpoint == RESPONSES:
        return tokens_of(" ".join([asked.instructions or "", _tools(asked), *_items(asked)])), 1
    given = asked.prompt if endpoint == TEXT else asked.input
    name = "prompt" if endpoint == TEXT else "input"
    if given is None:
        raise RefusedError(400, f"{name} is missing", param=name)
    if isinstance(given, str):
        return tokens_of(given), 1
    if all(isinstance(one, int) for one in given):
        return given, 1
    if endpoint == TEXT and len(given) > 1:
        raise RefusedError(400, "this engine takes one prompt a request", param="prompt")
    if any(isinstance(one, dict) for one in given):
        raise RefusedError(400, f"{name} holds an object", param=name)
    tokens: list[object] = []
    for one in given:
        tokens += tokens_of(one) if isinstance(one, str) else one if isinstance(one, list) else [one]
    return tokens, len(given)


def _tools(asked: Body) -> str:
    return msgspec.json.encode(asked.tools).decode() if asked.tools else ""


def _items(asked: Body) -> list[str]:
    """The texts of the Responses API's input, which is a text or a list of messages and other items."""
    if asked.input is None:
        raise RefusedError(400, "input is missing", param="input")
    if isinstance(asked.input, str):
        return [asked.input]
    texts = []
    for item in asked.input:
        if not isinstance(item, dict):
            raise RefusedError(400, "input is neither a text nor a list of items", param="input")
        content = item.get("content", item)
        parts = content if isinstance(content, list) else [content]
        texts.append(_text(Message("user", content if isinstance(content, str) else _objects(parts))))
    return texts


def _objects(parts: list[Any]) -> list[dict[str, Any]]:
    if not all(isinstance(part, dict) for part in parts):
        raise RefusedError(400, "an item's content is neither a text nor a list of parts", param="input")
    return parts


def _text(message: Message) -> str:
    """The text of a message; images and sound count as the words of their address."""
    if isinstance(message.content, str):
        return message.content
    parts = []
    for part in message.content or ():
        text = part.get("text")
        parts.append(text if isinstance(text, str) else msgspec.json.encode(part).decode())
    return " ".join(parts)


def _length(asked: Body, seed: int, prompt_tokens: int, limits: Limits) -> tuple[int, str]:
    """How many tokens the answer has and why it ends there."""
    said = (asked.max_completion_tokens, asked.max_output_tokens, asked.max_tokens)
    most = next((one for one in said if one is not None), None)
    least = asked.min_tokens or 0
    if most is not None and most < 1:
        raise RefusedError(400, f"max_tokens must be at least 1, got {most}.", param="max_tokens")
    if least < 0 or (most is not None and least > most):
        raise RefusedError(400, f"min_tokens must be 0 to max_tokens, got {least}.", param="min_tokens")
    room = limits.longest_context - prompt_tokens
    if most is None:
        wanted, reason = max(drawn_length(seed, limits.mean_output_tokens), least), "stop"
        if wanted > room >= 1:
            wanted, reason = room, "length"
    else:
        wanted, reason = most, "length"
    if wanted > min(room, MAX_OUTPUT_TOKENS):
        raise _too_long(prompt_tokens, wanted, limits)
    return wanted, reason


def _too_long(prompt: int, output: int, limits: Limits) -> RefusedError:
    return RefusedError(
        400,
        f"This model's maximum context length is {limits.longest_context} tokens. However, you requested "
        f"{prompt + output} tokens ({prompt} in the prompt, {output} in the completion).",
    )
