"""What is understood of a body, and how a client is told what is wrong with it, in the words of the OpenAI API."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.broker.body import MEDIA_TOKENS, read_body
from gridctl.broker.refusal import Refusal


def _chat(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def test_what_a_chat_asks_for_is_read() -> None:
    body = read_body("chat", _chat(stream=True, stream_options={"include_usage": True}, max_tokens=9, foo={"bar": [1]}))
    assert (body.model, body.stream, body.wants_usage, body.max_tokens) == ("m", True, True, 9)


def test_the_newest_name_for_the_longest_answer_wins() -> None:
    assert read_body("chat", _chat(max_tokens=9, max_completion_tokens=7)).max_tokens == 7
    assert read_body("responses", b'{"model":"m","input":"x","max_output_tokens":5}').max_tokens == 5
    assert read_body("chat", _chat()).max_tokens is None


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (b"", "could not parse", None),
        (b"{", "could not parse", None),
        (b'{"model": "m", "messages": [NaN]}', "could not parse", None),
        (b'\xff{"model": "m"}', "could not parse", None),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "could not parse", None),
        (b"[1]", "must be a JSON object, but it is an array", None),
        (b'"text"', "must be a JSON object, but it is a string", None),
        (b"{}", "you must provide a model parameter", "model"),
        (b'{"model":""}', "you must provide a model parameter", "model"),
        (b'{"model":null}', "Invalid type for 'model': expected a string, but got null instead.", "model"),
        (b'{"model":7}', "Invalid type for 'model': expected a string, but got an integer instead.", "model"),
        (b'{"model":"a\\r\\nb","messages":[]}', "Invalid 'model'", "model"),
        (json.dumps({"model": "x" * 257}).encode(), "Invalid 'model'", "model"),
        (b'{"model":"m"}', "Missing required parameter: 'messages'.", "messages"),
        (b'{"model":"m","messages":null}', "Missing required parameter: 'messages'.", "messages"),
        (_chat(stream="yes"), "Invalid type for 'stream': expected a boolean, but got a string instead.", "stream"),
        (_chat(max_tokens="9"), "Invalid type for 'max_tokens'", "max_tokens"),
        (_chat(max_tokens=-1), "Invalid 'max_tokens'", "max_tokens"),
        (_chat(max_tokens=1e300), "Invalid 'max_tokens'", "max_tokens"),
        (_chat(prompt_embeds="gASV"), "Prompt embeddings are not accepted.", "prompt_embeds"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_body_is_refused_with_the_parameter_at_fault(body: bytes, message: str, param: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        read_body("chat", body)
    assert caught.value.status == 400
    assert message in caught.value.message
    assert caught.value.param == param
    assert caught.value.should_retry is False


@given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    status = 400
    try:
        read_body("chat", body)
    except Refusal as refusal:
        status = refusal.status
    assert status == 400


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    fields=st.dictionaries(
        st.sampled_from(
            ["model", "messages", "stream", "stream_options", "max_tokens", "prompt", "input", "tools", "user"]
        ),
        _JSON,
    ),
    endpoint=st.sampled_from(["chat", "completions", "embeddings", "messages", "responses", "rerank", "tokenize"]),
)
def test_any_json_is_read_or_refused(fields: dict[str, object], endpoint: str) -> None:
    status, text_bytes = 400, 1
    try:
        text_bytes = read_body(endpoint, json.dumps(fields).encode()).prompt.text_bytes
    except Refusal as refusal:
        status = refusal.status
    assert status == 400
    assert text_bytes >= 1


def test_a_prompt_of_token_numbers_is_counted_exactly() -> None:
    assert read_body("completions", b'{"model":"m","prompt":[1,2, 3,40]}').prompt.exact_tokens == 4
    assert read_body("embeddings", b'{"model":"m","input":[[1,2],[3,4,5]]}').prompt.exact_tokens == 5
    assert read_body("completions", b'{"model":"m","prompt":"one two"}').prompt.exact_tokens is None


def test_text_counts_by_its_bytes_and_a_message_by_a_little_markup() -> None:
    short = read_body("chat", _chat()).prompt.text_bytes
    longer = read_body(
        "chat", json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi" + "x" * 400}]}).encode()
    )
    assert longer.prompt.text_bytes - short == 400
    assert 10 <= short <= 30, "two letters, and about four tokens of markup"


def test_a_picture_counts_as_an_allowance_and_not_by_the_bytes_of_its_data() -> None:
    data = "data:image/png;base64," + "A" * 100_000
    content = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": data}}]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    prompt = read_body("chat", body).prompt
    assert prompt.media_tokens == MEDIA_TOKENS
    assert prompt.text_bytes < 100


def test_a_conversation_that_goes_on_begins_with_the_same_bytes() -> None:
    turns = [{"role": "system", "content": "s" * 600}, {"role": "user", "content": "one"}]
    before = read_body("chat", json.dumps({"model": "m", "messages": turns}).encode()).prompt.text
    more = [*turns, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]
    after = read_body("chat", json.dumps({"model": "m", "messages": more, "temperature": 0}).encode()).prompt.text
    assert after.startswith(before[:-1])


def test_the_system_prompt_of_a_messages_request_comes_first() -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"u"}],"system":"be brief"}'
    assert read_body("messages", body).prompt.text.startswith(b'"be brief"')
