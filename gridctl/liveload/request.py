"""Request: the bytes of each request of a trace, as the target is sent them.

A chat of one message, streamed, for exactly as many tokens as the trace says where the engine can be told so. Workload,
origin and session go in headers, as the gateway reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from gridctl.liveload.prompts import json_text, prompt_text
from gridctl.liveload.target import Target
from gridctl.traces.trace import Trace

_SAFE = re.compile(r"[\x21-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Manner:
    """How requests are worded: the model's name for a request, and whether fields beyond OpenAI's are sent."""

    model: Callable[[int], str]
    run: str
    seed: int
    is_plain: bool = False


class RequestWriter:
    """Writes the requests of a whole trace."""

    def __init__(self, trace: Trace, target: Target, manner: Manner) -> None:
        self._trace = trace
        self._manner = manner
        key = f"authorization: Bearer {target.api_key}\r\n" if target.api_key is not None else ""
        self._head = (
            f"POST {target.path}/v1/chat/completions HTTP/1.1\r\nhost: {target.authority}\r\n{key}"
            "content-type: application/json\r\naccept: text/event-stream\r\n"
        ).encode()
        self._tail = b'"stream":true,"stream_options":{"include_usage":true}%b}' % (
            b"" if manner.is_plain else b',"ignore_eos":true'
        )
        self._workloads = [_header("x-gridctl-workload", name) for name in trace.workloads]
        self._origins = [_header("x-gridctl-origin", name) for name in trace.origins]
        self._models: dict[str, bytes] = {}

    def request(self, row: int) -> bytes:
        """The whole request of number `row`."""
        trace = self._trace
        tokens = int(trace.output_tokens[row])
        least = b"" if self._manner.is_plain else b'"min_tokens":%d,' % tokens
        body = b'{"model":%b,"messages":[{"role":"user","content":"%b"}],"max_tokens":%d,%b%b' % (
            self._model(row),
            self._prompt(row),
            tokens,
            least,
            self._tail,
        )
        workload, origin, session = int(trace.workload[row]), int(trace.origin[row]), int(trace.session[row])
        return b"%b%b%b%bx-request-id: %b-%d\r\ncontent-length: %d\r\n\r\n%b" % (
            self._head,
            self._workloads[workload] if workload >= 0 else b"",
            self._origins[origin] if origin >= 0 else b"",
            b"x-gridctl-session: %d\r\n" % session if session >= 0 else b"",
            self._manner.run.encode(),
            row,
            len(body),
            body,
        )

    def _model(self, row: int) -> bytes:
        name = self._manner.model(row)
        if name not in self._models:
            self._models[name] = b'"%b"' % json_text(name)
        return self._models[name]

    def _prompt(self, row: int) -> bytes:
        trace = self._trace
        if trace.prompts is not None and trace.prompts[row]:
            return json_text(trace.prompts[row])
        blocks = trace.block_ids[trace.block_offsets[row] : trace.block_offsets[row + 1]].tolist()
        tokens = int(trace.input_tokens[row])
        return prompt_text(row, self._manner.seed, tokens, blocks, max(1, trace.block_tokens))


def _header(name: str, value: str) -> bytes:
    """A header line; nothing for a name that no header can hold, such as a place with letters beyond ASCII."""
    return f"{name}: {value}\r\n".encode() if _SAFE.fullmatch(value.replace(" ", "_")) else b""
