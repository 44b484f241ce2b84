"""Bodies that are alike but for their text are read by their form, and mean what they mean when read in full."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cache_parts import SECRET, workload
from hypothesis import given, settings
from hypothesis import strategies as st
from test_questions import ask, chat

from gridctl.cache.partition import canonical
from gridctl.gateway.forms import Form, Forms, cut, likeness
from gridctl.gateway.questions import Questions
from gridctl.gateway.terms import Terms, Understood, terms_of
from gridctl.gateway.turns import earlier_of

TERMS = terms_of(workload())
assert TERMS is not None


def read(questions: Questions, body: bytes, endpoint: str = "chat", terms: Terms = TERMS) -> Any:
    """What a request means: the reason, or what of the question says which answers it may get."""
    found = questions.read(ask(endpoint=endpoint), {}, body, terms)
    if isinstance(found, str):
        return found
    return found.question.partition, found.question.exact, found.words, found.form.most_tokens, found.question.tags


def in_full(body: bytes, endpoint: str = "chat") -> Any:
    """A worker's first request has no form yet."""
    return read(Questions(SECRET), body, endpoint)


TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", " ", 'say "content": now', "a\\", '\\"', '"}],"messages":[', "today", "a@b.example", "x" * 9_000, "\u2028",
         '"type":"image"', "def f(): {}", "4111 1111 1111 1111", "DE89370400440532013000"]
    ),
)  # fmt: skip
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TEXTS), max_size=3)
MORE = st.sampled_from(
    [{}, {"temperature": 0.1}, {"max_tokens": 7}, {"tools": [{"content": "x"}]}, {"metadata": {"content": "x"}},
     {"content": "x"}, {"logprobs": True}, {"n": 2}]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(TURNS, MORE, st.lists(TEXTS, min_size=3, max_size=5), st.booleans(), st.booleans())
def test_a_body_read_by_its_form_means_what_it_means_read_in_full(
    turns: list[tuple[str, str]], more: dict[str, Any], texts: list[str], is_ascii: bool, turns_last: bool
) -> None:
    questions = Questions(SECRET)
    for text in texts:
        messages = [{"role": role, "content": words} for role, words in (*turns, ("user", text))]
        body = {"model": "tiny", **more, "messages": messages} if turns_last else chat(messages=messages, **more)
        data = json.dumps(body, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        assert read(questions, data) == in_full(data)


@pytest.mark.parametrize(
    "template",
    [
        b'{"messages":[{"role":"user","content":"one","content":%b}]}',
        b'{"messages":[{"role":"user","content":%b,"content":"one"}]}',
        b'{"messages":[{"role":"user","content":%b}],"messages":[{"role":"user","content":"two"}]}',
        b'{"messages":[{"role":"user","content":"two"}],"messages":[{"role":"user","content":%b}]}',
        b'{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}],"metadata":{"content":%b}}',
        b'{"messages":[{"content": %b , "role":"user"}],"x \\"content":"y"}',
        b'{"messages":[{"role":"user","content":%b}]',
        b'{"messages":[{"role":"assistant","content":%b}]}',
    ],
)
@pytest.mark.parametrize("text", [b'"how are you"', b'"HOW  are you"', b'"a\\u0062"', b'"bad \\x"', b'"cut', b"7"])
def test_odd_bodies_mean_the_same_the_first_time_and_the_tenth(template: bytes, text: bytes) -> None:
    questions = Questions(SECRET)
    for word in (b'"once"', b'"twice"', b'"thrice"'):
        read(questions, template % word)
    assert read(questions, template % text) == in_full(template % text)


@settings(max_examples=300, deadline=None)
@given(TURNS, MORE, st.lists(TEXTS, min_size=4, max_size=8), st.booleans(), st.sampled_from(["chat", "completions"]))
def test_a_caller_whose_requests_are_alike_is_read_at_a_glance_and_means_the_same(
    turns: list[tuple[str, str]], more: dict[str, Any], texts: list[str], is_ascii: bool, endpoint: str
) -> None:
    """One head and one group, as requests of one client have them."""
    questions, headers, asked = Questions(SECRET), dict[bytes, bytes](), ask(endpoint=endpoint)
    for text in ["Where is Paris?", "Where  is PARIS?", *texts]:
        messages = [{"role": role, "content": words} for role, words in (*turns, ("user", text))]
        body = chat(messages=messages, **more) if endpoint == "chat" else {"model": "tiny", "prompt": text, **more}
        data = json.dumps(body, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
        found = questions.read(asked, headers, data, TERMS)
        if not isinstance(found, str):
            questions.comes_again(found, data)
            again = questions.read(asked, headers, data, TERMS)
            assert isinstance(again, Understood)
            assert (again.exact, again.words) == (found.exact, found.words)
            found = found.form.partition, found.exact, found.words, found.form.most_tokens, found.question.tags
        assert found == in_full(data, endpoint)


def test_one_head_is_many_callers_where_keys_origins_or_plans_differ() -> None:
    """A connection's headers stay the same dictionary while its request is another's."""
    questions, headers, body = Questions(SECRET), dict[bytes, bytes](), json.dumps(chat("hi there")).encode()
    partitions = []
    for _ in range(3):
        for asked in (ask("a"), ask("b"), ask("a", model="large"), ask("a", jurisdiction="US"), ask("a", key="l")):
            found = questions.read(asked, headers, body, TERMS)
            assert isinstance(found, Understood)
            partitions.append(found.question.partition)
            assert found.question.tenant == asked.tenant
            assert found.question.jurisdiction == asked.jurisdiction
    assert len(set(partitions)) == 4
    assert partitions[:5] == partitions[5:10] == partitions[10:]
    assert partitions[0] == partitions[4], "keys of one tenant share"


def test_a_prompt_of_a_completion_has_a_form_too() -> None:
    questions = Questions(SECRET)
    for text in ("One", "one", "ONE "):
        body = json.dumps({"model": "tiny", "prompt": text, "seed": 1}).encode()
        assert read(questions, body, "completions") == in_full(body, "completions")


def test_callers_never_share_a_form() -> None:
    questions = Questions(SECRET)
    keys = set()
    for _ in range(3):
        for tenant, key in (("a", "k"), ("b", "k"), ("a", "l")):
            terms = terms_of(workload(sharing="user"))
            assert terms is not None
            found = questions.read(ask(tenant=tenant, key=key), {}, json.dumps(chat(user="u")).encode(), terms)
            assert isinstance(found, Understood)
            keys.add(found.question.exact)
    assert len(keys) == 3


def test_a_form_is_made_for_ends_that_came_before_and_are_short() -> None:
    forms = Forms()
    ends, long_ends = (("w",), b'{"content":', b"}"), (("w",), b"x" * 10_000, b"}")
    assert [forms.is_worth_one(ends), forms.is_worth_one(ends)] == [False, True]
    assert [forms.is_worth_one(long_ends), forms.is_worth_one(long_ends)] == [False, False]
    form = Form(is_apart=True)
    forms.add(ends, form)
    assert forms.find(ends) is form
    forms.clear()
    assert forms.find(ends) is None


def test_a_body_is_cut_at_its_last_text() -> None:
    body = b'{"content":"a","x":{"content": "b\\"c"},"y":1}'
    assert cut("chat", body) == (body.index(b'"b'), body.index(b"},"))
    assert cut("chat", b'{"content":7}') is None
    assert cut("embeddings", body) is None
    made, word = likeness((("w",), b'{"content":', b"}"))
    assert json.loads(made) == {"content": word}


@settings(max_examples=200)
@given(TURNS, st.booleans())
def test_earlier_turns_have_the_form_of_the_partition(turns: list[tuple[str, str]], turned: bool) -> None:
    """Against the same rule written out over decoded JSON."""
    messages: list[dict[str, str]] = [
        {"content": text, "role": role} if turned else {"role": role, "content": text} for role, text in turns
    ]
    leading = next((at for at, one in enumerate(messages) if one["role"] != "system"), len(messages))
    system, conversation, reason = earlier_of(json.dumps(messages).encode()[1:-1])
    assert (system, conversation) == (canonical(messages[:leading]), canonical(messages[leading:]))
    assert reason == ("tools" if any(one["role"] == "tool" for one in messages) else None)
