"""The cache in the gateway: what a client gets of a kept answer, of another's request, and when something breaks."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any

import pytest
from cache_parts import CachingGateway, caching_gateway, gated, kept_answer
from gateway_parts import (
    CHAT,
    DONE,
    STREAM_EVENTS,
    STREAM_HEAD,
    STREAMED,
    Answer,
    Served,
    answers,
    framed,
    read_answer,
    request,
    scripted_engine,
    serves,
    wait_for,
    whole,
)

from gridctl.answers.question import Found

ASKED: dict[str, Any] = {**CHAT, "temperature": 0}


def word(answer: Answer) -> str:
    return answer.headers["x-gridctl-cache"]


def events(answer: Answer) -> list[Any]:
    lines = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def words_of(answer: Answer) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events(answer) for choice in event["choices"])


def test_the_second_time_no_engine_is_asked_and_the_answer_has_the_official_shape() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        first = cached.ask(ASKED)
        second = cached.ask({**ASKED, "messages": [{"role": "user", "content": "  HI "}]}, b"x-request-id: mine\r\n")
        cached.settled()
        rows = cached.gateway.meter.rows
    assert (word(first), len(engine.requests)) == ("miss; reason=absent", 1)
    assert word(second).startswith("hit; level=exact; age=")
    said = second.json
    assert (said["object"], said["model"], said["id"]) == ("chat.completion", "tiny", "chatcmpl-mine")
    assert said["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert said["usage"] == {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    assert [(row.cache, row.cache_reason, row.outcome, row.backend) for row in rows] == [
        ("miss", "absent", "completed", 0),
        ("hit", "exact", "completed", -1),
    ]
    assert rows[1].saved_usd == 0.25
    assert rows[1].usd == 0.0


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_hit_streams_whole_with_usage_only_where_it_was_asked_for(wants_usage: bool) -> None:
    body = {**ASKED, "stream": True, "stream_options": {"include_usage": wants_usage}}
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(ASKED)
        answer = cached.ask(body)
        cached.settled()
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.is_complete
    told = events(answer)
    assert words_of(answer) == "hello"
    assert told[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {event["object"] for event in told} == {"chat.completion.chunk"}
    finished = [event["choices"][0]["finish_reason"] for event in told if event["choices"]]
    assert finished == [None] * (len(finished) - 1) + ["stop"]
    usages = [event["usage"] for event in told if event.get("usage")]
    assert usages == ([{"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}] if wants_usage else [])


def test_a_stream_is_kept_as_the_message_it_made() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        first = cached.ask({**ASKED, "stream": True})
        second = cached.ask(ASKED)
        cached.settled()
        (_, fresh), *_ = cached.answers.handed_in
    assert first.body.endswith(DONE)
    assert json.loads(fresh.content) == {"role": "assistant", "content": "onetwothree"}
    assert (fresh.prompt_tokens, fresh.output_tokens, fresh.stamp, fresh.model) == (12, 3, 7, "tiny")
    assert second.json["choices"][0]["message"]["content"] == "onetwothree"


def test_a_natural_hit_comes_in_pieces() -> None:
    content = b'{"role":"assistant","content":"one two three four"}'
    with scripted_engine(serves) as engine, caching_gateway([engine.url], hit_pace="natural") as cached:
        cached.ask(ASKED)
        key = next(iter(cached.answers.kept))
        cached.answers.kept[key] = kept_answer(content, output_tokens=4)
        answer = cached.ask({**ASKED, "stream": True})
        cached.settled()
    pieces = [event["choices"][0]["delta"].get("content") for event in events(answer)]
    assert [piece for piece in pieces if piece] == ["one", " two", " three", " four"]
    row = cached.gateway.meter.rows[-1]
    assert row.last_token_ns - row.first_token_ns >= 4 * 10_000_000


@pytest.mark.parametrize(
    ("body", "more", "reason"),
    [
        ({}, b"cache-control: no-store\r\n", "no-store"),
        ({}, b"x-gridctl-cache: off\r\n", "no-store"),
        ({"temperature": 1.5}, b"", "temperature"),
        ({"n": 2}, b"", "several-answers"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, b"", "tools"),
        ({"logprobs": True}, b"", "logprobs"),
        ({}, b"x-gridctl-cache-tags: a b\r\n", "tags"),
        ({"messages": [{"role": "user", "content": "write to a.b@example.org"}]}, b"", "personal-data"),
        ({"messages": [{"role": "user", "content": "what is the weather now"}]}, b"", "changes-by-itself"),
        ({"messages": [{"role": "assistant", "content": "and so"}]}, b"", "not-text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, b"", "media"),
    ],
)
def test_what_may_not_be_kept_goes_past_the_cache_and_is_counted(
    body: dict[str, Any], more: bytes, reason: str
) -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        said = [word(cached.ask({**ASKED, **body}, more)) for _ in range(2)]
        cached.settled()
    assert said == [f"bypass; reason={reason}"] * 2
    assert not cached.answers.handed_in
    assert cached.counts.reasons == {reason: 2}
    assert cached.counts.of["bypasses"] == 2


def test_no_cache_asks_an_engine_and_keeps_what_it_says() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(ASKED)
        again = cached.ask(ASKED, b"cache-control: no-cache\r\n")
        cached.settled()
    assert word(again) == "miss; reason=no-cache"
    assert len(cached.answers.handed_in) == len(engine.requests) == 2


def test_another_tenant_another_field_another_question() -> None:
    variations: list[tuple[dict[str, Any], bytes]] = [
        ({}, b"x-tenant: other\r\n"),
        ({"seed": 1}, b""),
        ({"temperature": 0.5}, b""),
        ({"top_p": 0.9}, b""),
        ({"response_format": {"type": "json_object"}}, b""),
        ({"a_parameter_nobody_knows": True}, b""),
        ({"messages": [{"role": "system", "content": "be brief"}, *ASKED["messages"]]}, b""),
        ({"messages": [*ASKED["messages"], {"role": "assistant", "content": "x"}, *ASKED["messages"]]}, b""),
    ]
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(ASKED)
        said = [word(cached.ask({**ASKED, **body}, more)) for body, more in variations]
        same = word(cached.ask({**ASKED, "user": "u", "metadata": {"a": "b"}, "max_tokens": 99}))
        short = word(cached.ask({**ASKED, "max_tokens": 3}))
        cached.settled()
    assert said == ["miss; reason=absent"] * len(variations)
    assert same.startswith("hit; level=exact")
    assert short == "miss; reason=longer-than-allowed"


def test_a_public_cache_tells_nobody_whether_it_hit() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], sharing="public") as cached:
        first = cached.ask(ASKED)
        second = cached.ask(ASKED, b"x-tenant: other\r\n")
        cached.settled()
    assert len(engine.requests) == 1
    assert "x-gridctl-cache" not in first.headers
    assert "x-gridctl-cache" not in second.headers


def test_users_who_are_private_to_each_other_do_not_share() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], sharing="user") as cached:
        said = [word(cached.ask({**ASKED, **user})) for user in ({"user": "a"}, {"user": "b"}, {"user": "a"}, {})]
        cached.settled()
    assert said[0] == said[1] == "miss; reason=absent"
    assert said[2].startswith("hit; level=exact")
    assert said[3] == "bypass; reason=no-user"


def test_embeddings_are_kept_letter_by_letter() -> None:
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]
    body = {"object": "list", "model": "tiny", "data": vectors, "usage": {"prompt_tokens": 3, "total_tokens": 3}}

    async def script(served: Served) -> None:
        served.send(whole(json.dumps(body).encode()))

    with scripted_engine(script) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        said = [
            cached.ask({"model": "tiny", "input": text}, path="/v1/embeddings") for text in ("Paris", "Paris", "paris")
        ]
        cached.settled()
    assert [word(one).split(";")[0] for one in said] == ["miss", "hit", "miss"]
    assert not cached.answers.looks
    assert said[1].json == body


def test_completions_are_kept_letter_by_letter() -> None:
    said = {"id": "c", "object": "text_completion", "model": "tiny",
            "choices": [{"index": 0, "text": " there", "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1}}  # fmt: skip

    async def script(served: Served) -> None:
        served.send(whole(json.dumps(said).encode()))

    prompt = {"model": "tiny", "prompt": "Hi", "temperature": 0}
    with scripted_engine(script) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(prompt, path="/v1/completions")
        hit = cached.ask(prompt, path="/v1/completions")
        streamed = cached.ask({**prompt, "stream": True}, path="/v1/completions")
        other = cached.ask({**prompt, "prompt": "hi"}, path="/v1/completions")
        cached.settled()
    assert hit.json["choices"][0]["text"] == " there"
    assert "".join(event["choices"][0]["text"] for event in events(streamed)) == " there"
    assert word(other) == "miss; reason=absent"


# ── by meaning ──


def test_a_semantic_hit_says_how_alike_and_how_sure() -> None:
    kept = kept_answer(level="semantic", similarity=0.93125, bound=0.0081)
    with scripted_engine(serves) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.found = Found("hit", "within-risk", kept)
        answer = cached.ask(ASKED)
        cached.settled()
    assert word(answer).startswith("hit; level=semantic; similarity=0.9313; bound=0.0081; age=")
    assert not engine.requests
    assert cached.counts.of["semantic_hits"] == 1
    assert cached.answers.served_entries == [1]


def test_an_audited_hit_is_served_at_once_and_checked_without_its_client() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.found = Found("audit", "audit-coin", kept_answer(level="semantic"), 41)
        answer = cached.ask(ASKED)
        wait_for(lambda: cached.answers.handed_in)
        cached.settled()
        rows = cached.gateway.meter.rows
    assert answer.json["choices"][0]["message"]["content"] == "kept words"
    ((_, fresh),) = cached.answers.handed_in
    assert (fresh.ticket, json.loads(fresh.content)["content"]) == (41, "hello")
    assert fresh.request_id.startswith("again-")
    assert [row.cache for row in rows] == ["hit"], "the check is no request of anybody's"
    assert cached.counts.of["audits"] == cached.counts.of["asked_again"] == 1
    assert cached.counts.of["asked_again_nano_usd"] == 125_000


def test_an_explored_miss_hands_its_ticket_in_and_a_failed_one_gives_it_back() -> None:
    fails = [False]

    async def script(served: Served) -> None:
        if fails[0]:
            served.send(whole(b"{}", status=500))
        else:
            await answers(served)

    with scripted_engine(script) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.keeps = False
        cached.answers.found = Found("explore", "learning", None, 5)
        first = cached.ask(ASKED)
        fails[0] = True
        cached.answers.found = Found("explore", "learning", None, 6)
        cached.ask(ASKED)
        cached.settled()
    assert word(first) == "miss; reason=learning"
    assert [fresh.ticket for _, fresh in cached.answers.handed_in] == [5]
    assert cached.answers.abandoned == [6]


def test_a_keeper_that_does_not_answer_costs_its_budget_and_nothing_else() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.found = None
        cached.caching.budget_ns = 20_000_000
        answer = cached.ask(ASKED)
        cached.settled()
    assert word(answer) == "miss; reason=keeper-slow"
    assert answer.json["choices"][0]["message"]["content"] == "hello"


def test_a_client_that_leaves_while_the_keeper_thinks_asks_no_engine() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.found = None
        cached.caching.budget_ns = 5_000_000_000
        connection = cached.send(ASKED)
        wait_for(lambda: cached.answers.looks)
        connection.close()
        wait_for(lambda: cached.answers.cancelled)
        cached.settled()
    assert not engine.requests
    assert [row.outcome for row in cached.gateway.meter.rows] == ["cancelled"]
    assert not len(cached.caching.flights)


# ── time ──


def test_a_stale_answer_goes_out_once_more_while_it_is_asked_for_again() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url], stale_s=60.0) as cached:
        cached.ask(ASKED)
        key = next(iter(cached.answers.kept))
        cached.answers.kept[key] = kept_answer(age="stale")
        answer = cached.ask(ASKED)
        wait_for(lambda: len(cached.answers.handed_in) == 2)
        cached.settled()
        fresh = cached.ask(ASKED)
        cached.settled()
    assert word(answer).endswith("; stale")
    assert answer.json["choices"][0]["message"]["content"] == "kept words"
    assert fresh.json["choices"][0]["message"]["content"] == "hello"
    assert cached.counts.of["stale_hits"] == 1


def test_an_answer_past_its_time_is_better_than_none() -> None:
    async def script(served: Served) -> None:
        served.reset()

    with scripted_engine(script) as engine, caching_gateway([engine.url]) as cached:
        refused = cached.ask(ASKED)
        key = cached.caching._questions.read(*_parts(cached), json.dumps(ASKED).encode(), cached.caching._terms["chat"])
        assert not isinstance(key, str)
        cached.answers.kept[key.question.exact] = kept_answer(age="stale")
        rescued = cached.ask(ASKED)
        cached.settled()
    assert refused.status >= 500
    assert rescued.json["choices"][0]["message"]["content"] == "kept words"
    assert rescued.status == 200


def _parts(cached: CachingGateway) -> tuple[Any, dict[bytes, bytes]]:
    from types import SimpleNamespace

    head = SimpleNamespace(path="/v1/chat/completions", headers={}, method="POST")
    return cached.gateway.broker.ask(head, json.dumps(ASKED).encode(), 0), {}


# ── many at once ──


def gather(connections: list[socket.socket]) -> list[Answer]:
    found = []
    for connection in connections:
        with connection:
            found.append(read_answer(connection))
    return found


@pytest.mark.parametrize("is_stream", [False, True])
def test_fifty_who_ask_the_same_at_once_are_one_request_to_an_engine(is_stream: bool) -> None:
    gate = threading.Event()
    body = {**ASKED, "stream": is_stream}
    with scripted_engine(gated(gate, serves)) as engine, caching_gateway([engine.url]) as cached:
        connections = [cached.send(body) for _ in range(50)]
        wait_for(lambda: cached.gateway.serving.in_flight == 50)
        gate.set()
        found = gather(connections)
        cached.settled()
    assert len(engine.requests) == 1
    if is_stream:
        assert {words_of(one) for one in found} == {"onetwothree"}
    else:
        assert {one.json["choices"][0]["message"]["content"] for one in found} == {"hello"}
        assert len({one.json["id"] for one in found}) == 50
    assert sorted(word(one).partition("; age")[0] for one in found) == sorted(
        ["hit; level=shared"] * 49 + ["miss; reason=absent"]
    )
    assert cached.counts.of["shared_hits"] == 49
    assert sum(row.usd for row in cached.gateway.meter.rows) == pytest.approx(0.000125)


def test_streams_and_whole_answers_share_one_request() -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, serves)) as engine, caching_gateway([engine.url]) as cached:
        leader = cached.send({**ASKED, "stream": True})
        wait_for(lambda: cached.gateway.serving.in_flight == 1)
        others = [
            cached.send(ASKED),
            cached.send({**ASKED, "stream": True, "stream_options": {"include_usage": True}}),
        ]
        wait_for(lambda: cached.gateway.serving.in_flight == 3)
        gate.set()
        first, whole_one, with_usage = gather([leader, *others])
        cached.settled()
    assert len(engine.requests) == 1
    assert words_of(first) == words_of(with_usage) == "onetwothree"
    assert whole_one.json["choices"][0]["message"]["content"] == "onetwothree"
    assert [event["usage"]["completion_tokens"] for event in events(with_usage) if event.get("usage")] == [3]
    assert not any(event.get("usage") for event in events(first))


def test_a_leader_that_leaves_flies_on_for_those_who_follow() -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, serves)) as engine, caching_gateway([engine.url]) as cached:
        leader = cached.send({**ASKED, "stream": True})
        wait_for(lambda: len(engine.requests) == 1)
        followers = [cached.send({**ASKED, "stream": True}) for _ in range(3)]
        wait_for(lambda: cached.gateway.serving.in_flight == 4)
        leader.close()
        wait_for(lambda: [row.outcome for row in cached.gateway.meter.rows] == ["cancelled"])
        gate.set()
        found = gather(followers)
        cached.settled()
    assert len(engine.requests) == 1
    assert not engine.cancelled_at[:1] or engine.open == 0
    assert {words_of(one) for one in found} == {"onetwothree"}
    assert sorted(row.outcome for row in cached.gateway.meter.rows) == ["cancelled"] + ["completed"] * 3
    assert cached.answers.handed_in, "what it said is kept"


def test_when_everybody_has_left_the_engine_is_left_too() -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, serves)) as engine, caching_gateway([engine.url]) as cached:
        leader, follower = cached.send(ASKED), None
        wait_for(lambda: len(engine.requests) == 1)
        follower = cached.send(ASKED)
        wait_for(lambda: cached.gateway.serving.in_flight == 2)
        leader.close()
        wait_for(lambda: len(cached.gateway.meter.rows) == 1)
        follower.close()
        cached.settled()
        assert len(cached.caching.flights) == 0
        gate.set()
    assert [row.outcome for row in cached.gateway.meter.rows] == ["cancelled", "cancelled"]


def test_a_failed_leader_poisons_nobody_and_each_follower_goes_alone_once() -> None:
    gate = threading.Event()
    count = [0]

    async def script(served: Served) -> None:
        count[0] += 1
        if count[0] == 1:
            served.send(whole(b'{"error":{"message":"poisoned"}}', status=500))
        else:
            await answers(served)

    with scripted_engine(gated(gate, script)) as engine, caching_gateway([engine.url]) as cached:
        leader = cached.send(ASKED)
        wait_for(lambda: len(engine.requests) == 1)
        followers = [cached.send(ASKED) for _ in range(3)]
        wait_for(lambda: cached.gateway.serving.in_flight == 4)
        gate.set()
        first, *found = gather([leader, *followers])
        cached.settled()
    assert first.status == 500
    assert {one.json["choices"][0]["message"]["content"] for one in found} == {"hello"}
    assert {word(one) for one in found} == {"miss; reason=leader-failed"}
    assert len(engine.requests) == 4


def test_a_leader_that_breaks_off_breaks_the_streams_that_had_begun_and_no_other() -> None:
    gate = threading.Event()
    begun = threading.Event()
    count = [0]

    async def script(served: Served) -> None:
        count[0] += 1
        if count[0] > 1:
            await serves(served)
            return
        served.send(STREAM_HEAD)
        served.send(framed(STREAM_EVENTS[0]) + framed(STREAM_EVENTS[1]))
        begun.set()
        while not gate.is_set():
            await asyncio.sleep(0.002)
        served.reset()

    with scripted_engine(script) as engine, caching_gateway([engine.url]) as cached:
        leader = cached.send({**ASKED, "stream": True})
        wait_for(begun.is_set)
        streaming, waiting = cached.send({**ASKED, "stream": True}), cached.send(ASKED)
        wait_for(lambda: cached.gateway.serving.in_flight == 3)
        gate.set()
        first, second, third = gather([leader, streaming, waiting])
        cached.settled()
    for one in (first, second):
        assert one.is_complete
        assert b"[DONE]" not in one.body
        assert b'"error"' in one.body.split(b"\n\n")[-2]
    assert third.json["choices"][0]["message"]["content"] == "hello"
    assert len(engine.requests) == 2
    assert [json.loads(fresh.content)["content"] for _, fresh in cached.answers.handed_in] == ["hello"]


def test_a_slow_follower_holds_up_neither_the_leader_nor_memory_for_ever() -> None:
    words = ["x" * 1000] * 2000
    gate = threading.Event()

    async def script(served: Served) -> None:
        served.send(STREAM_HEAD)
        for one in words:
            served.send(framed(b"data: %b\n\n" % json.dumps(
                {"choices": [{"index": 0, "delta": {"content": one}, "finish_reason": None}]}).encode()))  # fmt: skip
            await served.writer.drain()
        served.send(framed(STREAM_EVENTS[4]) + framed(DONE) + b"0\r\n\r\n")

    with scripted_engine(gated(gate, script)) as engine, caching_gateway([engine.url]) as cached:
        leader = cached.send({**ASKED, "stream": True})
        wait_for(lambda: len(engine.requests) == 1)
        slow = cached.send({**ASKED, "stream": True})
        wait_for(lambda: cached.gateway.serving.in_flight == 2)
        gate.set()
        with leader:
            first = read_answer(leader)
        assert first.is_complete
        with slow:
            second = read_answer(slow)
        cached.settled()
    assert len(words_of(second)) == 2_000_000
    assert len(engine.requests) == 1


def test_a_bug_of_ours_in_the_cache_sends_the_request_to_an_engine() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:

        def explode(*_: object) -> None:
            raise RuntimeError("a bug")

        cached.answers.absent = explode  # type: ignore[assignment]
        answer = cached.ask(ASKED)
        cached.gateway.settled()
        assert [str(error) for error in cached.errors] == ["a bug"]
        cached.errors.clear()
    assert answer.json["choices"][0]["message"]["content"] == "hello"
    assert word(answer) == "bypass; reason=other"


def test_draining_ends_what_runs_in_the_background() -> None:
    gate = threading.Event()
    with scripted_engine(gated(gate, serves)) as engine, caching_gateway([engine.url], mode="semantic") as cached:
        cached.answers.found = Found("audit", "audit-coin", kept_answer(level="semantic"), 1)
        cached.ask(ASKED)
        wait_for(lambda: len(engine.requests) == 1)

        async def close() -> None:
            cached.caching.close()

        cached.gateway.call(close())
        cached.settled()
        gate.set()
    assert cached.answers.is_closed
    assert cached.answers.abandoned == [1]


def test_requests_sent_ahead_on_one_connection_are_answered_in_turn() -> None:
    with scripted_engine(serves) as engine, caching_gateway([engine.url]) as cached:
        cached.ask(ASKED)
        buffer = bytearray()
        with cached.gateway.connect() as connection:
            connection.sendall(request(ASKED) + request({**STREAMED, "temperature": 0}) + request(ASKED))
            found = [read_answer(connection, buffer) for _ in range(3)]
        cached.settled()
    assert len(engine.requests) == 1
    assert found[0].json["choices"] == found[2].json["choices"]
    assert words_of(found[1]) == "hello"
