"""Wording: the bytes of answers, streamed and whole, errors and lists of models, as OpenAI and vLLM write them.

Pure: bytes from values. A stream's chunks differ in one word, so what stands around it is made once per stream.
"""

from __future__ import annotations

import base64
import hashlib
import http
import struct
from typing import Any

import msgspec

from gridctl.mockengine.question import CHAT, EMBEDDING, Question

_HEADS: dict[tuple[int, bool], bytes] = {}
DONE = b"data: [DONE]\n\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


def response(status: int, body: bytes, *, keep_alive: bool = True, kind: bytes = b"application/json") -> bytes:
    """A whole HTTP response."""
    return b"%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (_head(status, keep_alive), kind, len(body), body)


def _head(status: int, keep_alive: bool) -> bytes:
    """The status line, and whether the connection ends."""
    key = (status, keep_alive)
    if key not in _HEADS:
        phrase = http.HTTPStatus(status).phrase if status in http.HTTPStatus._value2member_map_ else "Unknown"
        end = "" if keep_alive else "connection: close\r\n"
        _HEADS[key] = f"HTTP/1.1 {status} {phrase}\r\n{end}".encode()
    return _HEADS[key]


def chunked(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def error(status: int, message: str, kind: str, param: str | None = None) -> bytes:
    """An error as vLLM words it: its code is the status."""
    said = {"message": message, "type": kind, "param": param, "code": status}
    return msgspec.json.encode({"error": said})


def models(name: str, longest_context: int, created: int) -> bytes:
    """The list of the one model."""
    return msgspec.json.encode({"object": "list", "data": [model(name, longest_context, created)]})


def model(name: str, longest_context: int, created: int) -> dict[str, Any]:
    """One entry of the list of models."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "gridctl-mock",
        "root": name,
        "parent": None,
        "max_model_len": longest_context,
    }


def usage(question: Question, made: int, cached: int) -> dict[str, Any]:
    """Token counts: `cached` of the prompt's were not computed again."""
    return {
        "prompt_tokens": question.prompt_tokens,
        "total_tokens": question.prompt_tokens + made,
        "completion_tokens": made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def whole(question: Question, name: str, number: str, created: int, words: list[str], cached: int) -> bytes:
    """An answer in one piece."""
    text, made = "".join(words), len(words)
    if question.endpoint == CHAT:
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
        kind, prefix = "chat.completion", "chatcmpl"
    else:
        choice, kind, prefix = {"index": 0, "text": text}, "text_completion", "cmpl"
    choice |= {"logprobs": None, "finish_reason": question.finish_reason}
    return msgspec.json.encode(
        {
            "id": f"{prefix}-{number}",
            "object": kind,
            "created": created,
            "model": name,
            "choices": [choice],
            "usage": usage(question, made, cached),
        }
    )


def embeddings(question: Question, name: str) -> bytes:
    """Unit-range vectors that follow from the input, as floats or in base64 of little-endian float32."""
    data = []
    for index in range(question.inputs):
        seed = (question.seed + index) % (1 << 64)
        drawn = hashlib.shake_128(seed.to_bytes(8, "big")).digest(question.dimensions)
        values = [byte / 127.5 - 1.0 for byte in drawn]
        packed = struct.pack(f"<{len(values)}f", *values)
        vector = base64.b64encode(packed).decode() if question.is_base64 else values
        data.append({"object": "embedding", "index": index, "embedding": vector})
    said = {"prompt_tokens": question.prompt_tokens, "total_tokens": question.prompt_tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": name, "usage": said})


class StreamWords:
    """The events of one streamed answer."""

    def __init__(self, question: Question, name: str, number: str, created: int) -> None:
        assert question.endpoint != EMBEDDING, "embeddings are not streamed"
        self._question = question
        is_chat = question.endpoint == CHAT
        kind, prefix = ("chat.completion.chunk", "chatcmpl") if is_chat else ("text_completion", "cmpl")
        self._common = {"id": f"{prefix}-{number}", "object": kind, "created": created, "model": name}
        self._open = b"data: " + msgspec.json.encode(self._common)[:-1] + b',"choices":[{"index":0,'
        self._null = b',"usage":null}\n\n' if question.wants_usage else b"}\n\n"
        self._before = self._open + (b'"delta":{"content":"' if is_chat else b'"text":"')
        self._close = b'"}' if is_chat else b'"'

    def role(self) -> bytes:
        """The opening event of a chat, which names who speaks."""
        if self._question.endpoint != CHAT:
            return b""
        said = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        return self._open + said + self._null

    def token(self, word: str, *, is_last: bool) -> bytes:
        """One token. Words are plain ASCII without quotes, so they stand in JSON as they are."""
        reason = b'"%b"' % self._question.finish_reason.encode() if is_last else b"null"
        tail = b'%b,"logprobs":null,"finish_reason":%b}]%b' % (self._close, reason, self._null)
        return self._before + word.encode() + tail

    def end(self, made: int, cached: int) -> bytes:
        """The usage, where it was asked for, and the end."""
        if not self._question.wants_usage:
            return DONE
        said = {**self._common, "choices": [], "usage": usage(self._question, made, cached)}
        return b"data: " + msgspec.json.encode(said) + b"\n\n" + DONE
