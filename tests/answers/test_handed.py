"""Answers handed in as they came: what the keeper reads out of them, and what it does with odd ones."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from answer_parts import KeeperProcess, fresh_of, question_of, until, words_of
from test_service import exact_now, worker_of

from gridctl.answers.handed import Handed, Kind, opened
from gridctl.answers.said import read_said
from gridctl.answers.wire import Hello, Keeps, connect, frame


def handed_of(said: bytes, question: Any, **fields: Any) -> Handed:
    told: dict[str, Any] = {
        "kind": 0, "exact": question.exact, "text": question.text, "request_id": "r1", "said": said,
        "is_stream": False, "prompt_tokens": 3, "output_tokens": 2, "usd": 0.25, "took_us": 9.0, "ticket": None,
        "stamp": 0, **fields,
    }  # fmt: skip
    return Handed(**told)


def whole(content: str, reason: str = "stop", **message: Any) -> bytes:
    told = {"role": "assistant", "content": content, **message}
    return json.dumps({"model": "m", "choices": [{"index": 0, "message": told, "finish_reason": reason}]}).encode()


def stream(*pieces: str) -> bytes:
    chunks = [{"model": "m", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})  # type: ignore[dict-item]
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in chunks) + b"data: [DONE]\n\n"


def kind_of(question: Any) -> Kind:
    return Kind(question, fresh_of("", model="llama-8b", site="paris", cluster="c1"))


@pytest.mark.parametrize(
    ("said", "is_stream", "words"),
    [(whole("Paris"), False, "Paris"), (stream("Pa", "ris"), True, "Paris"), (whole("Parí"), False, "Parí")],
)
def test_an_answer_is_read_as_it_came(said: bytes, is_stream: bool, words: str) -> None:
    question = question_of("capital of france", request_id="")
    found, fresh = opened([kind_of(question)], handed_of(said, question, is_stream=is_stream))
    assert found.exact == question.exact
    assert (found.request_id, found.prompt_tokens) == ("r1", 3)
    assert words_of(fresh.content) == words
    assert (fresh.finish_reason, fresh.model, fresh.site, fresh.usd, fresh.output_tokens) == (
        "stop", "llama-8b", "paris", 0.25, 2
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "is_stream"),
    [
        (b"", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
        (b'{"choices":[]}', False),
        (b'{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}', False),
        (b'data: {"error":{"message":"x"}}\n\n', True),
        (b'data: {"choices":[{"delta":{"content":"cut off"}}]}\n\n', True),
        (b"data: nothing\n\n", True),
        (b"", True),
    ],
)
def test_what_is_not_understood_has_no_content(said: bytes, is_stream: bool) -> None:
    assert not read_said("chat", said, is_stream=is_stream).is_understood


def test_a_call_of_a_tool_is_seen_whole_and_streamed() -> None:
    assert read_said("chat", whole("x", tool_calls=[{"id": "1"}]), is_stream=False).has_tool_call
    events = stream("x").replace(b'"delta": {}', b'"delta": {"tool_calls": [{"id": "1"}]}')
    assert read_said("chat", events, is_stream=True).has_tool_call


def test_the_keeper_takes_a_parcel_and_refuses_what_is_no_answer(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        answers = await worker_of(keeper_process)
        good, cut, odd = (question_of(text) for text in ("one question", "two questions", "three questions"))
        parcel = [
            handed_of(whole("yes", "length"), cut, stamp=answers.stamp()),
            handed_of(b"{", odd, stamp=answers.stamp()),
            handed_of(whole("yes"), good, stamp=answers.stamp()),
        ]
        answers.hand_in([kind_of(good)], parcel)
        await until(lambda: exact_now(answers, good), "the answer")
        kept = exact_now(answers, good)
        assert kept is not None
        assert words_of(kept.content) == "yes"
        assert exact_now(answers, cut) is exact_now(answers, odd) is None
        assert answers.dropped == 0
        answers.close()

    asyncio.run(go())
    assert keeper_process.stop() == 0


def test_who_names_a_kind_that_was_not_sent_is_hung_up_on_and_the_others_go_on(keeper_process: KeeperProcess) -> None:
    async def go() -> None:
        keeper_process.start()
        keeper_process.wait_ready()
        question = question_of("one question")
        with connect(keeper_process.folder) as odd:
            odd.setblocking(True)
            odd.settimeout(10.0)
            odd.sendall(frame(Hello()) + frame(Keeps([], [handed_of(whole("a"), question)])))
            await asyncio.get_running_loop().run_in_executor(None, drained, odd)
        answers = await worker_of(keeper_process)
        answers.hand_in([kind_of(question)], [handed_of(whole("b"), question, stamp=answers.stamp())])
        await until(lambda: exact_now(answers, question), "the answer")
        answers.close()

    asyncio.run(go())
    assert keeper_process.stop() == 0


def drained(connection: socket.socket) -> None:
    """Read to the end of what the other side says."""
    while connection.recv(4096):
        pass
