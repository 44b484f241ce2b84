"""Errors in the shapes that clients expect."""

from __future__ import annotations

import json

import pytest

from gridctl.broker.refusal import Refusal, bad_request, too_busy, unauthorized, unavailable
from gridctl.gateway.answer import error_answer, error_event


def parsed(answer: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name: value for name, _, value in (line.partition(": ") for line in lines)}
    assert int(headers["content-length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


def test_an_openai_error_has_its_four_fields_and_a_code_that_is_a_string_or_null() -> None:
    status, headers, body = parsed(error_answer("chat", bad_request("No.", param="model"), b"req-1", keep_alive=True))
    assert (status, headers["x-request-id"], headers["x-should-retry"]) == (400, "req-1", "false")
    assert body == {"error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": None}}
    assert "connection" not in headers


def test_an_anthropic_error_has_its_own_shape() -> None:
    refusal = unavailable("Full.", reason="no-candidate", retry_after_ms=1500)
    status, headers, body = parsed(error_answer("messages", refusal, b"req-1", keep_alive=False))
    assert status == 503
    assert body == {"type": "error", "error": {"type": "overloaded_error", "message": "Full."}}
    assert (headers["retry-after"], headers["retry-after-ms"], headers["x-should-retry"]) == ("2", "1500", "true")
    assert headers["connection"] == "close"


def test_nobody_is_asked_to_wait_longer_than_clients_do() -> None:
    _, headers, _ = parsed(
        error_answer("chat", too_busy("x", reason="quota", retry_after_ms=10**9), b"r", keep_alive=True)
    )
    assert headers["retry-after"] == "120"


def test_a_missing_key_says_which_kind_is_wanted() -> None:
    status, headers, _ = parsed(error_answer("chat", unauthorized("No key."), b"r", keep_alive=True))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("endpoint", ["chat", "completions", "messages", "responses"])
def test_an_error_event_is_one_event_whatever_its_message_holds(endpoint: str) -> None:
    event = error_event(endpoint, Refusal(502, "a\n\ndata: [DONE]\r\n\r\n", reason="x"))
    assert event.count(b"\n\n") == 1
    assert b"\r" not in event
    assert b"[DONE]" not in event.split(b"data: ", 1)[0]
    said = json.loads(event.split(b"data: ", 1)[1])
    message = said["error"]["message"] if "error" in said else said["message"]
    assert message == "a\n\ndata: [DONE]\r\n\r\n"
    assert event.startswith(b"event: error\n") is (endpoint in ("messages", "responses"))
