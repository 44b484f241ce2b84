"""Which requests of the Messages and Responses APIs ask the same, which do not, and which have no question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cache_parts import SECRET, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from test_questions import ask, chat

from gridctl.cache.exact import normalised
from gridctl.gateway.questions import Questions
from gridctl.gateway.terms import Understood, terms_of

Turns = list[tuple[str, str]]
THOUGHT = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
PNG = {"type": "base64", "media_type": "image/png", "data": "AA=="}


def understood(
    endpoint: str, body: dict[str, Any], headers: dict[bytes, bytes] | None = None, **policy: Any
) -> Understood | str:
    terms = terms_of(workload(**policy))
    assert terms is not None
    return Questions(SECRET).read(ask(endpoint=endpoint), headers or {}, json.dumps(body).encode(), terms)


def exact(endpoint: str, body: dict[str, Any], headers: dict[bytes, bytes] | None = None, **policy: Any) -> bytes:
    found = understood(endpoint, body, headers, **policy)
    assert not isinstance(found, str), found
    return found.question.exact


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def block(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


def messages(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "max_tokens": 9, "messages": list(turns or [user("hi")]), **more}


def responses(given: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "store": False, "input": given, **more}


def item(text: str, role: str = "user", **more: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}], **more}


@pytest.mark.parametrize(
    ("endpoint", "one", "other"),
    [
        ("messages", messages(), messages(user([block("hi")]))),
        ("messages", messages(), messages(user([block("  HI ", cache_control={"type": "ephemeral"})]))),
        ("messages", messages(), messages(metadata={"user_id": "u"}, stream=True, service_tier="auto")),
        ("messages", messages(), messages(cache_control={"type": "ephemeral"})),
        ("messages", messages(system="s"), messages(system=[block("s", cache_control={"type": "ephemeral"})])),
        (
            "messages",
            messages(user("a"), {"role": "assistant", "content": "b"}, user("c")),
            messages(user([block("a")]), {"content": [block("b")], "role": "assistant"}, user("c")),
        ),
        ("responses", responses(), responses([user("hi")])),
        ("responses", responses(), responses([item("hi", id="msg_1", status="completed")])),
        ("responses", responses(), responses(metadata={"a": "b"}, user="u", stream=True, max_output_tokens=9)),
        (
            "responses",
            responses([user("a"), {"role": "assistant", "content": "b"}, user("c")]),
            responses([item("a"), item("b", "assistant", id="msg_2", status="completed"), item("c")]),
        ),
    ],
)
def test_what_is_written_in_another_way_is_the_same_question(
    endpoint: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert exact(endpoint, one) == exact(endpoint, other)


@pytest.mark.parametrize(
    ("endpoint", "one", "other"),
    [
        ("messages", messages(), messages(system="s")),
        ("messages", messages(system="s"), messages(system="t")),
        ("messages", messages(system="s"), messages(system=[block("s"), block("")])),
        ("messages", messages(), messages(user("before"), {"role": "assistant", "content": "x"}, user("hi"))),
        ("messages", messages(), messages(user([block("hi"), block("there")]))),
        ("messages", messages(), messages(stop_sequences=["x"])),
        ("messages", messages(), messages(top_k=5)),
        ("messages", messages(), messages(thinking={"type": "disabled"})),
        ("messages", messages(), messages(output_config={"format": {"type": "json_schema", "schema": {}}})),
        ("messages", messages(), messages(a_field_nobody_knows=1)),
        ("responses", responses(), responses(instructions="s")),
        ("responses", responses([item("s", "system"), user("hi")]), responses([item("s", "developer"), user("hi")])),
        ("responses", responses(instructions="s"), responses([item("s", "system"), user("hi")])),
        ("responses", responses(), responses(text={"format": {"type": "json_object"}})),
        ("responses", responses(), responses(truncation="auto")),
        ("responses", responses(), responses(top_p=0.5)),
        ("responses", responses(), responses(reasoning={"effort": "none"})),
        ("responses", responses(), responses(a_field_nobody_knows=1)),
    ],
)
def test_what_may_change_the_answer_is_another_question(
    endpoint: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert exact(endpoint, one) != exact(endpoint, other)


def test_the_headers_that_engines_get_are_part_of_the_question_where_the_api_has_them() -> None:
    beta = {b"anthropic-beta": b"x"}
    assert exact("messages", messages()) != exact("messages", messages(), beta)
    assert exact("messages", messages(), {b"anthropic-version": b"x"}) != exact("messages", messages(), beta)
    assert exact("responses", responses()) != exact("responses", responses(), {b"openai-beta": b"x"})
    assert exact("responses", responses()) == exact("responses", responses(), beta)
    assert exact("chat", chat()) == exact("chat", chat(), beta)


def test_a_field_cannot_stand_for_a_header() -> None:
    from gridctl.gateway.conversations import SPOKEN

    assert exact("messages", messages(**{SPOKEN: ["", "x"]})) == exact("messages", messages())
    assert exact("messages", messages(**{SPOKEN: 1}), {b"anthropic-beta": b"x"}) == exact(
        "messages", messages(), {b"anthropic-beta": b"x"}
    )


@pytest.mark.parametrize(
    ("endpoint", "body", "reason"),
    [
        ("messages", messages(tools=[{"name": "f"}]), "tools"),
        ("messages", messages(tool_choice={"type": "auto"}), "tools"),
        ("messages", messages(mcp_servers=[{"url": "http://x"}]), "tools"),
        ("messages", messages(container="c"), "tools"),
        ("messages", messages(user([{"type": "tool_result", "tool_use_id": "1", "content": "42"}])), "tools"),
        ("messages", messages({"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}, user("x")), "tools"),
        ("messages", messages(thinking={"type": "enabled", "budget_tokens": 1024}), "thinking"),
        ("messages", messages(thinking={"type": "adaptive"}), "thinking"),
        ("messages", messages(THOUGHT, user("x")), "thinking"),
        ("messages", messages(user([{"type": "image", "source": PNG}, block("what")])), "media"),
        ("messages", messages(user([{"type": "image", "source": PNG}]), user("what")), "media"),
        ("messages", messages(user([{"type": "document", "source": {}}, block("what")])), "media"),
        ("messages", messages(user([block("x", citations=[{"a": 1}])])), "media"),
        ("messages", messages(user([block("x", odd=1)])), "not-text"),
        ("messages", messages({**user("x"), "odd": 1}), "not-text"),
        ("messages", messages({"role": "system", "content": "x"}, user("y")), "not-text"),
        ("messages", messages(user("x"), {"role": "assistant", "content": "The answer is ("}), "not-text"),
        ("messages", messages(user(None)), "not-text"),
        ("messages", messages(user([])), "empty"),
        ("messages", messages(user(" ")), "empty"),
        ("messages", {**messages(), "messages": []}, "not-text"),
        ("messages", {**messages(), "messages": "x"}, "not-text"),
        ("messages", {"model": "tiny", "max_tokens": 9}, "not-text"),
        ("messages", messages(user(["x"])), "body"),
        ("messages", messages(temperature="hot"), "body"),
        ("messages", messages(thinking=True), "body"),
        ("messages", messages(max_tokens="many"), "body"),
        ("messages", messages(system=5), "body"),
        ("messages", messages(user("what is the weather now")), "changes-by-itself"),
        ("messages", messages(temperature=1.5), "temperature"),
        ("responses", {"model": "tiny", "input": "hi"}, "stored"),
        ("responses", responses(store=True), "stored"),
        ("responses", responses(store="false"), "stored"),
        ("responses", responses(previous_response_id="resp_1"), "stored"),
        ("responses", responses(conversation={"id": "c"}), "stored"),
        ("responses", responses(background=True), "stored"),
        ("responses", responses(prompt={"id": "pmpt_1"}), "stored"),
        ("responses", responses([{"type": "item_reference", "id": "x"}, user("y")]), "stored"),
        ("responses", responses(tools=[{"type": "web_search"}]), "tools"),
        ("responses", responses([{"type": "function_call", "name": "f"}, user("x")]), "tools"),
        ("responses", responses([{"type": "function_call_output", "output": "4"}]), "tools"),
        ("responses", responses(include=["file_search_call.results"]), "tools"),
        ("responses", responses(include=["message.output_text.logprobs"]), "logprobs"),
        ("responses", responses(top_logprobs=2), "logprobs"),
        ("responses", responses(include=["reasoning.encrypted_content"]), "thinking"),
        ("responses", responses(reasoning={"effort": "low"}), "thinking"),
        ("responses", responses(reasoning={"summary": "auto"}), "thinking"),
        ("responses", responses([{"type": "reasoning", "summary": []}, user("x")]), "thinking"),
        ("responses", responses([user([{"type": "input_image", "image_url": "x"}])]), "media"),
        ("responses", responses([user([{"type": "input_file", "file_id": "x"}])]), "media"),
        ("responses", responses([user([{"type": "refusal", "refusal": "x"}])]), "not-text"),
        ("responses", responses([item("x", "assistant")]), "not-text"),
        ("responses", responses([item("x", "tool")]), "not-text"),
        ("responses", responses([item("x", odd=1)]), "not-text"),
        ("responses", responses([]), "not-text"),
        ("responses", responses({"a": 1}), "not-text"),
        ("responses", {"model": "tiny", "store": False}, "not-text"),
        ("responses", responses(""), "empty"),
        ("responses", responses(["x"]), "body"),
        ("responses", responses(reasoning="high"), "body"),
        ("responses", responses(include="all"), "body"),
        ("responses", responses("my card is 4111 1111 1111 1111"), "personal-data"),
    ],
)  # fmt: skip
def test_what_has_no_question(endpoint: str, body: dict[str, Any], reason: str) -> None:
    assert understood(endpoint, body) == reason


def test_unset_fields_are_no_reason() -> None:
    unset: dict[str, Any] = {
        "previous_response_id": None, "background": False, "conversation": None, "prompt": None, "tools": [],
        "include": [], "top_logprobs": 0, "reasoning": {"effort": None},
    }  # fmt: skip
    assert isinstance(understood("responses", responses(**unset)), Understood)
    assert isinstance(understood("messages", messages(container=None, mcp_servers=[], tools=[])), Understood)


def test_what_a_body_is_known_by_is_found_again_by_its_form() -> None:
    """The third body with the same ends is read by its form: it is the same question as when it was read in full."""
    terms = terms_of(workload())
    assert terms is not None
    for endpoint, made in (("messages", lambda text: messages(user(text), system="s")), ("responses", responses)):
        questions, asked = Questions(SECRET), ask(endpoint=endpoint)
        for text in ("one", "two", "Three", 'four "quoted" \\ ✓', "call me at +44 20 7946 0958"):
            found = questions.read(asked, {}, json.dumps(made(text)).encode(), terms)
            fresh = Questions(SECRET).read(asked, {}, json.dumps(made(text)).encode(), terms)
            if isinstance(found, Understood) and isinstance(fresh, Understood):
                assert found.exact == fresh.exact
                assert found.words == text
            else:
                assert found == fresh == "personal-data"


SPEECH = st.sampled_from(["hi", "HI", " hi ", "no", "-1", "1"])
BEFORE: st.SearchStrategy[Turns] = st.sampled_from(
    [[], [("user", "hi"), ("assistant", "yes")], [("user", "hi"), ("assistant", "no")], [("user", "hi")]]
)
REQUESTS = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(["a", "b"]),
        "jurisdiction": st.sampled_from(["EU", "US"]),
        "endpoint": st.sampled_from(["chat", "messages", "responses"]),
        "text": SPEECH,
        "system": st.sampled_from(["", "be brief"]),
        "before": BEFORE,
        "more": st.sampled_from([{}, {"top_p": 0.5}, {"top_k": 5}]),
    }
)
WAYS = st.fixed_dictionaries(
    {"in_parts": st.booleans(), "stream": st.booleans(), "metadata": st.sampled_from([None, {"user_id": "u"}])}
)


def body_of(one: dict[str, Any], way: dict[str, Any]) -> dict[str, Any]:
    """A request, in one of the ways to write it."""
    turns: Turns = [*one["before"], ("user", one["text"])]
    more = {**one["more"], "stream": way["stream"], "metadata": way["metadata"]}
    if one["endpoint"] == "chat":
        system = [("system", one["system"])] if one["system"] else []
        return {"model": "tiny", "messages": [{"role": r, "content": t} for r, t in (*system, *turns)], **more}
    if one["endpoint"] == "messages":
        said = [{"role": role, "content": [block(text)] if way["in_parts"] else text} for role, text in turns]
        return messages(*said, **more, **({"system": one["system"]} if one["system"] else {}))
    items = [item(text, role) if way["in_parts"] else {"role": role, "content": text} for role, text in turns]
    return responses(items, **more, **({"instructions": one["system"]} if one["system"] else {}))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(REQUESTS, WAYS), min_size=2, max_size=2))
def test_two_requests_share_an_answer_only_if_all_but_the_wording_of_the_last_turn_is_equal(
    pair: list[tuple[dict[str, Any], dict[str, Any]]],
) -> None:
    """Random pairs, over a model of the rule that knows no hashes and no way of writing."""
    terms = terms_of(workload())
    assert terms is not None
    questions, found = Questions(SECRET), list[Understood]()
    for one, way in pair:
        asked = ask(one["tenant"], one["jurisdiction"], one["endpoint"])
        read = questions.read(asked, {}, json.dumps(body_of(one, way)).encode(), terms)
        assert isinstance(read, Understood), read
        found.append(read)
    first, second = ({**one, "text": ""} for one, _ in pair)
    assert (found[0].form.partition == found[1].form.partition) == (first == second)
    is_same_wording = normalised(pair[0][0]["text"]) == normalised(pair[1][0]["text"])
    assert (found[0].exact == found[1].exact) == (first == second and is_same_wording)
