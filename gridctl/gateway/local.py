"""Local: the paths that the gateway answers itself: whether it lives, which models it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from gridctl.broker.refusal import Refusal
from gridctl.gateway.answer import error_object, status_line
from gridctl.gateway.head import malformed
from gridctl.gateway.routes import LIVENESS, MODELS
from gridctl.gateway.trace_context import request_id_of

if TYPE_CHECKING:
    from gridctl.gateway.head import Head
    from gridctl.gateway.server import Server
    from gridctl.gateway.serving import Serving


def answer_locally(serving: Serving, server: Server, head: Head, end: bytes) -> bytes:
    """A whole response; `end` is the end of its head."""
    request_id = request_id_of(head.headers.get(b"x-request-id"))
    try:
        if head.method not in ("GET", "HEAD"):
            raise malformed("This path takes GET.", status=405, code="method_not_allowed")
        status, kind, body = _content(serving, server, head)
    except Refusal as refusal:
        status, kind, body = refusal.status, b"application/json", error_object("chat", refusal)
    answer = b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\ncache-control: no-store\r\n%b" % (
        status_line(status),
        kind,
        len(body),
        request_id,
        end,
    )
    return answer if head.method == "HEAD" else answer + body


def _content(serving: Serving, server: Server, head: Head) -> tuple[int, bytes, bytes]:
    path = head.path
    if path in LIVENESS:
        if serving.is_draining:
            return 503, b"application/json", b'{"status":"draining"}'
        return 200, b"application/json", b'{"status":"ok"}'
    if path == MODELS or path.startswith(MODELS + "/"):
        principal = serving.broker.principal(head)
        models = serving.broker.models(principal)
        if path == MODELS:
            return 200, b"application/json", msgspec.json.encode({"object": "list", "data": models})
        wanted = unquote(path[len(MODELS) + 1 :])
        for model in models:
            if model["id"] == wanted:
                return 200, b"application/json", msgspec.json.encode(model)
        raise malformed("There is no such model, or not for this key.", status=404, code="model_not_found")
    if serving.settings.expose_metrics:
        return 200, b"text/plain; version=0.0.4; charset=utf-8", server.metrics()
    raise malformed("Metrics are served on the admin address only.", status=404, code="unknown_path")
