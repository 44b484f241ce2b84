"""The cache at the Messages and Responses APIs: hits are, event for event, what the engine would have said."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from api_parts import ASKED, MESSAGES, PIECES, body_of, events_of, joined, speaks
from cache_parts import CachingGateway, caching_gateway, gated
from gateway_parts import CHAT, Answer, read_answer, request, scripted_engine, serves, wait_for

TEXT = "".join(PIECES)
PATHS = list(ASKED)
REPEATED = {"metadata": {"of": "ann"}, "user": "ann", "max_output_tokens": 99, "instructions": "be brief"}


def word(answer: Answer) -> str:
    return answer.headers["x-gridctl-cache"]


def ask(cached: CachingGateway, path: str, body: dict[str, Any] | None = None, more: bytes = b"") -> Answer:
    return cached.ask({**ASKED[path], **(body or {})}, more, path)


def as_mine(path: str, said: Any, request_id: str, **repeated: Any) -> Any:
    """What an engine says, as who asks under that id is to get it: with its ids and times, and what it repeats of it;
    no part of the prompt came from an engine's cache."""
    text = json.dumps(said).replace("msg_engine", f"msg_{request_id}").replace("resp_engine", f"resp_{request_id}")
    mine = json.loads(text)
    for holder in mine if isinstance(mine, list) else [mine]:
        inner = holder.get("message", holder.get("response", holder))
        usage = inner.get("usage")
        if path == "/v1/messages" and usage is not None:
            usage |= {"input_tokens": 12, "cache_read_input_tokens": 0}
        if "created_at" in inner:
            inner |= {"created_at": "now", **repeated}
    return mine


def in_time(said: Any, engine_s: int = 1_700_000_000) -> Any:
    """What came back, its times checked to be later than the engine's and taken out."""
    for holder in said if isinstance(said, list) else [said]:
        inner = holder.get("response", holder)
        if "created_at" in inner:
            assert inner["created_at"] > engine_s
            inner["created_at"] = "now"
    return said


@pytest.mark.parametrize("keeps_stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_a_hit_is_what_the_engine_would_have_said_whole_and_streamed(path: str, keeps_stream: bool) -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        first = ask(cached, path, {"stream": keeps_stream})
        hit = ask(cached, path, more=b"x-request-id: mine\r\n")
        streamed = ask(cached, path, {"stream": True}, b"x-request-id: yours\r\n")
        cached.settled()
        rows = cached.gateway.meter.rows
    assert (word(first), len(engine.requests)) == ("miss; reason=absent", 1)
    assert first.body == body_of(path, {**ASKED[path], "stream": keeps_stream})
    assert word(hit).startswith("hit; level=exact; age=")
    assert hit.headers["content-type"] == "application/json"
    told = json.loads(body_of(path, ASKED[path]))
    assert in_time(hit.json) == as_mine(path, told, "mine")
    assert list(hit.json) == list(told), "in the engine's order"
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.is_complete
    assert b"[DONE]" not in streamed.body
    events = [json.loads(line[6:]) for line in body_of(path, {**ASKED[path], "stream": True}).split(b"\n")
              if line.startswith(b"data: ")]  # fmt: skip
    assert in_time(joined(events_of(streamed))) == as_mine(path, joined(events), "yours")
    assert [(row.cache, row.outcome, row.prompt_tokens, row.output_tokens) for row in rows] == [
        ("miss", "completed", 12, 7), ("hit", "completed", 12, 7), ("hit", "completed", 12, 7),
    ]  # fmt: skip


def test_what_a_response_repeats_of_its_request_is_each_askers_own() -> None:
    mine = {"metadata": {"of": "bob"}, "instructions": "be brief", "max_output_tokens": 50}
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        first = ask(cached, "/v1/responses", REPEATED)
        hit = ask(cached, "/v1/responses", mine)
        streamed = ask(cached, "/v1/responses", {**mine, "metadata": None, "stream": True})
        cached.settled()
    assert first.json["metadata"] == {"of": "ann"}
    assert len(engine.requests) == 1
    wanted = {"metadata": {"of": "bob"}, "user": None, "max_output_tokens": 50, "instructions": "be brief"}
    assert {name: hit.json[name] for name in wanted} == wanted
    assert b"ann" not in hit.body.replace(b"annotations", b"")
    for event in events_of(streamed):
        if "response" in event:
            assert {name: event["response"][name] for name in wanted} == {**wanted, "metadata": {}}
    content = cached.answers.handed_in[0][1].content.replace(b"annotations", b"")
    assert b"ann" not in content
    assert b"be brief" not in content


def test_a_stop_sequence_that_was_met_is_told_again() -> None:
    script, body = speaks(stop="stop_sequence", stop_sequence="###"), {"stop_sequences": ["###"]}
    with scripted_engine(script) as engine, caching_gateway([engine.url]) as cached:
        ask(cached, "/v1/messages", body)
        hit = ask(cached, "/v1/messages", body)
        other = ask(cached, "/v1/messages")
        cached.settled()
    assert (hit.json["stop_reason"], hit.json["stop_sequence"]) == ("stop_sequence", "###")
    assert word(other) == "miss; reason=absent"


@pytest.mark.parametrize(
    ("path", "ending"),
    [
        ("/v1/messages", {"stop": "max_tokens"}),
        ("/v1/messages", {"stop": "refusal"}),
        ("/v1/responses", {"reason": "max_output_tokens"}),
        ("/v1/responses", {"reason": "content_filter"}),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_was_cut_is_not_kept(path: str, ending: dict[str, str], is_stream: bool) -> None:
    with scripted_engine(speaks(**ending)) as engine, caching_gateway([engine.url]) as cached:
        said = [word(ask(cached, path, {"stream": is_stream})) for _ in range(2)]
        cached.settled()
    assert said == ["miss; reason=absent"] * 2
    assert not cached.answers.handed_in
    assert not cached.answers.kept


def test_no_api_is_answered_with_what_was_said_in_another() -> None:
    with scripted_engine(serves) as chats, caching_gateway([chats.url]) as cached:
        cached.ask({**CHAT, "temperature": 0, "messages": MESSAGES["messages"]})
        chats.script = speaks()
        first = [word(ask(cached, path)) for path in PATHS]
        again = [word(ask(cached, path)).split(";")[0] for path in PATHS]
        cached.settled()
        keys = {question.partition for question, _ in cached.answers.handed_in}
    assert first == ["miss; reason=absent"] * 2
    assert again == ["hit", "hit"]
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("path", "body", "more", "reason"),
    [
        ("/v1/messages", {}, b"cache-control: no-store\r\n", "no-store"),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, b"", "thinking"),
        ("/v1/messages", {"tools": [{"name": "f"}]}, b"", "tools"),
        ("/v1/messages", {"temperature": 1.5}, b"", "temperature"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "mail a.b@example.org"}]}, b"", "personal-data"),
        ("/v1/messages", {"messages": [{"role": "assistant", "content": "and so"}]}, b"", "not-text"),
        ("/v1/responses", {}, b"x-gridctl-cache: off\r\n", "no-store"),
        ("/v1/responses", {"store": True}, b"", "stored"),
        ("/v1/responses", {"store": None}, b"", "stored"),
        ("/v1/responses", {"previous_response_id": "resp_1"}, b"", "stored"),
        ("/v1/responses", {"background": True}, b"", "stored"),
        ("/v1/responses", {"conversation": "conv_1"}, b"", "stored"),
        ("/v1/responses", {"reasoning": {"effort": "low"}}, b"", "thinking"),
        ("/v1/responses", {"tools": [{"type": "web_search"}]}, b"", "tools"),
    ],
)
def test_what_may_not_be_kept_goes_past_the_cache(path: str, body: dict[str, Any], more: bytes, reason: str) -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        said = [word(ask(cached, path, body, more)) for _ in range(2)]
        cached.settled()
    assert said == [f"bypass; reason={reason}"] * 2
    assert len(engine.requests) == 2
    assert not cached.answers.handed_in


def test_a_request_with_a_query_that_engines_get_too_goes_past_the_cache() -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        said = [word(cached.ask(MESSAGES, path="/v1/messages?beta=true")) for _ in range(2)]
        cached.settled()
    assert said == ["bypass; reason=endpoint"] * 2
    assert engine.requests[0].head.startswith(b"POST /v1/messages?beta=true ")


def test_headers_that_change_what_an_engine_says_part_requests() -> None:
    beta = b"anthropic-version: 2023-06-01\r\nanthropic-beta: new-words\r\n"
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        heads = (b"anthropic-version: 2023-06-01\r\n", beta, beta, b"anthropic-version: 2023-06-01\r\n", b"")
        said = [word(ask(cached, "/v1/messages", more=head)).split(";")[0] for head in heads]
        cached.settled()
    assert said == ["miss", "miss", "hit", "hit", "miss"]


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_longer_than_is_wanted_is_not_served(path: str) -> None:
    limit = "max_tokens" if path == "/v1/messages" else "max_output_tokens"
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url]) as cached:
        ask(cached, path)
        short, long = (word(ask(cached, path, {limit: most})) for most in (6, 7))
        cached.settled()
    assert short == "miss; reason=longer-than-allowed"
    assert long.startswith("hit; level=exact")


def test_users_who_are_private_to_each_other_do_not_share() -> None:
    def body(path: str, user: str) -> dict[str, Any]:
        return {"metadata": {"user_id": user}} if path == "/v1/messages" else {"safety_identifier": user}

    for path in PATHS:
        with scripted_engine(speaks()) as engine, caching_gateway([engine.url], sharing="user") as cached:
            said = [word(ask(cached, path, body(path, user))).split(";")[0] for user in "aba"]
            unknown = word(ask(cached, path))
            cached.settled()
        assert (said, unknown) == (["miss", "miss", "hit"], "bypass; reason=no-user"), path


@pytest.mark.parametrize("path", PATHS)
def test_a_natural_hit_comes_in_pieces_between_its_opening_and_its_end(path: str) -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url], hit_pace="natural") as cached:
        ask(cached, path)
        answer = ask(cached, path, {"stream": True})
        cached.settled()
        row = cached.gateway.meter.rows[-1]
    events = events_of(answer)
    pieces = [one["delta"] if path == "/v1/responses" else one["delta"]["text"] for one in events
              if one["type"] in ("content_block_delta", "response.output_text.delta")]  # fmt: skip
    assert "".join(pieces) == TEXT
    assert pieces == ["one", " two,", '\n"three"', " ✓"]
    assert row.last_token_ns - row.first_token_ns >= 4 * 10_000_000
    assert len(joined(events)) == (6 if path == "/v1/messages" else 9)


@pytest.mark.parametrize("path", PATHS)
def test_twenty_who_ask_the_same_at_once_are_one_request_and_none_gets_what_another_said(path: str) -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, speaks())) as engine, caching_gateway([engine.url]) as cached:
        connections = []
        for number in range(20):
            own = {"metadata": {"user_id": f"user-{number}"}} if number % 2 else {}
            connection = cached.gateway.connect()
            connection.sendall(request({**ASKED[path], **own, "stream": number % 4 < 2}, path))
            connections.append(connection)
        wait_for(lambda: cached.caching.flights.shared == 19)
        gate.set()
        answers = []
        for connection in connections:
            with connection:
                answers.append(read_answer(connection))
        cached.settled()
    assert len(engine.requests) == 1
    for number, answer in enumerate(answers):
        others = [f"user-{other}".encode() for other in range(20) if other != number]
        assert not any(b'"%b"' % other in answer.body for other in others)
        assert answer.is_complete
        if number % 4 < 2:
            assert len(joined(events_of(answer))) == (6 if path == "/v1/messages" else 9)
        else:
            (part,) = answer.json["content"] if path == "/v1/messages" else answer.json["output"][0]["content"]
            assert part["text"] == TEXT


@pytest.mark.parametrize(
    ("path", "ending", "told"),
    [
        ("/v1/messages", {"stop": "max_tokens"}, ("stop_reason", "max_tokens")),
        ("/v1/responses", {"reason": "max_output_tokens"}, ("status", "incomplete")),
    ],
)
def test_who_waits_with_a_request_that_is_cut_is_told_so(path: str, ending: dict[str, str], told: Any) -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, speaks(**ending))) as engine, caching_gateway([engine.url]) as cached:
        connections = [cached.gateway.connect() for _ in range(3)]
        for connection, is_stream in zip(connections, (False, False, True), strict=True):
            connection.sendall(request({**ASKED[path], "stream": is_stream}, path))
        wait_for(lambda: cached.caching.flights.shared == 2)
        gate.set()
        answers = []
        for connection in connections:
            with connection:
                answers.append(read_answer(connection))
        cached.settled()
    assert len(engine.requests) == 1
    name, value = told
    assert [answer.json[name] for answer in answers[:2]] == [value] * 2
    *_, near, last = events_of(answers[2])
    assert (near["delta"] if path == "/v1/messages" else last["response"])[name] == value
    assert last["type"] == ("message_stop" if path == "/v1/messages" else "response.incomplete")


@pytest.mark.parametrize("path", PATHS)
def test_in_a_public_cache_a_miss_looks_like_a_hit(path: str) -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url], sharing="public") as cached:
        told = [ask(cached, path, more=b"x-request-id: mine\r\n") for _ in range(2)]
        cached.settled()
    assert len(engine.requests) == 1
    miss, hit = told
    assert in_time(miss.json) == in_time(hit.json)
    assert set(miss.headers) == set(hit.headers)
    assert b"engine" not in miss.body


def test_other_words_are_looked_for_by_meaning() -> None:
    with scripted_engine(speaks()) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        for path in PATHS:
            ask(cached, path)
        cached.settled()
        looks = [(look.endpoint, look.mode, look.text) for look in cached.answers.looks]
    assert looks == [("messages", "semantic", "hi"), ("responses", "semantic", "hi")]
