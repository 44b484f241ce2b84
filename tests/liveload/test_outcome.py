"""Replies in the words of a run: what was refused, what failed, and why."""

from __future__ import annotations

import json

import pytest

from gridctl.accounts.rows import OUTCOMES, REASONS
from gridctl.liveload.connection import Reply
from gridctl.liveload.outcome import outcome_of, said


def reply(status: int = 200, body: object = None, *, failure: str = "", tokens: int = 0, done: bool = False) -> Reply:
    made = Reply(0)
    made.status, made.failure = status, failure
    made.error_body = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    made.answer.chunks, made.answer.is_done = tokens, done
    return made


def error(code: object, message: str = "no") -> dict[str, object]:
    return {"error": {"message": message, "type": "x", "param": None, "code": code}}


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (reply(tokens=3, done=True), ("completed", "")),
        (reply(tokens=3), ("failed", "broken")),
        (reply(done=True), ("failed", "broken")),
        (reply(tokens=3, done=True, failure="the connection broke"), ("failed", "broken")),
        (reply(0, failure="no complete answer in time"), ("failed", "timeout")),
        (reply(0, failure="no connection: refused"), ("failed", "broken")),
        (reply(404, error("model_not_found")), ("rejected", "no-model")),
        (reply(404, b"<html>"), ("rejected", "no-model")),
        (reply(403, error("jurisdiction")), ("rejected", "jurisdiction")),
        (reply(403, error("quality")), ("rejected", "quality")),
        (reply(403, error("unknown_workload")), ("rejected", "refused")),
        (reply(401, error("invalid_api_key")), ("rejected", "refused")),
        (reply(400, error(400, "maximum context length is 10")), ("failed", "too-long")),
        (reply(400, error(400, "bad field")), ("rejected", "refused")),
        (reply(413, b""), ("failed", "too-long")),
        (reply(422, {"detail": "unexpected keys"}), ("rejected", "refused")),
        (reply(429, error("rate_limit_exceeded")), ("rejected", "infeasible")),
        (reply(503, error("service_unavailable")), ("rejected", "outage")),
        (reply(500, b"boom"), ("failed", "broken")),
        (reply(502, error(None)), ("failed", "broken")),
        (reply(504, error(None)), ("failed", "timeout")),
    ],
    ids=range(21),
)
def test_every_reply_has_one_outcome_and_its_reason(one: Reply, words: tuple[str, str]) -> None:
    outcome, reason = outcome_of(one)
    assert (OUTCOMES[outcome], REASONS[reason]) == words
    assert bool(said(one)) == (words[0] != "completed")


def test_what_was_said_is_short_and_can_be_printed() -> None:
    long = said(reply(500, error(None, "x\x1b[31m" * 500)))
    assert len(long) <= 160
    assert long.isprintable()
    assert said(reply(422, {"detail": "unexpected keys"})) == "422 unexpected keys"
    assert said(reply(500, b"\xff\xfe[[[")).startswith("500 ")
