"""Splice: a request's body as its engine needs it, changed in two places at most and byte for byte the same elsewhere.

The model's name becomes the one the engine knows it by, and a stream is made to report its usage. Where a value stands
is known from the decoder, which hands out views into the body; of a key that comes twice the last one counts, for it as
for the engines' own parsers.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from gridctl.broker.fields import Options, Places
from gridctl.broker.refusal import bad_request

_PLACES: Final = msgspec.json.Decoder(Places)
_OPTIONS: Final = msgspec.json.Decoder(Options)
_USAGE: Final = b'"include_usage":true'
_MODEL: Final = b'"model"'


def rewrite(body: bytes, asked: str, model: str | None, *, reports_usage: bool) -> bytes:
    """The body with `model` for its model's name, which is `asked` (None: as it is), and, with `reports_usage`, with
    usage asked for. The body has been understood before, so it is an object with a model."""
    if model is not None and not reports_usage:
        span = _model_span(body, asked)
        if span is not None:
            return b"".join((body[: span[0]], msgspec.json.encode(model), body[span[1] :]))
    if model is None and not reports_usage:
        return body
    try:
        places = _PLACES.decode(body)
    except (msgspec.DecodeError, RecursionError):  # it was understood before: only another body can come here
        raise bad_request("The body of your request is not valid.") from None
    edits = [(*_span(body, places.model), msgspec.json.encode(model))] if model is not None else []
    if reports_usage:
        edits.append(_usage_edit(body, places.stream_options))
    edits.sort()
    pieces, done = [], 0
    for start, stop, text in edits:
        pieces += [body[done:start], text]
        done = stop
    return b"".join((*pieces, body[done:]))


def _model_span(body: bytes, asked: str) -> tuple[int, int] | None:
    """Where the model's name stands when nothing else in the body looks like its key; None to look properly."""
    at = body.find(_MODEL)
    if at < 0 or body.find(_MODEL, at + len(_MODEL)) >= 0:
        return None
    colon = body.find(b":", at + len(_MODEL))
    start = body.find(b'"', colon + 1)
    stop = body.find(b'"', start + 1) + 1
    is_plain = colon > 0 and start > 0 and body[start + 1 : stop - 1] == asked.encode()
    is_next = not body[at + len(_MODEL) : colon].strip() and not body[colon + 1 : start].strip()
    return (start, stop) if is_plain and is_next else None


def _usage_edit(body: bytes, options: msgspec.Raw) -> tuple[int, int, bytes]:
    raw = bytes(options)
    if raw in (b"", b"null"):
        if raw:
            start, stop = _span(body, options)
            return start, stop, b"{" + _USAGE + b"}"
        brace = body.index(b"{") + 1
        return brace, brace, b'"stream_options":{' + _USAGE + b"},"
    asked = _OPTIONS.decode(options).include_usage
    if bytes(asked):
        start, stop = _span(body, asked)
        return start, stop, b"true"
    brace = _span(body, options)[0] + 1
    is_empty = not raw[1:-1].strip()
    return brace, brace, _USAGE if is_empty else _USAGE + b","


def _span(body: bytes, value: msgspec.Raw) -> tuple[int, int]:
    """Where in the body a value is that was decoded from it: the decoder's values are views, never copies."""
    start = _address(value) - _address(body)
    assert 0 < start < len(body), "the decoder copied a raw value"
    return start, start + len(memoryview(value))


def _address(buffer: bytes | msgspec.Raw) -> int:
    address: int = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    return address
