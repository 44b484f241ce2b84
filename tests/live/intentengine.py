"""An engine that understands: it gives one answer for every wording of an intent, streamed or whole, and counts.

An OpenAI-compatible server in this process, for what a mock engine cannot show: paraphrases with the same answer.
`answers` maps a word of a prompt to the answer; `asked` are the prompts that came, `delay_s` how long an answer takes,
`failures_left` how many requests are answered with status 500.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class IntentEngine:
    answers: dict[str, str]
    delay_s: float = 0.0
    gap_s: float = 0.0
    failures_left: int = 0
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prompts(self) -> list[str]:
        return [str(body["messages"][-1]["content"]) for body in self.asked]

    def answer_to(self, prompt: str) -> str:
        words = prompt.lower()
        return next((answer for word, answer in self.answers.items() if word in words), f"I know nothing of: {prompt}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: IntentEngine

    def log_message(self, *_: object) -> None:
        return

    def _send(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._send(b"{}" if "models" not in self.path else b'{"object":"list","data":[{"id":"tiny"}]}')

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        engine = self.engine
        engine.asked.append(body)
        if engine.delay_s:
            time.sleep(engine.delay_s)
        if engine.failures_left:
            engine.failures_left -= 1
            self._send(b'{"error":{"message":"no","type":"server_error"}}', status=500)
            return
        if "input" in body:
            vectors = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
            self._send(json.dumps({"object": "list", "model": "tiny", "data": vectors,
                                   "usage": {"prompt_tokens": 2, "total_tokens": 2}}).encode())  # fmt: skip
            return
        text = engine.answer_to(str(body["messages"][-1]["content"]))
        usage = {"prompt_tokens": 9, "completion_tokens": len(text.split()), "total_tokens": 9 + len(text.split())}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(json.dumps({"id": "chatcmpl-e", "object": "chat.completion", "model": "tiny",
                                   "choices": [choice], "usage": usage}).encode())  # fmt: skip
            return
        self._stream(text, usage)

    def _stream(self, text: str, usage: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

        def event(choices: list[dict[str, Any]], **more: object) -> None:
            said = {"id": "chatcmpl-e", "object": "chat.completion.chunk", "model": "tiny", "choices": choices, **more}
            data = b"data: %b\n\n" % json.dumps(said).encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        for number, word in enumerate(text.split(" ")):
            event([{"index": 0, "delta": {"content": word if not number else " " + word}, "finish_reason": None}])
            if self.engine.gap_s:
                time.sleep(self.engine.gap_s)
        event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        event([], usage=usage)
        done = b"data: [DONE]\n\n"
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is what some tests are about."""


@contextmanager
def intent_engine(answers: dict[str, str], **how: Any) -> Iterator[IntentEngine]:
    engine = IntentEngine(answers, **how)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"engine": engine}))
    engine.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
